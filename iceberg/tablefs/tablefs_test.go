package tablefs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"testing"
	"time"

	"tidewater/internal/objstore"
)

func bucket() (FS, *objstore.Mem) {
	m := objstore.NewMem(func() time.Time { return time.Unix(0, 0) })
	return FS{Store: m, Root: "s3://lake"}, m
}

// Locations in our bucket become keys; others are refused.
func TestKey(t *testing.T) {
	f, _ := bucket()
	for location, want := range map[string]string{"s3://lake/a/b": "a/b", "s3a://lake/a": "a", "s3://lake": "", "s3://lakes/a": "", "s3://lake/": "", "/a": ""} {
		got, err := f.Key(location)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s is %q, %v", location, got, err)
		}
	}
}

// A write that was done already with the same bytes succeeds; with other bytes
// it does not.
func TestWriteIsIdempotent(t *testing.T) {
	f, _ := bucket()
	ctx := context.Background()
	for _, c := range []struct {
		body string
		ok   bool
	}{{"x", true}, {"x", true}, {"y", false}} {
		if err := f.Write(ctx, "s3://lake/a", []byte(c.body)); (err == nil) != c.ok || !c.ok && !errors.Is(err, objstore.ErrExists) {
			t.Errorf("write %s: %v", c.body, err)
		}
	}
}

// Small files are read whole, large ones by range; a missing one is
// fs.ErrNotExist.
func TestOpen(t *testing.T) {
	f, m := bucket()
	for _, size := range []int{10, wholeBytesMax + 10} {
		body := make([]byte, size)
		body[size-3] = 7
		_ = m.Put(context.Background(), "a", body)
		file, err := f.IO(context.Background()).Open("s3://lake/a")
		if err != nil {
			t.Fatal(err)
		}
		gets := m.Stats().Gets
		p := make([]byte, 5)
		n, err := file.ReadAt(p, int64(size-3))
		if n != 3 || err != io.EOF || p[0] != 7 {
			t.Errorf("size %d: read %d %v %v", size, n, err, p)
		}
		if ranged := m.Stats().Gets > gets; ranged != (size > wholeBytesMax) {
			t.Errorf("size %d: ranged %v", size, ranged)
		}
		if info, err := file.Stat(); err != nil || info.Size() != int64(size) || info.Name() != "a" {
			t.Errorf("stat %v %v", info, err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.IO(context.Background()).Open("s3://lake/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}
