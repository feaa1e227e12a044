package journal

import (
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// load appends entries round robin to groups, as a journal loop does that
// takes what 64 appenders have waiting, and marks each group as it goes, as a
// segment writer that keeps up.
type load struct {
	j     *Journal
	data  []byte
	next  []uint64
	at    int
	entry [1]raftpb.Entry
	mark  Mark
	write Write
}

func newLoad(j *Journal, groups, bytes int) *load {
	l := &load{j: j, data: make([]byte, bytes), next: make([]uint64, groups)}
	for i := range l.data {
		l.data[i] = byte(i * 7)
	}
	return l
}

// flush appends n entries and makes them durable.
func (l *load) flush(n int) error {
	for range n {
		g := l.at % len(l.next)
		l.at++
		l.next[g]++
		l.entry[0] = raftpb.Entry{Index: l.next[g], Term: 1, Data: l.data}
		l.write = Write{Group: record.PartitionID{Topic: record.TopicID{1}, Partition: int32(g)}, Entries: l.entry[:]}
		if i := l.next[g]; i > 1 {
			l.mark = Mark{Index: record.Index(i - 1), Term: 1}
			l.write.Mark = &l.mark
		}
		if err := l.j.Append(l.write); err != nil {
			return err
		}
	}
	return l.j.Flush()
}

// Question: how many MB/s does one journal take, and how long is a flush, when
// 64 appenders of 16 KiB entries over 1,000 groups wait for each flush?
// Run: go test -run '^$' -bench RealDisk -benchtime 5s ./broker/journal
// (TMPDIR chooses the disk.)
func BenchmarkRealDisk(b *testing.B) {
	for _, appenders := range []int{1, 64} {
		b.Run(map[int]string{1: "1", 64: "64"}[appenders], func(b *testing.B) {
			fs, err := disk.NewOS(b.TempDir(), slog.New(slog.NewTextHandler(os.Stderr, nil)))
			must(b, err)
			cfg := small(fs)
			cfg.FileBytes, cfg.FirstBytes, cfg.LiveBytesMax = 0, 0, 0
			j, _ := mustOpen(b, cfg)
			l := newLoad(j, 1000, 16<<10)
			for more := true; more; {
				more, err = j.Prepare()
				must(b, err)
			}
			// Warm up until files are recycled rather than made.
			for j.recycled < 12 || j.smallest() < j.cfg.FileBytes {
				must(b, l.flush(256))
				_, err = j.Prepare()
				must(b, err)
			}
			took := make([]time.Duration, 0, b.N)
			made := j.names
			b.SetBytes(int64(appenders) * 16 << 10)
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				began := time.Now()
				must(b, l.flush(appenders))
				took = append(took, time.Since(began))
				if _, err := j.Prepare(); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			b.ReportMetric(float64(j.names-made), "files-made")
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
			must(b, j.Close())
		})
	}
}

// Question: what does an append cost apart from the disk? The sink keeps
// nothing.
func BenchmarkAppend(b *testing.B) {
	j, _ := mustOpen(b, func() Config {
		cfg := small(sink{FS: disk.NewMem(0)})
		cfg.FileBytes, cfg.FirstBytes, cfg.LiveBytesMax = 64<<20, 64<<20, 0
		return cfg
	}())
	l := newLoad(j, 1000, 16<<10)
	for range 40 {
		must(b, l.flush(256))
	}
	b.SetBytes(16 << 10)
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += 64 {
		must(b, l.flush(64))
	}
}

// sink is a disk that forgets record writes.
type sink struct{ disk.FS }

func (s sink) Create(name string) (disk.File, error) {
	f, err := s.FS.Create(name)
	return sinkFile{f}, err
}

type sinkFile struct{ disk.File }

func (f sinkFile) WriteAt(p []byte, off int64) (int, error) {
	if off == 0 {
		return f.File.WriteAt(p, off)
	}
	return len(p), nil
}

// Appends allocate nothing once buffers have grown.
func TestAppendsDoNotAllocate(t *testing.T) {
	cfg := small(sink{FS: disk.NewMem(0)})
	cfg.FileBytes, cfg.FirstBytes = 256<<20, 256<<20
	cfg.LiveBytesMax = 1 << 30
	j, _ := mustOpen(t, cfg)
	l := newLoad(j, 100, 4<<10)
	for range 10 {
		must(t, l.flush(64))
	}
	if n := testing.AllocsPerRun(100, func() { must(t, l.flush(64)) }); n > 1 {
		t.Fatalf("%v allocations per flush of 64 appends", n)
	}
}

// An idle journal holds little, also after a burst made its buffer grow.
func TestIdleJournalHoldsLittle(t *testing.T) {
	cfg := small(sink{FS: disk.NewMem(0)})
	cfg.FileBytes, cfg.FirstBytes, cfg.LiveBytesMax = 64<<20, 64<<20, 0
	j, _ := mustOpen(t, cfg)
	l := newLoad(j, 100, 16<<10)
	for range 3 {
		must(t, l.flush(200))
	}
	if n := len(j.buf.b); n != bufferBytesMax {
		t.Fatalf("buffer of %d under load, expected %d", n, bufferBytesMax)
	}
	l.data = l.data[:100]
	for range 3 * shrinkAfter {
		must(t, l.flush(1))
	}
	if n := cap(j.buf.b) + cap(j.head) + cap(j.block); n > 256<<10 {
		t.Fatalf("an idle journal keeps %d bytes of buffers", n)
	}
}
