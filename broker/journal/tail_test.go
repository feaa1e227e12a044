package journal

import (
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/internal/disk"
	"tidewater/internal/record"
)

func entry(index, term uint64, size int) raftpb.Entry {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(index)
	}
	return raftpb.Entry{Index: index, Term: term, Data: data}
}

// flushed opens a journal and flushes n entries of group 0, one at a time.
func flushed(t *testing.T, cfg Config, n int) (*Journal, model) {
	t.Helper()
	j, _ := mustOpen(t, cfg)
	truth := model{}
	for i := 1; i <= n; i++ {
		w := Write{Group: testID(0), Entries: []raftpb.Entry{entry(uint64(i), 1, 5000)}}
		must(t, j.Append(w))
		must(t, j.Flush())
		truth.apply(w)
	}
	return j, truth
}

// flip changes one bit of a file of the disk, durably.
func flip(t *testing.T, fs disk.FS, name string, at int64) {
	t.Helper()
	f, err := fs.Open(path.Join("journal", name))
	must(t, err)
	block := disk.Alloc(disk.BlockBytes)
	_, err = f.ReadAt(block, at&^(disk.BlockBytes-1))
	must(t, err)
	block[at%disk.BlockBytes] ^= 4
	_, err = f.WriteAt(block, at&^(disk.BlockBytes-1))
	must(t, err)
	must(t, errors.Join(f.Sync(), f.Close()))
}

func kill(mem *disk.Mem) { mem.Crash(rand.New(rand.NewPCG(3, 3))) }

// A caller's own sums make the same journal as reading the data does; raft's own
// entries are read all the same.
func TestSumOfTheCallerMakesTheSameRecord(t *testing.T) {
	asked := 0
	sum := func(sum uint32, data []byte) uint32 {
		asked++
		return crc32.Update(sum, castagnoli, data)
	}
	f := frame{kind: kindWrite, group: testID(0), entries: []raftpb.Entry{entry(1, 1, 5000), entry(2, 1, 7), entry(3, 1, 300)}}
	f.entries[1].Type = raftpb.EntryConfChangeV2
	read := encode(&f, 9)
	f.sum = sum
	if told := encode(&f, 9); string(told) != string(read) {
		t.Fatalf("records differ: %x and %x", told[:frameBytes], read[:frameBytes])
	}
	if asked != 2 {
		t.Fatalf("asked for the sum of %d entries, want the 2 normal ones", asked)
	}
}

// Data that is not what its caller's sum says is found at the next start, and
// is not taken for a torn tail once something durable stands behind it.
func TestSumThatIsNotTheDatasIsCorruption(t *testing.T) {
	mem := disk.NewMem(0)
	j, _ := flushed(t, small(mem), 1)
	must(t, j.Append(Write{Group: testID(0), Entries: []raftpb.Entry{entry(2, 1, 5000)},
		Sum: func(sum uint32, data []byte) uint32 { return crc32.Update(sum, castagnoli, data) ^ 1 }}))
	must(t, j.Flush())
	must(t, j.Append(Write{Group: testID(0), Entries: []raftpb.Entry{entry(3, 1, 5000)}}))
	must(t, j.Flush())
	kill(mem)
	if _, _, err := Open(small(mem)); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("open gave %v, want ErrCorrupt", err)
	}
}

