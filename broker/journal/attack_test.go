package journal

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// States too large to fit in half of the closed files are not moved from file
// to file for ever: Prepare comes to an end, and so does the growth.
func TestPrepareEndsWithLargeStates(t *testing.T) {
	mem := disk.NewMem(0)
	cfg := small(mem)
	j, _ := mustOpen(t, cfg)
	truth := model{}
	put := func(w Write) {
		t.Helper()
		must(t, errors.Join(j.Append(w), j.Flush()))
		truth.apply(w)
	}
	for round := range 40 {
		for g := range 60 {
			put(Write{Group: testID(g), HardState: &raftpb.HardState{Term: 1, Vote: 1, Commit: uint64(round + 1)},
				Mark: &Mark{Index: record.Index(round + 1), Term: 1, Data: make([]byte, 6000)}})
		}
		for steps, more := 0, true; more; steps++ {
			if steps > 1000 {
				t.Fatalf("round %d: Prepare has always more to do; %d live files", round, len(j.live))
			}
			var err error
			more, err = j.Prepare()
			must(t, err)
		}
		// 60 states of 6 KB are 360 KB: at most twice that is live, and one
		// round more until it is found worth moving.
		if n := j.LiveBytes(); n > 1536<<10 {
			t.Fatalf("round %d: %d live bytes for %d of state", round, n, 60*6100)
		}
	}
	kill(mem)
	_, groups := mustOpen(t, cfg)
	if diff := truth.equal(groups); diff != "" {
		t.Fatal(diff)
	}
}

// A refused Open removes nothing: an operator may mend the file.
func TestRefusedOpenRemovesNothing(t *testing.T) {
	mem := disk.NewMem(0)
	cfg := small(mem)
	j, truth := flushed(t, cfg, 30)
	name := j.live[1].name
	kill(mem)
	flip(t, mem, name, 40)
	if _, _, err := Open(cfg); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("Open: %v", err)
	}
	flip(t, mem, name, 40)
	_, groups := mustOpen(t, cfg)
	if diff := truth.equal(groups); diff != "" {
		t.Fatal(diff)
	}
}

// A client that knows the journal's format and guesses its positions writes
// record batches made of journal records. A torn flush must not let replay
// step into them: the salt is not known to the client.
func TestForgedRecordsInDataAreNotReplayed(t *testing.T) {
	mem := disk.NewMem(0)
	cfg := small(mem)
	cfg.FirstBytes = cfg.FileBytes
	j, truth := flushed(t, cfg, 1)
	// Block 1 of the entry's data will hold a record for block 2 of the flush.
	known := j.active().header
	known.salt = 0
	data := make([]byte, 2*disk.BlockBytes)
	at := j.position() + disk.BlockBytes
	forged := frame{kind: kindWrite, position: at, durable: at, group: testID(66), hard: &raftpb.HardState{Term: 99, Vote: 3}}
	copy(data[disk.BlockBytes-frameBytes-entriesHeadSize-entryHeadBytes:], encode(&forged, known.seed()))
	off := j.buf.off
	must(t, errors.Join(j.Append(Write{Group: testID(0), Entries: []raftpb.Entry{{Index: 2, Term: 1, Data: data}}}), j.Flush()))
	kill(mem)
	flip(t, mem, j.active().name, off+200) // the real record is torn
	for range 3 {
		var groups []Group
		j, groups = mustOpen(t, cfg)
		if diff := truth.equal(groups); diff != "" {
			t.Fatal(diff)
		}
		w := Write{Group: testID(0), Entries: []raftpb.Entry{entry(uint64(len(truth[testID(0)].Entries)+1), 2, 100)}}
		must(t, errors.Join(j.Append(w), j.Flush()))
		truth.apply(w)
		kill(mem)
	}
}

