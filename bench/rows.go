package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"

	"tidewater/bench/generator"
)

// row is one line of the comparison: the same work for every contender.
type row struct {
	name  string // for -only
	title string
	nodes int
	// What kinds of work differ in.
	partitions int32
	batch      int32 // bytes
	rate       float64
	lingerMs   int
	bytes      int64 // of the data set of a fetch
	make       func(context.Context, *running, row) error
}

const (
	latencyPartitions = 8
	// memoryBytes fits into every broker's memory; diskBytes is read once, from the disk.
	memoryBytes, diskBytes, quickBytes = 128 << 20, 2 << 30, 256 << 20
	// failoverRate is low enough that the acks' gap is the failure's and not the load's.
	failoverRate = 5e6
	afterwards   = "then written by the system"
	// readerSecondsMax is longer than any run beside a reader, also on a broker
	// that does not keep up.
	readerSecondsMax = 3600
)

func rows() []row {
	var all []row
	for _, batch := range []int32{128 << 10, 16 << 10} {
		for _, partitions := range []int32{1, 16, 1000} {
			all = append(all, row{name: fmt.Sprintf("produce-%d-%d", partitions, batch>>10), nodes: 1, partitions: partitions, batch: batch, lingerMs: 5, make: produceRow,
				title: fmt.Sprintf("produce, %d partition%s, batches of %d KiB", partitions, plural(partitions), batch>>10)})
		}
	}
	for _, nodes := range []int{1, 3} {
		for _, rate := range []float64{10e6, 50e6} {
			for _, linger := range []int{0, 5} {
				r := row{name: fmt.Sprintf("latency-%.0f-%d", rate/1e6, linger), nodes: nodes, partitions: latencyPartitions, batch: 128 << 10, rate: rate, lingerMs: linger, make: latencyRow,
					title: fmt.Sprintf("end to end at %.0f MB/s, linger %d ms", rate/1e6, linger)}
				if nodes > 1 {
					r.name, r.title = "three-"+r.name, "3 nodes: "+r.title
				}
				all = append(all, r)
			}
		}
	}
	for _, partitions := range []int32{1, 16} {
		all = append(all,
			row{name: fmt.Sprintf("fetch-memory-%d", partitions), nodes: 1, partitions: partitions, bytes: memoryBytes, make: fetchMemoryRow, title: fmt.Sprintf("fetch what was just produced, %d partition%s", partitions, plural(partitions))},
			row{name: fmt.Sprintf("fetch-disk-%d", partitions), nodes: 1, partitions: partitions, bytes: diskBytes, make: fetchDiskRow, title: fmt.Sprintf("fetch from disk, %d partition%s", partitions, plural(partitions))})
	}
	return append(all,
		row{name: "java-16-128", nodes: 1, partitions: 16, batch: 128 << 10, lingerMs: 5, make: javaRow, title: "Kafka's own Java tools, 16 partitions, batches of 128 KiB"},
		row{name: "reader-50-5", nodes: 1, partitions: latencyPartitions, batch: 128 << 10, rate: 50e6, lingerMs: 5, bytes: diskBytes, make: readerRow, title: "end to end at 50 MB/s, linger 5 ms, another reading history from disk"},
		row{name: "three-failover", nodes: 3, partitions: latencyPartitions, batch: 128 << 10, rate: failoverRate, lingerMs: 5, make: failoverRow, title: "3 nodes: kill -9 of a leader at 5 MB/s"})
}

// span is what a row used between its begin and its end.
type span struct {
	r       *running
	at      time.Time
	cpu     float64
	machine float64
	wrote   float64
	read    float64
}

func (r *running) begin() span {
	s := span{r: r, at: time.Now(), machine: readMachineCPU()}
	s.cpu, s.wrote, s.read = r.used()
	return s
}

// used sums the brokers' CPU seconds and bytes to and from disks.
func (r *running) used() (cpu, wrote, read float64) {
	for _, pid := range r.pids {
		c, _ := readCPU(pid) // one that was killed has used nothing more
		cpu += c
		io := readIO(pid)
		wrote += io["write_bytes"]
		read += io["read_bytes"]
	}
	return
}

