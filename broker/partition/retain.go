package partition

import (
	"context"
	"errors"
	"fmt"

	"tidewater/broker/segment"
	"tidewater/internal/logio"
	"tidewater/internal/record"
	"tidewater/internal/topicconfig"
)

// Retain is one step of retention. On the leader it proposes the log start
// that retention.ms and retention.bytes ask for; once that is committed, every
// replica's next Retain removes what lies below. Of a tiered topic it also
// removes local segments by local.retention, below the committed archived end
// only. It does not wait for the commit.
func (p *Partition) Retain(ctx context.Context) error {
	p.mu.Lock()
	s, lead := p.settings, p.lead.Ready && p.stopped == nil
	before := p.nowMs() - p.cfg.ProducerExpiration.Milliseconds()
	p.live.producers.expire(before)
	p.stable.producers.expire(before)
	p.mu.Unlock()
	var err error
	if lead && s.CleanupDelete {
		err = p.proposeLogStart(ctx, &s)
	}
	// What is archived leaves the disk although the bucket is away.
	if err = errors.Join(err, p.trimLocal(&s)); err != nil {
		return fmt.Errorf("retain %s: %w", p.Name(), err)
	}
	return nil
}

// proposeLogStart moves the log start as far as retention wants it.
func (p *Partition) proposeLogStart(ctx context.Context, s *topicconfig.Settings) error {
	target, err := p.retentionTarget(ctx, s)
	if err != nil {
		return err
	}
	p.mu.Lock()
	moves := target > max(p.marks.logStart, p.proposedLogStart)
	p.mu.Unlock()
	if !moves {
		return nil // most of the time, and Pin is dear
	}
	if p.cfg.Pin != nil {
		if pin, ok := p.cfg.Pin(); ok {
			target = min(target, pin)
		}
	}
	p.mu.Lock()
	target = min(target, p.highWatermark)
	moves = target > max(p.marks.logStart, p.proposedLogStart)
	if moves {
		p.proposedLogStart = target
	}
	p.mu.Unlock()
	if !moves {
		return nil
	}
	p.propose(command{kind: setLogStart, logStart: target}, func(err error) {
		if err != nil { // the next step tries again
			p.mu.Lock()
			p.proposedLogStart = 0
			p.mu.Unlock()
		}
	})
	return nil
}

// retentionTarget is the log start that retention asks for: segments go from
// the front, in the bucket first, then on this disk.
func (p *Partition) retentionTarget(ctx context.Context, s *topicconfig.Settings) (record.Offset, error) {
	olderThan := int64(-1)
	if s.Retention >= 0 {
		olderThan = p.nowMs() - s.Retention.Milliseconds()
	}
	if olderThan < 0 && s.RetentionBytes < 0 {
		return 0, nil
	}
	p.mu.Lock()
	o, waiting := p.offsets(), p.tail.pendingBytes
	p.mu.Unlock()
	infos := p.segmentInfos()
	local := sizes(infos)
	local.bytes += waiting
	target := o.LogStart
	if remote := p.bucket(); remote != nil && o.LogStart < o.Archived {
		room := int64(-1)
		if s.RetentionBytes >= 0 {
			room = max(s.RetentionBytes-local.above(o.Archived)-waiting, 0)
		}
		keep, err := remote.Keep(ctx, olderThan, room)
		if err != nil {
			return 0, fmt.Errorf("%w: ask the bucket for retention: %w", logio.ErrStorage, err)
		}
		if target = max(target, keep); target < o.Archived {
			return target, nil
		}
	}
	return p.localTarget(infos, local.bytes, target, olderThan, s.RetentionBytes), nil
}

// localTarget walks the segments from the front as long as they are expired or
// not needed to hold bytesMax bytes.
func (p *Partition) localTarget(infos []segment.Info, total int64, target record.Offset, olderThan, bytesMax int64) record.Offset {
	for _, in := range infos {
		expired := olderThan >= 0 && in.MaxTimestamp < olderThan
		over := bytesMax >= 0 && total-in.PayloadBytes >= bytesMax
		if in.Next <= target {
			total -= in.PayloadBytes
			continue
		}
		if !in.Sealed {
			if expired {
				p.Seal() // so that it may go with the next step
			}
			return target
		}
		if !expired && !over {
			return target
		}
		total -= in.PayloadBytes
		target = in.Next
	}
	return target
}

// sized is a list of segments with the sum of their bytes.
type sized struct {
	infos []segment.Info
	bytes int64
}

func sizes(infos []segment.Info) sized {
	s := sized{infos: infos}
	for _, in := range infos {
		s.bytes += in.PayloadBytes
	}
	return s
}

// above is the bytes of segments that end above o.
func (s *sized) above(o record.Offset) int64 {
	var n int64
	for _, in := range s.infos {
		if in.Next > o {
			n += in.PayloadBytes
		}
	}
	return n
}

// trimLocal removes segments from this disk that lie below the committed log
// start, and of a tiered topic those that local retention lets go.
func (p *Partition) trimLocal(s *topicconfig.Settings) error {
	if !p.begin() {
		return nil
	}
	return errors.Join(p.trim(s), p.end())
}

func (p *Partition) trim(s *topicconfig.Settings) error {
	infos := p.segmentInfos()
	p.mu.Lock()
	o := p.offsets()
	stable := p.stable.next // what came later is not written yet
	if at, ok := p.pinned(); ok {
		stable = min(stable, at)
	}
	p.mu.Unlock()
	target := o.LogStart
	if s.Tiered && p.bucket() != nil {
		olderThan := int64(-1)
		if s.LocalRetention >= 0 {
			olderThan = p.nowMs() - s.LocalRetention.Milliseconds()
		}
		local := p.localTarget(infos, sizes(infos).bytes, target, olderThan, s.LocalRetentionBytes)
		if !p.cfg.Fault.TrimBeforeArchived {
			local = min(local, o.Archived)
		}
		target = max(target, local)
	}
	return p.removeBefore(infos, min(target, stable))
}

// removeBefore removes sealed segments wholly below target, from memory too.
// Readers are sent elsewhere first.
func (p *Partition) removeBefore(infos []segment.Info, target record.Offset) error {
	first := record.Offset(-1)
	for _, in := range infos {
		if in.Sealed && in.Next <= target {
			first = in.Next
		}
	}
	if first < 0 {
		return nil
	}
	p.mu.Lock()
	p.localStart = max(p.localStart, first)
	p.mu.Unlock()
	p.cfg.Budget.trimmed(p, first)
	p.forget(first)
	if err := p.segments.RemoveBefore(first); err != nil {
		return err
	}
	return removeSnapshots(p.cfg.FS, p.cfg.Dir, first)
}