// A crash loop without writes does not eat the disk: each start goes on in
// the file of the one before.
func TestRestartsDoNotAddFiles(t *testing.T) {
	mem := disk.NewMem(0)
	cfg := small(mem)
	_, truth := flushed(t, cfg, 3)
	files := 0
	for i := range 60 {
		kill(mem)
		j, groups := mustOpen(t, cfg)
		if diff := truth.equal(groups); diff != "" {
			t.Fatal(diff)
		}
		if i == 0 {
			files = len(j.live) + len(j.free)
		}
		if n := len(j.live) + len(j.free); n > files+1 {
			t.Fatalf("%d files after %d restarts, %d at first", n, i, files)
		}
		if i%2 == 0 {
			must(t, j.Close())
		}
	}
}

// A read that fails or lies is never taken for the end of the log.
func TestFailingReadsStopTheStart(t *testing.T) {
	mem := disk.NewMem(0)
	fault := disk.NewFault(mem)
	cfg := small(fault)
	flushed(t, cfg, 20)
	kill(mem)
	for n := 1; ; n++ {
		calls := 0
		fault.Add(disk.Rule{When: func(c disk.Call) bool {
			if c.Op == disk.OpRead {
				calls++
			}
			return c.Op == disk.OpRead && calls == n
		}, Err: errors.New("medium error")})
		after := mem.CrashClone(newHistory(t, 1).rng)
		cfg.FS = fault
		fault.FS = after
		_, _, err := Open(cfg)
		fault.Clear()
		if err == nil {
			if calls >= n {
				t.Fatalf("read %d failed unnoticed", n)
			}
			return
		}
	}
}

// Start-up of a fresh directory waits for few zeros; the rest is made later,
// in bounded steps.
func TestStartWritesFewZeros(t *testing.T) {
	written := 0
	fault := disk.NewFault(disk.NewMem(0))
	fault.Before(func(c disk.Call) {
		if c.Op == disk.OpWrite {
			written += c.Bytes
		}
	})
	cfg := small(fault)
	cfg.FileBytes, cfg.FirstBytes, cfg.LiveBytesMax = 0, 0, 0
	j, _ := mustOpen(t, cfg)
	if written > 5<<20 {
		t.Fatalf("Open wrote %d bytes", written)
	}
	for more := true; more; {
		before := written
		var err error
		more, err = j.Prepare()
		must(t, err)
		if written-before > fillStepBytes+2*disk.BlockBytes {
			t.Fatalf("one step wrote %d bytes", written-before)
		}
	}
	if j.spares(0) != spareGoal {
		t.Fatalf("%d spares", j.spares(0))
	}
}

// Question: how fast is replay, per GB of live journal?
func BenchmarkReplay(b *testing.B) {
	fs, err := disk.NewOS(b.TempDir(), quiet())
	must(b, err)
	cfg := small(fs)
	cfg.FileBytes, cfg.FirstBytes, cfg.LiveBytesMax = 0, 0, 0
	j, _ := mustOpen(b, cfg)
	data := make([]byte, 16<<10)
	for i := range uint64(16 << 10) {
		id := testID(int(i % 1000))
		must(b, j.Append(Write{Group: id, Entries: []raftpb.Entry{{Index: i/1000 + 1, Term: 1, Data: data}}}))
		if i%256 == 0 {
			must(b, j.Flush())
		}
	}
	must(b, j.Flush())
	b.SetBytes(j.LiveBytes())
	must(b, j.Close())
	b.ResetTimer()
	for range b.N {
		j, groups := mustOpen(b, cfg)
		if len(groups) != 1000 {
			b.Fatal(fmt.Sprint(len(groups), " groups"))
		}
		must(b, j.Close())
	}
}

// Question: how long does a start on an empty directory of the real disk wait?
func BenchmarkFirstStart(b *testing.B) {
	fs, err := disk.NewOS(b.TempDir(), quiet())
	must(b, err)
	slowest := time.Duration(0)
	for i := range b.N {
		cfg := small(fs)
		cfg.Dir = fmt.Sprint("j", i)
		cfg.FileBytes, cfg.FirstBytes, cfg.LiveBytesMax = 0, 0, 0
		began := time.Now()
		j, _ := mustOpen(b, cfg)
		slowest = max(slowest, time.Since(began))
		must(b, j.Close())
	}
	b.ReportMetric(float64(slowest.Microseconds()), "max-us")
}
