// Package tablefs is the bucket as iceberg-go sees it: files by location
// ("s3://bucket/path"), read by range. It stands between objstore and every
// package under iceberg; writing goes to objstore itself, by key.
//
// It has no loops, no locks and no state; a file belongs to its opener.
package tablefs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	iceio "github.com/apache/iceberg-go/io"

	"tidewater/internal/objstore"
)

// wholeBytesMax bounds the objects that Open reads at once: metadata and small
// data files. A larger one is read by range.
const wholeBytesMax = 4 << 20

// FS is a bucket and the location its keys stand under.
type FS struct {
	Store objstore.Store
	// Root is the bucket's location without a slash at the end, such as
	// "s3://bucket".
	Root string
}

// Key turns a location into an object key. A location in another bucket is an
// error: we write and read tables in our bucket only.
func (f FS) Key(location string) (string, error) {
	rest, ok := strings.CutPrefix(location, f.Root+"/")
	if !ok && strings.HasPrefix(f.Root, "s3://") {
		// Hadoop's clients write s3a for the same bucket.
		rest, ok = strings.CutPrefix(location, "s3a"+strings.TrimPrefix(f.Root, "s3")+"/")
	}
	if !ok || rest == "" {
		return "", fmt.Errorf("location %q is outside the bucket %s", location, f.Root)
	}
	return rest, nil
}

// Location turns a key into a location.
func (f FS) Location(key string) string { return f.Root + "/" + key }

// Read gives the whole object at location.
func (f FS) Read(ctx context.Context, location string) ([]byte, error) {
	key, err := f.Key(location)
	if err != nil {
		return nil, err
	}
	return f.Store.Get(ctx, key, 0, -1)
}

// Write creates the object at location. Names are unique, so an object that
// exists already with the same bytes is an earlier attempt of the same write.
func (f FS) Write(ctx context.Context, location string, body []byte) error {
	key, err := f.Key(location)
	if err != nil {
		return err
	}
	err = f.Store.PutIfAbsent(ctx, key, body)
	if !errors.Is(err, objstore.ErrExists) {
		return err
	}
	have, errGet := f.Store.Get(ctx, key, 0, -1)
	if errGet != nil {
		return errGet
	}
	if !bytes.Equal(have, body) {
		return err
	}
	return nil
}

// IO gives the bucket to iceberg-go for the time of ctx.
func (f FS) IO(ctx context.Context) iceio.IO { return bucketIO{ctx: ctx, fs: f} }

// bucketIO carries the context because iceberg-go's IO has none.
type bucketIO struct {
	ctx context.Context
	fs  FS
}

func (b bucketIO) Open(name string) (iceio.File, error) {
	key, err := b.fs.Key(name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	info, err := b.fs.Store.Head(b.ctx, key)
	if errors.Is(err, objstore.ErrNotFound) {
		err = fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	f := &file{io: b, key: key, info: info}
	if info.Size <= wholeBytesMax {
		body, err := b.fs.Store.Get(b.ctx, key, 0, -1)
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		f.whole = body
		f.info.Size = int64(len(body))
	}
	f.SectionReader = io.NewSectionReader(rangeReader{f}, 0, f.info.Size)
	return f, nil
}

func (b bucketIO) Remove(name string) error {
	key, err := b.fs.Key(name)
	if err == nil {
		err = b.fs.Store.Delete(b.ctx, key)
	}
	if err != nil {
		return &fs.PathError{Op: "remove", Path: name, Err: err}
	}
	return nil
}

// file is an open object.
type file struct {
	*io.SectionReader
	io    bucketIO
	key   string
	info  objstore.Info
	whole []byte // nil when read by range
}

type rangeReader struct{ f *file }

func (r rangeReader) ReadAt(p []byte, off int64) (int, error) {
	if r.f.whole != nil {
		return bytes.NewReader(r.f.whole).ReadAt(p, off)
	}
	got, err := r.f.io.fs.Store.Get(r.f.io.ctx, r.f.key, off, int64(len(p)))
	if err != nil {
		return 0, fmt.Errorf("read %s at %d: %w", r.f.key, off, err)
	}
	n := copy(p, got)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) Close() error               { f.whole = nil; return nil }
func (f *file) Stat() (fs.FileInfo, error) { return stat{f.info}, nil }

type stat struct{ objstore.Info }

func (s stat) Name() string       { return path.Base(s.Key) }
func (s stat) Size() int64        { return s.Info.Size }
func (s stat) Mode() fs.FileMode  { return 0o444 }
func (s stat) ModTime() time.Time { return s.LastModified }
func (s stat) IsDir() bool        { return false }
func (s stat) Sys() any           { return nil }
