package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"

	"github.com/twmb/franz-go/pkg/kgo"

	"tidewater/internal/fetch"
	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// fetchBytes is how much of a partition one fetch asks for.
const fetchBytes = 4 << 20

// topicLog is a topic read from offset 0 as raw record batches: per partition
// its end and the SHA-256 of its bytes.
type topicLog struct {
	ends    [partitions]record.Offset
	sums    [partitions][sha256.Size]byte
	bytes   int64
	batches int
}

// records is the number of offsets in all partitions.
func (l *topicLog) records() int64 {
	var n int64
	for _, e := range l.ends {
		n += int64(e)
	}
	return n
}

// readLog reads the topic whole, as any client could, through Fetch.
func readLog(ctx context.Context, k *kgo.Client) (*topicLog, error) {
	return readUpTo(ctx, k, nil)
}

// readUpTo reads each partition up to the ends of want (nil: to its high
// watermark), so that two reads can be compared although one has grown.
func readUpTo(ctx context.Context, k *kgo.Client, want *topicLog) (*topicLog, error) {
	t, err := fetch.Open(ctx, k, topic)
	if err != nil {
		return nil, err
	}
	if len(t.Partitions) != partitions {
		return nil, fmt.Errorf("topic %s has %d partitions, want %d", topic, len(t.Partitions), partitions)
	}
	out := &topicLog{}
	for i, p := range t.Partitions {
		offsets, err := p.Offsets(ctx)
		if err != nil {
			return nil, err
		}
		end := offsets.HighWatermark
		if want != nil {
			end = want.ends[i]
		}
		h := sha256.New()
		if err := out.readPartition(ctx, p, end, h); err != nil {
			return nil, err
		}
		out.ends[i] = end
		h.Sum(out.sums[i][:0])
	}
	return out, nil
}

func (l *topicLog) readPartition(ctx context.Context, p *fetch.Partition, end record.Offset, h hash.Hash) error {
	for at := record.Offset(0); at < end; {
		r, err := p.Read(ctx, logio.ReadRequest{Offset: at, BytesMax: fetchBytes, MinOne: true})
		if err != nil {
			return err
		}
		if len(r.Batches) == 0 {
			return fmt.Errorf("partition %d: nothing at offset %d, its end is %d", p.ID().Partition, at, end)
		}
		for _, raw := range r.Batches {
			b := record.Batch(raw)
			if at >= end {
				break
			}
			if b.BaseOffset() != at {
				return fmt.Errorf("partition %d: batch at offset %d, want %d", p.ID().Partition, b.BaseOffset(), at)
			}
			h.Write(raw)
			l.bytes += int64(len(raw))
			l.batches++
			at = b.NextOffset()
		}
	}
	return nil
}

// same fails unless two reads saw the same bytes.
func same(what string, a, b *topicLog) error {
	for i := range a.sums {
		if a.ends[i] != b.ends[i] || a.sums[i] != b.sums[i] {
			return fmt.Errorf("%s: partition %d differs: %d offsets %x, then %d offsets %x", what, i, a.ends[i], a.sums[i][:6], b.ends[i], b.sums[i][:6])
		}
	}
	say("%s: %d record batches, %.1f MB, SHA-256 equal in every partition", what, b.batches, float64(b.bytes)/1e6)
	return nil
}
