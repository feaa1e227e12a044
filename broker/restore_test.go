package broker

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"tidewater/internal/record"
	"tidewater/tiering/manifest"
)

// untilInBucket waits until the newest cut holds all that is committed of
// tiered topics.
func (n *node) untilInBucket() {
	n.t.Helper()
	until(n.t, "the bucket has it", func() error {
		cut, err := manifest.NewestCut(n.t.Context(), n.tier.store, n.tier.layout)
		if err != nil {
			return err
		}
		ends := map[record.PartitionID]record.Offset{}
		for _, e := range cut.Ends {
			ends[e.Partition] = e.End
		}
		for _, h := range n.parts.all() {
			o, err := h.Offsets()
			if err != nil {
				return err
			}
			if h.tiered() && ends[h.ID()] < o.HighWatermark {
				return fmt.Errorf("cut %d holds %s to %d of %d", cut.Number, h.Name(), ends[h.ID()], o.HighWatermark)
			}
		}
		return nil
	})
}

// restore brings the bucket's cluster into a new directory.
func (w *world) restore() (Config, *RestoreReport) {
	w.t.Helper()
	cfg := w.config()
	report, err := Restore(w.t.Context(), cfg, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return cfg, report
}

// Shows that a cluster whose disk is lost goes on from the bucket: records,
// group offsets, producers' state and the table; and that the old one, should
// it still run, acks nothing tiered any more, says so once, and does not start
// again. Topics that are not tiered are its own still.
func TestRestoreContinuesAndFencesTheOldCluster(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	old := openNode(t, cfg)
	old.topic("t", 2, withTable())
	old.topic("plain", 1, nil)
	old.fill("t", 1, 0, 10)
	old.fill("t", 0, 0, 20)
	if err := old.seal(); err != nil {
		t.Fatal(err)
	}
	producer := &record.Producer{ID: 1000}
	first := old.produce("t", 0, batchOf(t, producer, []byte("once")))
	if first.ErrorCode != 0 {
		t.Fatal(code(first.ErrorCode))
	}
	until(t, "a group commits", func() error { return old.commitOffset("g", "t", 7) })
	until(t, "a group commits", func() error { return old.commitOffset("g", "plain", 2) })
	until(t, "the table is there", func() error { return old.agrees("t", 31) })
	old.untilInBucket()

	newCfg, report := w.restore()
	if report.ClusterID != old.ClusterID() || report.Source != 1 || report.Incarnation != 2 {
		t.Errorf("report %+v of cluster %s", report, old.ClusterID())
	}
	until(t, "the old cluster is fenced", func() error {
		p := old.produce("t", 0, batchOf(t, nil, []byte("lost")))
		if p.ErrorCode == 0 {
			return fmt.Errorf("record %d is acked", p.BaseOffset)
		}
		wantCode(t, "produce to a fenced cluster", p.ErrorCode, kerr.NotLeaderForPartition)
		return nil
	})
	old.fill("plain", 0, 0, 3)
	if told := old.logged.count("a newer incarnation of this cluster owns the bucket; tiered"); told != 1 {
		t.Errorf("the log tells %d times that the cluster is fenced", told)
	}
	old.close()
	refused(t, cfg, manifest.ErrFenced, "incarnation 2", "incarnation 1")

	n := openNode(t, newCfg)
	if n.ClusterID() != report.ClusterID {
		t.Errorf("restored cluster is %s, was %s", n.ClusterID(), report.ClusterID)
	}
	n.mustHold("t", 1, 10)
	n.sameAgain("t", first.BaseOffset, producer)
	until(t, "the group's offset is back", func() error { return n.committed("g", "t", 7) })
	// A topic that was not in the bucket begins anew, so must its groups.
	until(t, "the offset in an empty topic is gone", func() error {
		if n.committed("g", "plain", 2) == nil {
			return errors.New("group g would skip the first 2 records of topic plain")
		}
		return nil
	})
	n.fill("t", 1, 10, 20)
	n.mustHold("t", 1, 20)
	until(t, "the table goes on", func() error { return n.agrees("t", 41) })
	n.close()
	n = openNode(t, newCfg)
	n.mustHold("t", 1, 20)
}

// Shows that a restore is refused, by what is wrong: a directory of a cluster,
// a bucket without one.
func TestRestoreIsRefusedByName(t *testing.T) {
	w := newWorld(t)
	empty := w.config()
	_, err := Restore(t.Context(), empty, nil)
	if err == nil || !strings.Contains(err.Error(), "holds nothing to restore") {
		t.Errorf("restore from an empty bucket: %v", err)
	}
	cfg := w.config()
	openNode(t, cfg).close()
	_, err = Restore(t.Context(), cfg, nil)
	if err == nil || !strings.Contains(err.Error(), cfg.DataDir) || !strings.Contains(err.Error(), "empty") {
		t.Errorf("restore into a directory in use: %v", err)
	}
}

// Shows that two clusters in one bucket do not touch each other's records, and
// that a directory does not change its cluster with the bucket.
func TestClustersShareABucket(t *testing.T) {
	w := newWorld(t)
	a, b := openNode(t, w.config()), openNode(t, w.config())
	for i, n := range []*node{a, b} {
		n.topic("t", 1, coldOnly())
		n.fill("t", 0, 0, 10+i)
	}
	for i, n := range []*node{a, b} {
		n.untilCold("t", 0, record.Offset(10+i))
		n.mustHold("t", 0, 10+i)
	}
	_, err := Restore(t.Context(), w.config(), nil)
	if err == nil || !strings.Contains(err.Error(), a.ClusterID()) || !strings.Contains(err.Error(), b.ClusterID()) {
		t.Errorf("restore of one of two clusters that is not named: %v", err)
	}
}

// Shows that a directory whose cluster has used a bucket is refused without
// it, and on a bucket that does not know the cluster: archived records would be
// out of reach while everything else seemed well.
func TestABucketOnceUsedIsNeeded(t *testing.T) {
	cfg := newWorld(t).config()
	openNode(t, cfg).close()

	without := cfg
	without.Bucket = ""
	refused(t, without, nil, "keeps records in a bucket", "--bucket")
	elsewhere := cfg
	elsewhere.Bucket = strings.Replace(cfg.Bucket, "?", "/elsewhere?", 1)
	refused(t, elsewhere, nil, "does not know cluster")
	openNode(t, cfg).close()
}
