package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"tidewater/internal/disk"
	"tidewater/internal/objstore"
	"tidewater/internal/objstore/objstoretest"
)

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(Config{Dir: dir, Addr: "127.0.0.1:0", NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func client(t *testing.T, addr, access, secret string) *minio.Client {
	t.Helper()
	c, err := minio.New(addr, &minio.Options{Creds: credentials.NewStaticV4(access, secret, ""), Region: Region, BucketLookup: minio.BucketLookupPath, MaxRetries: 1, TrailingHeaders: true})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func owner(t *testing.T, s *Store) *minio.Client {
	return client(t, s.Addr(), s.AccessKey(), s.SecretKey())
}

func put(t *testing.T, c *minio.Client, key string, data []byte) {
	t.Helper()
	if _, err := c.PutObject(t.Context(), Bucket, key, bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{DisableMultipart: true}); err != nil {
		t.Fatalf("put %q: %v", key, err)
	}
}

func get(c *minio.Client, key string, from, to int64) ([]byte, error) {
	var options minio.GetObjectOptions
	if to >= from {
		if err := options.SetRange(from, to); err != nil {
			return nil, err
		}
	}
	o, err := c.GetObject(context.Background(), Bucket, key, options)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	return io.ReadAll(o)
}

func code(err error) string { return minio.ToErrorResponse(err).Code }

// Whole objects and ranges come back as they were put, over all ways a client
// signs a body, and what is missing has S3's error.
func TestPutAndRangedGet(t *testing.T) {
	s := open(t, t.TempDir())
	c := owner(t, s)
	data := make([]byte, 300_000)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	for name, options := range map[string]minio.PutObjectOptions{
		"signed":   {DisableMultipart: true},
		"unsigned": {DisableMultipart: true, DisableContentSha256: true},
		"md5":      {DisableMultipart: true, SendContentMd5: true},
		"crc32c":   {DisableMultipart: true, Checksum: minio.ChecksumCRC32C},
		"crc64":    {DisableMultipart: true, Checksum: minio.ChecksumCRC64NVME},
	} {
		key := "a/b/" + name
		if _, err := c.PutObject(t.Context(), Bucket, key, bytes.NewReader(data), int64(len(data)), options); err != nil {
			t.Fatalf("put %s: %v", name, err)
		}
		if got, err := get(c, key, 0, -1); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("get %s: %d bytes, %v", name, len(got), err)
		}
		if got, err := get(c, key, 1000, 1999); err != nil || !bytes.Equal(got, data[1000:2000]) {
			t.Fatalf("ranged get %s: %d bytes, %v", name, len(got), err)
		}
	}
	put(t, c, "empty", nil)
	if got, err := get(c, "empty", 0, -1); err != nil || len(got) != 0 {
		t.Fatalf("empty object: %q %v", got, err)
	}
	if _, err := get(c, "missing", 0, -1); code(err) != "NoSuchKey" {
		t.Fatalf("missing object: %v", err)
	}
	if _, err := get(c, "empty/below", 0, -1); code(err) != "NoSuchKey" {
		t.Fatalf("key below an object: %v", err)
	}
	if _, err := get(c, "a/b/signed", 300_000, 300_010); code(err) != "InvalidRange" {
		t.Fatalf("range past the end: %v", err)
	}
	info, err := c.StatObject(t.Context(), Bucket, "a/b/signed", minio.StatObjectOptions{})
	if err != nil || info.Size != 300_000 {
		t.Fatalf("head: %+v %v", info, err)
	}
}

// Names that a file system cannot hold, or that would lead out of the bucket,
// are keys like others.
func TestKeysStayInTheBucket(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	c := owner(t, s)
	keys := []string{"plain", "a b+c", "topics~1/%2E", "dir/", "double//slash", "ü/日本", "p%25", "a=1/b=2"}
	for _, key := range keys {
		put(t, c, key, []byte(key))
	}
	sort.Strings(keys)
	var listed []string
	for o := range c.ListObjects(t.Context(), Bucket, minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		listed = append(listed, o.Key)
		if got, err := get(c, o.Key, 0, -1); err != nil || string(got) != o.Key {
			t.Errorf("get %q: %q %v", o.Key, got, err)
		}
	}
	if strings.Join(listed, "|") != strings.Join(keys, "|") {
		t.Errorf("listed %q, put %q", listed, keys)
	}
	for _, key := range []string{"../escape", "a/../../../escape", "/abs", "."} {
		name, err := fileName(key)
		if err != nil || !filepath.IsLocal(name) {
			t.Errorf("file name of %q: %q %v", key, name, err)
		}
	}
}

// Of many conditional writers of one key exactly one wins, and the bytes are its.
func TestConditionalPutHasOneWinner(t *testing.T) {
	s := open(t, t.TempDir())
	c := owner(t, s)
	for round := range 20 {
		key := fmt.Sprintf("race/%d", round)
		var won atomic.Int32
		var winner atomic.Value
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				data := fmt.Sprintf("writer %d of round %d", w, round)
				options := minio.PutObjectOptions{DisableMultipart: true}
				options.SetMatchETagExcept("*")
				_, err := c.PutObject(context.Background(), Bucket, key, strings.NewReader(data), int64(len(data)), options)
				if err == nil {
					won.Add(1)
					winner.Store(data)
				} else if code(err) != "PreconditionFailed" {
					t.Errorf("loser got %v", err)
				}
			})
		}
		wg.Wait()
		got, err := get(c, key, 0, -1)
		if won.Load() != 1 || err != nil || string(got) != winner.Load() {
			t.Fatalf("%d winners; object %q, %v", won.Load(), got, err)
		}
	}
}

