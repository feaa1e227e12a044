package generator

import (
	"time"

	"golang.org/x/sys/unix"
)

// meter measures time and the process's CPU, and looks at a sum once a second.
type meter struct {
	at        time.Time
	cpu       float64
	perSecond []float64
	end, done chan struct{}
}

// startMeter begins; sum is called once a second, from a goroutine of its own.
func startMeter(sum func() float64) *meter {
	m := &meter{at: time.Now(), cpu: ownCPU(), end: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(m.done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		var before float64
		for {
			select {
			case <-m.end:
				return
			case <-tick.C:
				now := sum()
				m.perSecond = append(m.perSecond, now-before)
				before = now
			}
		}
	}()
	return m
}

// over reports whether a run's time is over.
func (m *meter) over(s Spec) bool { return time.Since(m.at).Seconds() >= s.Seconds }

func (m *meter) stop(kind string) Result {
	out := Result{Kind: kind, Seconds: time.Since(m.at).Seconds(), CPUSeconds: ownCPU() - m.cpu}
	close(m.end)
	<-m.done
	out.PerSecond = m.perSecond
	return out
}

// ownCPU is the user and system seconds of this process.
func ownCPU() float64 {
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()).Seconds()
}
