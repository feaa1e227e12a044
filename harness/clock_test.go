package main

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

// tellTime is the environment of the child that prints the time.
const tellTime = "TIDEWATER_HARNESS_TELL_TIME"

// Shows that another process's wall clock is moved, and moved back, while its
// timers and its other clocks go on: the child prints both for each line it gets.
func TestClockOfAProcessIsMoved(t *testing.T) {
	if os.Getenv(tellTime) != "" {
		begin := time.Now()
		for {
			var line string
			if _, err := fmt.Scanln(&line); err != nil {
				return
			}
			now := time.Now()
			fmt.Println(now.Unix(), int64(now.Sub(begin)/time.Second))
		}
	}
	if err := canSkew(); err != nil {
		t.Logf("nothing to show: %v", err)
		return
	}
	child := exec.Command(os.Args[0], "-test.run", "TestClockOfAProcessIsMoved")
	child.Env = append(os.Environ(), tellTime+"=1")
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); _ = child.Wait() }()
	ask := func() (off, since int64) {
		fmt.Fprintln(in, "now")
		var at int64
		if _, err := fmt.Fscan(out, &at, &since); err != nil {
			t.Fatal(err)
		}
		return at - time.Now().Unix(), since
	}
	ask()
	c, err := takeClock(child.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for _, by := range []int64{0, 3600, -100000, 0} {
		if err := c.set(time.Duration(by) * time.Second); err != nil {
			t.Fatal(err)
		}
		if off, since := ask(); off < by-60 || off > by+60 || since > 60 {
			t.Errorf("moved by %d s, it is off by %d s, and %d s have passed by its other clock", by, off, since)
		}
	}
}