// add puts what the brokers used into a result, by GB of payload, and how busy
// others kept the machine.
func (s span) add(out *result, mb, generatorCPU float64) *result {
	took := time.Since(s.at).Seconds()
	cpu, wrote, read := s.r.used()
	out.add(brokerCPU, "CPU-s per GB", 1000*(cpu-s.cpu)/mb)
	out.add("generator", "CPU-s per GB", 1000*generatorCPU/mb)
	out.add("written to disk", "bytes a byte", (wrote-s.wrote)/1e6/mb)
	out.add("read from disk", "bytes a byte", (read-s.read)/1e6/mb)
	var resident float64
	for _, pid := range s.r.pids {
		m, _ := memory(pid)
		resident += m["VmRSS"] / 1e6
	}
	out.add("resident", "MB", resident)
	others := readMachineCPU() - s.machine - (cpu - s.cpu) - generatorCPU
	return out.add("others used", "cores", max(0, others/took))
}

func readIO(pid int) map[string]float64 {
	out := map[string]float64{}
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid)) // without rights figures are 0
	for line := range strings.Lines(string(text)) {
		var name string
		var v float64
		if _, err := fmt.Sscanf(line, "%s %f", &name, &v); err == nil {
			out[strings.TrimSuffix(name, ":")] = v
		}
	}
	return out
}

func (r *running) result(of row) *result {
	out := newResult(of.name, "%s", of.title)
	out.Broker = r.name
	return out
}

// keep adds a result to what was found.
func (r *running) keep(out *result) error {
	r.v.found.all = append(r.v.found.all, out)
	return r.v.results.add(out)
}

func produceRow(ctx context.Context, r *running, of row) error {
	return r.withTopic(ctx, of.partitions, func(topic string) error {
		s := r.spec(generator.Produce, topic)
		s.BatchBytes, s.LingerMs, s.BytesMax = of.batch, of.lingerMs, diskMax
		m := r.begin()
		g, cpu, err := r.v.generate(ctx, r.name, of.name, s)
		if err != nil {
			return err
		}
		if err := r.drained(ctx); err != nil {
			return err
		}
		out := m.add(r.result(of).add(rate, "MB/s", g.MBps()), g.MB, cpu)
		at := time.Now()
		syscall.Sync()
		out.add(afterwards, "s", time.Since(at).Seconds())
		if err := r.countRecords(ctx, topic, g.Records); err != nil {
			return err
		}
		return r.keep(out)
	})
}

// countRecords fails unless consumers can read as many records as were acked.
func (r *running) countRecords(ctx context.Context, topic string, want int64) error {
	k, err := kgo.NewClient(kgo.SeedBrokers(r.brokers...))
	if err != nil {
		return err
	}
	defer k.Close()
	ends, err := kadm.NewClient(k).ListEndOffsets(ctx, topic)
	if err = errors.Join(err, ends.Error()); err != nil {
		return err
	}
	var have int64
	ends.Each(func(o kadm.ListedOffset) { have += o.Offset })
	if have != want {
		return fmt.Errorf("%d records acked, high watermarks are %d in all", want, have)
	}
	return nil
}

func latencyRow(ctx context.Context, r *running, of row) error {
	return r.withTopic(ctx, of.partitions, func(topic string) error {
		m := r.begin()
		g, cpu, err := r.v.generate(ctx, r.name, of.name, r.latencySpec(of, topic))
		if err != nil {
			return err
		}
		return r.keepLatency(of, g, m, cpu)
	})
}

func (r *running) latencySpec(of row, topic string) generator.Spec {
	s := r.spec(generator.Latency, topic)
	s.BatchBytes, s.LingerMs, s.Rate = of.batch, of.lingerMs, of.rate
	s.WarmSeconds = min(10, s.Seconds/3)
	return s
}

func (r *running) keepLatency(of row, g generator.Result, m span, cpu float64) error {
	out := r.result(of)
	for _, p := range []float64{50, 99, 99.9} {
		out.add(fmt.Sprintf("p%g", p), "ms", float64(g.EndToEnd.Percentile(p))/1000)
	}
	out.add("max", "ms", float64(g.EndToEnd.Max())/1000)
	out.add("ack p99", "ms", float64(g.Ack.Percentile(99))/1000)
	out.add(rate, "MB/s", g.MBps())
	r.v.found.plots = append(r.v.found.plots, plotted{row: of, broker: r.name, latency: g.EndToEnd})
	return r.keep(m.add(out, g.MB, cpu))
}

