package partition

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/cryptotest"

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

// mended lets a partition look through its segments and mend what it can.
func mended(t testing.TB, p *Partition) error {
	t.Helper()
	for end := false; !end; {
		var err error
		if _, end, err = p.Scrub(context.Background(), 4<<10); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	for range 3 {
		err = p.Repair(context.Background())
	}
	return err
}

// Bits of a replica's segments flip, on the leader or another, in headers and
// batches, sealed or not: they are found, the segments made anew from another
// replica, and the log is the same, also after a restart.
func TestDamageIsMendedFromReplica(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 1)
	f := newFleet(t, 9, 2)
	seq := behind(f, "new")
	f.brokers[1].boot()
	f.change("[1] [2] []", learners(2))
	f.change("[1 2] [] []", voters(2))
	seq = f.fill(8, seq)
	f.same(2)
	f.run(5)
	for round := range 12 {
		b := f.brokers[round%2]
		infos := b.p.segments.Segments()
		in := infos[f.rng.IntN(len(infos))]
		rot(t, b.mem, b.p.segments.Path(in), f.rng.Int64N(in.Bytes))
		rot(t, b.mem, b.p.segments.Path(in), f.rng.Int64N(in.Bytes))
		if err := mended(t, b.p); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if left := b.p.Damaged(); len(left) > 0 {
			t.Fatalf("round %d: %v", round, left)
		}
		f.same(2)
		seq = f.fill(1, seq)
	}
	if n := f.brokers[0].p.cfg.Rot.Mended.Load() + f.brokers[1].p.cfg.Rot.Mended.Load(); n < 8 {
		t.Errorf("%d segments were mended: the test tests nothing", n)
	}
	f.brokers[1].stop()
	f.brokers[1].boot()
	f.same(2)
}

// A log with one replica is mended from the bucket: the very bytes where only
// batches rot; where a chunk's header does, the segment is left to the bucket.
// What the bucket lacks stays as it is, the sound rest is readable, and the
// error says which segment it is and what can be done.
func TestDamageIsMendedFromBucket(t *testing.T) {
	for _, kind := range []string{"batch", "header", "no copy"} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t)
			b := &bucket{}
			w.remote, w.budget = b, NewBudget(1<<30, 1)
			w.settings.Tiered = true
			w.open()
			for range 3 {
				for range 6 {
					w.append(w.batch(2, 900, nil))
				}
				w.write(true)
			}
			want := w.readAll(0)
			if kind != "no copy" {
				b.archive(t, w.p)
				w.step()
			}
			in := w.p.segments.Segments()[0]
			at := in.Bytes - 3000
			if kind == "header" {
				at = disk.BlockBytes + 60
			}
			rot(t, w.mem, w.p.segments.Path(in), at)
			err := mended(t, w.p)
			if kind == "no copy" {
				if err == nil || !strings.Contains(err.Error(), in.Name) || !strings.Contains(err.Error(), "DeleteRecords before offset 12") {
					t.Errorf("repair: %v", err)
				}
				res := w.read(logio.ReadRequest{BytesMax: 1 << 20})
				if n := len(res.Batches); n == 0 || n >= 6 {
					t.Errorf("%d sound batches are read in front of the damage", n)
				}
				if got := w.readAll(in.Next); !slices.EqualFunc(got, want[6:], bytes.Equal) {
					t.Errorf("%d batches behind the damage", len(got))
				}
				if _, err := w.p.Trim(context.Background(), in.Next); err != nil {
					t.Fatal(err)
				}
				w.retain()
				if left := w.p.Damaged(); len(left) > 0 {
					t.Errorf("after its records were given up: %v", left)
				}
				return
			}
			if err != nil || len(w.p.Damaged()) > 0 {
				t.Fatalf("repair: %v, %v", err, w.p.Damaged())
			}
			if kind == "header" != (w.offsets().LocalLogStart == in.Next) {
				t.Errorf("local log start is %d", w.offsets().LocalLogStart)
			}
			if got := w.readAll(0); !slices.EqualFunc(got, want, bytes.Equal) {
				t.Errorf("%d batches differ from the %d that were there", len(got), len(want))
			}
			w.close()
			w.open()
			if got := w.readAll(0); !slices.EqualFunc(got, want, bytes.Equal) {
				t.Errorf("after a restart %d batches differ from the %d that were there", len(got), len(want))
			}
		})
	}
}

