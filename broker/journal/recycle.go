package journal

import (
	"errors"
	"fmt"
	"path"

	"tidewater/internal/disk"
)

const (
	// spareGoal is how many free files Prepare keeps: one for entries to go
	// on in, and one that entries may not take (class).
	spareGoal = 2
	// freeFilesMax is how many zero-filled files are kept after a burst;
	// filling is dear, so not just the spares.
	freeFilesMax = 8
	// fillStepBytes bounds what one Prepare writes.
	fillStepBytes = 4 << 20
)

// class orders writes by what a full disk must still take. A journal whose
// files are all pinned can only become emptier by more writes: marks, and then
// the states rewritten out of the file they unpin.
type class int

const (
	classMove  class = iota // states out of a file, and the note that frees it
	classMark               // marks and removals
	classState              // hard states, ConfStates, raft's own entries
	classEntries
)

// class of a write is that of its heaviest part.
func (f *frame) class() class {
	switch {
	case len(f.entries) > 0 && !dataless(f.entries):
		return classEntries
	case f.mark == nil && f.kind == kindWrite:
		return classState
	}
	return classMark
}

// kept is how much of the active file a class leaves for those below it when
// there is no free file behind it.
func (j *Journal) kept(c class) int64 {
	if len(j.free) > 0 {
		return 0
	}
	return j.active().size / 8 * int64(min(c, classState))
}

// reserve makes the active file have room for a record of size bytes, going
// on to another file where it must. ErrFull leaves everything as it was.
// Entries never take the last free file.
func (j *Journal) reserve(size int64, c class) error {
	spares := 1
	if c == classEntries {
		spares = spareGoal
	}
	for {
		if j.room() >= size+j.kept(c) {
			return nil
		}
		if j.spares(size) >= spares {
			return j.advance(size)
		}
		if err := j.replenish(size); err != nil {
			return err
		}
	}
}

// spares counts the free files that can hold a record of size bytes.
func (j *Journal) spares(size int64) int {
	n := 0
	for _, f := range j.free {
		if f.size-disk.BlockBytes >= size {
			n++
		}
	}
	return n
}

// emptiable reports whether the oldest file holds no entry that is needed and
// whether emptying it is worth the writes. The newest states of all groups
// must fit in half of the closed files: then one round through the files frees
// at least half of them. With less, files would be emptied into each other for
// ever; a new file is made instead.
func (j *Journal) emptiable() bool {
	if j.moving || len(j.live) < 2 || j.live[0].pins > 0 {
		return false
	}
	room := int64(0)
	for _, f := range j.live[:len(j.live)-1] {
		room += f.size
	}
	for _, g := range j.groups {
		room -= 2 * g.stateBytes()
	}
	return room >= 0
}

// replenish adds one free file: the oldest where nothing pins it, else a new
// one.
func (j *Journal) replenish(size int64) error {
	if j.emptiable() {
		err := j.recycle()
		if err == nil || !errors.Is(err, ErrFull) {
			return err
		}
	}
	return j.create(max(j.nextFileBytes(), disk.RoundUp(size)+disk.BlockBytes))
}

// nextFileBytes doubles the active file's size up to Config.FileBytes.
func (j *Journal) nextFileBytes() int64 {
	return min(2*j.active().size, j.cfg.FileBytes)
}

// recycle frees the oldest file: the newest small state of every group that
// stands in it is written again, a note says that the file is not needed any
// more, and both are durable before it may be overwritten.
func (j *Journal) recycle() error {
	j.moving = true
	defer func() { j.moving = false }()
	oldest := j.live[0]
	for _, g := range sortedGroups(j.groups, func(g *group) bool { return g.standsIn(oldest.use) }) {
		if err := j.rewrite(g, oldest.use); err != nil {
			return err
		}
	}
	if err := j.reserve(frameBytes+8, classMove); err != nil {
		return err
	}
	j.live = j.live[1:]
	if err := j.note(); err != nil {
		return err
	}
	j.free = append(j.free, oldest)
	j.recycled++
	return j.retire(oldest)
}

