package journal

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// fileSuffix ends the name of every journal file; before it stands a number
// in 16 hex digits, above those of all files there are.
const fileSuffix = ".journal"

// Open replays the journal, writes its tail again and syncs it before it
// returns, so that no vote rests on bytes that only a cache held. The groups come by id.
// ErrCorrupt means that durable bytes are wrong and that the replicas of this
// disk must not start.
func Open(cfg Config) (j *Journal, groups []Group, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, nil, err
	}
	j = &Journal{cfg: cfg, groups: map[record.PartitionID]*group{}, block: disk.Alloc(disk.BlockBytes)}
	defer func() {
		if err != nil {
			j.closeFiles()
			j, groups, err = nil, nil, fmt.Errorf("open journal %s: %w", cfg.Dir, err)
		}
	}()
	bad, err := j.findFiles()
	defer func() { err = errors.Join(err, closeAll(bad)) }()
	if err != nil {
		return j, nil, err
	}
	if err := j.checkUnfinished(bad); err != nil {
		return j, nil, err
	}
	if len(j.live) == 0 {
		if err := j.checkEnd(0); err != nil {
			return j, nil, err
		}
		return j, nil, errors.Join(j.removeUnfinished(bad), j.start())
	}
	r := replay{journal: j, entries: map[record.PartitionID]*entryLog{}}
	if err := r.run(); err != nil {
		return j, nil, err
	}
	groups, err = r.result()
	if err != nil {
		return j, nil, err
	}
	if err := j.checkEnd(disk.RoundUp(r.end)); err != nil {
		return j, nil, err
	}
	j.dropUnneeded(r.needed)
	if err := j.removeUnfinished(bad); err != nil {
		return j, nil, err
	}
	return j, groups, errors.Join(j.resume(&r), j.retireFree())
}

// checkEnd refuses a journal that ends before it once did, before anything of
// it is changed.
func (j *Journal) checkEnd(end int64) error {
	if end < j.cfg.EndMin {
		return fmt.Errorf("%w: it ends at position %d, it had come to %d", ErrOlder, end, j.cfg.EndMin)
	}
	return nil
}

// findFiles opens every journal file: the chain of uses into live, oldest
// first, all others that have a header into free. The rest is bad.
func (j *Journal) findFiles() (bad []*file, err error) {
	if err := j.cfg.FS.MkdirAll(j.cfg.Dir); err != nil {
		return nil, err
	}
	names, err := j.cfg.FS.List(j.cfg.Dir)
	if err != nil {
		return nil, err
	}
	var used []*file
	for _, name := range names {
		number, err := strconv.ParseUint(strings.TrimSuffix(name, fileSuffix), 16, 64)
		if err != nil || !strings.HasSuffix(name, fileSuffix) {
			continue
		}
		j.names = max(j.names, number)
		f, whole, err := j.openFile(name)
		if err != nil {
			j.free = append(j.free, used...)
			return bad, err
		}
		switch {
		case !whole:
			bad = append(bad, f)
		case f.use == 0:
			j.free = append(j.free, f)
		default:
			used = append(used, f)
		}
	}
	return bad, j.chain(used)
}

func closeAll(files []*file) error {
	var failed error
	for _, f := range files {
		failed = errors.Join(failed, f.f.Close())
	}
	return failed
}

// openFile reads a file's header; whole says that there is one.
func (j *Journal) openFile(name string) (f *file, whole bool, err error) {
	handle, err := j.cfg.FS.Open(path.Join(j.cfg.Dir, name))
	if err != nil {
		return nil, false, err
	}
	f = &file{f: handle, name: name}
	if whole, err = j.readHeader(f); err != nil {
		return nil, false, errors.Join(fmt.Errorf("file %s: %w", name, err), handle.Close())
	}
	return f, whole, nil
}

