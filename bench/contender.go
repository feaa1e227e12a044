package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"tidewater/bench/generator"
	"tidewater/bench/peer"
)

// The names of the contenders. Durable Kafka syncs each append before its
// answer, as Tidewater does; as shipped it leaves that to the operating system.
const (
	tidewater    = "tidewater"
	kafkaShipped = "kafka"
	kafkaDurable = "kafka durable"
)

// contender is a kind of broker, with its default settings.
type contender struct {
	name  string
	start func(ctx context.Context, v *versus, w *world, nodes int) (*running, error)
}

func contenders() []contender {
	return []contender{
		{tidewater, startTidewater},
		{kafkaShipped, func(ctx context.Context, v *versus, w *world, nodes int) (*running, error) {
			return startKafka(ctx, v, w, nodes, false)
		}},
		{kafkaDurable, func(ctx context.Context, v *versus, w *world, nodes int) (*running, error) {
			return startKafka(ctx, v, w, nodes, true)
		}},
	}
}

func contenderNames() []string {
	var names []string
	for _, c := range contenders() {
		names = append(names, c.name)
	}
	return names
}

// running is a contender that serves.
type running struct {
	name    string
	v       *versus
	w       *world
	nodes   int
	brokers []string      // where clients come
	pids    map[int32]int // of the brokers, by node
	data    []string      // directories whose files hold the log
	topics  int           // made so far; each row has its own
	// drained waits until every byte is in a segment file.
	drained func(ctx context.Context) error
}

// readyAfter bounds the start of a cluster; a cold JVM takes some seconds.
const readyAfter = 2 * time.Minute

// startTidewater runs `tidewater dev`, as a user would.
func startTidewater(ctx context.Context, v *versus, w *world, nodes int) (*running, error) {
	r := &running{pids: map[int32]int{}, data: []string{filepath.Join(w.dir, "data")}, drained: func(context.Context) error { return nil }}
	args := []string{"dev", "--data-dir", r.data[0], "--s3-addr", w.ports.s3, "--kafka-addr", w.ports.kafka, "--admin-addr", w.ports.admin, "--catalog-addr", w.ports.catalog}
	if nodes > 1 {
		args = append(args, "--nodes", strconv.Itoa(nodes))
	}
	p, err := w.start("tidewater", v.pinned(exec.Command(v.binary, args...)))
	if err != nil {
		return nil, err
	}
	if r.brokers, err = countUp(w.ports.kafka, nodes); err != nil {
		return nil, err
	}
	if err := awaitBrokers(ctx, p, r.brokers); err != nil {
		return nil, err
	}
	if nodes > 1 {
		return r, r.readPids(p)
	}
	r.pids[1] = p.pid()
	r.drained = func(ctx context.Context) error { _, err := w.waitSegments(ctx); return err }
	return r, nil
}

// countUp gives n addresses whose ports follow each other.
func countUp(first string, n int) ([]string, error) {
	host, port, err := net.SplitHostPort(first)
	if err != nil {
		return nil, err
	}
	at, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	var all []string
	for i := range n {
		all = append(all, net.JoinHostPort(host, strconv.Itoa(at+i)))
	}
	return all, nil
}

// readPids reads the lines "node 1 pid 123" that `dev --nodes` prints.
func (r *running) readPids(p *process) error {
	text, err := os.ReadFile(p.out)
	if err != nil {
		return err
	}
	for _, m := range regexp.MustCompile(`node (\d+) pid (\d+)`).FindAllSubmatch(text, -1) {
		node, err1 := strconv.Atoi(string(m[1]))
		pid, err2 := strconv.Atoi(string(m[2]))
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		r.pids[int32(node)] = pid
	}
	if len(r.pids) != len(r.brokers) {
		return fmt.Errorf("%s named the processes of %d nodes, want %d", p.name, len(r.pids), len(r.brokers))
	}
	return nil
}

