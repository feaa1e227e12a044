package partition

import (
	"context"
	"fmt"
	"io"
	"slices"

	"tidewater/broker/segment"
	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// pin keeps retention from removing what is being copied.
type pin struct {
	next record.Offset // nothing at or above it goes
}

// ServeSegments writes to w what another replica's request asks for: the
// entries of this replica's segments from where the request wants them, or
// from where local retention would keep them. They do not go while they are
// being read.
func (p *Partition) ServeSegments(ctx context.Context, request []byte, w io.Writer) error {
	r, err := decodeCopyRequest(request)
	if err != nil {
		return fmt.Errorf("serve segments of %s: %w", p.Name(), err)
	}
	held := p.hold()
	defer p.letGo(held)
	if err := p.serve(ctx, r, held, w); err != nil {
		return fmt.Errorf("serve segments of %s, entries %d to %d: %w", p.Name(), r.from, r.to, err)
	}
	return nil
}

// hold pins what is on this disk.
func (p *Partition) hold() *pin {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := &pin{next: p.localStart}
	p.pins = append(p.pins, h)
	return h
}

func (p *Partition) letGo(h *pin) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pins = slices.DeleteFunc(p.pins, func(o *pin) bool { return o == h })
}

// pinned is the lowest offset that must stay on this disk. It needs mu.
func (p *Partition) pinned() (record.Offset, bool) {
	if len(p.pins) == 0 {
		return 0, false
	}
	return slices.MinFunc(p.pins, func(a, b *pin) int { return int(min(max(a.next-b.next, -1), 1)) }).next, true
}

func (p *Partition) serve(ctx context.Context, r copyRequest, held *pin, w io.Writer) error {
	p.mu.Lock()
	closed, settings := p.closed, p.settings
	p.mu.Unlock()
	if closed {
		return fmt.Errorf("%w: %s", logio.ErrClosed, p.Name())
	}
	end, _, _ := p.segments.End()
	if end < r.to {
		return fmt.Errorf("%w: segments end at entry %d", segment.ErrGap, end)
	}
	infos := p.segments.Segments()
	begin := copyFrame{kind: frameBegin, first: max(r.from, r.to+1)}
	if keep := p.keepLocal(infos, settings.Tiered); keep < len(infos) && infos[keep].First <= r.to {
		begin.first = max(r.from, infos[keep].First)
		begin.base = infos[keep].Base
		infos = infos[keep:]
	} else {
		infos = nil
	}
	if err := writeFrame(w, &begin); err != nil {
		return err
	}
	for at := begin.first; at <= r.to && len(infos) > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		in := infos[0]
		if in.Last < at {
			infos = infos[1:]
			continue
		}
		entries, err := p.segments.Entries(at, min(in.Last, r.to)+1, copyBytesGoal)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			return fmt.Errorf("%w: no entry %d", segment.ErrGap, at)
		}
		if _, err := p.checkEpochs(batchesIn(entries)); err != nil {
			p.segments.Suspect(in.Base, err)
			return err
		}
		if err := writeFrame(w, &copyFrame{kind: frameEntries, entries: entries}); err != nil {
			return err
		}
		at = entries[len(entries)-1].Index + 1
		if in.Sealed && at > in.Last {
			if err := p.serveSeal(in, w); err != nil {
				return err
			}
			p.mu.Lock()
			held.next = max(held.next, in.Next)
			p.mu.Unlock()
		}
	}
	return writeFrame(w, &copyFrame{kind: frameEnd})
}

// batchesIn gives the entries that are record batches.
func batchesIn(entries []segment.Entry) [][]byte {
	var out [][]byte
	for i := range entries {
		if isBatch(entries[i].Data) {
			out = append(out, entries[i].Data)
		}
	}
	return out
}

func (p *Partition) serveSeal(in segment.Info, w io.Writer) error {
	snapshot, err := p.snapshotAt(in.Next)
	if err != nil {
		return err
	}
	return writeFrame(w, &copyFrame{kind: frameSeal, next: in.Next, snapshot: snapshot})
}

// keepLocal is the first segment that a replica should have on its disk: of a
// tiered topic, what local retention keeps or the bucket does not hold.
func (p *Partition) keepLocal(infos []segment.Info, tiered bool) int {
	if !tiered || p.bucket() == nil {
		return 0
	}
	p.mu.Lock()
	o, s := p.offsets(), p.settings
	p.mu.Unlock()
	olderThan := int64(-1)
	if s.LocalRetention >= 0 {
		olderThan = p.nowMs() - s.LocalRetention.Milliseconds()
	}
	with := slices.DeleteFunc(slices.Clone(infos), func(in segment.Info) bool { return in.Base == in.Next })
	target := min(p.localTarget(with, sizes(with).bytes, o.LogStart, olderThan, s.LocalRetentionBytes), o.Archived)
	keep := slices.IndexFunc(infos, func(in segment.Info) bool { return in.Next > target })
	if keep < 0 {
		return len(infos)
	}
	return keep
}
