package partition

import (
	"context"
	"errors"
	"testing"

	"tidewater/internal/disk"
	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// rot flips a bit of a file on a disk.
func rot(t testing.TB, fs disk.FS, name string, at int64) {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := disk.Alloc(disk.BlockBytes)
	from := at &^ (disk.BlockBytes - 1)
	if _, err := f.ReadAt(block, from); err != nil {
		t.Fatal(err)
	}
	block[at-from] ^= 1
	if _, err := f.WriteAt(block, from); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

// Any byte of a batch rots on the disk, those outside its CRC too: a reader is
// told that the storage is in trouble, a follower and the archive are given
// nothing, and an offset is never called out of range.
func TestRotIsNotServed(t *testing.T) {
	w := newWorld(t)
	w.budget = NewBudget(1<<30, 1)
	w.open()
	for range 3 {
		w.append(w.batch(2, 100, nil))
	}
	w.write(true)
	in := w.p.segments.Segments()[0]
	all, err := w.p.segments.Read(0, 1<<20, 6)
	if err != nil || len(all) != 3 {
		t.Fatalf("%d batches, %v", len(all), err)
	}
	first := in.Bytes - disk.BlockBytes + 104 + 20 // behind the chunk's header, with one other entry
	for at := first; at < first+int64(len(all[0])); at += 3 {
		rot(t, w.mem, w.p.segments.Path(in), at)
		if _, err := w.p.Read(context.Background(), logio.ReadRequest{BytesMax: 1 << 20, CurrentEpoch: -1}); !errors.Is(err, logio.ErrStorage) {
			t.Fatalf("byte %d rots: read: %v", at-first, err)
		}
		if b, err := w.p.Batches(context.Background(), 0, 6, 1<<20); err == nil || errors.Is(err, logio.ErrOffsetOutOfRange) {
			t.Fatalf("byte %d rots: %d batches, %v", at-first, len(b), err)
		}
		var sent frames
		if err := w.p.ServeSegments(context.Background(), copyRequest{from: 1, to: in.Last}.encode(), &sent); err == nil {
			t.Fatalf("byte %d rots, and was sent to another replica", at-first)
		}
		rot(t, w.mem, w.p.segments.Path(in), at)
	}
	if got := w.readAll(0); len(got) != 3 || record.Batch(got[0]).Check() != nil {
		t.Errorf("%d batches", len(got))
	}
}

// frames takes what is sent.
type frames struct{ bytes int }

func (f *frames) Write(b []byte) (int, error) {
	f.bytes += len(b)
	return len(b), nil
}