// A write with If-Match succeeds for the newest ETag only.
func TestIfMatch(t *testing.T) {
	c := owner(t, open(t, t.TempDir()))
	put(t, c, "k", []byte("1"))
	info, err := c.StatObject(t.Context(), Bucket, "k", minio.StatObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	replace := func() error {
		options := minio.PutObjectOptions{DisableMultipart: true}
		options.SetMatchETag(info.ETag)
		_, err := c.PutObject(t.Context(), Bucket, "k", strings.NewReader("2"), 1, options)
		return err
	}
	if err := replace(); err != nil {
		t.Fatal(err)
	}
	if err := replace(); code(err) != "PreconditionFailed" {
		t.Fatalf("stale ETag: %v", err)
	}
}

// Pages are sorted, complete and free of repeats, with and without a
// delimiter, from any starting key.
func TestListPages(t *testing.T) {
	c := owner(t, open(t, t.TempDir()))
	var keys []string
	for i := range 60 {
		keys = append(keys, fmt.Sprintf("d%d/s%02d/x.y", i%4, i), fmt.Sprintf("d%d/s%02d.z", i%4, i))
	}
	for _, key := range keys {
		put(t, c, key, []byte("x"))
	}
	sort.Strings(keys)
	core := minio.Core{Client: c}
	var got []string
	token := ""
	for {
		page, err := core.ListObjectsV2(Bucket, "", "", token, "", 7)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Contents {
			got = append(got, o.Key)
		}
		if !page.IsTruncated {
			break
		}
		token = page.NextContinuationToken
	}
	if strings.Join(got, " ") != strings.Join(keys, " ") {
		t.Fatalf("pages gave %q", got)
	}
	page, err := core.ListObjectsV2(Bucket, "d1/", "d1/s21.z", "", "", 1000)
	if err != nil || len(page.Contents) == 0 || page.Contents[0].Key != "d1/s21/x.y" {
		t.Fatalf("after d1/s21.z: %+v %v", page.Contents, err)
	}
	var prefixes []string
	token = ""
	for {
		page, err := core.ListObjectsV2(Bucket, "d", "", token, "/", 3)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range page.CommonPrefixes {
			prefixes = append(prefixes, p.Prefix)
		}
		if !page.IsTruncated {
			break
		}
		token = page.NextContinuationToken
	}
	if strings.Join(prefixes, " ") != "d0/ d1/ d2/ d3/" {
		t.Fatalf("common prefixes %q", prefixes)
	}
}

// Deletes take the keys, tolerate missing ones, and leave no empty directory.
func TestDelete(t *testing.T) {
	dir := t.TempDir()
	c := owner(t, open(t, dir))
	objects := make(chan minio.ObjectInfo, 10)
	for i := range 5 {
		key := fmt.Sprintf("x/y/%d", i)
		put(t, c, key, []byte("x"))
		objects <- minio.ObjectInfo{Key: key}
	}
	objects <- minio.ObjectInfo{Key: "never/was"}
	close(objects)
	for e := range c.RemoveObjects(t.Context(), Bucket, objects, minio.RemoveObjectsOptions{}) {
		t.Fatal(e)
	}
	if err := c.RemoveObject(t.Context(), Bucket, "x/y/0", minio.RemoveObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(filepath.Join(dir, Bucket)); len(entries) != 0 {
		t.Fatalf("left behind: %v", entries)
	}
}

// An upload in parts becomes one object when it is completed, and nothing before.
func TestMultipart(t *testing.T) {
	c := owner(t, open(t, t.TempDir()))
	data := bytes.Repeat([]byte("0123456789abcdef"), 12<<20/16)
	if _, err := c.PutObject(t.Context(), Bucket, "big", bytes.NewReader(data), int64(len(data)), minio.PutObjectOptions{PartSize: 5 << 20}); err != nil {
		t.Fatal(err)
	}
	if got, err := get(c, "big", 0, -1); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	core := minio.Core{Client: c}
	id, err := core.NewMultipartUpload(t.Context(), Bucket, "half", minio.PutObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := core.PutObjectPart(t.Context(), Bucket, "half", id, 1, bytes.NewReader(data[:5<<20]), 5<<20, minio.PutObjectPartOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := get(c, "half", 0, -1); code(err) != "NoSuchKey" {
		t.Fatalf("an upload that is not complete is visible: %v", err)
	}
	if err := core.AbortMultipartUpload(t.Context(), Bucket, "half", id); err != nil {
		t.Fatal(err)
	}
}

// The suite every bucket passes, through the client the brokers use.
func TestConformance(t *testing.T) {
	s := open(t, t.TempDir())
	objstoretest.Run(t, func(t *testing.T) objstore.Store {
		store, err := objstore.OpenS3(objstore.Config{Endpoint: s.Endpoint(), Bucket: Bucket, AccessKey: s.AccessKey(), SecretKey: s.SecretKey()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = store.Close() })
		return store
	})
}

// The read-only credential gets, heads and lists, and is denied every call
// that would change anything; so is a wrong secret, and no credential at all.
func TestReadOnlyCredential(t *testing.T) {
	s := open(t, t.TempDir())
	put(t, owner(t, s), "k", []byte("value"))
	c := client(t, s.Addr(), s.ReadOnlyKey(), s.ReadOnlySecret())
	core := minio.Core{Client: c}
	if got, err := get(c, "k", 1, 2); err != nil || string(got) != "al" {
		t.Fatalf("get: %q %v", got, err)
	}
	if page, err := core.ListObjectsV2(Bucket, "", "", "", "", 10); err != nil || len(page.Contents) != 1 {
		t.Fatalf("list: %v %v", page, err)
	}
	if ok, err := c.BucketExists(t.Context(), Bucket); !ok || err != nil {
		t.Fatalf("head bucket: %v %v", ok, err)
	}
	conditional := minio.PutObjectOptions{DisableMultipart: true}
	conditional.SetMatchETagExcept("*")
	remove := make(chan minio.ObjectInfo, 1)
	remove <- minio.ObjectInfo{Key: "k"}
	close(remove)
	writes := map[string]func() error{
		"put": func() error {
			_, err := c.PutObject(t.Context(), Bucket, "k", strings.NewReader("x"), 1, minio.PutObjectOptions{DisableMultipart: true})
			return err
		},
		"conditional put": func() error {
			_, err := c.PutObject(t.Context(), Bucket, "new", strings.NewReader("x"), 1, conditional)
			return err
		},
		"delete": func() error { return c.RemoveObject(t.Context(), Bucket, "k", minio.RemoveObjectOptions{}) },
		"delete many": func() error {
			for e := range c.RemoveObjects(t.Context(), Bucket, remove, minio.RemoveObjectsOptions{}) {
				return e.Err
			}
			return nil
		},
		"begin upload": func() error {
			_, err := core.NewMultipartUpload(t.Context(), Bucket, "k", minio.PutObjectOptions{})
			return err
		},
		"copy": func() error {
			_, err := c.CopyObject(t.Context(), minio.CopyDestOptions{Bucket: Bucket, Object: "copy"}, minio.CopySrcOptions{Bucket: Bucket, Object: "k"})
			return err
		},
		"make bucket":   func() error { return c.MakeBucket(t.Context(), "other", minio.MakeBucketOptions{}) },
		"remove bucket": func() error { return c.RemoveBucket(t.Context(), Bucket) },
		"set policy":    func() error { return c.SetBucketPolicy(t.Context(), Bucket, `{"Statement":[]}`) },
	}
	for name, write := range writes {
		if err := write(); code(err) != "AccessDenied" {
			t.Errorf("%s: want AccessDenied, got %v", name, err)
		}
	}
	if got, err := get(c, "k", 0, -1); err != nil || string(got) != "value" {
		t.Fatalf("after the attempts: %q %v", got, err)
	}
	if _, err := get(client(t, s.Addr(), s.ReadOnlyKey(), "wrong"), "k", 0, -1); code(err) != "SignatureDoesNotMatch" {
		t.Errorf("wrong secret: %v", err)
	}
	if _, err := get(client(t, s.Addr(), "", ""), "k", 0, -1); code(err) != "AccessDenied" {
		t.Errorf("no credential: %v", err)
	}
}

// A taken port and a directory in use are answered with their names; two
// stores of different directories live in one process.
func TestTakenPortAndDirectory(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	open(t, t.TempDir())
	if _, err := Open(Config{Dir: dir, Addr: "127.0.0.1:0"}); !errors.Is(err, disk.ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("directory in use: %v", err)
	}
	_, port, _ := net.SplitHostPort(s.Addr())
	if _, err := Open(Config{Dir: t.TempDir(), Addr: s.Addr()}); err == nil || !strings.Contains(err.Error(), port) {
		t.Errorf("taken port: %v", err)
	}
}

// Killed in the middle of a PUT, the store shows no part of the object when it
// is started again, and keeps all that was acknowledged. The child process is
// this test binary; it is killed when the body is half sent.
func TestKillInTheMiddleOfAPut(t *testing.T) {
	if dir := os.Getenv("S3_CHILD_DIR"); dir != "" {
		s, err := Open(Config{Dir: dir, Addr: "127.0.0.1:0"})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("listening", s.Addr())
		select {}
	}
	dir := t.TempDir()
	child := exec.Command(os.Args[0], "-test.run=^TestKillInTheMiddleOfAPut$")
	defer func() { _ = child.Process.Kill() }()
	child.Env = append(os.Environ(), "S3_CHILD_DIR="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var addr string
	if _, err := fmt.Fscanf(out, "listening %s\n", &addr); err != nil {
		t.Fatal(err)
	}
	c := client(t, addr, "tidewater", "tidewater")
	put(t, c, "acked", []byte("kept"))
	body := &killing{kill: func() { _ = child.Process.Kill(); _ = child.Wait() }, after: 4 << 20}
	_, err = c.PutObject(t.Context(), Bucket, "half", body, 8<<20, minio.PutObjectOptions{DisableMultipart: true, DisableContentSha256: true})
	if err == nil || !body.killed {
		t.Fatalf("the put went through (%v) or nothing was killed", err)
	}
	c = owner(t, open(t, dir))
	if got, err := get(c, "acked", 0, -1); err != nil || string(got) != "kept" {
		t.Errorf("acknowledged object: %q %v", got, err)
	}
	if _, err := get(c, "half", 0, -1); code(err) != "NoSuchKey" {
		t.Errorf("half an object is visible: %v", err)
	}
	if entries, _ := os.ReadDir(filepath.Join(dir, stagingDir)); len(entries) != 0 {
		t.Errorf("staged files left: %v", entries)
	}
}

// killing gives zeros and calls kill when so many bytes were read.
type killing struct {
	kill   func()
	after  int
	read   int
	killed bool
}

func (k *killing) Read(p []byte) (int, error) {
	if k.read >= k.after && !k.killed {
		k.killed = true
		k.kill()
	}
	clear(p)
	k.read += len(p)
	return len(p), nil
}
