package broker

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"tidewater/internal/fetch"
	"tidewater/internal/record"
)

// seal has all segments written and sealed now.
func (n *node) seal() error {
	for _, h := range n.parts.all() {
		if err := h.WriteSegments(n.t.Context(), true); err != nil {
			return err
		}
	}
	return nil
}

// localStart is the oldest offset of a partition on the broker's disk.
func (n *node) localStart(topic string, partition int32) (record.Offset, error) {
	log, err := fetch.Open(n.t.Context(), n.client, topic)
	if err != nil {
		return 0, err
	}
	o, err := log.Partitions[partition].Offsets(n.t.Context())
	return o.LocalLogStart, err
}

// untilCold waits until the disk holds nothing below an offset of a partition.
// It does not wait until segments are written and sealed by their age.
func (n *node) untilCold(topic string, partition int32, end record.Offset) {
	n.t.Helper()
	until(n.t, "the disk lets go of what the bucket holds", func() error {
		if err := n.seal(); err != nil {
			return err
		}
		start, err := n.localStart(topic, partition)
		if err == nil && start < end {
			err = fmt.Errorf("local log starts at %d, want %d", start, end)
		}
		return err
	})
}

// commitOffset has a group commit one offset, as a consumer does.
func (n *node) commitOffset(group, topic string, offset int64) error {
	all := kadm.Offsets{}
	all.Add(kadm.Offset{Topic: topic, Partition: 0, At: offset, LeaderEpoch: -1})
	r, err := n.admin.CommitOffsets(n.t.Context(), group, all)
	if err != nil {
		return err
	}
	return r.Error()
}

// committed says whether a group's offset is the given one.
func (n *node) committed(group, topic string, want int64) error {
	r, err := n.admin.FetchOffsets(n.t.Context(), group)
	if err != nil {
		return err
	}
	if o, ok := r.Lookup(topic, 0); !ok || o.At != want {
		return fmt.Errorf("offset of group %s is %+v, want %d", group, o, want)
	}
	return nil
}

// Shows that a bucket that does not answer at the start keeps nobody from hot
// topics and groups, and that all goes to it when it answers.
func TestBucketDownAtStart(t *testing.T) {
	for name, what := range map[string]mishap{"refuses": cut, "hangs": hung} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.way.all(what)
			n := openNode(t, w.config())
			n.topic("plain", 1, nil)
			n.topic("t", 1, withTable())
			n.fill("plain", 0, 0, 10)
			n.fill("t", 0, 0, 10)
			n.mustHold("plain", 0, 10)
			n.mustHold("t", 0, 10)
			until(t, "a group commits", func() error { return n.commitOffset("g", "plain", 7) })
			if n.logged.count("the bucket does not answer") == 0 {
				t.Error("the log does not tell that the bucket is down")
			}
			w.way.set(nil)
			until(t, "the table is there", func() error { return n.agrees("t", 10) })
		})
	}
}

// Shows that a cluster with data in the bucket starts without it: hot topics
// and groups as they were, cold reads refused by a retriable code until the
// bucket answers, and deletions and new topics not in each other's way.
func TestClusterStartsWithoutItsBucket(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	n := openNode(t, cfg)
	n.topic("plain", 1, nil)
	n.topic("cold", 1, coldOnly())
	n.topic("gone", 1, tiered())
	n.fill("plain", 0, 0, 10)
	n.fill("cold", 0, 0, 10)
	until(t, "a group commits", func() error { return n.commitOffset("g", "plain", 7) })
	n.untilCold("cold", 0, 10)
	n.mustHold("cold", 0, 10)
	n.close()

	w.way.all(hung)
	n = openNode(t, cfg)
	n.mustHold("plain", 0, 10)
	n.fill("plain", 0, 10, 20)
	until(t, "groups are loaded", func() error { return n.committed("g", "plain", 7) })
	if r, err := n.admin.DeleteTopic(t.Context(), "gone"); err != nil || r.Err != nil {
		t.Fatal(err, r.Err)
	}
	begin := time.Now()
	n.topic("new", 1, nil)
	n.fill("new", 0, 0, 5)
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("a new topic took %s beside a deletion that waits for the bucket", took)
	}
	w.way.all(cut)
	if _, err := n.read("cold", 0, 0); !errors.Is(err, kerr.KafkaStorageError) {
		t.Errorf("cold read without the bucket: %v, want a retriable code that says storage", err)
	}
	w.way.set(nil)
	n.mustHold("cold", 0, 10)
	n.fill("cold", 0, 10, 20)
	n.untilCold("cold", 0, 20)
	n.mustHold("cold", 0, 20)
}

// Shows that produce and hot reads go on while the bucket is in trouble, that
// cold reads wait or get a retriable code, and that archive and table have
// everything once when the trouble is over.
func TestBucketTroubleWhileRunning(t *testing.T) {
	for name, k := range map[string]struct {
		what mishap
		pick func(*http.Request) bool // nil is every request
		dead bool                     // nothing can be read
	}{
		"unreachable":        {what: cut, dead: true},
		"answers 503":        {what: busy, dead: true},
		"slow":               {what: slow},
		"loses put replies":  {what: lost, pick: func(r *http.Request) bool { return r.Method == http.MethodPut }},
		"conflicts on a put": {what: clash, pick: func(r *http.Request) bool { return r.Method == http.MethodPut }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			n := openNode(t, w.config())
			c := withTable()
			c["local.retention.bytes"] = "0"
			n.topic("t", 1, c)
			n.topic("hot", 1, tiered())
			n.fill("t", 0, 0, 50)
			n.fill("hot", 0, 0, 5)
			n.untilCold("t", 0, 50)
			w.way.set(func(r *http.Request) mishap {
				if k.pick == nil || k.pick(r) {
					return k.what
				}
				return pass
			})
			n.fill("t", 0, 50, 100)
			n.fill("hot", 0, 5, 10)
			n.mustHold("hot", 0, 10)
			if k.dead {
				if _, err := n.read("t", 0, 0); !errors.Is(err, kerr.KafkaStorageError) {
					t.Errorf("cold read: %v, want a retriable code that says storage", err)
				}
			} else {
				n.mustHold("t", 0, 100)
			}
			until(t, "the archive meets the trouble", func() error {
				if w.way.times(k.what) < 3 {
					return errors.New("not yet")
				}
				return nil
			})
			w.way.set(nil)
			n.untilCold("t", 0, 100)
			n.mustHold("t", 0, 100)
			until(t, "the table catches up", func() error { return n.agrees("t", 100) })
		})
	}
}
