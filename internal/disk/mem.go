package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
)

// ErrCrashed: the file was open when Mem.Crash pulled the plug. Only tests
// and the simulation see it.
var ErrCrashed = errors.New("disk crashed while the file was open")

// Mem is a disk in memory that forgets what a power cut may forget. File data
// lasts once File.Sync returned, names once SyncDir did, directories at once
// (as OS makes them). What was not synced survives Crash by sectors of 512
// bytes and by single name operations, as the random source decides; nothing
// else is random, so one seed gives one history.
//
// It is safe for concurrent use, so that tests may run real loops on it.
type Mem struct {
	mu       sync.Mutex
	now      tree     // guarded by mu: what a running program sees
	durable  tree     // guarded by mu: what surely survives
	names    []nameOp // guarded by mu: made since they were last synced, in order
	life     int      // guarded by mu: counts crashes; files of an earlier life are dead
	capacity int64    // guarded by mu: bytes
}

// tree maps names to files, and directory names to nil.
type tree map[string]*memFile

// nameOp is one change of names: to now names file, from is gone. Either may
// be empty.
type nameOp struct {
	from, to string
	file     *memFile
}

func (op nameOp) in(dir string) bool {
	return op.from != "" && path.Dir(op.from) == dir || op.to != "" && path.Dir(op.to) == dir
}

func (op nameOp) apply(t tree) {
	if op.from != "" {
		delete(t, op.from)
	}
	if op.to != "" {
		t[op.to] = op.file
	}
}

// NewMem makes an empty disk of capacity bytes; 0 is as good as endless.
func NewMem(capacity int64) *Mem {
	if capacity <= 0 {
		capacity = math.MaxInt64
	}
	return &Mem{now: tree{".": nil}, durable: tree{".": nil}, capacity: capacity}
}

// SetCapacity changes the size of the disk; less than is used makes it full.
func (m *Mem) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = bytes
}

// Crash cuts the power and turns it on again: open files die, and what was
// not synced survives as rng decides.
func (m *Mem) Crash(rng *rand.Rand) {
	m.mu.Lock()
	defer m.mu.Unlock()
	after := m.crashed(rng)
	m.now, m.durable, m.names = after.now, after.durable, nil
	m.life++
}

// CrashClone gives the disk as it could be after a power cut now, and leaves
// m as it is.
func (m *Mem) CrashClone(rng *rand.Rand) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.crashed(rng)
}

// crashed builds the disk after a power cut; the caller holds mu.
func (m *Mem) crashed(rng *rand.Rand) *Mem {
	odds := newOdds(rng)
	names := make(tree, len(m.durable))
	for name, file := range m.durable {
		names[name] = file
	}
	for _, op := range m.names {
		if odds.survives() {
			op.apply(names)
		}
	}
	after := NewMem(m.capacity)
	copies := map[*memFile]*memFile{}
	for _, name := range names.sorted() {
		file := names[name]
		if file != nil && copies[file] == nil {
			copies[file] = file.crashed(odds)
		}
		after.now[name], after.durable[name] = copies[file], copies[file]
		// A file that came back brings its directory with it.
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			after.now[dir], after.durable[dir] = nil, nil
		}
	}
	return after
}

