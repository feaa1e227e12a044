package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// recoverArgs are the words of an unsafe recovery on broker i.
func (bs *brokers) recoverArgs(i int, lost string, more ...string) []string {
	bs.t.Helper()
	return append([]string{"partition", "unsafe-recover", "--config", bs.config(i), "--lost", lost}, more...)
}

// ends waits until a process that must not serve has ended by itself.
func (p *process) ends(t *testing.T, words string) {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		t.Fatalf("it goes on:\n%s\n%s", p.out.String(), p.err.String())
	}
	if p.failed == nil || !strings.Contains(p.err.String(), words) {
		t.Errorf("it ended with %v and does not say %q:\n%s", p.failed, words, p.err.String())
	}
}

// Shows what is to be done when two of three brokers are lost with their disks:
// nothing is recovered while a majority may be up, what may be lost is told
// first, the one that is left goes on with all it has, in higher epochs; lost
// brokers that come back are sent away, also if they had made a majority of
// their own before; and with new ones everything has three replicas again.
func TestLostMajorityIsRecovered(t *testing.T) {
	t.Parallel()
	bs := newBrokers(t, 3, 3)
	bs.keys[0]["more-data-dirs"] = []string{filepath.Join(bs.dir, "node-1-more")} // its replicas are in two journals
	bs.start(0, 1, 2)
	must(t, "", "topic", "create", "t", "-p", "3", "-r", "3", bs.kafka(0))
	bs.fill("t", 0, 100)
	bs.whole(0, 3)

	// A majority is up: refused, running or not.
	refused(t, bs.recoverArgs(0, "2,3"), "nothing was changed", "end this broker's process first")
	bs.all[0].end(syscall.SIGTERM)
	refused(t, bs.recoverArgs(0, "2,3", "--accept-data-loss"), "nothing was changed", "broker 2 answers", "is not lost")
	refused(t, bs.recoverArgs(0, "2"), "nothing was changed", "broker 2 answers the controller")
	refused(t, bs.recoverArgs(0, "1,2"), "broker 1 is this one")
	refused(t, bs.recoverArgs(0, "7"), "there is no broker 7, only 1, 2, 3")
	bs.start(0)
	bs.whole(0, 3)

	bs.lose(1, 2)
	until(t, "the loss is told", func() error {
		s, err := bs.status(0)
		if err != nil || s.Lost != 3 || s.Controller >= 0 {
			return fmt.Errorf("%+v, %w", s, err)
		}
		return nil
	})
	bs.all[0].end(syscall.SIGKILL)
	out := must(t, "", bs.recoverArgs(0, "2,3")...)
	if !strings.Contains(out, "3 partitions go on") || !strings.Contains(out, "The controller makes a new start") {
		t.Errorf("what is done is not told:\n%s", out)
	}
	plan := filepath.Join(bs.dataDir(0), "recover.json")
	if _, err := os.Stat(plan); err == nil {
		t.Fatal("it was decided without --accept-data-loss")
	}
	must(t, "", bs.recoverArgs(0, "2,3", "--accept-data-loss")...)
	bs.start(0)
	if _, err := os.Stat(plan); err == nil {
		t.Error("the plan outlives what was done")
	}
	s := bs.whole(0, 1)
	if len(s.Brokers) != 1 || s.Brokers[0].ID != 1 || s.Brokers[0].Led != 3 {
		t.Errorf("brokers %+v", s.Brokers)
	}
	bs.holds("t", 100, 0)
	bs.fill("t", 100, 150, 0)
	if out = must(t, "", "partition", "list", "t", "-o", "json", bs.admin(0)); strings.Count(out, `"leader_epoch":65`) != 3 {
		t.Errorf("epochs are not far above the old ones:\n%s", out)
	}

	// The lost ones come back, with all they had.
	for _, i := range []int{1, 2} {
		bs.launch(i)
	}
	for _, i := range []int{1, 2} {
		bs.all[i].ends(t, "was unregistered; empty its data directory")
		if strings.Contains(bs.all[i].out.String(), "is ready") {
			t.Errorf("broker %d served", i+1)
		}
	}
	// Even if they meet nobody who knows, and lead for a while.
	bs.all[0].end(syscall.SIGTERM)
	bs.start(1, 2)
	bs.start(0)
	for _, i := range []int{1, 2} {
		bs.all[i].ends(t, "was unregistered; empty its data directory")
	}
	bs.holds("t", 150, 0)

	// New ones take their places.
	for _, i := range []int{1, 2} {
		if err := os.RemoveAll(bs.dataDir(i)); err != nil {
			t.Fatal(err)
		}
	}
	bs.start(1, 2)
	must(t, "", "partition", "replicas", "3", "--all", bs.admin(0))
	bs.whole(0, 3)
	bs.threeEach("t", 1)
	bs.all[0].end(syscall.SIGKILL)
	bs.holds("t", 150, 1, 2)
	bs.fill("t", 150, 160, 1, 2)
}

// lose kills brokers at once.
func (bs *brokers) lose(which ...int) {
	for _, i := range which {
		_ = bs.all[i].cmd.Process.Kill()
	}
	for _, i := range which {
		<-bs.all[i].ended
	}
}

// threeEach fails unless each partition of a topic has three replicas.
func (bs *brokers) threeEach(topic string, i int) {
	bs.t.Helper()
	until(bs.t, "three replicas each", func() error {
		out := must(bs.t, "", "partition", "list", topic, "-o", "json", bs.admin(i))
		for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
			if !strings.Contains(line, `"state":"ok"`) || strings.Count(line[strings.Index(line, `"replicas"`):strings.Index(line, `"state"`)], ",") != 3 {
				return fmt.Errorf("%s", line)
			}
		}
		return nil
	})
}

// Shows that a decision for a recovery can be taken back before the broker is
// started, and that the cluster then goes on as before.
func TestRecoveryIsTakenBack(t *testing.T) {
	t.Parallel()
	bs := newBrokers(t, 3, 3)
	bs.start(0, 1, 2)
	must(t, "", "topic", "create", "t", "-r", "3", bs.kafka(0))
	bs.fill("t", 0, 20)
	bs.whole(0, 3)
	bs.lose(0, 1, 2)
	must(t, "", bs.recoverArgs(0, "2,3", "--accept-data-loss")...)
	refused(t, bs.recoverArgs(0, "2,3"), "was decided already", "--cancel")
	must(t, "", "partition", "unsafe-recover", "--config", bs.config(0), "--cancel")
	refused(t, []string{"partition", "unsafe-recover", "--config", bs.config(0), "--cancel"}, "no recovery waits")
	bs.start(0, 1, 2)
	bs.whole(0, 3)
	bs.holds("t", 20)
}