func startKafka(ctx context.Context, v *versus, w *world, nodes int, durable bool) (*running, error) {
	c, err := peer.NewCluster(w.dir, nodes, durable)
	if err != nil {
		return nil, err
	}
	for _, n := range c.Nodes {
		if err := v.kafka.Prepare(c, n); err != nil {
			return nil, err
		}
	}
	r := &running{pids: map[int32]int{}, drained: func(context.Context) error { return nil }}
	var last *process
	for _, n := range c.Nodes {
		if last, err = w.start(fmt.Sprintf("kafka-%d", n.ID), v.pinned(v.kafka.Broker(n))); err != nil {
			return nil, err
		}
		r.pids[int32(n.ID)] = last.pid()
		r.brokers, r.data = append(r.brokers, n.Addr), append(r.data, n.Data())
	}
	return r, awaitBrokers(ctx, last, r.brokers)
}

func (v *versus) pinned(cmd *exec.Cmd) *exec.Cmd {
	if v.pin {
		pinTo(cmd, brokerCore)
	}
	return cmd
}

// kill ends the brokers at once: a Kafka that lost its quorum would wait for it,
// and nothing of what it holds is read any more.
func (r *running) kill() {
	for _, pid := range r.pids {
		_ = syscall.Kill(pid, syscall.SIGKILL) // the failover row may have ended it
	}
}

// awaitBrokers waits until all are in each one's metadata.
func awaitBrokers(ctx context.Context, p *process, brokers []string) error {
	return wait(ctx, readyAfter, p.name+" to serve", func() (bool, error) {
		if _, err := readCPU(p.pid()); err != nil {
			return false, fmt.Errorf("%s is gone: %w", p.name, err)
		}
		for _, addr := range brokers {
			if !listens(addr) || metadataBrokers(ctx, addr) != len(brokers) {
				return false, nil
			}
		}
		return true, nil
	})
}

func metadataBrokers(ctx context.Context, addr string) int {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	k, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return 0
	}
	defer k.Close()
	meta, err := kadm.NewClient(k).BrokerMetadata(ctx)
	if err != nil {
		return 0 // not yet
	}
	return len(meta.Brokers)
}

// withTopic makes a topic for one row and deletes it after; files of a deleted
// topic are gone, and the page cache is written, before the next row begins.
func (r *running) withTopic(ctx context.Context, partitions int32, work func(topic string) error) error {
	r.topics++
	topic := fmt.Sprintf("row-%d", r.topics)
	k, err := kgo.NewClient(kgo.SeedBrokers(r.brokers...))
	if err != nil {
		return err
	}
	defer k.Close()
	admin := kadm.NewClient(k)
	answer, err := admin.CreateTopic(ctx, partitions, int16(min(3, r.nodes)), nil, topic)
	if err = errors.Join(err, answer.Err); err != nil {
		return fmt.Errorf("create topic %s: %s: %w", topic, answer.ErrMessage, err)
	}
	err = wait(ctx, readyAfter, "leaders of topic "+topic, func() (bool, error) {
		meta, err := admin.Metadata(ctx, topic)
		if err != nil || meta.Topics[topic].Err != nil {
			return false, nil
		}
		led := 0
		for _, p := range meta.Topics[topic].Partitions {
			if p.Leader >= 0 && p.Err == nil {
				led++
			}
		}
		return led == int(partitions), nil
	})
	if err == nil {
		err = work(topic)
	}
	_, gone := admin.DeleteTopic(ctx, topic)
	return errors.Join(err, gone, pause(ctx, settleFor), syncDisks())
}

const settleFor = 3 * time.Second // Kafka is told to delete after one

func syncDisks() error { syscall.Sync(); return nil }

// warmUp has the broker write and read for a while before anything counts: a JVM
// compiles what runs often.
func (r *running) warmUp(ctx context.Context) error {
	return r.withTopic(ctx, 16, func(topic string) error {
		s := r.spec(generator.Produce, topic)
		s.BatchBytes, s.LingerMs, s.Seconds, s.BytesMax = 16<<10, 5, r.v.warmFor.Seconds(), diskMax
		if _, _, err := r.v.generate(ctx, r.name, "warm up", s); err != nil {
			return err
		}
		s.BatchBytes = 128 << 10
		if _, _, err := r.v.generate(ctx, r.name, "warm up", s); err != nil || r.nodes > 1 {
			return err
		}
		_, _, err := r.v.generate(ctx, r.name, "warm up", r.spec(generator.Fetch, topic))
		return err
	})
}

func (r *running) spec(kind, topic string) generator.Spec {
	return generator.Spec{Kind: kind, Brokers: r.brokers, Topic: topic, Seconds: float64(r.v.seconds)}
}
