package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/s3response"
)

func pointer[T any](v T) *T { return &v }

func contentRange(start, length, size int64, ranged bool) *string {
	if !ranged {
		return nil
	}
	return pointer(fmt.Sprintf("bytes %d-%d/%d", start, start+length-1, size))
}

// listing walks a bucket in the order of its keys.
type listing struct {
	prefix, delimiter string
	after             string // keys up to and including it are not given
	skip              string // keys that begin with it are not given, unless empty
	max               int

	objects  []s3response.Object
	prefixes []types.CommonPrefix
	last     string // newest key or common prefix given
	more     bool
}

// errEnough ends the walk when the page is full and a further key was seen.
var errEnough = errors.New("page is full")

// walk lists the directory dir, whose keys all begin with base.
func (l *listing) walk(dir, base string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a delete emptied it meanwhile
	}
	if err != nil {
		return err
	}
	keys := make(map[string]fs.DirEntry, len(entries))
	sorted := make([]string, 0, len(entries))
	for _, e := range entries {
		key := base + levelOf(e.Name())
		if e.IsDir() {
			key += "/"
		}
		keys[key] = e
		sorted = append(sorted, key)
	}
	sort.Strings(sorted)
	for _, key := range sorted {
		if err := l.visit(key, keys[key], dir); err != nil {
			return err
		}
	}
	return nil
}

func (l *listing) visit(key string, e fs.DirEntry, dir string) error {
	if l.skip != "" && strings.HasPrefix(key, l.skip) {
		return nil
	}
	if e.IsDir() {
		if !strings.HasPrefix(key, l.prefix) && !strings.HasPrefix(l.prefix, key) {
			return nil
		}
		if key < l.after && !strings.HasPrefix(l.after, key) {
			return nil
		}
		return l.walk(filepath.Join(dir, e.Name()), key)
	}
	if !strings.HasPrefix(key, l.prefix) || key <= l.after {
		return nil
	}
	if len(l.objects)+len(l.prefixes) >= l.max {
		l.more = true
		return errEnough
	}
	if l.delimiter != "" {
		if i := strings.Index(key[len(l.prefix):], l.delimiter); i >= 0 {
			common := key[:len(l.prefix)+i+len(l.delimiter)]
			l.prefixes = append(l.prefixes, types.CommonPrefix{Prefix: &common})
			l.last, l.skip = common, common
			return nil
		}
	}
	info, err := e.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	l.last = key
	l.objects = append(l.objects, s3response.Object{
		Key: &key, ETag: pointer(etagOf(info)), Size: pointer(info.Size()),
		LastModified: pointer(info.ModTime()), StorageClass: types.ObjectStorageClassStandard})
	return nil
}

func (b *backend) list(bucket *string, l *listing) error {
	dir, err := b.bucketPath(bucket)
	if err != nil {
		return err
	}
	if l.delimiter != "" && strings.HasPrefix(l.after, l.prefix) && strings.HasSuffix(l.after, l.delimiter) {
		l.skip = l.after // the page before ended with this common prefix
	}
	if l.max <= 0 {
		return nil
	}
	// Only the directory the prefix leads to holds matching keys.
	base := l.prefix[:strings.LastIndex(l.prefix, "/")+1]
	if base != "" {
		name, err := fileName(strings.TrimSuffix(base, "/"))
		if err != nil {
			return nil // a prefix that no key can have matches nothing
		}
		dir = filepath.Join(dir, filepath.FromSlash(name))
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return nil // no directory, no keys
		}
	}
	if err := l.walk(dir, base); err != nil && !errors.Is(err, errEnough) {
		return err
	}
	return nil
}

// ListObjectsV2 gives a page of keys.
func (b *backend) ListObjectsV2(_ context.Context, in *s3.ListObjectsV2Input) (s3response.ListObjectsV2Result, error) {
	l := listing{prefix: deref(in.Prefix), delimiter: deref(in.Delimiter), after: deref(in.StartAfter), max: int(deref(in.MaxKeys))}
	if token := deref(in.ContinuationToken); token != "" {
		l.after = token
	}
	if err := b.list(in.Bucket, &l); err != nil {
		return s3response.ListObjectsV2Result{}, err
	}
	result := s3response.ListObjectsV2Result{
		Name: in.Bucket, Prefix: in.Prefix, Delimiter: in.Delimiter, StartAfter: in.StartAfter,
		ContinuationToken: in.ContinuationToken, MaxKeys: in.MaxKeys,
		KeyCount: pointer(int32(len(l.objects) + len(l.prefixes))), IsTruncated: &l.more,
		Contents: l.objects, CommonPrefixes: l.prefixes}
	if l.more {
		result.NextContinuationToken = &l.last
	}
	return result, nil
}

// ListObjects gives a page of keys the old way.
func (b *backend) ListObjects(_ context.Context, in *s3.ListObjectsInput) (s3response.ListObjectsResult, error) {
	l := listing{prefix: deref(in.Prefix), delimiter: deref(in.Delimiter), after: deref(in.Marker), max: int(deref(in.MaxKeys))}
	if err := b.list(in.Bucket, &l); err != nil {
		return s3response.ListObjectsResult{}, err
	}
	result := s3response.ListObjectsResult{
		Name: in.Bucket, Prefix: in.Prefix, Delimiter: in.Delimiter, Marker: in.Marker, MaxKeys: in.MaxKeys,
		IsTruncated: &l.more, Contents: l.objects, CommonPrefixes: l.prefixes}
	if l.more {
		result.NextMarker = &l.last
	}
	return result, nil
}
