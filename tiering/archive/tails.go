package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/tiering/manifest"
)

// Led is one partition that this broker may lead.
type Led struct {
	Source  Source
	Archive *Partition
}

// TailsConfig of a broker's tail writer.
type TailsConfig struct {
	Store  objstore.Store
	Layout manifest.Layout
	// Series is this life of this broker, claimed with manifest.ClaimSeries.
	Series manifest.Series
	// Partitions gives the tiered partitions that this broker hosts, in an
	// order that does not depend on chance.
	Partitions func() []Led
	// ObjectBytesMax bounds the data in one object, 0 is 8 MiB;
	// PartitionBytesMax that of one partition, 0 is 2 MiB: where more waits,
	// the Source is asked to seal its segment.
	ObjectBytesMax, PartitionBytesMax int
	// SignOfLife is the longest pause between two objects. 0 is 10 s.
	SignOfLife time.Duration
	// Grace is how long a covered tail object stays, by the store's clock. 0
	// is one minute: a replica reads it within seconds or goes to the segment.
	Grace time.Duration
	// TrimEvery is the pause between looks for covered objects. 0 is 15 s.
	TrimEvery time.Duration
	Now       func() time.Time
	Faults    Faults
}

const (
	defaultTailBytes      = 8 << 20
	defaultPartitionBytes = 2 << 20
	defaultSignOfLife     = 10 * time.Second
	defaultTailGrace      = time.Minute
	defaultTrimEvery      = 15 * time.Second
)

// Tails writes the tail objects of one broker.
type Tails struct {
	cfg     TailsConfig
	number  uint64 // last number used
	pending []byte // object of that number whose fate is not known
	extents []manifest.Extent
	// first is the partition that begins the next object: the first one that
	// found no room in the last.
	first   record.PartitionID
	lastPut time.Time
	sent    map[record.PartitionID]sentMarks
	trim    *seriesTrim
	trimmed time.Time

	mu   sync.Mutex
	ends map[record.PartitionID]record.Offset // confirmed by the bucket
	// starts are the log starts that the bucket was told.
	starts map[record.PartitionID]record.Offset
}

// sentMarks is what the last object said of a partition.
type sentMarks struct {
	epoch    record.LeaderEpoch
	next     record.Offset // first offset not sent
	hw, lso  record.Offset
	logStart record.Offset
	manifest uint64
}

// NewTails makes the writer of a series that nobody wrote to before.
func NewTails(cfg TailsConfig) *Tails {
	if cfg.ObjectBytesMax == 0 {
		cfg.ObjectBytesMax = defaultTailBytes
	}
	if cfg.PartitionBytesMax == 0 {
		cfg.PartitionBytesMax = defaultPartitionBytes
	}
	if cfg.SignOfLife == 0 {
		cfg.SignOfLife = defaultSignOfLife
	}
	if cfg.Grace == 0 {
		cfg.Grace = defaultTailGrace
	}
	if cfg.TrimEvery == 0 {
		cfg.TrimEvery = defaultTrimEvery
	}
	return &Tails{
		cfg: cfg, sent: map[record.PartitionID]sentMarks{}, ends: map[record.PartitionID]record.Offset{},
		starts: map[record.PartitionID]record.Offset{},
		trim:   newSeriesTrim(cfg.Store, cfg.Layout, cfg.Series, cfg.Grace), trimmed: cfg.Now(),
	}
}

// BucketEnd is the exclusive end of what the bucket is known to hold of a
// partition: by manifest, and by the tail objects that follow it without a gap.
func (t *Tails) BucketEnd(id record.PartitionID) record.Offset {
	end, _ := t.Confirmed(id)
	return end
}

// Confirmed is BucketEnd, and false while this life of the broker has not put
// anything of the partition.
func (t *Tails) Confirmed(id record.PartitionID) (record.Offset, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	end, ok := t.ends[id]
	return end, ok
}

// BucketStart is the log start that the bucket is known to have been told: what
// was deleted below it stays deleted after a restore.
func (t *Tails) BucketStart(id record.PartitionID) record.Offset {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.starts[id]
}