func (j *Journal) readHeader(f *file) (whole bool, err error) {
	size, err := f.f.Size()
	if err != nil {
		return false, err
	}
	n, err := f.f.ReadAt(j.block, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	h, err := decodeHeader(j.block[:n])
	f.size = size
	switch {
	case errors.Is(err, errHeader):
		return false, nil
	case err != nil:
		return false, err
	case h.clusterID != j.cfg.ClusterID:
		return false, fmt.Errorf("belongs to cluster %x, this is %x", h.clusterID, j.cfg.ClusterID)
	case h.size != size && h.use != 0:
		return false, &CorruptError{File: f.name, Offset: size, Position: h.start + size,
			Read: fmt.Sprintf("a file of %d bytes", size), Expected: fmt.Sprintf("%d bytes", h.size)}
	}
	f.header, f.seed = h, h.seed()
	return h.size == size, nil
}

// chain puts the newest unbroken run of uses into live and older ones, which
// a note must have given up, into free.
func (j *Journal) chain(used []*file) error {
	slices.SortFunc(used, func(a, b *file) int {
		switch {
		case a.use < b.use:
			return -1
		case a.use > b.use:
			return 1
		}
		return strings.Compare(a.name, b.name)
	})
	first := len(used)
	for i := len(used) - 1; i >= 0; i-- {
		if i+1 < len(used) && used[i].use == used[i+1].use {
			j.free = append(j.free, used...)
			return &CorruptError{File: used[i].name, Position: used[i].start,
				Read: fmt.Sprintf("use %d, as in %s", used[i].use, used[i+1].name), Expected: "every use once"}
		}
		if i+1 < len(used) && used[i].use+1 != used[i+1].use {
			break
		}
		first = i
	}
	j.live = used[first:]
	j.free = append(j.free, used[:first]...)
	for i := 1; i < len(j.live); i++ {
		last, next := j.live[i-1], j.live[i]
		last.end = next.prevEnd
		if next.start != last.start+last.size || last.end < last.start || last.end > next.start {
			return &CorruptError{File: next.name, Position: next.start,
				Read:     fmt.Sprintf("start %d, end of the use before %d", next.start, next.prevEnd),
				Expected: fmt.Sprintf("start %d, end from %d", last.start+last.size, last.start)}
		}
	}
	return nil
}

// checkUnfinished looks at files without a whole header. They are being
// filled; but a file in use had its header synced before its first record, so
// a record of the next use behind a bad header is a lost header.
func (j *Journal) checkUnfinished(bad []*file) error {
	start := int64(0)
	if n := len(j.live); n > 0 {
		start = j.live[n-1].start + j.live[n-1].size
	}
	for _, f := range bad {
		f.start = start
		at, err := strayRecord(f)
		if err != nil {
			return err
		}
		if at > 0 {
			return &CorruptError{File: f.name, Position: f.start, Read: "no whole header",
				Expected: fmt.Sprintf("the header of the use whose records begin at byte %d", at)}
		}
	}
	return nil
}

// removeUnfinished removes files without a header once the replay has shown
// that nothing of them is missed.
func (j *Journal) removeUnfinished(bad []*file) error {
	for _, f := range bad {
		j.cfg.Log.Info("remove unfinished journal file", "dir", j.cfg.Dir, "file", f.name, "bytes", f.size)
		if err := j.cfg.FS.Remove(path.Join(j.cfg.Dir, f.name)); err != nil {
			return err
		}
	}
	return nil
}

// start begins the first use of an empty directory.
func (j *Journal) start() error {
	if j.spares(0) == 0 {
		if err := j.create(j.cfg.FirstBytes); err != nil {
			return err
		}
	}
	f := j.free[0]
	j.free = j.free[1:]
	if err := j.writeHeader(f, header{use: 1, size: f.size, needed: 1}); err != nil {
		return j.die("begin "+f.name, err)
	}
	j.live = []*file{f}
	j.buf.off = disk.BlockBytes
	j.durable = j.position()
	return j.cfg.FS.SyncDir(j.cfg.Dir)
}

// createAnySize makes sure of one free file, of whatever size the disk still
// takes: a full disk should not keep a broker from starting.
func (j *Journal) createAnySize() error {
	for size := j.nextFileBytes(); j.spares(0) == 0; size = disk.RoundUp(size / 2) {
		err := j.create(size)
		if err != nil && (!errors.Is(err, ErrFull) || size/2 < fileBytesMin) {
			return err
		}
	}
	return nil
}

// dropUnneeded moves uses that a note gave up from the chain to the free ones.
func (j *Journal) dropUnneeded(needed uint64) {
	for len(j.live) > 1 && j.live[0].use < needed {
		j.free = append(j.free, j.live[0])
		j.live = j.live[1:]
	}
}

// retireFree retires the free files that were used; the note is durable now.
func (j *Journal) retireFree() error {
	for _, f := range j.free {
		if f.use == 0 || j.dead != nil {
			continue
		}
		if err := j.retire(f); err != nil {
			return err
		}
	}
	return nil
}

// resume makes the replayed tail durable and unambiguous: appending goes on
// behind it only if nothing lies there.
func (j *Journal) resume(r *replay) error {
	tail := j.active()
	if err := r.secure(); err != nil {
		return err
	}
	if err := j.cfg.FS.SyncDir(j.cfg.Dir); err != nil {
		return err
	}
	j.buf.off = disk.RoundUp(r.end - tail.start)
	j.durable = j.position()
	if r.remains {
		j.cfg.Log.Warn("journal tail was torn", "dir", j.cfg.Dir, "file", tail.name, "byte", r.end-tail.start, "position", r.end)
		if err := j.createAnySize(); err != nil {
			return err
		}
		if err := j.begin(0, r.end); err != nil {
			return err
		}
	}
	j.noted = j.durable
	if r.lastKind == kindNote && !r.remains || j.room() < disk.BlockBytes {
		return nil
	}
	return j.note()
}
