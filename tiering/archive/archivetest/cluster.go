package archivetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/tiering/archive"
	"tidewater/tiering/manifest"
)

// Cluster is a source cluster of one broker: a few logs of one topic, archived
// to a bucket in memory, with tails, metadata and cuts. Its clock is moved by
// the test.
type Cluster struct {
	T      *testing.T
	Clock  time.Time
	Mem    *objstore.Mem
	Layout manifest.Layout
	Topic  string
	ID     record.TopicID
	Logs   []*Log
	Set    archive.Set
	Tails  *archive.Tails
	Keeper *archive.Keeper
	// ObjectBytesMax is small, so that segments become several objects; a
	// change counts from the next Boot.
	ObjectBytesMax int64
	boots          int
}

// NewCluster makes one in a new bucket.
func NewCluster(t *testing.T, partitions int) *Cluster {
	t.Helper()
	c := &Cluster{T: t, Clock: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Topic: "flights", ID: record.TopicID{7, 7}, ObjectBytesMax: 16 << 10}
	c.Mem = objstore.NewMem(c.Now)
	l, err := manifest.TakeIncarnation(t.Context(), c.Mem, manifest.Layout{ClusterID: [16]byte{1, 2, 3}}, 0, manifest.ReasonCreate, "archivetest")
	c.must(err)
	c.Layout = l
	for range partitions {
		c.Logs = append(c.Logs, New(5))
	}
	c.Boot(c.Mem)
	return c
}

// Now is the cluster's clock.
func (c *Cluster) Now() time.Time { return c.Clock }

func (c *Cluster) must(err error) {
	c.T.Helper()
	if err != nil {
		c.T.Fatal(err)
	}
}

// Dir is a partition's place in the bucket.
func (c *Cluster) Dir(n int) manifest.Dir {
	return manifest.Dir{Layout: c.Layout, Topic: c.Topic, ID: record.PartitionID{Topic: c.ID, Partition: int32(n)}}
}

// Boot starts the broker's tiering anew, through a store that may be faulty.
func (c *Cluster) Boot(store objstore.Store) {
	c.T.Helper()
	c.boots++
	s, err := manifest.ClaimSeries(c.T.Context(), c.Mem, c.Layout, 1, 1, fmt.Sprint("boot ", c.boots))
	c.must(err)
	c.Set = archive.Set{}
	for n, l := range c.Logs {
		c.Set.Add(archive.Led{Source: l, Archive: archive.NewPartition(archive.Config{
			Store: store, Dir: c.Dir(n), Source: l, Name: s.String(), ObjectBytesMax: c.ObjectBytesMax, KeepManifests: 4, Grace: time.Minute, Now: c.Now,
		})})
	}
	c.Tails = archive.NewTails(archive.TailsConfig{Store: store, Layout: c.Layout, Series: s, Partitions: c.Set.List, Now: c.Now})
	c.Keeper = archive.NewKeeper(archive.KeeperConfig{
		Store: store, Layout: c.Layout, Now: c.Now,
		Leading: func() (record.LeaderEpoch, bool) { return 1, true },
		State: func() (archive.ClusterState, error) {
			return archive.ClusterState{Blob: []byte(c.Topic), NextProducerID: 1000, NextSchemaID: 3}, nil
		},
		Ends: c.ends,
		Live: func() []manifest.Series { return []manifest.Series{s} },
	})
}

func (c *Cluster) ends(_ context.Context, class manifest.Class) ([]manifest.CutEnd, error) {
	var out []manifest.CutEnd
	for n := range c.Logs {
		if d := c.Dir(n); manifest.ClassOf(d.Topic) == class {
			out = append(out, manifest.CutEnd{Topic: d.Topic, Partition: d.ID, End: c.Tails.BucketEnd(d.ID)})
		}
	}
	return out, nil
}

// Step is a second of the broker's life: archive, tails, cut.
func (c *Cluster) Step() {
	c.T.Helper()
	c.Clock = c.Clock.Add(time.Second)
	ctx := c.T.Context()
	c.must(c.Set.RunOnce(ctx))
	c.must(c.Tails.RunOnce(ctx))
	c.must(c.Keeper.RunOnce(ctx))
}

// Fill appends batches of 3 records to a log.
func (c *Cluster) Fill(n, batches int) {
	for range batches {
		c.Logs[n].Append(3, c.Clock.UnixMilli())
	}
}
