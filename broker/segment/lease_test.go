package segment

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// What a read gave stays as it is until its lease is released, whatever is read
// beside it; released memory serves the next read.
func TestLeasedBuffersAreUsedAgain(t *testing.T) {
	l := openLog(t, disk.NewMem(0), nil)
	s := newStory(10_000)
	appendAll(t, l, s.add(t, 100))
	appendAll(t, l, s.add(t, 100))
	want := s.batches(0, s.next)
	read := func(lease *Lease, first int) [][]byte {
		got, err := l.ReadLeased(want[first].BaseOffset(), 1<<20, s.next, lease)
		if err != nil || len(got) < 20 {
			t.Fatalf("%d batches: %v", len(got), err)
		}
		if len(lease.bufs) != 1 {
			t.Fatalf("a read of 1 MiB took %d buffers from the disk", len(lease.bufs))
		}
		return got
	}
	check := func(got [][]byte, first int) {
		t.Helper()
		for i, b := range got {
			if !bytes.Equal(b, want[first+i]) {
				t.Fatalf("batch %d from %d is not the one that was appended", i, first)
			}
		}
	}
	var kept, given, again Lease
	a, b := read(&kept, 0), read(&given, 40)
	check(a, 0)
	check(b, 40)
	memory := &given.bufs[0][0]
	given.Release()
	c := read(&again, 80)
	check(c, 80)
	check(a, 0)
	if &again.bufs[0][0] != memory {
		t.Error("a released buffer is not used by the next read")
	}
	given.Release()
	for _, spare := range l.cache.spareReads {
		if n := len(spare); n != 0 {
			t.Errorf("a lease released twice gave %d buffers back", n)
		}
	}
}

// Reads of large batches, of which the last does not fit into the first buffer,
// take no memory for bytes once their leases were released.
func TestReadsOfLargeBatchesUseBuffersAgain(t *testing.T) {
	l := openLog(t, disk.NewMem(0), nil)
	s := newStory(100_000)
	appendAll(t, l, s.add(t, 40))
	want := s.batches(0, s.next)
	seen := map[*byte]bool{}
	taken := 0
	for round := range 3 {
		for at := record.Offset(0); at < s.next; {
			var lease Lease
			got, err := l.ReadLeased(at, 1<<20, s.next, &lease)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range got {
				if !bytes.Equal(b, want[0]) {
					t.Fatalf("round %d: the batch at %d is not the one that was appended", round, want[0].BaseOffset())
				}
				if want = want[1:]; len(want) == 0 {
					want = s.batches(0, s.next)
				}
			}
			for _, b := range lease.bufs {
				seen[&b[0]] = true
				taken++
			}
			at = batchNext(got)
			lease.Release()
		}
	}
	if len(seen) > 2*len(readBuffers) || taken < 2*len(seen) {
		t.Fatalf("%d buffers for %d reads, one after the other", len(seen), taken)
	}
}

// A chunk made where a larger one was before has nothing of it behind its end.
func TestChunksAreCleanBehindTheirEnd(t *testing.T) {
	fs := disk.NewMem(0)
	l := openLog(t, fs, nil)
	s := newStory(10_000)
	appendAll(t, l, s.add(t, 100))
	appendAll(t, l, s.add(t, 80))
	buffers := 0
	for _, of := range l.cache.spare {
		buffers += len(of)
	}
	if buffers != 1 {
		t.Fatalf("%d buffers after two chunks, one after the other", buffers)
	}
	checkAgainst(t, l, s)
	in, _ := l.Active()
	f, err := fs.Open(l.Path(in))
	if err != nil {
		t.Fatal(err)
	}
	file := disk.Alloc(int(in.Bytes))
	if _, err := f.ReadAt(file, 0); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	var last record.Batch
	for _, b := range s.batches(0, s.next) {
		last = b
	}
	end := bytes.LastIndex(file, last) + len(last)
	if rest := bytes.Trim(file[end:], "\x00"); len(rest) != 0 {
		t.Errorf("%d bytes behind the last batch of the file", len(rest))
	}
}
