package partition

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"tidewater/broker/segment"
	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// A damaged segment is made anew beside itself: what is sound of it, and for
// the rest what another replica has, or the bucket. Every batch that comes is
// checked against its CRC, the leader epochs and, if the chunk's header is
// sound, the checksum of the very bytes that were there. Until then readers get
// what is sound, the bucket's copy, or an error that they retry.

// Rot counts damage of segments; the partitions of a broker share one.
type Rot struct {
	// Found and Mended are segments; Given are those that were mended by
	// leaving them to the bucket alone.
	Found, Mended, Given atomic.Int64
	// Checked are the bytes that Scrub has read.
	Checked atomic.Int64
}

// mending is a segment that was made anew and waits to take its place.
type mending struct {
	rebuilt *segment.Rebuilt
	held    *pin
}

// Damaged lists the damaged segments that are known.
func (p *Partition) Damaged() []segment.Damage { return p.segments.Damaged() }

// Repair is one step of making damaged segments anew. It may wait for other
// brokers and the bucket, and is called again until nothing is damaged; an error
// names the segment and what can be done. It has one caller.
func (p *Partition) Repair(ctx context.Context) error {
	if err := p.useMended(); err != nil {
		return err
	}
	var errs []error
	for _, d := range p.segments.Damaged() {
		if err := ctx.Err(); err != nil {
			return err
		}
		p.tellDamage(&d)
		if err := p.repair(ctx, d.Info); err != nil {
			errs = append(errs, fmt.Errorf("segment %s of %s, offsets [%d, %d), is damaged and no whole copy was reached: bring back a broker that has a replica, or give the records up by DeleteRecords before offset %d: %w; found: %w",
				p.segments.Path(d.Info), p.Name(), d.Info.Base, d.Info.Next, d.Info.Next, err, d.Err))
		}
	}
	return errors.Join(errs...)
}

// tellDamage counts and logs damage once.
func (p *Partition) tellDamage(d *segment.Damage) {
	p.mu.Lock()
	known := p.told[d.Info.First]
	if p.told == nil {
		p.told = map[record.Index]bool{}
	}
	p.told[d.Info.First] = true
	p.mu.Unlock()
	if known {
		return
	}
	p.cfg.Rot.Found.Add(1)
	p.cfg.Log.Error("a segment is damaged and will be made anew", "topic", p.cfg.Topic, "partition", p.cfg.ID.Partition,
		"offset", int64(d.Info.Base), "end", int64(d.Info.Next), "error", d.Err)
}

func (p *Partition) repair(ctx context.Context, in segment.Info) error {
	if !in.Sealed {
		return p.sealDamaged() // the next step has it sealed
	}
	held := p.hold()
	r, err := p.segments.Rebuild(in, func(s segment.Stretch, add func([]segment.Entry) error) error { return p.refill(ctx, &s, add) })
	if r == nil {
		p.letGo(held)
		if err != nil && p.give(in) {
			return nil
		}
		return err
	}
	p.mu.Lock()
	p.mended = &mending{r, held}
	p.mu.Unlock()
	return p.useMended()
}

// sealDamaged seals the active segment: only a sealed one is made anew.
func (p *Partition) sealDamaged() error {
	if !p.begin() {
		return nil
	}
	return errors.Join(p.seal(), p.end())
}

// useMended puts a segment that was made anew in its place, unless another step
// uses the segments: then the next Repair does.
func (p *Partition) useMended() error {
	p.mu.Lock()
	m := p.mended
	p.mu.Unlock()
	if m == nil || !p.begin() {
		return nil
	}
	err := p.segments.Use(m.rebuilt)
	p.mu.Lock()
	p.mended, p.told = nil, nil
	p.mu.Unlock()
	p.letGo(m.held)
	if err = errors.Join(err, p.end()); err != nil {
		return fmt.Errorf("put a segment of %s that was made anew in its place: %w", p.Name(), err)
	}
	p.cfg.Rot.Mended.Add(1)
	p.cfg.Log.Info("a damaged segment was made anew", "topic", p.cfg.Topic, "partition", p.cfg.ID.Partition)
	return nil
}

// give leaves a damaged segment, and those before it, to the bucket, if it holds
// all of it: local retention does no more. False when it does not.
func (p *Partition) give(in segment.Info) bool {
	p.mu.Lock()
	may := p.settings.Tiered && p.remote != nil && in.Next <= p.marks.archived && in.Next <= p.stable.next
	if at, ok := p.pinned(); ok && at < in.Next {
		may = false
	}
	p.mu.Unlock()
	if !may || !p.begin() {
		return false
	}
	err := errors.Join(p.removeBefore(p.segmentInfos(), in.Next), p.end())
	if err != nil {
		p.cfg.Log.Warn("a damaged segment could not be left to the bucket", "topic", p.cfg.Topic, "partition", p.cfg.ID.Partition, "error", err)
		return false
	}
	p.cfg.Rot.Given.Add(1)
	p.cfg.Log.Warn("a damaged segment was left to the bucket, which holds all of it", "topic", p.cfg.Topic, "partition", p.cfg.ID.Partition, "offset", int64(in.Next))
	return true
}

