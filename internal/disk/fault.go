package disk

import (
	"fmt"
	"sync"
)

// Op names a call of FS or File.
type Op string

// The calls a Fault sees.
const (
	OpOpen      Op = "open"
	OpCreate    Op = "create"
	OpRename    Op = "rename"
	OpRemove    Op = "remove"
	OpRemoveAll Op = "remove all"
	OpMkdirAll  Op = "make directory"
	OpList      Op = "list"
	OpSyncDir   Op = "sync directory"
	OpFree      Op = "free"
	OpRead      Op = "read"
	OpWrite     Op = "write"
	OpSync      Op = "sync"
	OpTruncate  Op = "truncate"
	OpSize      Op = "size"
)

// Call is one operation as a rule or hook sees it, before it happens.
type Call struct {
	Op     Op
	Name   string // the file or directory; the old name of a rename
	Offset int64  // of a read or write; the size of a truncation
	Bytes  int    // of a read or write
}

// Changes reports whether the call may change the disk: the points at which a
// crash makes a difference.
func (c Call) Changes() bool {
	switch c.Op {
	case OpOpen, OpList, OpFree, OpRead, OpSize:
		return false
	}
	return true
}

// Rule says what goes wrong and when. The first rule that matches decides.
type Rule struct {
	// When picks the calls; nil picks all.
	When func(Call) bool
	// Times is how often the rule strikes; 0 is for ever.
	Times int
	// Err is returned instead of doing the call (for a torn write: after it).
	Err error
	// TornBytes is how much of a write reaches the disk before Err; a torn
	// write without Err claims success.
	TornBytes int
	// FlipBit makes a read give bit 1<<(FlipBit%8) of byte FlipBit/8 wrong,
	// counted from the start of the file, where the read covers it; 0 flips
	// none.
	FlipBit int64
	// FreeBytes replaces the answer of Free.
	FreeBytes int64
	// Lie claims success of a call that changes names, or of a sync, without
	// doing it.
	Lie bool
	// LoseWrites has a sync that fails forget what it was to make durable: a
	// later one that succeeds says nothing of it, as on Linux.
	LoseWrites bool
}

// Fault is a disk that goes wrong on order. It is safe for concurrent use if
// the disk below is.
type Fault struct {
	FS
	mu     sync.Mutex
	before func(Call) // guarded by mu
	rules  []*Rule    // guarded by mu
}

// NewFault wraps a disk; without rules it changes nothing.
func NewFault(inner FS) *Fault { return &Fault{FS: inner} }

// Before sets a hook called ahead of every operation, outside any lock: it
// may take time (delay) or panic (a crash of the program at this point, out
// of which the test or simulation recovers).
func (f *Fault) Before(hook func(Call)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = hook
}

// Add adds a rule behind those there are.
func (f *Fault) Add(r Rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = append(f.rules, &r)
}

// Clear removes all rules.
func (f *Fault) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = nil
}

