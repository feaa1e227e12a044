package journal

import (
	"encoding/hex"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// replay reads the chain of uses, oldest first, into the journal's groups.
type replay struct {
	journal *Journal
	entries map[record.PartitionID]*entryLog

	scanner *scanner

	needed   uint64 // the oldest use that is needed, as far as notes say
	claimed  int64  // journal position before which records say that all was synced
	lastKind kind
	end      int64 // journal position after the last good record of the tail
	remains  bool  // something lies behind end that is not a clean end
	// failed is corruption in a use that may turn out not to be needed.
	failed    error
	failedUse uint64
}

// entryLog is a group's entries above its mark.
type entryLog struct{ entries []raftpb.Entry }

// run replays all files. A use before the last ends where the header of the
// next says; the last ends where records end, if nothing says otherwise.
func (r *replay) run() error {
	live := r.journal.live
	s := newScanner(r.journal.cfg.FileBytes, r.journal.cfg.Beside)
	r.scanner = s
	defer s.settle()
	for i, f := range live {
		r.needed = max(r.needed, f.needed)
		if i == len(live)-1 {
			s.begin(f, f.size, nil)
			if err := r.tail(s); err != nil {
				return err
			}
			break
		}
		s.begin(f, f.end-f.start, live[i+1])
		if err := r.closed(s); err != nil {
			return err
		}
	}
	if r.failed != nil && r.failedUse >= r.needed {
		return r.failed
	}
	if first := live[0]; first.use > r.needed {
		return &CorruptError{File: first.name, Position: first.start,
			Read: fmt.Sprintf("use %d as the oldest", first.use), Expected: fmt.Sprintf("use %d: its file is missing or lost its header", r.needed)}
	}
	return nil
}

// closed replays a use whose end is known: all of it was durable.
func (r *replay) closed(s *scanner) error {
	for pos := s.start + disk.BlockBytes; pos < s.end; {
		f, size, bad, err := s.frame(pos - s.start)
		if err != nil {
			return err
		}
		if bad != nil {
			pad, err := s.padding(pos - s.start)
			if err != nil {
				return err
			}
			if pad {
				pos = s.start + disk.RoundUp(pos-s.start)
				continue
			}
		}
		if bad == nil && pos+size > s.end {
			bad = fmt.Errorf("%w: ends at %d, the use at %d", errFrameBad, pos+size, s.end)
		}
		if bad == nil {
			bad = r.apply(&f, s.use)
		}
		if bad != nil {
			r.giveUp(s, r.corrupt(s, pos, bad, "a record: the file after it says that all was durable"))
			return nil
		}
		pos += size
	}
	return nil
}

// giveUp forgets what this use and older ones said; whether they matter is
// known at the end of the replay.
func (r *replay) giveUp(s *scanner, err error) {
	r.failed, r.failedUse = err, s.use
	clear(r.journal.groups)
	clear(r.entries)
	for _, f := range r.journal.live {
		f.pins = 0
	}
}

// tail replays the newest use up to the first bad record, and decides whether
// that is the end, a torn tail or corruption.
func (r *replay) tail(s *scanner) error {
	pos := s.start + disk.BlockBytes
	var why error
	for pos < s.start+s.size {
		f, size, bad, err := s.frame(pos - s.start)
		if err != nil {
			return err
		}
		if bad != nil {
			pad, err := s.padding(pos - s.start)
			if err != nil {
				return err
			}
			if !pad {
				why = bad
				break
			}
			pos = s.start + disk.RoundUp(pos-s.start)
			continue
		}
		if bad := r.apply(&f, s.use); bad != nil {
			return r.corrupt(s, pos, bad, "a record that follows from those before it")
		}
		r.lastKind, r.claimed = f.kind, max(r.claimed, f.durable)
		pos += size
	}
	r.end = pos
	r.remains = (pos-s.start)%disk.BlockBytes != 0
	return r.beyond(s, why)
}

// beyond looks at every block behind the last good record. A flush begins on
// a block and its records say what was durable before it: if that is more
// than was read, the bad record was durable once. A valid record that says
// less is the remains of the flush that was cut.
func (r *replay) beyond(s *scanner, why error) error {
	for off := disk.RoundUp(r.end - s.start); off < s.size; off += disk.BlockBytes {
		f, _, bad, err := s.frame(off)
		if err != nil {
			return err
		}
		if bad != nil {
			continue
		}
		if f.durable > r.end {
			return r.corrupt(s, r.end, why, fmt.Sprintf("a record: the one at byte %d says that all before position %d was durable", off, f.durable))
		}
		r.remains = true
	}
	return nil
}

// corrupt words what was read at pos.
func (r *replay) corrupt(s *scanner, pos int64, why error, expected string) error {
	read := ""
	if b, err := s.bytes(pos-s.start, 24); err == nil {
		read = hex.EncodeToString(b)
	}
	return &CorruptError{File: s.name, Offset: pos - s.start, Position: pos, Read: fmt.Sprintf("%s (%v)", read, why), Expected: expected}
}

// apply moves a group to what the record says. Older uses may be gone, so a
// group may begin anywhere; whether it is whole is checked in result.
func (r *replay) apply(f *frame, use uint64) error {
	switch f.kind {
	case kindNote:
		r.needed = max(r.needed, f.needed)
		return nil
	case kindRemove:
		if g := r.journal.groups[f.group]; g != nil {
			g.cutFrom(0, r.journal)
			delete(r.journal.groups, f.group)
			delete(r.entries, f.group)
		}
		return nil
	}
	g := r.journal.groups[f.group]
	if g == nil {
		g = newGroup(f.group)
		r.journal.groups[f.group] = g
		r.entries[f.group] = &entryLog{}
	}
	if len(f.entries) > 0 && len(g.spans) > 0 && !f.reset && f.entries[0].Index > g.last()+1 {
		return fmt.Errorf("group %s: entries begin at %d, the log ends at %d", f.group, f.entries[0].Index, g.last())
	}
	g.apply(f, use, r.journal)
	r.entries[f.group].apply(f)
	return nil
}

// apply does to the entries what group.apply does to the spans.
func (l *entryLog) apply(f *frame) {
	if f.mark != nil {
		l.cutBefore(uint64(f.mark.Index), f.reset)
	}
	if len(f.entries) == 0 {
		return
	}
	keep := len(l.entries)
	for keep > 0 && l.entries[keep-1].Index >= f.entries[0].Index {
		keep--
	}
	clear(l.entries[keep:])
	l.entries = append(l.entries[:keep], f.entries...)
	// The decoded data lies in the scanner's window: one copy for all.
	size := 0
	for i := range f.entries {
		size += len(f.entries[i].Data)
	}
	data := make([]byte, 0, size)
	for i := keep; i < len(l.entries); i++ {
		if e := &l.entries[i]; e.Data != nil {
			from := len(data)
			data = append(data, e.Data...)
			e.Data = data[from:len(data):len(data)]
		}
	}
}

// cutBefore drops entries up to and with index, or all.
func (l *entryLog) cutBefore(index uint64, all bool) {
	gone := 0
	for gone < len(l.entries) && (all || l.entries[gone].Index <= index) {
		gone++
	}
	clear(l.entries[:gone])
	if l.entries = l.entries[gone:]; len(l.entries) == 0 {
		l.entries = nil
	}
}

// result checks that every group is whole, and gives the groups by id.
func (r *replay) result() ([]Group, error) {
	all := sortedGroups(r.journal.groups, func(*group) bool { return true })
	out := make([]Group, 0, len(all))
	for _, g := range all {
		entries := r.entries[g.id].entries
		if n := len(entries); n > 0 && entries[0].Index != uint64(g.mark.Index)+1 {
			return nil, r.torn(g, fmt.Sprintf("entries from %d", entries[0].Index), fmt.Sprintf("from %d", g.mark.Index+1))
		}
		if g.hard.Commit > g.last() {
			return nil, r.torn(g, fmt.Sprintf("commit index %d", g.hard.Commit), fmt.Sprintf("at most %d, the end of its log", g.last()))
		}
		hard := g.hard
		hard.Commit = max(hard.Commit, uint64(g.mark.Index))
		out = append(out, Group{
			ID:        g.id,
			HardState: hard,
			ConfState: cloneConf(&g.conf),
			Mark:      Mark{Index: g.mark.Index, Term: g.mark.Term, Data: append([]byte(nil), g.mark.Data...)},
			Entries:   entries,
		})
	}
	return out, nil
}

func (r *replay) torn(g *group, read, expected string) error {
	tail := r.journal.active()
	return &CorruptError{File: tail.name, Offset: r.end - tail.start, Position: r.end,
		Read: fmt.Sprintf("group %s with %s", g.id, read), Expected: expected}
}
