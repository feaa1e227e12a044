package s3

import (
	"encoding/xml"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// deleteBytesMax bounds the body of a delete of many keys (1000 at most), and
// of the completion of an upload.
const deleteBytesMax = 4 << 20

// front answers requests.
type front struct {
	cfg Config
	dir *directory
}

// ServeHTTP checks who asks and what, and answers.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "tidewater-dev-s3")
	access, err := authorize(r, map[string]string{f.cfg.AccessKey: f.cfg.SecretKey, f.cfg.ReadOnlyKey: f.cfg.ReadOnlySecret}, time.Now())
	if err == nil && access != f.cfg.AccessKey && r.Method != http.MethodGet && r.Method != http.MethodHead {
		err = denied("This credential may only read.")
	}
	if err == nil {
		bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		switch {
		case bucket == "":
			err = f.listBuckets(w, r)
		case key == "":
			err = f.onBucket(w, r, bucket)
		default:
			err = f.onObject(w, r, bucket, key)
		}
	}
	if err != nil {
		writeFault(w, r, err)
	}
}

// unserved names a sub-resource of the query that the store does not have.
func unserved(q url.Values) string {
	for _, name := range []string{"acl", "policy", "policyStatus", "cors", "website", "tagging", "lifecycle", "versions", "replication",
		"encryption", "notification", "object-lock", "ownershipControls", "publicAccessBlock", "logging", "accelerate",
		"retention", "legal-hold", "torrent", "restore", "select", "attributes", "versionId", "X-Amz-Signature"} {
		if q.Has(name) {
			return "?" + name
		}
	}
	return ""
}

func (f *front) listBuckets(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet {
		return notImplemented(r.Method + " /")
	}
	entries, err := os.ReadDir(f.dir.path)
	if err != nil {
		return err
	}
	type bucketXML struct {
		Name         string
		CreationDate time.Time
	}
	var out struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListAllMyBucketsResult"`
		Owner   struct{ ID string }
		Buckets struct{ Bucket []bucketXML }
	}
	out.Owner.ID = f.cfg.AccessKey
	for _, e := range entries {
		if info, err := e.Info(); err == nil && e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			out.Buckets.Bucket = append(out.Buckets.Bucket, bucketXML{e.Name(), info.ModTime().UTC()})
		}
	}
	writeXML(w, r, http.StatusOK, out)
	return nil
}