// retire makes a file that a durable note gave up look as if it had never been
// used: else the next Open would read it to find the note. It need not last.
func (j *Journal) retire(f *file) error {
	if err := j.putHeader(f, header{size: f.size}); err != nil {
		return j.die("retire "+f.name, err)
	}
	return nil
}

// tidy empties every file that nothing pins, as far as the active file has
// room for the states that stand in them.
func (j *Journal) tidy() error {
	for j.emptiable() {
		room := j.room() - 2*disk.BlockBytes // the flush's last block, and the note's
		for _, g := range j.groups {
			if g.standsIn(j.live[0].use) {
				room -= g.stateBytes()
			}
		}
		if room < 0 {
			return nil
		}
		if err := j.recycle(); err != nil {
			return err
		}
	}
	return nil
}

// rewrite appends those of the group's states that stand in use.
func (j *Journal) rewrite(g *group, use uint64) error {
	f := frame{kind: kindWrite, group: g.id}
	if g.markUse == use {
		f.mark = &g.mark
	}
	if g.confUse == use {
		f.conf = &g.conf
	}
	if g.hardUse == use && !j.cfg.Fault.KeepHardStates {
		f.hard = &g.hard
	}
	if f.mark == nil && f.conf == nil && f.hard == nil {
		return nil
	}
	if err := j.write(&f, classMove); err != nil {
		return err
	}
	to := j.active().use
	if f.mark != nil {
		g.markUse = to
	}
	if f.conf != nil {
		g.confUse = to
	}
	if f.hard != nil {
		g.hardUse = to
	}
	return nil
}

// advance ends the active use and begins the next in a free file that can
// hold a record of size bytes. The order is: records synced, then the next
// header, which says where they end, synced.
func (j *Journal) advance(size int64) error {
	if err := j.sync(); err != nil {
		return err
	}
	return j.begin(size, j.position())
}

// begin makes a free file the active one; prevEnd is where the records of the
// use before it end.
func (j *Journal) begin(size, prevEnd int64) error {
	i := 0
	for j.free[i].size-disk.BlockBytes < size {
		i++
	}
	next, last := j.free[i], j.active()
	j.free = append(j.free[:i:i], j.free[i+1:]...)
	h := header{
		use: last.use + 1, size: next.size, start: last.start + last.size,
		prevEnd: prevEnd, needed: j.live[0].use,
	}
	if err := j.writeHeader(next, h); err != nil {
		return j.die("begin "+next.name, err)
	}
	last.end = prevEnd
	next.pins = 0
	j.live = append(j.live, next)
	j.buf.off, j.buf.n, j.buf.dirty = disk.BlockBytes, 0, false
	j.durable = j.position()
	return nil
}

// writeHeader makes h the durable header of f.
func (j *Journal) writeHeader(f *file, h header) error {
	if err := j.putHeader(f, h); err != nil {
		return err
	}
	if err := f.f.Sync(); err != nil {
		return fmt.Errorf("sync header: %w", err)
	}
	return nil
}

// putHeader makes h the header of f; a power cut may undo it.
func (j *Journal) putHeader(f *file, h header) error {
	h.clusterID, h.incarnation = j.cfg.ClusterID, j.cfg.Incarnation
	if j.cfg.Salt != nil {
		h.salt = j.cfg.Salt()
	}
	h.put(j.block)
	if _, err := f.f.WriteAt(j.block, 0); err != nil {
		return fmt.Errorf("write header: %w", err)
	}
	f.header, f.seed = h, h.seed()
	return nil
}

// filling is a new file that is not yet full of zeros.
type filling struct {
	file
	done int64
}

// create fills a new file with zeros, or goes on with the one begun, and adds
// it to the free ones.
func (j *Journal) create(size int64) error {
	if j.filling != nil && j.filling.size < size {
		if err := j.abandon(); err != nil {
			return err
		}
	}
	for {
		done, err := j.fill(size, size)
		if done || err != nil {
			return err
		}
	}
}