// Damage before bytes that a later record proves durable keeps the replicas
// of the disk down, and the message names file, position, read, expected.
func TestDamageBeforeDurableBytesIsCorruption(t *testing.T) {
	for _, tc := range []struct {
		name string
		at   func(j *Journal) (file string, byte int64)
	}{
		{"record head in the newest file", func(j *Journal) (string, int64) { return j.active().name, disk.BlockBytes + 3 }},
		{"record data in the newest file", func(j *Journal) (string, int64) { return j.active().name, disk.BlockBytes + 3000 }},
		{"padding in the newest file", func(j *Journal) (string, int64) { return j.active().name, 3*disk.BlockBytes - 5 }},
		{"record data in an older file", func(j *Journal) (string, int64) { return j.live[0].name, disk.BlockBytes + 3000 }},
		{"last record of an older file", func(j *Journal) (string, int64) {
			f := j.live[0]
			return f.name, f.end - f.start - 8000
		}},
		{"header of the newest file", func(j *Journal) (string, int64) { return j.active().name, 40 }},
		{"header of an older file", func(j *Journal) (string, int64) { return j.live[1].name, 40 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			mem := disk.NewMem(0)
			cfg := small(mem)
			j, truth := flushed(t, cfg, 30)
			for j.position()-j.active().start < 5*disk.BlockBytes {
				i := uint64(len(truth[testID(0)].Entries) + 1)
				w := Write{Group: testID(0), Entries: []raftpb.Entry{entry(i, 1, 5000)}}
				must(t, errors.Join(j.Append(w), j.Flush()))
				truth.apply(w)
			}
			name, at := tc.at(j)
			kill(mem)
			flip(t, mem, name, at)
			_, _, err := Open(cfg)
			var corrupt *CorruptError
			if !errors.As(err, &corrupt) || !errors.Is(err, ErrCorrupt) {
				t.Fatalf("Open: %v, expected corruption", err)
			}
			if !strings.HasPrefix(tc.name, "header") && (corrupt.File != name || corrupt.Offset > at || at-corrupt.Offset > 6000) {
				t.Fatalf("%v names the wrong place: damaged %s at %d", err, name, at)
			}
			for _, word := range []string{"read ", "expected ", "position "} {
				if !strings.Contains(err.Error(), word) {
					t.Fatalf("%q does not say %q", err, word)
				}
			}
			// It stays that way: a refused Open changes nothing.
			if _, _, again := Open(cfg); again == nil || again.Error() != err.Error() {
				t.Fatalf("the second Open says %v, the first %v", again, err)
			}
		})
	}
}

// A file that is not needed any more may rot.
func TestDamageInAFreeFileIsNoCorruption(t *testing.T) {
	mem := disk.NewMem(0)
	cfg := small(mem)
	j, truth := flushed(t, cfg, 30)
	oldest := j.live[0].name
	last := truth[testID(0)].Entries[29]
	w := Write{Group: testID(0), Mark: &Mark{Index: 30, Term: last.Term}}
	must(t, errors.Join(j.Append(w), j.Flush()))
	truth.apply(w)
	for j.recycled == 0 {
		_, err := j.Prepare()
		must(t, err)
	}
	kill(mem)
	flip(t, mem, oldest, disk.BlockBytes+100)
	_, groups := mustOpen(t, cfg)
	if diff := truth.equal(groups); diff != "" {
		t.Fatal(diff)
	}
}