// readerRow is a latency row while another process reads old records, round and round.
func readerRow(ctx context.Context, r *running, of row) error {
	return r.withTopic(ctx, of.partitions, func(history string) error {
		if err := r.load(ctx, of, history); err != nil {
			return err
		}
		reads, stop := context.WithCancel(ctx)
		defer stop()
		s := r.spec(generator.Fetch, history)
		s.Round, s.Seconds = true, readerSecondsMax // until it is stopped
		done := make(chan error, 1)
		go func() {
			_, _, err := r.v.generate(reads, r.name, of.name+" reader", s)
			done <- err
		}()
		err := latencyRow(ctx, r, of)
		ended := reads.Err() == nil && len(done) > 0
		stop()
		if reader := <-done; ended {
			err = errors.Join(err, errors.New("the reader of history ended early"), reader)
		}
		return err
	})
}

// load fills a topic and sees to it that nothing of it is in the page cache.
func (r *running) load(ctx context.Context, of row, topic string) error {
	s := r.spec(generator.Produce, topic)
	s.BatchBytes, s.LingerMs, s.BytesMax = 128<<10, 5, of.bytes
	s.Seconds = 300
	if r.v.quick {
		s.BytesMax = min(s.BytesMax, quickBytes)
	}
	if _, _, err := r.v.generate(ctx, r.name, of.name+" load", s); err != nil {
		return err
	}
	if err := r.drained(ctx); err != nil {
		return err
	}
	syscall.Sync()
	if of.bytes <= memoryBytes {
		return nil
	}
	return dropCaches(r.data)
}

// dropCaches takes the files below dirs out of the page cache.
func dropCaches(dirs []string) error {
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return nil // files come and go while a broker runs
			}
			f, err := os.Open(path)
			if err != nil {
				return nil
			}
			defer f.Close()
			return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
		})
		if err != nil {
			return fmt.Errorf("drop page cache of %s: %w", dir, err)
		}
	}
	return nil
}

func fetchMemoryRow(ctx context.Context, r *running, of row) error {
	return r.fetch(ctx, of, func(s *generator.Spec) { s.Round, s.Seconds = true, min(s.Seconds, 20) })
}

func fetchDiskRow(ctx context.Context, r *running, of row) error {
	return r.fetch(ctx, of, func(*generator.Spec) {})
}

func (r *running) fetch(ctx context.Context, of row, how func(*generator.Spec)) error {
	return r.withTopic(ctx, of.partitions, func(topic string) error {
		if err := r.load(ctx, of, topic); err != nil {
			return err
		}
		s := r.spec(generator.Fetch, topic)
		how(&s)
		m := r.begin()
		g, cpu, err := r.v.generate(ctx, r.name, of.name, s)
		if err != nil {
			return err
		}
		return r.keep(m.add(r.result(of).add(rate, "MB/s", g.MBps()), g.MB, cpu))
	})
}

// failoverRow kills the leader of partition 0 a third into the run.
func failoverRow(ctx context.Context, r *running, of row) error {
	return r.withTopic(ctx, of.partitions, func(topic string) error {
		k, err := kgo.NewClient(kgo.SeedBrokers(r.brokers...))
		if err != nil {
			return err
		}
		defer k.Close()
		meta, err := kadm.NewClient(k).Metadata(ctx, topic)
		if err != nil {
			return err
		}
		leader := meta.Topics[topic].Partitions[0].Leader
		pid, ok := r.pids[leader]
		if !ok {
			return fmt.Errorf("node %d leads partition 0: its process is not known", leader)
		}
		s := r.latencySpec(of, topic)
		killed := time.AfterFunc(time.Duration((s.WarmSeconds+s.Seconds/3)*float64(time.Second)), func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
		defer killed.Stop()
		g, _, err := r.v.generate(ctx, r.name, of.name, s)
		if err != nil {
			return err
		}
		out := r.result(of).add(gap, "ms", g.GapMs).add("p99", "ms", float64(g.EndToEnd.Percentile(99))/1000)
		return r.keep(out.add("lost", "records", float64(g.Lost)).add("doubled", "records", float64(g.Doubled)))
	})
}