// fill writes at most step bytes of zeros to a new file of size bytes; done
// says that it is free to use now. A full disk leaves nothing behind.
func (j *Journal) fill(size, step int64) (done bool, err error) {
	if j.filling == nil {
		if err := j.beginFilling(size); err != nil {
			return false, j.unfilled(err)
		}
	}
	f := j.filling
	to := min(f.done+step, f.size)
	if err := disk.Zero(f.f, f.done, to); err != nil {
		return false, j.unfilled(err)
	}
	if f.done = to; to < f.size {
		return false, nil
	}
	// Zeros first, then a header that says they are there.
	if err := f.f.Sync(); err != nil {
		return false, j.unfilled(err)
	}
	if err := j.writeHeader(&f.file, header{size: f.size}); err != nil {
		return false, j.unfilled(err)
	}
	if err := j.cfg.FS.SyncDir(j.cfg.Dir); err != nil {
		return false, j.unfilled(err)
	}
	j.free = append(j.free, &f.file)
	j.filling = nil
	return true, nil
}

func (j *Journal) beginFilling(size int64) error {
	free, err := j.cfg.FS.Free()
	if err != nil {
		return err
	}
	if free < size {
		return fmt.Errorf("new file of %d bytes, %d are free: %w", size, free, ErrFull)
	}
	j.names++
	name := fmt.Sprintf("%016x%s", j.names, fileSuffix)
	f, err := j.cfg.FS.Create(path.Join(j.cfg.Dir, name))
	if err != nil {
		return err
	}
	j.filling = &filling{file: file{f: f, name: name, header: header{size: size}}}
	return nil
}

// unfilled takes a failure while making a file: a full disk is an answer, any
// other error is the disk's end.
func (j *Journal) unfilled(cause error) error {
	if !errors.Is(cause, ErrFull) {
		return j.die("make journal file", cause)
	}
	if j.filling != nil {
		if err := j.abandon(); err != nil {
			return err
		}
	}
	return fmt.Errorf("make journal file: %w", cause)
}

// abandon removes the file being filled.
func (j *Journal) abandon() error {
	f := j.filling
	j.filling = nil
	return j.discard(&f.file)
}

// discard removes a file that is not needed. It need not be durable: a file
// that comes back is free, by its header or by the newest note.
func (j *Journal) discard(f *file) error {
	err := errors.Join(f.f.Close(), j.cfg.FS.Remove(path.Join(j.cfg.Dir, f.name)))
	if err != nil {
		return j.die("remove "+f.name, err)
	}
	return nil
}

// Prepare does one bounded step of the work that Append would else have to
// wait for: it empties the oldest file, fills a spare with zeros, lets go of
// files too many. The caller's loop runs it while no flush waits, as long as
// more is true. ErrFull means that no spare can be made now; the journal goes
// on, and the caller tries again after a while.
func (j *Journal) Prepare() (more bool, err error) {
	switch {
	case j.dead != nil:
		return false, j.dead
	case j.filling != nil:
		_, err = j.fill(j.filling.size, fillStepBytes)
	case j.emptiable():
		err = j.recycle()
	case j.spares(0) < spareGoal:
		_, err = j.fill(j.nextFileBytes(), fillStepBytes)
	case len(j.free) > freeFilesMax || len(j.free) > spareGoal && j.smallest() < j.cfg.FileBytes:
		err = j.discardSmallest()
	default:
		return false, nil
	}
	return err == nil, err
}

func (j *Journal) smallest() int64 {
	size := j.free[0].size
	for _, f := range j.free {
		size = min(size, f.size)
	}
	return size
}

func (j *Journal) discardSmallest() error {
	for i, f := range j.free {
		if f.size == j.smallest() {
			j.free = append(j.free[:i:i], j.free[i+1:]...)
			return j.discard(f)
		}
	}
	return nil
}