// The last flush, torn at any sector, is cut: all before it stays, and what
// is appended afterwards is not followed by what the cut left behind.
func TestTornTailIsCut(t *testing.T) {
	for torn := 0; torn <= 16<<10; torn += 512 {
		t.Run(fmt.Sprint(torn), func(t *testing.T) {
			mem := disk.NewMem(0)
			fault := disk.NewFault(mem)
			cfg := small(fault)
			j, _ := flushed(t, cfg, 2)
			for i := uint64(3); i <= 5; i++ {
				must(t, j.Append(Write{Group: testID(0), Entries: []raftpb.Entry{entry(i, 1, 5000)}}))
			}
			fault.Add(disk.Rule{When: func(c disk.Call) bool { return c.Op == disk.OpWrite }, Err: errPowerCut, TornBytes: torn})
			if err := j.Flush(); !errors.Is(err, ErrDead) {
				t.Fatalf("Flush: %v, expected ErrDead", err)
			}
			fault.Clear()
			sync(t, mem, j.active().name)
			kill(mem)

			j, groups := mustOpen(t, cfg)
			got := groups[0].Entries
			if len(got) != 2+torn/5080 {
				t.Fatalf("%d entries after %d bytes of the flush", len(got), torn)
			}
			truth := model{testID(0): groups[0]}
			w := Write{Group: testID(0), Entries: []raftpb.Entry{entry(uint64(len(got)+1), 2, 10)}}
			must(t, errors.Join(j.Append(w), j.Flush()))
			truth.apply(w)
			kill(mem)
			_, groups = mustOpen(t, cfg)
			if diff := truth.equal(groups); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}

func sync(t *testing.T, fs disk.FS, name string) {
	t.Helper()
	f, err := fs.Open(path.Join("journal", name))
	must(t, err)
	must(t, errors.Join(f.Sync(), f.Close()))
}

// A cut that leaves later records of the same flush whole on the disk: these
// must not come back when a later flush ends right before them.
func TestRemainsOfACutFlushStayDead(t *testing.T) {
	mem := disk.NewMem(0)
	cfg := small(mem)
	cfg.FirstBytes = cfg.FileBytes
	j, truth := flushed(t, cfg, 1)
	// Three records of one block each, then the first block is lost.
	size := disk.BlockBytes - frameBytes - entriesHeadSize - entryHeadBytes
	for i := uint64(2); i <= 4; i++ {
		must(t, j.Append(Write{Group: testID(0), Entries: []raftpb.Entry{entry(i, 1, size)}}))
	}
	at := j.buf.off
	must(t, j.Flush())
	kill(mem)
	name := j.active().name
	flip(t, mem, name, at+50)

	j, groups := mustOpen(t, cfg)
	if diff := truth.equal(groups); diff != "" {
		t.Fatal(diff)
	}
	w := Write{Group: testID(0), Entries: []raftpb.Entry{entry(2, 2, size)}}
	must(t, errors.Join(j.Append(w), j.Flush()))
	truth.apply(w)
	kill(mem)
	_, groups = mustOpen(t, cfg)
	if diff := truth.equal(groups); diff != "" {
		t.Fatal(diff)
	}
}

// Recycled files hold whole records of their former use right behind the new
// tail; replay takes none of them.
func TestRecordsOfAFormerUseAreNotReplayed(t *testing.T) {
	mem := disk.NewMem(0)
	cfg := small(mem)
	cfg.FirstBytes = cfg.FileBytes
	cfg.Salt = nil
	j, _ := mustOpen(t, cfg)
	truth := model{}
	size := disk.BlockBytes - frameBytes - entriesHeadSize - entryHeadBytes
	next := uint64(1)
	put := func() {
		t.Helper()
		w := Write{Group: testID(0), Entries: []raftpb.Entry{entry(next, 1, size)}}
		must(t, errors.Join(j.Append(w), j.Flush()))
		truth.apply(w)
		next++
	}
	for j.recycled < 6 || j.room() < 8*disk.BlockBytes || j.buf.off < 4*disk.BlockBytes {
		put()
		w := Write{Group: testID(0), Mark: &Mark{Index: record.Index(next - 1), Term: 1}}
		must(t, errors.Join(j.Append(w), j.Flush()))
		truth.apply(w)
		_, err := j.Prepare()
		must(t, err)
	}
	put()
	s := newScanner(j.active().size, nil)
	s.begin(j.active(), j.active().size, nil)
	head, err := s.bytes(j.buf.off, frameBytes)
	must(t, err)
	if _, err := claim(head); err != nil {
		t.Fatalf("nothing old lies behind the tail: %v", err)
	}
	kill(mem)
	_, groups := mustOpen(t, cfg)
	if diff := truth.equal(groups); diff != "" {
		t.Fatal(diff)
	}
}

// After a clean close even the last flush is proven durable: losing it is
// corruption, not a torn tail.
func TestLossAfterCleanCloseIsCorruption(t *testing.T) {
	mem := disk.NewMem(0)
	cfg := small(mem)
	j, _ := flushed(t, cfg, 3)
	at := j.buf.off
	must(t, j.Close())
	flip(t, mem, j.active().name, at-5000)
	if _, _, err := Open(cfg); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("Open: %v, expected corruption", err)
	}
}

// What Open gave is durable when it returns, also where a killed process had
// written without a sync: a vote may rest on it at once.
func TestReplayedTailIsSyncedByOpen(t *testing.T) {
	for _, torn := range []int{4096, 6000, 16 << 10} {
		mem := disk.NewMem(0)
		fault := disk.NewFault(mem)
		cfg := small(fault)
		cfg.FirstBytes = cfg.FileBytes
		j, _ := flushed(t, cfg, 1)
		must(t, j.Append(Write{Group: testID(1), HardState: &raftpb.HardState{Term: 4, Vote: 2}}))
		must(t, j.Append(Write{Group: testID(0), Entries: []raftpb.Entry{entry(2, 1, 5000)}}))
		fault.Add(disk.Rule{When: func(c disk.Call) bool { return c.Op == disk.OpWrite }, Err: errPowerCut, TornBytes: torn})
		if err := j.Flush(); !errors.Is(err, ErrDead) {
			t.Fatal(err)
		}
		fault.Clear()
		_, given := mustOpen(t, cfg)
		truth := model{}
		for _, g := range given {
			truth[g.ID] = g
		}
		if truth[testID(1)].HardState.Vote != 2 {
			t.Fatal("the vote was not read")
		}
		for seed := range uint64(10) {
			after := cfg
			after.FS = mem.CrashClone(rand.New(rand.NewPCG(seed, 9)))
			_, groups := mustOpen(t, after)
			if diff := truth.equal(groups); diff != "" {
				t.Fatalf("seed %d, %d bytes torn: %s", seed, torn, diff)
			}
		}
	}
}
