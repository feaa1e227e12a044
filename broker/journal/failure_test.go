package journal

import (
	"errors"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// A failed write or sync is final: nothing is answered any more, and no sync
// is tried again.
func TestFailedFlushIsFinal(t *testing.T) {
	for _, op := range []disk.Op{disk.OpSync, disk.OpWrite} {
		t.Run(string(op), func(t *testing.T) {
			fault := disk.NewFault(disk.NewMem(0))
			j, _ := flushed(t, small(fault), 2)
			broken := errors.New("medium error")
			fault.Add(disk.Rule{When: func(c disk.Call) bool { return c.Op == op }, Times: 1, Err: broken})
			w := Write{Group: testID(0), Entries: []raftpb.Entry{entry(3, 1, 10)}}
			must(t, j.Append(w))
			err := j.Flush()
			if !errors.Is(err, ErrDead) || !strings.Contains(err.Error(), "medium error") {
				t.Fatalf("Flush: %v, expected ErrDead with its cause", err)
			}
			fault.Before(func(c disk.Call) {
				if c.Changes() {
					t.Errorf("%s %s after the failure", c.Op, c.Name)
				}
			})
			_, prepare := j.Prepare()
			for _, err := range []error{j.Flush(), j.Append(w), prepare, j.Close()} {
				if !errors.Is(err, ErrDead) {
					t.Fatalf("%v, expected ErrDead", err)
				}
			}
		})
	}
}

// A device that has no room for a block it once had (copy-on-write) fails the
// flush; that is not ErrFull, since part of it may have been written.
func TestFullDuringAFlushIsFinal(t *testing.T) {
	fault := disk.NewFault(disk.NewMem(0))
	cfg := small(fault)
	cfg.FirstBytes = cfg.FileBytes
	j, _ := flushed(t, cfg, 1)
	fault.Add(disk.Rule{When: func(c disk.Call) bool { return c.Op == disk.OpWrite }, Err: disk.ErrFull})
	must(t, j.Append(Write{Group: testID(0), Entries: []raftpb.Entry{entry(2, 1, 10)}}))
	if err := j.Flush(); !errors.Is(err, ErrDead) || errors.Is(err, ErrFull) {
		t.Fatalf("Flush: %v, expected ErrDead and not ErrFull", err)
	}
}

// fill appends until the journal refuses.
func fill(t *testing.T, j *Journal, truth model) {
	t.Helper()
	for i := uint64(len(truth[testID(0)].Entries) + 1); ; i++ {
		if i > 10000 {
			t.Fatal("the journal never gets full")
		}
		w := Write{Group: testID(0), Entries: []raftpb.Entry{entry(i, 1, 5000)}}
		err := j.Append(w)
		full, failed := j.Full()
		must(t, failed)
		if over := j.LiveBytes() >= j.cfg.LiveBytesMax; over != full {
			t.Fatalf("full is %t with %d live bytes", full, j.LiveBytes())
		}
		if errors.Is(err, ErrFull) {
			return
		}
		must(t, errors.Join(err, j.Flush()))
		truth.apply(w)
	}
}

// A full disk refuses entries and nothing else: what was flushed stays, hard
// states and marks go through, and marks or new space bring entries back.
func TestFullDiskIsACleanErrorAndRecovers(t *testing.T) {
	for _, relief := range []string{"mark", "space"} {
		t.Run(relief, func(t *testing.T) {
			mem := disk.NewMem(400 << 10)
			cfg := small(mem)
			j, _ := mustOpen(t, cfg)
			truth := model{}
			fill(t, j, truth)
			names, err := mem.List(cfg.Dir)
			must(t, err)
			if len(names) != len(j.live)+len(j.free) {
				t.Fatalf("%d files on disk, %d known: a half-made one was left", len(names), len(j.live)+len(j.free))
			}
			votes := 0
			for ; ; votes++ {
				w := Write{Group: testID(1), HardState: &raftpb.HardState{Term: uint64(votes + 1), Vote: 2}}
				err := j.Append(w)
				if errors.Is(err, ErrFull) {
					break // the reserve is finite
				}
				must(t, errors.Join(err, j.Flush()))
				truth.apply(w)
			}
			if votes < 6 {
				t.Fatalf("only %d votes went through", votes)
			}
			if relief == "space" {
				mem.SetCapacity(4 << 20)
			} else {
				last := truth[testID(0)].Entries[len(truth[testID(0)].Entries)-1]
				w := Write{Group: testID(0), Mark: &Mark{Index: record.Index(last.Index), Term: last.Term}}
				must(t, errors.Join(j.Append(w), j.Flush()))
				truth.apply(w)
			}
			w := Write{Group: testID(2), Entries: []raftpb.Entry{entry(1, 1, 5000), entry(2, 1, 5000)}}
			must(t, errors.Join(j.Append(w), j.Flush()))
			truth.apply(w)
			kill(mem)
			_, groups := mustOpen(t, cfg)
			if diff := truth.equal(groups); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}

// At LiveBytesMax the journal says that it is full, some way above it entries
// are refused; Pinning names who is to be written to segments, and a group with undecided entries leaves the oldest file by
// appending them again.
func TestLiveBytesAreCapped(t *testing.T) {
	cfg := small(disk.NewMem(0))
	cfg.LiveBytesMax = 256 << 10
	j, _ := mustOpen(t, cfg)
	stuck := Write{Group: testID(3), Entries: []raftpb.Entry{entry(1, 1, 100)}}
	must(t, j.Append(stuck))
	truth := model{}
	fill(t, j, truth)
	if n := j.LiveBytes(); n > j.liveBytesEnd()+cfg.FileBytes {
		t.Fatalf("%d live bytes, the cap is %d", n, cfg.LiveBytesMax)
	}
	if ids := j.Pinning(10); len(ids) != 2 || ids[0] != testID(0) || ids[1] != testID(3) {
		t.Fatalf("pinning: %v", ids)
	}
	if ids := j.Pinning(1); len(ids) != 1 {
		t.Fatalf("at most one was asked for: %v", ids)
	}
	last := truth[testID(0)].Entries[len(truth[testID(0)].Entries)-1]
	must(t, j.Append(Write{Group: testID(0), Mark: &Mark{Index: record.Index(last.Index), Term: 1}}))
	if ids := j.Pinning(10); len(ids) != 1 || ids[0] != testID(3) {
		t.Fatalf("pinning: %v", ids)
	}
	must(t, j.Append(stuck))
	must(t, j.Append(Write{Group: testID(0), Entries: []raftpb.Entry{entry(last.Index+1, 1, 5000)}}))
	for more := true; more; {
		var err error
		more, err = j.Prepare()
		must(t, err)
	}
	if ids := j.Pinning(10); ids != nil || len(j.live) != 1 {
		t.Fatalf("pinning %v with %d live files", ids, len(j.live))
	}
}

// Mistakes of the caller are refused before anything of the write counts, and
// do not harm the journal.
func TestMistakesAreRefused(t *testing.T) {
	cfg := small(disk.NewMem(0))
	j, _ := mustOpen(t, cfg)
	id := testID(0)
	truth := model{}
	w := Write{Group: id, Entries: []raftpb.Entry{entry(1, 1, 9), entry(2, 1, 9), entry(3, 2, 9)}, HardState: &raftpb.HardState{Term: 2, Commit: 2}}
	must(t, j.Append(w))
	truth.apply(w)
	w = Write{Group: id, Mark: &Mark{Index: 1, Term: 1}}
	must(t, j.Append(w))
	truth.apply(w)
	for name, w := range map[string]Write{
		"a gap":                        {Group: id, Entries: []raftpb.Entry{entry(5, 2, 1)}},
		"a gap inside":                 {Group: id, Entries: []raftpb.Entry{entry(4, 2, 1), entry(6, 2, 1)}},
		"below the mark":               {Group: id, Entries: []raftpb.Entry{entry(1, 2, 1)}},
		"mark goes back":               {Group: id, Mark: &Mark{Index: 0}},
		"mark of a committed other":    {Group: id, Mark: &Mark{Index: 2, Term: 9}},
		"mark too large":               {Group: id, Mark: &Mark{Index: 2, Term: 1, Data: make([]byte, MarkBytesMax+1)}},
		"entry too large":              {Group: id, Entries: []raftpb.Entry{entry(4, 2, int(cfg.FileBytes))}},
		"removal with parts":           {Group: id, Remove: true, HardState: &raftpb.HardState{}},
		"first entry without a mark":   {Group: testID(1), Entries: []raftpb.Entry{entry(7, 2, 1)}},
		"entry not above its own mark": {Group: id, Mark: &Mark{Index: 9, Term: 3}, Entries: []raftpb.Entry{entry(9, 3, 1)}},
	} {
		if err := j.Append(w); err == nil || errors.Is(err, ErrDead) || errors.Is(err, ErrFull) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(t, j.Flush())
	must(t, j.Close())
	_, groups := mustOpen(t, cfg)
	if diff := truth.equal(groups); diff != "" {
		t.Fatal(diff)
	}
}

// A directory of another cluster, and a format from the future, are refused
// by name.
func TestForeignFilesAreRefused(t *testing.T) {
	mem := disk.NewMem(0)
	cfg := small(mem)
	j, _ := flushed(t, cfg, 1)
	must(t, j.Close())
	other := cfg
	other.ClusterID = [16]byte{9}
	if _, _, err := Open(other); err == nil || !strings.Contains(err.Error(), "belongs to cluster 01020300") {
		t.Fatalf("another cluster: %v", err)
	}
	h := j.active().header
	block := make([]byte, disk.BlockBytes)
	h.put(block)
	block[8], block[10] = 9, 9
	resum(block)
	if _, err := decodeHeader(block); err == nil || errors.Is(err, errHeader) || !strings.Contains(err.Error(), "version 9") {
		t.Fatalf("a future version: %v", err)
	}
}

// A Write far larger than a file goes to several.
func TestLargeWrites(t *testing.T) {
	mem := disk.NewMem(0)
	cfg := small(mem)
	cfg.FileBytes, cfg.LiveBytesMax = 2<<20, 64<<20
	j, _ := mustOpen(t, cfg)
	truth := model{}
	w := Write{Group: testID(0), HardState: &raftpb.HardState{Term: 1, Vote: 1, Commit: 5},
		ConfState: &raftpb.ConfState{Voters: []uint64{1}}, Mark: &Mark{Index: 2, Term: 1, Data: make([]byte, MarkBytesMax)}}
	for i := uint64(3); i < 20; i++ {
		w.Entries = append(w.Entries, entry(i, 1, 700_000))
	}
	w.Entries = append(w.Entries, entry(20, 1, int(j.entryBytesMax())-entryHeadBytes))
	must(t, errors.Join(j.Append(w), j.Flush()))
	truth.apply(w)
	if n := len(j.buf.b); n > bufferBytesMax {
		t.Fatalf("the buffer grew to %d", n)
	}
	kill(mem)
	_, groups := mustOpen(t, cfg)
	if diff := truth.equal(groups); diff != "" {
		t.Fatal(diff)
	}
}

// A configuration names all its faults at once; a closed journal says so.
func TestConfigurationAndClose(t *testing.T) {
	_, _, err := Open(Config{FileBytes: 5000, FirstBytes: 1 << 40, LiveBytesMax: 1})
	if err == nil {
		t.Fatal("opened")
	}
	for _, word := range []string{"no FS", "no Dir", "FileBytes 5000", "FirstBytes 1099511627776", "LiveBytesMax 1"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not name %q", err, word)
		}
	}
	j, _ := flushed(t, small(disk.NewMem(0)), 1)
	must(t, j.Close())
	must(t, j.Close())
	_, prepare := j.Prepare()
	for _, err := range []error{j.Flush(), j.Append(Write{Group: testID(0), Remove: true}), prepare} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
}