// While a segment is damaged, readers get the bucket's copy.
func TestDamagedRangeIsReadFromBucket(t *testing.T) {
	w := newWorld(t)
	b := &bucket{}
	w.remote, w.budget = b, NewBudget(1<<30, 1)
	w.settings.Tiered = true
	w.open()
	for range 6 {
		w.append(w.batch(2, 900, nil))
	}
	w.write(true)
	b.archive(t, w.p)
	w.step()
	in := w.p.segments.Segments()[0]
	rot(t, w.mem, w.p.segments.Path(in), in.Bytes-3000)
	if got := w.readAll(0); len(got) != 6 {
		t.Errorf("%d batches", len(got))
	}
	if len(w.p.Damaged()) != 1 {
		t.Error("the damage was not noted: the test tests nothing")
	}
}

// manyProducers is a log of more producers than a mark has room for, in segments
// that end at offsets 40, 80 and 120, the first removed; the last batch is not
// sealed.
func manyProducers(t *testing.T) (w *world, sent []record.Batch) {
	t.Helper()
	w = newWorld(t).open()
	for id := range int64(125) {
		sent = append(sent, w.batch(1, 10, &record.Producer{ID: 100 + id, Sequence: 0}))
		w.append(sent[id])
		if id%40 == 39 {
			w.write(true)
		}
	}
	w.write(false)
	if _, err := w.p.Trim(context.Background(), 40); err != nil {
		t.Fatal(err)
	}
	w.retain()
	w.write(false)
	return w, sent
}

// Producer snapshots rot. As long as one and the batches behind it are there,
// or all batches, a start knows every producer. Where what an older batch said
// is lost with them, it does not go on as if there had been none, nor with a
// snapshot of before a gap: it says which file it is and what can be done.
func TestRottenSnapshotsForgetNobody(t *testing.T) {
	w, sent := manyProducers(t)
	duplicates := func() {
		t.Helper()
		for _, id := range []int{0, 39, 41, 81, 124} {
			if base := w.append(sent[id]); base != record.Offset(id) {
				t.Fatalf("the batch at %d was appended again at %d", id, base)
			}
		}
	}
	w.close()
	rot(t, w.mem, snapshotName("log/t-4", 120), 200)
	rot(t, w.mem, snapshotName("log/t-4", 80), 200)
	w.open()
	duplicates()
	w.close()
	// A crash may have left an older one, of before what was removed.
	old := producers{}
	if err := old.append(sent[7], 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := writeSnapshot(w.fs, "log/t-4", 8, encodeSnapshot(testIdentity(), 8, &old)); err != nil {
		t.Fatal(err)
	}
	rot(t, w.mem, snapshotName("log/t-4", 40), 200)
	err := w.start()
	if name := snapshotName("log/t-4", 40); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "before offset 40") {
		t.Fatalf("open without any snapshot: %v", err)
	}
	_ = w.journal.Close()
	rot(t, w.mem, snapshotName("log/t-4", 40), 200) // the file is brought back
	w.open()
	duplicates()
}

// A snapshot that rots while the partition runs is made anew for whoever asks:
// the archive, and replicas that copy.
func TestRottenSnapshotIsMadeAnew(t *testing.T) {
	w, _ := manyProducers(t)
	want, err := w.p.snapshotAt(80)
	if err != nil {
		t.Fatal(err)
	}
	rot(t, w.mem, snapshotName("log/t-4", 80), 200)
	for range 2 {
		got, err := w.p.snapshotAt(80)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes in the place of %d: %v", len(got), len(want), err)
		}
	}
	if got, err := readSnapshot(w.fs, "log/t-4", 80); err != nil || !bytes.Equal(got, want) {
		t.Errorf("on the disk: %d bytes, %v", len(got), err)
	}
}