// refill adds the entries of a stretch from whoever has them: another replica,
// from where one before stopped, else the bucket.
func (p *Partition) refill(ctx context.Context, s *segment.Stretch, add func([]segment.Entry) error) error {
	at := s.First
	follow := func(entries []segment.Entry) error {
		if err := p.checkCopied(entries); err != nil {
			return err
		}
		if err := add(entries); err != nil {
			return err
		}
		at = entries[len(entries)-1].Index + 1
		return nil
	}
	var errs []error
	if p.cfg.Source != nil && p.cfg.Replicas != nil {
		for _, node := range p.cfg.Replicas() {
			if err := p.refillFrom(ctx, node, at, s.Last, follow); err != nil {
				errs = append(errs, fmt.Errorf("broker %d: %w", node, err))
			}
			if at > s.Last {
				return nil
			}
		}
	}
	if at == s.First {
		err := p.refillFromBucket(ctx, s, follow)
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("bucket: %w", err))
	}
	return errors.Join(errs...)
}

// checkCopied checks what other brokers and the bucket give.
func (p *Partition) checkCopied(entries []segment.Entry) error {
	batches := batchesIn(entries)
	for _, b := range batches {
		if len(b) < record.HeaderBytes {
			return fmt.Errorf("%w: batch of %d bytes", ErrCorrupt, len(b))
		}
		if err := record.Batch(b).Check(); err != nil {
			return fmt.Errorf("batch at offset %d: %w", record.Batch(b).BaseOffset(), err)
		}
	}
	_, err := p.checkEpochs(batches)
	return err
}

// refillFrom adds entries from a replica on another broker.
func (p *Partition) refillFrom(ctx context.Context, node int32, from, to record.Index, add func([]segment.Entry) error) error {
	stream, err := p.cfg.Source.Segments(ctx, node, p.cfg.ID, copyRequest{from: from, to: to}.encode())
	if err != nil {
		return err
	}
	defer stream.Close() // only read
	begin, err := readFrame(stream)
	if err != nil {
		return err
	}
	if begin.kind != frameBegin || begin.first != from {
		return fmt.Errorf("%w: entry %d is not on its disk", segment.ErrGap, from)
	}
	for {
		f, err := readFrame(stream)
		if err != nil {
			return err
		}
		switch f.kind {
		case frameEntries:
			if err := add(f.entries); err != nil {
				return err
			}
		case frameSeal: // where it sealed does not matter here
		case frameEnd:
			return nil
		default:
			return fmt.Errorf("%w: copy of segments: frame of kind %d in the middle", ErrCorrupt, f.kind)
		}
	}
}

// refillFromBucket adds a stretch of which the bucket has all batches, if it is
// known where other entries stand between them.
func (p *Partition) refillFromBucket(ctx context.Context, s *segment.Stretch, add func([]segment.Entry) error) error {
	p.mu.Lock()
	remote, archived := p.remote, p.marks.archived
	p.mu.Unlock()
	others, at := s.Others, s.First
	// more gives the other entries that come next.
	more := func(entries []segment.Entry) []segment.Entry {
		for len(others) > 0 && others[0].Index == at {
			entries, others = append(entries, others[0]), others[1:]
			at++
		}
		return entries
	}
	if s.Base < s.Next && (remote == nil || s.Next > archived) {
		return fmt.Errorf("%w: it holds the log up to offset %d", logio.ErrOffsetOutOfRange, archived)
	}
	entries := more(nil)
	for next := s.Base; next < s.Next; {
		res, err := remote.Read(ctx, logio.ReadRequest{Offset: next, BytesMax: copyBytesGoal, MinOne: true, CurrentEpoch: -1})
		if err != nil {
			return err
		}
		if len(res.Batches) == 0 {
			return fmt.Errorf("it has no batch at offset %d", next)
		}
		for _, raw := range res.Batches {
			b := record.Batch(raw)
			if b.BaseOffset() != next || next >= s.Next {
				break
			}
			next = b.NextOffset()
			entries = append(entries, segment.Entry{Index: at, Term: uint64(uint32(b.Epoch())), Data: b})
			at++
			entries = more(entries)
		}
		if len(entries) == 0 {
			return fmt.Errorf("it has no batch that begins at offset %d", next)
		}
		if err := add(entries); err != nil {
			return err
		}
		entries = nil
	}
	if len(entries) > 0 {
		if err := add(entries); err != nil {
			return err
		}
	}
	if at != s.Last+1 {
		return fmt.Errorf("entries between the batches of [%d, %d) are not known", s.Base, s.Next)
	}
	return nil
}
