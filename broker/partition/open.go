package partition

import (
	"errors"
	"fmt"
	"io/fs"

	"tidewater/broker/journal"
	"tidewater/broker/segment"
	"tidewater/internal/record"
)

// Open recovers the partition as it was at its group's mark; the group, which
// the caller starts next with StateMachine and StartMark, brings what came
// after. Without a mark it is a new partition, or what cfg.Restored says.
func Open(cfg Config) (*Partition, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	p := &Partition{cfg: cfg, settings: cfg.Settings, remote: cfg.Remote}
	err := p.open()
	if errors.Is(err, segment.ErrCorrupt) {
		err = fmt.Errorf("this replica stays as it is and is not used; stop the broker and empty its data directory to have its replicas made anew from others, or restore the topic from the bucket where there is no other: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("open partition %s: %w", p.Name(), err)
	}
	return p, nil
}

func (p *Partition) open() error {
	mark, at, known, err := p.startState()
	if err != nil {
		return err
	}
	if err := settleCopy(p.cfg.FS, p.cfg.Dir, mark.Index); err != nil {
		return err
	}
	p.segments, err = segment.Open(segment.Config{
		FS: p.cfg.FS, Dir: p.cfg.Dir, Identity: p.cfg.Identity, Cache: p.cfg.Cache,
		// The partition rolls segments itself, since a producer snapshot
		// stands before each roll.
		SegmentBytes: segment.SegmentBytesMax,
		Start:        segment.Position{Index: mark.Index, Term: mark.Term, Next: at.next},
		Durable:      mark.Index,
	})
	if err != nil {
		return err
	}
	p.stable = state{index: mark.Index, term: mark.Term, position: at}
	if known != nil {
		p.stable.producers = *known
	} else if p.stable.producers, err = p.recoverProducers(at.next); err != nil {
		return errors.Join(err, p.segments.Close())
	}
	p.stable.producers.txns.forgetBefore(at.logStart)
	p.stable.producers.txns.commit(at.next)
	p.live = p.stable.clone()
	p.marks = position{logStart: at.logStart, archived: at.archived, manifest: at.manifest}
	p.committed, p.released, p.highWatermark = mark.Index, mark.Index, at.next
	p.localStart = at.next
	if infos := p.segmentInfos(); len(infos) > 0 {
		// It may lie above at.next, when trimming lasted and the newest mark
		// did not; the journal then still has what lies between.
		p.localStart = infos[0].Base
	}
	p.activeSinceMs = p.nowMs()
	return nil
}

// startState gives the mark the group starts at, and what it says; of the
// producers nil where it says nothing.
func (p *Partition) startState() (journal.Mark, position, *producers, error) {
	if m := p.cfg.Mark; m != nil {
		if m.Index == 0 {
			return *m, position{}, nil, nil
		}
		at, known, err := decodeMark(m.Data)
		return *m, at, known, err
	}
	r := p.cfg.Restored
	if r == nil {
		return journal.Mark{}, position{}, nil, nil
	}
	at := position{next: r.Next, logStart: r.LogStart, archived: r.Archived, manifest: r.Manifest, epochs: r.Epochs}
	// Index 1 stands for everything that was: it never was an entry here.
	p.first = journal.Mark{Index: 1, Term: max(r.FloorTerm, 1), Data: at.encode()}
	if _, _, err := decodeMark(p.first.Data); err != nil {
		return p.first, at, nil, fmt.Errorf("restored state: %w", err)
	}
	if r.Producers == nil {
		return p.first, at, nil, nil
	}
	_, next, _, err := decodeSnapshot(r.Producers)
	if err != nil {
		return p.first, at, nil, fmt.Errorf("restored state: %w", err)
	}
	if next != r.Next {
		return p.first, at, nil, fmt.Errorf("%w: restored state: producer snapshot at offset %d, the log goes on at %d", ErrCorrupt, next, r.Next)
	}
	if err := p.cfg.FS.MkdirAll(p.cfg.Dir); err != nil {
		return p.first, at, nil, fmt.Errorf("make directory %s: %w", p.cfg.Dir, err)
	}
	return p.first, at, nil, writeSnapshot(p.cfg.FS, p.cfg.Dir, r.Next, r.Producers)
}

// recoverProducers gives the producers' state at next: the newest snapshot
// not above it, and the batches in between.
func (p *Partition) recoverProducers(next record.Offset) (producers, error) {
	from, s, err := p.newestSnapshot(next)
	if err != nil || from == next {
		return s, err
	}
	now := p.nowMs()
	errPassed := errors.New("passed the mark")
	err = p.segments.Scan(from, func(h record.Batch) error {
		if h.BaseOffset() >= next {
			return errPassed
		}
		b := h
		if h.Control() { // what a marker means stands in its record
			whole, err := p.segments.Read(h.BaseOffset(), int(h.Size()), next)
			if err != nil || len(whole) == 0 {
				return fmt.Errorf("read control batch at %d: %w", h.BaseOffset(), err)
			}
			b = whole[0]
		}
		return s.append(b, 0, 0, now)
	})
	if err != nil && !errors.Is(err, errPassed) {
		return s, fmt.Errorf("rebuild producers from offset %d: %w", from, err)
	}
	return s, nil
}

// newestSnapshot gives the newest sound snapshot at or below next from which on
// this disk has all batches, or the beginning of the log. A bad one is passed
// over with a warning where the batches after an older one say the same; where
// none does, going on would forget producers, and append again what they retry.
func (p *Partition) newestSnapshot(next record.Offset) (record.Offset, producers, error) {
	at, err := listSnapshots(p.cfg.FS, p.cfg.Dir)
	if err != nil {
		return 0, producers{}, err
	}
	start := next
	if infos := p.segments.Segments(); len(infos) > 0 {
		start = min(infos[0].Base, next)
	}
	var bad error
	for i := len(at) - 1; i >= 0 && at[i] >= start; i-- {
		if at[i] > next {
			continue
		}
		_, s, err := p.openSnapshot(at[i])
		switch {
		case err == nil:
			return at[i], s, nil
		case errors.Is(err, fs.ErrNotExist):
			continue
		case !errors.Is(err, ErrCorrupt):
			return 0, producers{}, err
		}
		bad = err
		p.cfg.Log.Warn("producer snapshot passed over", "topic", p.cfg.Topic, "partition", p.cfg.ID.Partition, "offset", int64(at[i]), "error", err)
	}
	if bad != nil && start > 0 {
		return 0, producers{}, fmt.Errorf("the batches before offset %d that this file stands for are not on this disk: bring the file back, or remove it, and what producers retry from before that offset is appended again: %w", start, bad)
	}
	return start, producers{}, nil
}

// openSnapshot reads the snapshot at an offset, as it is and decoded;
// fs.ErrNotExist when there is none.
func (p *Partition) openSnapshot(at record.Offset) ([]byte, producers, error) {
	data, err := readSnapshot(p.cfg.FS, p.cfg.Dir, at)
	if err != nil {
		return nil, producers{}, err
	}
	_, of, s, err := decodeSnapshot(data)
	if err == nil && of != at {
		err = fmt.Errorf("%w: it is of offset %d", ErrCorrupt, of)
	}
	if err != nil {
		return nil, producers{}, fmt.Errorf("producer snapshot %s: %w", snapshotName(p.cfg.Dir, at), err)
	}
	return data, s, nil
}
