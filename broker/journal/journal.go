package journal

import (
	"errors"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// frameBytesGoal is where a Write's entries are split into records: one
// record is checked and held as a whole in replay.
const frameBytesGoal = 1 << 20

// Journal is the open journal of one disk; see the package's words.
type Journal struct {
	cfg    Config
	groups map[record.PartitionID]*group

	// live is the chain of uses from the oldest that replay still needs to
	// the active one, without gap; never empty.
	live []*file
	// free may be overwritten, oldest first.
	free    []*file
	filling *filling
	names   uint64 // number of the newest file name

	buf      buffer
	head     []byte // scratch: a record without its entries' data
	block    []byte // scratch: a header block
	durable  int64  // journal position before which everything is synced
	noted    int64  // durable position that the newest note says
	recycled uint64 // uses given back; for tests and metrics
	moving   bool   // a file is being emptied: do not begin with another

	dead error // set once, by die or Close
}

// file is one journal file, live or free.
type file struct {
	header
	f    disk.File
	name string // in Config.Dir
	seed uint32 // of the use, header.seed
	end  int64  // journal position after the last record; of closed uses
	pins int    // spans of entries in it
}

// active is the file being written.
func (j *Journal) active() *file { return j.live[len(j.live)-1] }

// position is where the next record goes.
func (j *Journal) position() int64 { return j.active().start + j.buf.off + int64(j.buf.n) }

// room is what still fits in the active file.
func (j *Journal) room() int64 { return j.active().size - j.buf.off - int64(j.buf.n) }

// pin implements pinner.
func (j *Journal) pin(use uint64, n int) {
	if i := int(use - j.live[0].use); use >= j.live[0].use && i < len(j.live) {
		j.live[i].pins += n
	}
}

// die makes the journal refuse everything from now on. The cause is worded,
// not wrapped: a full disk at this point is not ErrFull, since part of a flush
// may have been written.
func (j *Journal) die(doing string, cause error) error {
	if j.dead == nil {
		j.dead = fmt.Errorf("%w: %s: %v", ErrDead, doing, cause)
	}
	return j.dead
}

// Append takes a write into the buffer; it is durable when the next Flush
// returned. Entries' data is copied. It may write to the disk, and flush what
// was appended before, when the buffer or a file is full. ErrFull means that
// the write does not count (of one larger than 1 MiB a prefix may stand; the
// caller appends it again as a whole) and that the journal goes on; any other
// error of the disk is final. An error that is neither is the caller's mistake
// and changes nothing.
func (j *Journal) Append(w Write) error {
	if j.dead != nil {
		return j.dead
	}
	g := j.groups[w.Group]
	if g == nil {
		if w.Remove {
			return nil
		}
		g = newGroup(w.Group)
	}
	if err := w.check(g); err != nil {
		return err
	}
	if len(w.Entries) > 0 {
		if err := j.admit(&w, g); err != nil {
			return err
		}
	}
	if w.Remove {
		return j.remove(g)
	}
	return j.append(&w, g)
}

// admit refuses entries that cannot fit or that would pass LiveBytesMax.
func (j *Journal) admit(w *Write, g *group) error {
	for i := range w.Entries {
		if n := entrySize(&w.Entries[i]); n > j.entryBytesMax() {
			return fmt.Errorf("append to journal: group %s: %d bytes, at most %d: %w", w.Group, n, j.entryBytesMax(), ErrTooLarge)
		}
	}
	if full, err := j.Full(); !full || err != nil {
		return err
	}
	// What was accepted before Full said so passes, and raft's own entries: after
	// a restart nothing can be committed, so nothing be released, before the
	// empty entry of a term.
	if j.LiveBytes() < j.liveBytesEnd() || dataless(w.Entries) {
		return nil
	}
	// A group that writes all its entries again leaves the oldest file and
	// so makes room.
	if len(g.spans) > 0 && g.spans[0].use == j.live[0].use && w.Entries[0].Index <= g.spans[0].first {
		return nil
	}
	return fmt.Errorf("append to journal: %d live bytes of at most %d: %w", j.LiveBytes(), j.liveBytesEnd(), ErrFull)
}

// Full reports that live bytes have reached LiveBytesMax, once files that
// nothing pins were given back: the caller accepts no more entries with data.
// Append still takes those that were accepted before, up to half as much again.
func (j *Journal) Full() (bool, error) {
	for j.dead == nil && j.LiveBytes() >= j.cfg.LiveBytesMax && j.emptiable() {
		if err := j.recycle(); errors.Is(err, ErrFull) {
			break
		} else if err != nil {
			return true, err
		}
	}
	return j.LiveBytes() >= j.cfg.LiveBytesMax, j.dead
}

// liveBytesEnd is where entries are refused.
func (j *Journal) liveBytesEnd() int64 { return j.cfg.LiveBytesMax + j.cfg.LiveBytesMax/2 }

// changeBytesMax is the largest change of members that counts as a state.
const changeBytesMax = 512

// dataless reports whether entries are raft's own: of a new term, or a change
// of members.
func dataless(entries []raftpb.Entry) bool {
	for i := range entries {
		if e := &entries[i]; len(e.Data) > changeBytesMax || e.Type == raftpb.EntryNormal && len(e.Data) > 0 {
			return false
		}
	}
	return true
}

// entryBytesMax leaves room for the header block and the parts of a Write
// that share the entry's record.
func (j *Journal) entryBytesMax() int64 {
	fixed := int64(disk.BlockBytes + frameBytes + entriesHeadSize + hardBytes)
	return j.cfg.FileBytes - fixed
}

func (j *Journal) remove(g *group) error {
	if err := j.write(&frame{kind: kindRemove, group: g.id}, classMark); err != nil {
		return err
	}
	g.cutFrom(0, j)
	delete(j.groups, g.id)
	return nil
}

// append writes the parts of w in an order in which every prefix is a state
// that Raft can start from.
func (j *Journal) append(w *Write, g *group) error {
	rest := w.Entries
	if len(rest) == 0 || j.large(w) {
		f := frame{kind: kindWrite, group: w.Group, mark: w.Mark, conf: w.ConfState}
		if len(rest) == 0 {
			f.hard = w.HardState
		}
		if err := j.apply(&f, g); err != nil || len(rest) == 0 {
			return err
		}
		w.Mark, w.ConfState = nil, nil
	}
	for len(rest) > 0 {
		n := split(rest)
		f := frame{kind: kindWrite, group: w.Group, mark: w.Mark, conf: w.ConfState, entries: rest[:n], sum: w.Sum}
		if rest = rest[n:]; len(rest) == 0 {
			f.hard = w.HardState
		}
		if err := j.apply(&f, g); err != nil {
			return err
		}
		w.Mark, w.ConfState = nil, nil
	}
	return nil
}

// large reports whether mark and ConfState of w take a record of their own,
// so that a file holds every record.
func (j *Journal) large(w *Write) bool {
	n := int64(0)
	if w.Mark != nil {
		n += markHeadBytes + int64(len(w.Mark.Data))
	}
	if w.ConfState != nil {
		n += confSize(w.ConfState)
	}
	return n > 0 && n+entrySize(&w.Entries[0]) > min(frameBytesGoal, j.entryBytesMax())
}

// split gives how many entries go into one record: at least one.
func split(entries []raftpb.Entry) int {
	bytes := entrySize(&entries[0])
	for n := 1; n < len(entries); n++ {
		if bytes += entrySize(&entries[n]); bytes > frameBytesGoal {
			return n
		}
	}
	return len(entries)
}

// apply writes the record and moves the group to what it says.
func (j *Journal) apply(f *frame, g *group) error {
	if f.mark == nil && f.conf == nil && f.hard == nil && len(f.entries) == 0 {
		return nil
	}
	f.reset = f.mark != nil && g.resets(*f.mark)
	if err := j.write(f, f.class()); err != nil {
		return err
	}
	j.groups[g.id] = g
	g.apply(f, j.active().use, j)
	return nil
}

// write puts a record into the buffer. Reserving may move on to another file
// or write a group's newest state again, so positions are set after it.
func (j *Journal) write(f *frame, c class) error {
	if err := j.reserve(f.size(), c); err != nil {
		return err
	}
	f.position, f.durable = j.position(), j.durable
	j.head = f.appendHead(j.head[:0], j.active().seed)
	file := j.active()
	if err := j.buf.put(j.head, file.f); err != nil {
		return j.die("write "+file.name, err)
	}
	for i := range f.entries {
		if err := j.buf.put(f.entries[i].Data, file.f); err != nil {
			return j.die("write "+file.name, err)
		}
	}
	return nil
}

// Flush makes everything appended durable. Any error is final: what of it is
// on the disk is not known, and every later call returns ErrDead.
func (j *Journal) Flush() error {
	if j.dead != nil {
		return j.dead
	}
	if j.cfg.Fault.AckBeforeFlush {
		return j.writeOut()
	}
	return j.sync()
}

func (j *Journal) writeOut() error {
	if err := j.buf.writeOut(j.active().f); err != nil {
		return j.die("write "+j.active().name, err)
	}
	return nil
}

// sync ends the flush: the next record begins on a new block and says that
// everything before it is durable.
func (j *Journal) sync() error {
	if err := j.writeOut(); err != nil {
		return err
	}
	if !j.buf.dirty {
		return nil
	}
	err := j.active().f.Sync()
	if err != nil && j.cfg.Fault.RetrySync {
		err = j.active().f.Sync()
	}
	if err != nil {
		return j.die("sync "+j.active().name, err)
	}
	j.buf.dirty = false
	j.durable = j.position()
	j.buf.flushed()
	return nil
}

// note writes which uses are needed and, as every record does, what is
// durable, and flushes it.
func (j *Journal) note() error {
	if err := j.write(&frame{kind: kindNote, needed: j.live[0].use}, classMove); err != nil {
		return err
	}
	if err := j.sync(); err != nil {
		return err
	}
	j.noted = j.durable
	return nil
}

// LiveBytes is what replay would read now: from the oldest file that is
// needed to the last record.
func (j *Journal) LiveBytes() int64 {
	n := j.buf.off + int64(j.buf.n)
	for _, f := range j.live[:len(j.live)-1] {
		n += f.end - f.start
	}
	return n
}

// Pinning gives at most limit groups, by id, whose entries keep the oldest
// file from being used again: the ones to write to segments first, whatever
// their size. Entries that nobody decides are carried instead (Carry). Nil when
// only the active file is live.
func (j *Journal) Pinning(limit int) []record.PartitionID {
	for i := range j.live[:len(j.live)-1] {
		if j.live[i].pins == 0 {
			continue
		}
		use := j.live[i].use
		pinning := sortedGroups(j.groups, func(g *group) bool { return len(g.spans) > 0 && g.spans[0].use <= use })
		ids := make([]record.PartitionID, 0, min(limit, len(pinning)))
		for _, g := range pinning[:min(limit, len(pinning))] {
			ids = append(ids, g.id)
		}
		return ids
	}
	return nil
}

// End is the journal position before which everything is durable. It never
// falls, over restarts too.
func (j *Journal) End() int64 { return j.durable }

// Direct reports whether the journal is written by direct I/O.
func (j *Journal) Direct() bool { return j.cfg.FS.Direct() }

// Close flushes what was appended, gives back what nothing pins, so that the
// next Open reads little, and lets go of the files.
func (j *Journal) Close() error {
	if errors.Is(j.dead, ErrClosed) {
		return nil
	}
	failed := j.dead
	if failed == nil {
		failed = j.sync()
	}
	if failed == nil {
		failed = j.tidy()
	}
	// The note makes a later loss of the last flush provable; a journal
	// without room for it is as whole as one that was killed.
	if failed == nil && j.noted != j.durable && j.room() >= disk.BlockBytes {
		failed = j.note()
	}
	if failed == nil && j.filling != nil {
		failed = j.abandon() // the next Open would read it for stray records
	}
	j.closeFiles()
	j.dead = ErrClosed
	return failed
}

// closeFiles closes every handle; what is durable does not depend on it.
func (j *Journal) closeFiles() {
	for _, f := range append(j.live[:len(j.live):len(j.live)], j.free...) {
		_ = f.f.Close()
	}
	if j.filling != nil {
		_ = j.filling.f.Close()
	}
}
