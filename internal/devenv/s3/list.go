package s3

import (
	"encoding/xml"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"
)

const listKeysMax = 1000

type objectXML struct {
	Key          string
	LastModified time.Time
	ETag         string
	Size         int64
	StorageClass string
}

type prefixXML struct{ Prefix string }

// listXML answers both versions of list; what a version does not have is empty.
type listXML struct {
	XMLName               xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`
	Name                  string
	Prefix                string
	Delimiter             string `xml:",omitempty"`
	StartAfter            string `xml:",omitempty"`
	Marker                string `xml:",omitempty"`
	ContinuationToken     string `xml:",omitempty"`
	NextContinuationToken string `xml:",omitempty"`
	NextMarker            string `xml:",omitempty"`
	EncodingType          string `xml:",omitempty"`
	KeyCount              int
	MaxKeys               int
	IsTruncated           bool
	Contents              []objectXML
	CommonPrefixes        []prefixXML
}

// listing walks a bucket in the order of its keys.
type listing struct {
	prefix, delimiter string
	after             string // keys up to and including it are not given
	skip              string // keys that begin with it are not given, unless empty
	max               int

	objects  []objectXML
	prefixes []prefixXML
	last     string // newest key or common prefix given
	more     bool
}

// errEnough ends the walk when the page is full and a further key was seen.
var errEnough = errors.New("page is full")

// walk lists the directory dir, whose keys all begin with base.
func (l *listing) walk(dir, base string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || isNotDirectory(err) {
		return nil // a delete emptied it meanwhile, or there are no such keys
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
			l.prefixes = append(l.prefixes, prefixXML{common})
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
	l.objects = append(l.objects, objectXML{key, info.ModTime().UTC().Truncate(time.Second), etagOf(info), info.Size(), "STANDARD"})
	return nil
}

// list fills the page.
func (d *directory) list(bucket string, l *listing) error {
	dir, err := d.bucket(bucket)
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
	}
	if err := l.walk(dir, base); err != nil && !errors.Is(err, errEnough) {
		return err
	}
	return nil
}

// listObjects answers a list of either version.
func (f *front) listObjects(w http.ResponseWriter, r *http.Request, bucket string) error {
	q := r.URL.Query()
	limit := listKeysMax
	if asked := q.Get("max-keys"); asked != "" {
		n, err := strconv.Atoi(asked)
		if err != nil || n < 0 {
			return invalid("InvalidArgument", "max-keys is not a number.")
		}
		limit = min(n, listKeysMax)
	}
	second := q.Get("list-type") == "2"
	l := listing{prefix: q.Get("prefix"), delimiter: q.Get("delimiter"), after: q.Get("marker"), max: limit}
	if second {
		l.after = max(q.Get("start-after"), q.Get("continuation-token"))
	}
	if err := f.dir.list(bucket, &l); err != nil {
		return err
	}
	out := listXML{Name: bucket, Prefix: l.prefix, Delimiter: l.delimiter, MaxKeys: limit, IsTruncated: l.more,
		Contents: l.objects, CommonPrefixes: l.prefixes, KeyCount: len(l.objects) + len(l.prefixes)}
	if second {
		out.StartAfter, out.ContinuationToken = q.Get("start-after"), q.Get("continuation-token")
	} else {
		out.Marker = q.Get("marker")
	}
	if l.more && second {
		out.NextContinuationToken = l.last
	} else if l.more {
		out.NextMarker = l.last
	}
	if q.Get("encoding-type") == "url" {
		out.escape()
	}
	writeXML(w, r, http.StatusOK, out)
	return nil
}

// escape writes keys as clients ask that fear characters XML cannot hold. The
// continuation token is opaque and stays.
func (out *listXML) escape() {
	out.EncodingType = "url"
	for _, field := range []*string{&out.Prefix, &out.Delimiter, &out.StartAfter, &out.Marker, &out.NextMarker} {
		*field = awsEscape(*field, true)
	}
	for i := range out.Contents {
		out.Contents[i].Key = awsEscape(out.Contents[i].Key, true)
	}
	for i := range out.CommonPrefixes {
		out.CommonPrefixes[i].Prefix = awsEscape(out.CommonPrefixes[i].Prefix, true)
	}
}