func (f *front) onBucket(w http.ResponseWriter, r *http.Request, bucket string) error {
	q := r.URL.Query()
	if what := unserved(q); what != "" {
		return notImplemented(what)
	}
	dir, err := f.dir.bucket(bucket)
	if err != nil && r.Method != http.MethodPut {
		return err
	}
	switch {
	case r.Method == http.MethodHead:
		w.Header().Set("x-amz-bucket-region", Region)
		return nil
	case r.Method == http.MethodGet && q.Has("location"):
		writeXML(w, r, http.StatusOK, struct {
			XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ LocationConstraint"`
		}{}) // empty is us-east-1
		return nil
	case r.Method == http.MethodGet && q.Has("versioning"):
		writeXML(w, r, http.StatusOK, struct {
			XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ VersioningConfiguration"`
		}{})
		return nil
	case r.Method == http.MethodGet && q.Has("uploads"):
		return f.listUploads(w, r, bucket)
	case r.Method == http.MethodGet:
		return f.listObjects(w, r, bucket)
	case r.Method == http.MethodPost && q.Has("delete"):
		return f.deleteMany(w, r, bucket)
	case r.Method == http.MethodPut:
		return f.makeBucket(bucket)
	case r.Method == http.MethodDelete:
		if os.Remove(dir) != nil {
			return &fault{http.StatusConflict, "BucketNotEmpty", "The bucket is not empty."}
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return notImplemented(r.Method + " on a bucket")
}

func (f *front) makeBucket(bucket string) error {
	if len(bucket) < 3 || len(bucket) > 63 || strings.Trim(bucket, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" || bucket[0] == '.' {
		return invalid("InvalidBucketName", "The name is not that of a bucket.")
	}
	err := os.Mkdir(filepath.Join(f.dir.path, bucket), 0o755)
	if errors.Is(err, fs.ErrExist) {
		return &fault{http.StatusConflict, "BucketAlreadyOwnedByYou", "The bucket exists already."}
	}
	return err
}

func (f *front) onObject(w http.ResponseWriter, r *http.Request, bucket, key string) error {
	q := r.URL.Query()
	if what := unserved(q); what != "" {
		return notImplemented(what)
	}
	switch {
	case r.Method == http.MethodGet && q.Has("uploadId"):
		return f.listParts(w, r, bucket, key)
	case r.Method == http.MethodGet, r.Method == http.MethodHead:
		return f.getObject(w, r, bucket, key)
	case r.Method == http.MethodPut && q.Has("uploadId"):
		return f.putPart(w, r)
	case r.Method == http.MethodPut:
		return f.putObject(w, r, bucket, key)
	case r.Method == http.MethodPost && q.Has("uploads"):
		return f.beginUpload(w, r, bucket, key)
	case r.Method == http.MethodPost && q.Has("uploadId"):
		return f.completeUpload(w, r, bucket, key)
	case r.Method == http.MethodDelete && q.Has("uploadId"):
		return f.abortUpload(w, r)
	case r.Method == http.MethodDelete:
		if err := f.dir.remove(bucket, key); err != nil {
			return err
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return notImplemented(r.Method + " on an object")
}

// getObject answers get and head; ranges and conditions are net/http's work.
func (f *front) getObject(w http.ResponseWriter, r *http.Request, bucket, key string) error {
	file, info, err := f.dir.open(bucket, key)
	if err != nil {
		return err
	}
	defer file.Close()
	if start, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok {
		first, _, _ := strings.Cut(start, "-")
		n, err := strconv.ParseInt(first, 10, 64)
		if err == nil && n >= info.Size() {
			return &fault{http.StatusRequestedRangeNotSatisfiable, "InvalidRange", "The range begins behind the object's end."}
		}
	}
	w.Header().Set("ETag", etagOf(info))
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", info.ModTime(), file)
	return nil
}

// putObject writes an object from the body, or from another object.
func (f *front) putObject(w http.ResponseWriter, r *http.Request, bucket, key string) error {
	file, err := f.dir.object(bucket, key)
	if err != nil {
		return err
	}
	if source := r.Header.Get("X-Amz-Copy-Source"); source != "" {
		return f.copyObject(w, r, source, file)
	}
	body, err := newBody(r)
	if err != nil {
		return err
	}
	staged, err := f.dir.stage(body)
	if err != nil {
		return err
	}
	info, err := f.dir.publishAs(staged, file, conditions{r.Header.Get("If-Match"), r.Header.Get("If-None-Match")})
	if err != nil {
		return err
	}
	w.Header().Set("ETag", etagOf(info))
	return nil
}

func (f *front) copyObject(w http.ResponseWriter, r *http.Request, source, file string) error {
	path, err := url.PathUnescape(strings.TrimPrefix(source, "/"))
	if err != nil {
		return invalid("InvalidArgument", "x-amz-copy-source cannot be read.")
	}
	bucket, key, _ := strings.Cut(path, "/")
	from, _, err := f.dir.open(bucket, key)
	if err != nil {
		return err
	}
	defer from.Close()
	staged, err := f.dir.stage(from)
	if err != nil {
		return err
	}
	info, err := f.dir.publishAs(staged, file, conditions{r.Header.Get("If-Match"), r.Header.Get("If-None-Match")})
	if err != nil {
		return err
	}
	writeXML(w, r, http.StatusOK, struct {
		XMLName      xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CopyObjectResult"`
		ETag         string
		LastModified time.Time
	}{ETag: etagOf(info), LastModified: info.ModTime().UTC()})
	return nil
}

// readXML reads a small body that was signed or checksummed like any other.
func readXML(r *http.Request, into any) error {
	r.Body = http.MaxBytesReader(nil, r.Body, deleteBytesMax)
	body, err := newBody(r)
	if err != nil {
		return err
	}
	if err := xml.NewDecoder(body).Decode(into); err != nil {
		return invalid("MalformedXML", "The body is not the XML expected: "+err.Error())
	}
	return nil
}

func (f *front) deleteMany(w http.ResponseWriter, r *http.Request, bucket string) error {
	type keyXML struct{ Key string }
	var asked struct {
		Quiet  bool
		Object []keyXML
	}
	if err := readXML(r, &asked); err != nil {
		return err
	}
	type errorXML struct{ Key, Code, Message string }
	var out struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ DeleteResult"`
		Deleted []keyXML
		Error   []errorXML
	}
	for _, o := range asked.Object {
		if err := f.dir.remove(bucket, o.Key); err != nil {
			bad := asFault(err)
			out.Error = append(out.Error, errorXML{o.Key, bad.Code, bad.Message})
		} else if !asked.Quiet {
			out.Deleted = append(out.Deleted, o)
		}
	}
	writeXML(w, r, http.StatusOK, out)
	return nil
}