func (t tree) sorted() []string {
	names := make([]string, 0, len(t))
	for name := range t {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// odds is how kind one crash is to what was not synced: all, nothing or some
// of it survives. The extremes are drawn often because they find most bugs.
type odds struct {
	rng *rand.Rand
	per float64
}

func newOdds(rng *rand.Rand) odds {
	per := [...]float64{0, 1, 0.1, 0.5, 0.9}[rng.IntN(5)]
	return odds{rng: rng, per: per}
}

func (o odds) survives() bool { return o.rng.Float64() < o.per }

// Rot flips a bit of what is durable in one of the files that may rot, as rng
// decides, and gives its name; "" if none of them has any bytes.
func (m *Mem) Rot(rng *rand.Rand, may func(name string) bool) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for _, name := range m.durable.sorted() {
		if f := m.durable[name]; f != nil && m.now[name] == f && f.durable.size > 0 && len(f.writes) == 0 && may(name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	name := names[rng.IntN(len(names))]
	f := m.durable[name]
	b := make([]byte, 1)
	at := rng.Int64N(f.durable.size)
	for range 16 { // zeros are mostly what nobody reads
		if f.durable.read(b, at); b[0] != 0 {
			break
		}
		at = rng.Int64N(f.durable.size)
	}
	f.durable.read(b, at)
	b[0] ^= 1 << rng.IntN(8)
	f.durable.write(b, 1, at)
	f.now = f.durable.clone()
	return name
}

func clean(name string) string { return path.Clean(strings.TrimPrefix(name, "/")) }

func missing(op, name string) error { return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist} }

// Open implements FS.
func (m *Mem) Open(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	file := m.now[clean(name)]
	if file == nil {
		return nil, missing("open", name)
	}
	return &memHandle{disk: m, file: file, name: name, life: m.life}, nil
}

// Create implements FS.
func (m *Mem) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = clean(name)
	if _, there := m.now[name]; there {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	if dir, there := m.now[path.Dir(name)]; !there || dir != nil {
		return nil, missing("create", name)
	}
	if m.free() <= 0 {
		return nil, &fs.PathError{Op: "create", Path: name, Err: ErrFull}
	}
	file := &memFile{}
	m.change(nameOp{to: name, file: file})
	return &memHandle{disk: m, file: file, name: name, life: m.life}, nil
}

// change applies a name operation that is not yet durable.
func (m *Mem) change(op nameOp) {
	op.apply(m.now)
	m.names = append(m.names, op)
}

// Rename implements FS.
func (m *Mem) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, to = clean(from), clean(to)
	file := m.now[from]
	if file == nil {
		return missing("rename", from)
	}
	if dir, there := m.now[path.Dir(to)]; !there || dir != nil {
		return missing("rename", to)
	}
	if from != to {
		m.change(nameOp{from: from, to: to, file: file})
	}
	return nil
}

// Remove implements FS; it takes a file or an empty directory.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = clean(name)
	file, there := m.now[name]
	if !there {
		return missing("remove", name)
	}
	if file == nil && len(m.below(name)) > 0 {
		return fmt.Errorf("remove %s: directory is not empty", name)
	}
	m.change(nameOp{from: name})
	return nil
}

// RemoveAll implements FS.
func (m *Mem) RemoveAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = clean(name)
	for _, n := range m.below(name) {
		m.change(nameOp{from: n})
	}
	if _, there := m.now[name]; there {
		m.change(nameOp{from: name})
	}
	return nil
}

// below gives the names under a directory, deepest first.
func (m *Mem) below(dir string) []string {
	var names []string
	for name := range m.now {
		if strings.HasPrefix(name, dir+"/") || dir == "." && name != "." {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	slices.Reverse(names)
	return names
}

// MkdirAll implements FS.
func (m *Mem) MkdirAll(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for dir = clean(dir); dir != "."; dir = path.Dir(dir) {
		if file := m.now[dir]; file != nil {
			return fmt.Errorf("make directory %s: a file is there", dir)
		}
		nameOp{to: dir}.apply(m.now)
		nameOp{to: dir}.apply(m.durable)
		// A removal before this is undone by it, whatever is synced later.
		m.names = slices.DeleteFunc(m.names, func(op nameOp) bool { return op.from == dir && op.to == "" })
	}
	return nil
}

// List implements FS.
func (m *Mem) List(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir = clean(dir)
	if file, there := m.now[dir]; !there || file != nil {
		return nil, missing("list", dir)
	}
	var names []string
	for name := range m.now {
		if name != "." && path.Dir(name) == dir {
			names = append(names, path.Base(name))
		}
	}
	slices.Sort(names)
	return names, nil
}

// SyncDir implements FS.
func (m *Mem) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir = clean(dir)
	if _, there := m.now[dir]; !there {
		return missing("sync", dir)
	}
	m.names = slices.DeleteFunc(m.names, func(op nameOp) bool {
		if !op.in(dir) {
			return false
		}
		op.apply(m.durable)
		return true
	})
	return nil
}

// Free implements FS.
func (m *Mem) Free() (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return max(m.free(), 0), nil
}

// free is capacity less the sizes of all named files; the caller holds mu.
func (m *Mem) free() int64 {
	left := m.capacity
	for _, file := range m.now {
		if file != nil {
			left -= RoundUp(file.now.size)
		}
	}
	return left
}

// Direct implements FS: there is no cache between caller and disk.
func (m *Mem) Direct() bool { return true }