// RunOnce uploads one object if there is anything new or a sign of life is
// due, and now and then retires what segments cover. Call it once a second, or
// sooner when somebody waits for the bucket.
//
// Partitions that could not be read are left out and told in the error; the
// others are uploaded.
func (t *Tails) RunOnce(ctx context.Context) error {
	if t.pending != nil {
		if err := t.put(ctx); err != nil {
			return err
		}
	}
	tail, faults := t.collect(ctx)
	if len(tail.Extents) > 0 || t.cfg.Now().Sub(t.lastPut) >= t.cfg.SignOfLife {
		t.number++
		tail.Number = t.number
		t.pending, t.extents = tail.AppendTo(nil), tail.Extents
		if err := t.put(ctx); err != nil {
			return errors.Join(append(faults, err)...)
		}
	}
	if now := t.cfg.Now(); now.Sub(t.trimmed) >= t.cfg.TrimEvery {
		t.trimmed = now
		err := t.trim.runOnce(ctx, t.archivedEnd, t.number+1, false)
		if errors.Is(err, manifest.ErrFenced) {
			// The controller took this broker for dead and trims its series, too.
			err = t.trim.follow(ctx)
		}
		if err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// turn gives the partitions in order of their ids, from first on and around:
// when more comes in than an object holds, each has its turn.
func (t *Tails) turn() []Led {
	list := t.cfg.Partitions()
	i := slices.IndexFunc(list, func(p Led) bool { return p.Archive.Dir().ID.Compare(t.first) >= 0 })
	if i <= 0 {
		return list
	}
	return slices.Concat(list[i:], list[:i])
}

// collect gathers what is new, partition by partition, within the bounds.
func (t *Tails) collect(ctx context.Context) (*manifest.Tail, []error) {
	tail := &manifest.Tail{Header: t.cfg.Layout.Header(), Series: t.cfg.Series, Created: t.cfg.Now().UnixMilli()}
	var faults []error
	full := false
	for _, p := range t.turn() {
		id := p.Archive.Dir().ID
		marks := p.Source.Marks()
		number, end, known := p.Archive.Manifest()
		if !marks.Leading || !known {
			// After winning a term the tail starts at the manifest's end, so
			// it waits until that is known.
			delete(t.sent, id)
			continue
		}
		s, ok := t.sent[id]
		if !ok || s.epoch != marks.Epoch {
			s.next = end
		}
		s.next = max(s.next, end, marks.LogStart)
		x := manifest.Extent{
			Topic: p.Archive.Dir().Topic, Partition: id, Epoch: marks.Epoch, Base: s.next, Next: s.next,
			HighWatermark: marks.HighWatermark, LastStable: marks.LastStable, LogStart: marks.LogStart,
			Manifest: number, Archived: end, MaxTimestamp: -1,
		}
		if err := t.addBatches(ctx, p.Source, &x, tail); err != nil {
			faults = append(faults, fmt.Errorf("tail of %s-%d: %w", x.Topic, id.Partition, err))
			continue
		}
		if !full && x.Next == x.Base && x.Next < x.HighWatermark && len(tail.Data) >= t.cfg.ObjectBytesMax {
			full, t.first = true, id
		}
		now := sentMarks{epoch: marks.Epoch, next: x.Next, hw: x.HighWatermark, lso: x.LastStable, logStart: x.LogStart, manifest: number}
		if !ok || now != t.sent[id] {
			tail.Extents = append(tail.Extents, x)
		}
	}
	return tail, faults
}

// addBatches appends the partition's new batches to the object, checked.
func (t *Tails) addBatches(ctx context.Context, src Source, x *manifest.Extent, tail *manifest.Tail) error {
	budget := min(t.cfg.PartitionBytesMax, t.cfg.ObjectBytesMax-len(tail.Data))
	if x.Base >= x.HighWatermark || budget <= 0 {
		return nil
	}
	start := len(tail.Data)
	for x.Next < x.HighWatermark && len(tail.Data)-start < budget {
		batches, err := src.Batches(ctx, x.Next, x.HighWatermark, budget-(len(tail.Data)-start))
		if err != nil {
			tail.Data = tail.Data[:start]
			return err
		}
		if len(batches) == 0 {
			break
		}
		for _, p := range batches {
			b := record.Batch(p)
			if len(tail.Data) == start && b.BaseOffset() < x.Next && x.Next <= b.LastOffset() {
				x.Base, x.Next = b.BaseOffset(), b.BaseOffset() // the log start stands inside this batch
			}
			if err := checkNext(b, x.Next, x.HighWatermark); err != nil {
				tail.Data = tail.Data[:start]
				return err
			}
			tail.Data = append(tail.Data, p...)
			x.Next = b.NextOffset()
			x.MaxTimestamp = max(x.MaxTimestamp, b.MaxTimestamp())
		}
	}
	if x.Next < x.HighWatermark {
		src.Seal()
	}
	x.Position, x.Length = int64(start), int64(len(tail.Data)-start)
	x.CRC = manifest.CRC(tail.Data[start:])
	return nil
}

func checkNext(b record.Batch, want, limit record.Offset) error {
	if err := b.Check(); err != nil {
		return err
	}
	if b.BaseOffset() != want {
		return fmt.Errorf("%w: batch at offset %d, want %d", record.ErrCorrupt, b.BaseOffset(), want)
	}
	if b.NextOffset() > limit {
		return fmt.Errorf("batch %d to %d is not committed, the high watermark is %d", b.BaseOffset(), b.LastOffset(), limit)
	}
	return nil
}

// put stores the pending object; what it says counts as sent from then on.
func (t *Tails) put(ctx context.Context) error {
	key := t.cfg.Layout.Tail(t.cfg.Series, t.number)
	if t.cfg.Faults.ReuseTailSeries {
		if err := t.cfg.Store.Put(ctx, key, t.pending); err != nil {
			return err
		}
	} else if err := manifest.PutNew(ctx, t.cfg.Store, key, t.pending); err != nil {
		return err
	}
	t.lastPut = t.cfg.Now()
	t.trim.add(t.number, t.extents)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, x := range t.extents {
		t.sent[x.Partition] = sentMarks{epoch: x.Epoch, next: x.Next, hw: x.HighWatermark, lso: x.LastStable, logStart: x.LogStart, manifest: x.Manifest}
		t.ends[x.Partition] = max(x.Next, x.Archived)
		t.starts[x.Partition] = x.LogStart
	}
	t.pending, t.extents = nil, nil
	return nil
}

// archivedEnd answers from what this broker leads; the trim asks the bucket for
// the rest.
func (t *Tails) archivedEnd(id record.PartitionID) (record.Offset, bool) {
	for _, p := range t.cfg.Partitions() {
		if p.Archive.Dir().ID == id {
			_, end, known := p.Archive.Manifest()
			return end, known
		}
	}
	return 0, false
}
