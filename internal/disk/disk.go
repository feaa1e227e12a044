// Package disk is the file system as the log sees it: aligned writes that go
// to the device, explicit syncs of files and directories, and nothing that a
// power cut may quietly undo.
//
// Three implementations exist: OS (direct I/O, with a fallback for file systems
// that refuse it), Mem (what was synced survives Crash, the rest maybe) and
// Fault (wraps one and injects errors, torn writes and delays by name).
//
// The package starts no goroutine. Files are safe for concurrent ReadAt; the
// other calls of one File belong to one caller at a time.
package disk

import (
	"errors"
	"io"
)

// BlockBytes is the alignment of offsets, lengths and memory for File.WriteAt
// and File.ReadAt on a file opened for direct I/O.
const BlockBytes = 4096

var (
	// ErrLocked: another process holds the directory. The caller says which
	// directory and stops.
	ErrLocked = errors.New("directory is in use by another process")
	// ErrFull: no space left. The caller refuses new writes with a retriable
	// error and goes on serving reads.
	ErrFull = errors.New("disk is full")
)

// FS is one disk: names are slash-separated and relative to its root.
// A missing name is fs.ErrNotExist.
type FS interface {
	// Open opens an existing file; Create makes one and fails with
	// fs.ErrExist if it is there. Both open for direct I/O where it can be had.
	Open(name string) (File, error)
	Create(name string) (File, error)
	// Rename replaces to; it lasts once SyncDir of the directory returned.
	Rename(from, to string) error
	Remove(name string) error
	RemoveAll(name string) error
	MkdirAll(dir string) error
	// List gives the names in dir (not paths), sorted.
	List(dir string) ([]string, error)
	// SyncDir makes creations, renames and removals in dir durable.
	SyncDir(dir string) error
	// Free is the number of bytes that can still be written.
	Free() (int64, error)
	// Direct reports whether direct I/O is in use (known after the first Open or Create).
	Direct() bool
}

// File is an open file.
type File interface {
	// ReadAt and WriteAt take block-aligned offsets and lengths; memory from
	// Alloc avoids a copy. ReadAt at the end of the file returns io.EOF with
	// what was read.
	io.ReaderAt
	io.WriterAt
	// Sync makes the data written so far durable (fdatasync). After an error
	// the state on disk is unknown: the caller stops using the disk.
	Sync() error
	// Truncate sets the size; growth reads as zeros.
	Truncate(size int64) error
	Size() (int64, error)
	Close() error
}
