package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// Shows, on real brokers, what an operator does with a cluster: look, take a
// broker into maintenance and back, add one, have the load come to it, and take
// it out again; and that what cannot be done is refused with what to do.
func TestClusterIsOperated(t *testing.T) {
	t.Parallel()
	bs := newBrokers(t, 4, 3)
	bs.start(0, 1, 2)
	must(t, "", "topic", "create", "t", "-p", "8", "-r", "3", bs.kafka(0))
	bs.fill("t", 0, 100, 0, 1, 2)
	bs.whole(1, 3)

	out := must(t, "", "cluster", "status", bs.admin(2))
	for _, want := range []string{"Controller  broker", "8 of 1 topics; 0 under-replicated, 0 leaderless", "active"} {
		if !strings.Contains(out, want) {
			t.Errorf("status does not say %q:\n%s", want, out)
		}
	}
	if out = must(t, "", "partition", "list", "t", bs.admin(0)); strings.Count(out, "ok") != 8 {
		t.Errorf("not 8 partitions are ok:\n%s", out)
	}

	// Maintenance takes the lead away, and its end gives it back.
	must(t, "", "cluster", "maintenance", "on", "2", bs.admin(0))
	if s, err := bs.status(0); err != nil || s.Brokers[1].Led != 0 || s.Brokers[1].State != "maintenance" {
		t.Errorf("after maintenance on: %+v, %v", s.Brokers, err)
	}
	must(t, "", "cluster", "maintenance", "off", "2", bs.admin(1))
	until(t, "it leads again", func() error {
		if s, err := bs.status(0); err != nil || s.Brokers[1].Led == 0 {
			return fmt.Errorf("%+v, %w", s.Brokers, err)
		}
		return nil
	})

	refused(t, []string{"cluster", "maintenance", "on", "9", bs.admin(0)}, "unknown broker", "9", "[1 2 3]")
	refused(t, []string{"cluster", "decommission", "3", bs.admin(0)}, "topic t has 3 replicas", "2 brokers would be left", "add a broker first")
	refused(t, []string{"partition", "list", "nosuch", bs.admin(0)}, "unknown topic", "nosuch")
	refused(t, []string{"partition", "replicas", "5", "t", bs.admin(0)}, "5 replicas", "3 brokers")
	refused(t, []string{"cluster", "status", "--admin=127.0.0.1:1"}, "no broker answers", "--admin")
	refused(t, []string{"cluster", "status", "--admin=" + bs.keys[0]["kafka-addr"].(string)}, "no broker answers")

	// A fourth comes, gets its part, and goes.
	bs.start(3)
	until(t, "the new broker gets its part", func() error {
		s, err := bs.status(0)
		if err != nil || len(s.Brokers) != 4 || !s.Balance.Even || s.Brokers[3].Replicas < 5 {
			return fmt.Errorf("%+v, %w", s, err)
		}
		return nil
	})
	must(t, "", "cluster", "decommission", "4", bs.admin(0))
	select {
	case <-bs.all[3].ended:
		if log := bs.all[3].err.String(); bs.all[3].failed == nil || !strings.Contains(log, "taken out of the cluster") && !strings.Contains(log, "unregistered") {
			t.Errorf("the broker that was taken out ended with %v:\n%s", bs.all[3].failed, log)
		}
	case <-time.After(patience):
		t.Error("the broker that was taken out goes on")
	}
	bs.whole(0, 3)
	bs.holds("t", 100, 0, 1, 2)

	// A broker that is down is told, with what to do.
	bs.all[2].end(9)
	until(t, "the loss is told", func() error {
		_, bad, err := run(t, "", "cluster", "status", bs.admin(2, 0))
		if err != nil || !strings.Contains(bad, "8 partitions miss replicas: brokers 3 do not answer") {
			return errors.Join(err, errors.New(bad))
		}
		return nil
	})
	if out := must(t, "", "partition", "list", "--under-replicated", bs.admin(0), "-o", "json"); strings.Count(out, `"missing":[3]`) != 8 {
		t.Errorf("not 8 partitions are listed:\n%s", out)
	}
}
