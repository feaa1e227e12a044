package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"tidewater/demo/flights"
	"tidewater/internal/record"
)

const (
	// loadFor is how long the producer runs before the kill; loadEvery its pace.
	loadFor   = 3 * time.Second
	loadEvery = time.Millisecond
	// afterRestore is how many flights are produced to the restored cluster.
	afterRestore = 2000
)

// disaster kills the cluster under load, deletes its disk, restores an empty
// one from the bucket, goes on, and proves that log and table agree.
func disaster(ctx context.Context, d *demo) error {
	if err := d.verify(ctx, "before"); err != nil {
		return err
	}
	acks, killed, err := d.killUnderLoad(ctx)
	if err != nil {
		return err
	}
	say("kill -9 with %d more records acked; data directory deleted", acks.count())
	out, err := d.cli(ctx, "restore", "--data-dir", filepath.Join(d.dir, "node2"), "--bucket", d.bucketURL(),
		"--bucket-access-key", accessKey, "--bucket-secret-key", secretKey)
	if err != nil {
		return err
	}
	say("tidewater restore, with nothing but the bucket's address:")
	for line := range strings.Lines(out) {
		say("  %s", strings.TrimSpace(line))
	}
	if _, err := d.startBroker(ctx, "node2"); err != nil {
		return err
	}
	k, err := d.client()
	if err != nil {
		return err
	}
	defer k.Close()
	if err := firstFetch(ctx, k); err != nil {
		return err
	}
	say("first fetch %s after the kill; segments on the new disk: %d", round(time.Since(killed)), segmentFiles(filepath.Join(d.dir, "node2")))
	restored, err := readUpTo(ctx, k, d.log)
	if err != nil {
		return err
	}
	if err := same("before the kill and after the restore", d.log, restored); err != nil {
		return err
	}
	now, err := readLog(ctx, k)
	if err != nil {
		return err
	}
	lost, window := acks.beyond(now, killed)
	say("acked, but not yet in the bucket at the kill: %d records, the last %d ms", lost, window.Milliseconds())
	if err := d.produceOn(ctx, k); err != nil {
		return err
	}
	return d.verify(ctx, "after")
}

// acked is what a producer was told: for each partition the time of each ack.
type acked struct {
	mu sync.Mutex
	at [partitions]map[record.Offset]time.Time
}

func (a *acked) add(r *kgo.Record) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.at[r.Partition] == nil {
		a.at[r.Partition] = map[record.Offset]time.Time{}
	}
	a.at[r.Partition][record.Offset(r.Offset)] = time.Now()
}

func (a *acked) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, p := range a.at {
		n += len(p)
	}
	return n
}

// beyond counts the acked records that a log lacks, and how long before the
// kill the oldest of them was acked.
func (a *acked) beyond(l *topicLog, killed time.Time) (lost int, window time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for p, acks := range a.at {
		for offset, at := range acks {
			if offset >= l.ends[p] {
				lost++
				window = max(window, killed.Sub(at))
			}
		}
	}
	return lost, window
}

// killUnderLoad produces for a while and kills the broker in the middle of it.
func (d *demo) killUnderLoad(ctx context.Context) (*acked, time.Time, error) {
	all, err := flights.Sample()
	if err != nil {
		return nil, time.Time{}, err
	}
	k, err := d.client()
	if err != nil {
		return nil, time.Time{}, err
	}
	defer k.Close()
	load, stop := context.WithTimeout(ctx, loadFor)
	defer stop()
	acks := &acked{}
	b := newBar("producing, ms", loadFor.Milliseconds())
	begin, sent := time.Now(), 0
	for tick := time.NewTicker(loadEvery); load.Err() == nil; sent++ {
		f := all[sent%len(all)]
		k.Produce(ctx, &kgo.Record{Topic: topic, Key: []byte(f.Key), Value: f.Value}, func(r *kgo.Record, err error) {
			if err == nil {
				acks.add(r)
			}
		})
		b.at(time.Since(begin).Milliseconds())
		select {
		case <-load.Done():
		case <-tick.C:
		}
	}
	node, killed := d.named("node1"), time.Now()
	if err := d.kill(node); err != nil {
		return nil, killed, err
	}
	b.end(killed.Sub(begin).Milliseconds())
	return acks, killed, os.RemoveAll(filepath.Join(d.dir, "node1"))
}

func (d *demo) named(name string) *process {
	for _, p := range d.all {
		if p.name == name {
			return p
		}
	}
	return nil
}

// firstFetch reads something from offset 0.
func firstFetch(ctx context.Context, k *kgo.Client) error {
	reader, err := kgo.NewClient(append(k.Opts(), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		return err
	}
	defer reader.Close()
	ctx, cancel := context.WithTimeout(ctx, followTimeout)
	defer cancel()
	for {
		f := reader.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("first fetch after the restore: %w", err)
		}
		if f.NumRecords() > 0 {
			return nil
		}
	}
}

// segmentFiles counts the segment files below dir.
func segmentFiles(dir string) int {
	n := 0
	_ = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".segment") {
			n++
		}
		return nil
	})
	return n
}

// produceOn sends more flights to the restored cluster.
func (d *demo) produceOn(ctx context.Context, k *kgo.Client) error {
	all, err := flights.Sample()
	if err != nil {
		return err
	}
	var batch []*kgo.Record
	for _, f := range all[:afterRestore] {
		batch = append(batch, &kgo.Record{Topic: topic, Key: []byte(f.Key), Value: f.Value})
	}
	if err := k.ProduceSync(ctx, batch...).FirstErr(); err != nil {
		return fmt.Errorf("produce to the restored cluster: %w", err)
	}
	say("%d more records acked by the restored cluster", len(batch))
	if d.log, err = readLog(ctx, k); err != nil {
		return err
	}
	return d.waitTable(ctx)
}

// verify runs `tidewater verify` and shows what it says.
func (d *demo) verify(ctx context.Context, when string) error {
	out, err := d.cli(ctx, "verify", topic, "-b", d.ports.kafka, "--catalog", "http://"+d.ports.catalog)
	for line := range strings.Lines(out) {
		say("verify %s: %s", when, strings.TrimRight(line, "\n"))
	}
	return err
}
