package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
)

// OS is a directory of the operating system: direct I/O with fdatasync, and
// the page cache where the file system refuses direct I/O. What it promises a
// power cut is what the device promises after fdatasync.
type OS struct {
	root   string
	direct atomic.Bool
	// bounce holds aligned buffers for callers whose memory is not.
	bounce sync.Pool
}

// NewOS makes root if it is missing and probes it for direct I/O. A file
// system that refuses is used through the page cache; log says so once.
func NewOS(root string, log *slog.Logger) (*OS, error) {
	if err := makeDirs(root); err != nil {
		return nil, fmt.Errorf("make directory %s: %w", root, err)
	}
	d := &OS{root: root}
	d.bounce.New = func() any { b := Alloc(bounceBytes); return &b }
	err := probeDirect(root)
	if err != nil && !errors.Is(err, errNoDirect) {
		return nil, full(fmt.Errorf("probe %s for direct I/O: %w", root, err))
	}
	d.direct.Store(err == nil)
	if err != nil {
		log.Warn("file system refuses direct I/O: using the page cache", "dir", root, "reason", err.Error())
	}
	return d, nil
}

// bounceBytes is the size of one copy for unaligned memory.
const bounceBytes = 256 << 10

// errNoDirect: the file system refuses O_DIRECT.
var errNoDirect = errors.New("no direct I/O")

// probeDirect writes and reads one block by direct I/O: some file systems
// take the flag at open and refuse the write.
func probeDirect(root string) error {
	name := filepath.Join(root, ".direct-probe")
	defer os.Remove(name)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC|openDirect, 0o600)
	if err == nil {
		defer f.Close()
		block := Alloc(BlockBytes)
		if _, err = f.WriteAt(block, 0); err == nil {
			_, err = f.ReadAt(block, 0)
		}
	}
	if openDirect == 0 || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		return fmt.Errorf("%w: %v", errNoDirect, err)
	}
	return err
}

// Root is the directory that names are relative to.
func (d *OS) Root() string { return d.root }

func (d *OS) path(name string) string { return filepath.Join(d.root, filepath.FromSlash(name)) }

// Direct implements FS.
func (d *OS) Direct() bool { return d.direct.Load() }

// Open implements FS.
func (d *OS) Open(name string) (File, error) { return d.open(name, os.O_RDWR) }

// Create implements FS.
func (d *OS) Create(name string) (File, error) {
	return d.open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

func (d *OS) open(name string, flag int) (File, error) {
	if d.Direct() {
		flag |= openDirect
	}
	f, err := os.OpenFile(d.path(name), flag, 0o600)
	if err != nil {
		return nil, full(err)
	}
	return &osFile{f: f, disk: d, direct: d.Direct()}, nil
}

// Rename implements FS.
func (d *OS) Rename(from, to string) error { return full(os.Rename(d.path(from), d.path(to))) }

// Remove implements FS.
func (d *OS) Remove(name string) error { return os.Remove(d.path(name)) }

// RemoveAll implements FS.
func (d *OS) RemoveAll(name string) error { return os.RemoveAll(d.path(name)) }

// MkdirAll implements FS. Directories it made last when it returns.
func (d *OS) MkdirAll(dir string) error { return full(makeDirs(d.path(dir))) }

// makeDirs makes dir and its missing parents, syncing the parent of each.
func makeDirs(dir string) error {
	if info, err := os.Stat(dir); err == nil {
		if !info.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
		}
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeDirs(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(parent)
}

// List implements FS.
func (d *OS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(d.path(dir))
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// SyncDir implements FS.
func (d *OS) SyncDir(dir string) error { return syncDir(d.path(dir)) }

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Free implements FS.
func (d *OS) Free() (int64, error) { return freeBytes(d.root) }

// full adds ErrFull to the system's words for it, so that callers need one
// check only.
func full(err error) error {
	if err != nil && (errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// osFile is a file of OS.
type osFile struct {
	f      *os.File
	disk   *OS
	direct bool
}

// ReadAt implements File; memory that is not aligned costs a copy.
func (f *osFile) ReadAt(p []byte, off int64) (int, error) {
	if !f.direct || aligned(p) {
		return f.f.ReadAt(p, off)
	}
	b := f.disk.bounce.Get().(*[]byte)
	defer f.disk.bounce.Put(b)
	done := 0
	for done < len(p) {
		want := min(len(p)-done, len(*b))
		n, err := f.f.ReadAt((*b)[:RoundUp(int64(want))], off+int64(done))
		done += copy(p[done:], (*b)[:min(n, want)])
		if err != nil && (done < len(p) || !errors.Is(err, io.EOF)) {
			return done, err
		}
	}
	return done, nil
}

// WriteAt implements File; memory that is not aligned costs a copy.
func (f *osFile) WriteAt(p []byte, off int64) (int, error) {
	if !f.direct || aligned(p) {
		n, err := f.f.WriteAt(p, off)
		return n, full(err)
	}
	if len(p)%BlockBytes != 0 || off%BlockBytes != 0 {
		return 0, fmt.Errorf("write %s: %d bytes at %d are not whole blocks", f.f.Name(), len(p), off)
	}
	b := f.disk.bounce.Get().(*[]byte)
	defer f.disk.bounce.Put(b)
	done := 0
	for done < len(p) {
		chunk := copy(*b, p[done:])
		n, err := f.f.WriteAt((*b)[:chunk], off+int64(done))
		done += n
		if err != nil {
			return done, full(err)
		}
	}
	return done, nil
}

// Sync implements File.
func (f *osFile) Sync() error { return full(dataSync(f.f)) }

// Truncate implements File.
func (f *osFile) Truncate(size int64) error { return full(f.f.Truncate(size)) }

// Size implements File.
func (f *osFile) Size() (int64, error) {
	info, err := f.f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Close implements File.
func (f *osFile) Close() error { return f.f.Close() }
