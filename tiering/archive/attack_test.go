package archive_test

import (
	"context"
	"testing"

	"tidewater/internal/record"
	"tidewater/tiering/archive"
	"tidewater/tiering/archive/archivetest"
	"tidewater/tiering/manifest"
)

// A broker that has just started does not know yet what the bucket holds. A
// cut that it writes then does not go back, since a restore would cut the group
// offsets at it; and a partition that no cut ever named stays out of it.
func TestCutDoesNotGoBackAfterARestart(t *testing.T) {
	w := newWorld(t)
	end, blob := record.Offset(70), "a"
	boot := func() *archive.Keeper {
		return archive.NewKeeper(archive.KeeperConfig{
			Store: w.store, Layout: w.dir.Layout, Now: w.now,
			Leading: func() (record.LeaderEpoch, bool) { return 4, true },
			State:   func() (archive.ClusterState, error) { return archive.ClusterState{Blob: []byte(blob)}, nil },
			Ends: func(_ context.Context, c manifest.Class) ([]manifest.CutEnd, error) {
				if c != manifest.ClassGroups {
					return nil, nil
				}
				return []manifest.CutEnd{{Topic: "__consumer_offsets", Partition: w.dir.ID, End: end}}, nil
			},
			Live: func() []manifest.Series { return nil },
		})
	}
	newest := func() []manifest.CutEnd {
		cut, err := manifest.NewestCut(t.Context(), w.mem, w.dir.Layout)
		w.must(err)
		return cut.Ends
	}
	end = archive.EndUnknown // the first start: nothing is known, by nobody
	w.must(boot().RunOnce(t.Context()))
	if ends := newest(); len(ends) != 0 {
		t.Fatalf("the first cut speaks of what is not known: %+v", ends)
	}
	end, blob = 70, "b"
	w.must(boot().RunOnce(t.Context()))
	for i, after := range []record.Offset{archive.EndUnknown, 0, 40} {
		end, blob = after, blob+"c" // the metadata changed, so a cut is written
		w.must(boot().RunOnce(t.Context()))
		if ends := newest(); len(ends) != 1 || ends[0].End != 70 {
			t.Fatalf("restart %d: the cut is %+v, want offset 70", i, ends)
		}
	}
	end = 90
	w.must(boot().RunOnce(t.Context()))
	if ends := newest(); ends[0].End != 90 {
		t.Fatalf("the cut is %+v, want offset 90", ends)
	}
}

// More comes in than a tail object holds: every partition has its turn, none is
// left out for ever because of its id.
func TestEveryPartitionHasItsTurnInTheTail(t *testing.T) {
	w := newWorld(t)
	var parts []archive.Led
	var logs []*archivetest.Log
	for n := range int32(12) {
		log := archivetest.New(5)
		p := w.partition(log, func(c *archive.Config) { c.Dir.ID.Partition = n })
		w.run(p)
		parts, logs = append(parts, archive.Led{Source: log, Archive: p}), append(logs, log)
	}
	s, err := manifest.ClaimSeries(t.Context(), w.mem, w.dir.Layout, 1, 1, "turns")
	w.must(err)
	tails := archive.NewTails(archive.TailsConfig{
		Store: w.store, Layout: w.dir.Layout, Series: s, Partitions: func() []archive.Led { return parts },
		ObjectBytesMax: 16 << 10, PartitionBytesMax: 8 << 10, Now: w.now,
	})
	for range 12 {
		for _, log := range logs {
			w.fill(log, 100)
		}
		w.must(tails.RunOnce(t.Context()))
	}
	for i, p := range parts {
		if end := tails.BucketEnd(p.Archive.Dir().ID); end == 0 || !logs[i].SealWanted() {
			t.Errorf("partition %d: the bucket holds it to %d, a seal is wanted: %v", i, end, logs[i].SealWanted())
		}
	}
}
