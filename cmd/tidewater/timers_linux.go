package main

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

// timerSlack is how late a timer of this process may fire.
const timerSlack = time.Millisecond

// coarseTimers lets the system put this process's timers together. Go's runtime
// looks after threads that are in system calls every 20 µs; a broker writes and
// syncs all the time, and the waking alone was a fifth of its CPU time. The look
// may as well wait for a millisecond: no acknowledgement waits for a timer.
//
// Threads started later take it from those there are. The system wants
// CAP_SYS_NICE for this, and without it nothing changes; what starts the broker
// may then set it instead (systemd: TimerSlackNSec=1ms).
func coarseTimers() error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("list own threads: %w", err)
	}
	value := []byte(strconv.FormatInt(timerSlack.Nanoseconds(), 10))
	for _, t := range threads {
		// Of a thread that has ended there is nothing to set.
		err := os.WriteFile("/proc/"+t.Name()+"/timerslack_ns", value, 0)
		if err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("set timer slack: %w", err)
		}
	}
	return nil
}
