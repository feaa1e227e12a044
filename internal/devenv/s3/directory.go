package s3

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	stagingDir = ".staging"
	// copyBufferBytes is the memory of one running PUT.
	copyBufferBytes = 128 << 10
)

// directory keeps objects as files.
type directory struct {
	path   string
	noSync bool

	// publish is held while a name below a bucket comes, goes or is judged by
	// a condition.
	publish sync.Mutex
	// stamped is the newest modification time given out, in nanoseconds;
	// guarded by publish. Times never repeat, so an ETag made of one is unique.
	stamped int64
}

func openDirectory(path string, noSync bool) (*directory, error) {
	staging := filepath.Join(path, stagingDir)
	if err := os.RemoveAll(staging); err != nil {
		return nil, fmt.Errorf("open development store: %w", err)
	}
	for _, dir := range []string{staging, filepath.Join(path, Bucket)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("open development store: %w", err)
		}
	}
	return &directory{path: path, noSync: noSync}, nil
}

// bucket gives the directory of a bucket that exists.
func (d *directory) bucket(name string) (string, error) {
	if name == "" || strings.HasPrefix(name, ".") || strings.ContainsAny(name, "/\x00") {
		return "", noSuchBucket()
	}
	dir := filepath.Join(d.path, name)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return "", noSuchBucket()
	}
	return dir, nil
}

// object gives the file of a key in a bucket that exists.
func (d *directory) object(bucket, key string) (string, error) {
	dir, err := d.bucket(bucket)
	if err != nil {
		return "", err
	}
	name, err := fileName(key)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, filepath.FromSlash(name)), nil
}

// open opens an object for reading.
func (d *directory) open(bucket, key string) (*os.File, fs.FileInfo, error) {
	file, err := d.object(bucket, key)
	if err != nil {
		return nil, nil, err
	}
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) || isNotDirectory(err) {
		return nil, nil, noSuchKey()
	}
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = noSuchKey()
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// etagOf names this content of this file. Modification times are unique
// within the store, so no digest has to be kept beside the file. The dash says
// to clients that it is not an MD5.
func etagOf(info fs.FileInfo) string {
	return fmt.Sprintf("\"%016x-%d\"", info.ModTime().UnixNano(), info.Size())
}

// stage writes a body to a file of its own, whole and synced, or leaves nothing.
func (d *directory) stage(r io.Reader) (_ *os.File, err error) {
	f, err := os.CreateTemp(filepath.Join(d.path, stagingDir), "body-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	// The plain types keep io.CopyBuffer from going around the buffer.
	if _, err = io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{r}, make([]byte, copyBufferBytes)); err != nil {
		return nil, err
	}
	if !d.noSync {
		err = f.Sync()
	}
	return f, err
}

// conditions are those of a write: exact ETags or "*", empty for none.
type conditions struct{ ifMatch, ifNoneMatch string }

func (c conditions) hold(etag string, exists bool) error {
	same := func(asked string) bool {
		return exists && (asked == "*" || strings.Trim(asked, `"`) == strings.Trim(etag, `"`))
	}
	if c.ifMatch != "" && !exists {
		return noSuchKey()
	}
	if c.ifMatch != "" && !same(c.ifMatch) || c.ifNoneMatch != "" && same(c.ifNoneMatch) {
		return preconditionFailed()
	}
	return nil
}

// publishAs gives a staged file its key, if the conditions hold at that
// instant. It takes the staged file: afterwards it is published or removed.
func (d *directory) publishAs(staged *os.File, file string, c conditions) (fs.FileInfo, error) {
	defer staged.Close()
	info, err := d.rename(staged, file, c)
	if err != nil {
		_ = os.Remove(staged.Name())
		return nil, err
	}
	if d.noSync {
		return info, nil
	}
	return info, syncDirectory(filepath.Dir(file))
}

func (d *directory) rename(staged *os.File, file string, c conditions) (fs.FileInfo, error) {
	d.publish.Lock()
	defer d.publish.Unlock()
	old, err := os.Stat(file)
	exists := err == nil && !old.IsDir()
	etag := ""
	if exists {
		etag = etagOf(old)
	}
	if err := c.hold(etag, exists); err != nil {
		return nil, err
	}
	if err == nil && old.IsDir() {
		return nil, invalid("ExistingObjectIsDirectory", "Other keys begin with this key and a slash.")
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		if isNotDirectory(err) {
			return nil, invalid("ObjectParentIsFile", "A part of this key before a slash is an object.")
		}
		return nil, err
	}
	d.stamped = max(time.Now().UnixNano(), d.stamped+1)
	if err := os.Chtimes(staged.Name(), time.Time{}, time.Unix(0, d.stamped)); err != nil {
		return nil, err
	}
	if err := os.Rename(staged.Name(), file); err != nil {
		return nil, err
	}
	return staged.Stat()
}

func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a delete came right after
	}
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// remove deletes an object and the directories it leaves empty; a missing one
// is no error.
func (d *directory) remove(bucket, key string) error {
	file, err := d.object(bucket, key)
	if err != nil {
		return err
	}
	d.publish.Lock()
	defer d.publish.Unlock()
	if info, err := os.Stat(file); err != nil || info.IsDir() {
		return nil // nothing there to delete
	}
	if err := os.Remove(file); err != nil {
		return fmt.Errorf("delete object: %w", err)
	}
	root := filepath.Join(d.path, bucket)
	for dir := filepath.Dir(file); dir != root; dir = filepath.Dir(dir) {
		if os.Remove(dir) != nil {
			break // not empty
		}
	}
	return nil
}