// strike runs the hook and gives the rule that this call meets, if any.
func (f *Fault) strike(c Call) *Rule {
	f.mu.Lock()
	before := f.before
	f.mu.Unlock()
	if before != nil {
		before(c)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, r := range f.rules {
		if r.When != nil && !r.When(c) {
			continue
		}
		if r.Times == 1 {
			f.rules = append(f.rules[:i:i], f.rules[i+1:]...)
		}
		r.Times--
		return r
	}
	return nil
}

// fail is strike for calls that only an error can disturb.
func (f *Fault) fail(c Call) error {
	if r := f.strike(c); r != nil && r.Err != nil {
		return fmt.Errorf("%s %s: %w", c.Op, c.Name, r.Err)
	}
	return nil
}

// Open implements FS.
func (f *Fault) Open(name string) (File, error) { return f.file(OpOpen, name, f.FS.Open) }

// Create implements FS.
func (f *Fault) Create(name string) (File, error) { return f.file(OpCreate, name, f.FS.Create) }

func (f *Fault) file(op Op, name string, open func(string) (File, error)) (File, error) {
	if err := f.fail(Call{Op: op, Name: name}); err != nil {
		return nil, err
	}
	inner, err := open(name)
	if err != nil {
		return nil, err
	}
	return &faultFile{File: inner, disk: f, name: name}, nil
}

// Rename implements FS.
func (f *Fault) Rename(from, to string) error {
	if err := f.fail(Call{Op: OpRename, Name: from}); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

// Remove implements FS.
func (f *Fault) Remove(name string) error { return f.named(OpRemove, name, f.FS.Remove) }

// RemoveAll implements FS.
func (f *Fault) RemoveAll(name string) error { return f.named(OpRemoveAll, name, f.FS.RemoveAll) }

// MkdirAll implements FS.
func (f *Fault) MkdirAll(dir string) error { return f.named(OpMkdirAll, dir, f.FS.MkdirAll) }

// SyncDir implements FS.
func (f *Fault) SyncDir(dir string) error { return f.named(OpSyncDir, dir, f.FS.SyncDir) }

func (f *Fault) named(op Op, name string, do func(string) error) error {
	r := f.strike(Call{Op: op, Name: name})
	switch {
	case r != nil && r.Err != nil:
		return fmt.Errorf("%s %s: %w", op, name, r.Err)
	case r != nil && r.Lie:
		return nil
	}
	return do(name)
}

// List implements FS.
func (f *Fault) List(dir string) ([]string, error) {
	if err := f.fail(Call{Op: OpList, Name: dir}); err != nil {
		return nil, err
	}
	return f.FS.List(dir)
}

// Free implements FS.
func (f *Fault) Free() (int64, error) {
	if r := f.strike(Call{Op: OpFree, Name: "."}); r != nil {
		return r.FreeBytes, r.Err
	}
	return f.FS.Free()
}

// faultFile is a file of Fault.
type faultFile struct {
	File
	disk *Fault
	name string
}

// ReadAt implements File.
func (f *faultFile) ReadAt(p []byte, off int64) (int, error) {
	r := f.disk.strike(Call{Op: OpRead, Name: f.name, Offset: off, Bytes: len(p)})
	if r != nil && r.Err != nil {
		return 0, fmt.Errorf("read %s at %d: %w", f.name, off, r.Err)
	}
	n, err := f.File.ReadAt(p, off)
	if r != nil && r.FlipBit > 0 {
		if at := r.FlipBit/8 - off; at >= 0 && at < int64(n) {
			p[at] ^= 1 << (r.FlipBit % 8)
		}
	}
	return n, err
}

// WriteAt implements File.
func (f *faultFile) WriteAt(p []byte, off int64) (int, error) {
	r := f.disk.strike(Call{Op: OpWrite, Name: f.name, Offset: off, Bytes: len(p)})
	if r == nil {
		return f.File.WriteAt(p, off)
	}
	torn := min(r.TornBytes, len(p))
	if torn > 0 {
		if err := f.tear(p, torn, off); err != nil {
			return 0, err
		}
	}
	if r.Err != nil {
		return torn, fmt.Errorf("write %s at %d: %w", f.name, off, r.Err)
	}
	return len(p), nil
}

// tear writes the first n bytes of p only, keeping what the last of their
// blocks held before behind them.
func (f *faultFile) tear(p []byte, n int, off int64) error {
	b := Alloc(int(RoundUp(int64(n))))
	last := len(b) - BlockBytes
	if _, err := f.File.ReadAt(b[last:], off+int64(last)); err != nil {
		clear(b[last:])
	}
	copy(b, p[:n])
	_, err := f.File.WriteAt(b, off)
	return err
}

// Sync implements File. A failed sync does not reach the disk below.
func (f *faultFile) Sync() error {
	r := f.disk.strike(Call{Op: OpSync, Name: f.name})
	if m, ok := f.File.(*memHandle); ok && r != nil && r.LoseWrites {
		m.forget()
	}
	switch {
	case r != nil && r.Err != nil:
		return fmt.Errorf("%s %s: %w", OpSync, f.name, r.Err)
	case r != nil && r.Lie:
		return nil
	}
	return f.File.Sync()
}

// Truncate implements File.
func (f *faultFile) Truncate(size int64) error {
	if err := f.disk.fail(Call{Op: OpTruncate, Name: f.name, Offset: size}); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

// Size implements File.
func (f *faultFile) Size() (int64, error) {
	if err := f.disk.fail(Call{Op: OpSize, Name: f.name}); err != nil {
		return 0, err
	}
	return f.File.Size()
}
