package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/internal/devenv/s3"
	"tidewater/internal/fetch"
	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// patience is how long a test waits for what must happen: far longer than it
// takes on a machine that is busy with other tests.
const patience = 90 * time.Second

// world is a development store with a breakable way to it.
type world struct {
	t     *testing.T
	dir   string // of the store
	store *s3.Store
	way   *way
}

// newWorld makes a world for a test that runs beside others.
func newWorld(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	return newWorldOf(t)
}

func newWorldOf(t *testing.T) *world {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "bucket")
	store, err := s3.Open(s3.Config{Dir: dir, Addr: "127.0.0.1:0", NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return &world{t: t, dir: dir, store: store, way: newWay(t, store.Endpoint())}
}

// config is a broker's on a new data directory and the bucket behind the way.
func (w *world) config() Config { return w.configIn(w.t.TempDir()) }

func (w *world) configIn(dir string) Config {
	c := testConfig(dir)
	c.Bucket = fmt.Sprintf("s3://%s?endpoint=%s&region=%s", s3.Bucket, w.way.URL, s3.Region)
	c.BucketAccessKey, c.BucketSecretKey = w.store.AccessKey(), w.store.SecretKey()
	c.CatalogAddr = "127.0.0.1:0"
	return c
}

// testConfig is a broker's without a bucket.
func testConfig(dir string) Config {
	c := Default()
	c.DataDir = dir
	c.KafkaAddr, c.AdminAddr, c.CatalogAddr = "127.0.0.1:0", "127.0.0.1:0", ""
	c.GroupInitialDelay = 0
	c.Memory = memoryMin
	c.TailEvery = 100 * time.Millisecond
	return c
}

// node is a running broker with a client and what it logged.
type node struct {
	*Broker
	t      *testing.T
	logged *logged
	client *kgo.Client
	admin  *kadm.Client
	closed bool
	failed error // of open
}

func openNode(t *testing.T, cfg Config) *node {
	t.Helper()
	n := &node{t: t, logged: &logged{}}
	n.open(cfg)
	n.begin(cfg)
	return n
}

// open starts the broker; it may be called from any goroutine.
func (n *node) open(cfg Config) {
	if n.Broker, n.failed = Open(n.t.Context(), cfg, slogOf(n.logged)); n.failed == nil {
		n.cfg.KafkaAddr = n.KafkaAddr() // the same when it is started again
	}
}

// begin makes a client of an opened broker.
func (n *node) begin(cfg Config) {
	t := n.t
	t.Helper()
	if n.failed != nil {
		t.Fatalf("open broker: %v; its log: %s", n.failed, n.logged.tail())
	}
	t.Cleanup(func() {
		n.close()
		if t.Failed() {
			t.Logf("log of broker %d on %s: %s", cfg.NodeID, cfg.DataDir, n.logged.tail())
		}
	})
	n.client, n.admin = openClient(t, n.KafkaAddr())
}

// openClient makes a client that ends with the test.
func openClient(t *testing.T, addr string, opts ...kgo.Opt) (*kgo.Client, *kadm.Client) {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addr), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0), kgo.MetadataMinAge(20 * time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond })}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client, kadm.NewClient(client)
}

// close ends the broker, once.
func (n *node) close() {
	n.t.Helper()
	if n.closed {
		return
	}
	n.closed = true
	if n.client != nil {
		n.client.Close()
	}
	if err := n.Close(); err != nil {
		n.t.Errorf("close broker: %v", err)
	}
}

func slogOf(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// logged is a log that is read while it is written.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// tail is the newest of the log, short enough not to hide why a test failed, or
// what a process said that was broken.
func (l *logged) tail() string {
	lines, shown := strings.Split(strings.TrimSpace(l.String()), "\n"), 15
	for i, line := range lines {
		if strings.Contains(line, "DATA RACE") || strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") {
			shown, lines = 60, lines[:min(len(lines), i+60)]
			break
		}
	}
	return "...\n" + strings.Join(lines[max(0, len(lines)-shown):], "\n")
}

func (l *logged) count(text string) int { return strings.Count(l.String(), text) }

// until polls until ok gives nil.
func until(t *testing.T, what string, ok func() error) {
	t.Helper()
	end := time.Now().Add(patience)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s: %v", what, patience, err)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

// topic makes a topic.
func (n *node) topic(name string, partitions int32, configs map[string]string) record.TopicID {
	n.t.Helper()
	values := map[string]*string{}
	for k, v := range configs {
		values[k] = &v
	}
	r, err := n.admin.CreateTopic(n.t.Context(), partitions, 1, values, name)
	if err != nil {
		n.t.Fatalf("create topic %s: %v: %s", name, err, r.ErrMessage)
	}
	return record.TopicID(r.ID)
}

// tiered and withTable are properties of topics that go to the bucket at once.
func tiered() map[string]string {
	return map[string]string{"remote.storage.enable": "true", "segment.ms": "200"}
}

func withTable() map[string]string {
	c := tiered()
	c["tidewater.iceberg.mode"] = "key_value"
	c["tidewater.iceberg.target.lag.ms"] = "500"
	return c
}

// coldOnly is tiered with nothing kept on the disk that the bucket holds.
func coldOnly() map[string]string {
	c := tiered()
	c["local.retention.bytes"] = "0"
	return c
}

// value is the value of the record at an offset, when produced by fill.
func value(partition int32, i int) string {
	return fmt.Sprintf("value %d of partition %d", i, partition)
}

// fill produces the records [from, to) of a partition, each acked in turn by
// at most the test's patience.
func (n *node) fill(topic string, partition int32, from, to int) {
	n.t.Helper()
	ctx, stop := context.WithTimeout(n.t.Context(), patience)
	defer stop()
	var records []*kgo.Record
	for i := from; i < to; i++ {
		records = append(records, &kgo.Record{Topic: topic, Partition: partition, Key: fmt.Appendf(nil, "key %d", i), Value: []byte(value(partition, i))})
	}
	for i, r := range n.client.ProduceSync(ctx, records...) {
		if r.Err != nil {
			n.t.Fatalf("produce record %d to %s-%d: %v", from+i, topic, partition, r.Err)
		}
		if r.Record.Offset != int64(from+i) {
			n.t.Fatalf("record %d of %s-%d is at offset %d", from+i, topic, partition, r.Record.Offset)
		}
	}
}

// read gives the values of a partition from an offset up to its high
// watermark, by raw fetches that tell every error.
func (n *node) read(topic string, partition int32, from record.Offset) ([]string, error) {
	return readLog(n.t.Context(), n.client, topic, partition, from)
}

func readLog(ctx context.Context, client *kgo.Client, topic string, partition int32, from record.Offset) ([]string, error) {
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	log, err := fetch.Open(ctx, client, topic)
	if err != nil {
		return nil, err
	}
	p := log.Partitions[partition]
	o, err := p.Offsets(ctx)
	if err != nil {
		return nil, err
	}
	var values []string
	for at := from; at < o.HighWatermark; {
		res, err := p.Read(ctx, logio.ReadRequest{Offset: at, BytesMax: 1 << 20, MinOne: true})
		if err != nil {
			return values, err
		}
		if len(res.Batches) == 0 {
			return values, fmt.Errorf("%s-%d: nothing at offset %d, the high watermark is %d", topic, partition, at, o.HighWatermark)
		}
		for _, raw := range res.Batches {
			b := record.Batch(raw)
			if err := b.Check(); err != nil {
				return values, err
			}
			if b.BaseOffset() > at {
				return values, fmt.Errorf("%s-%d: batch at %d, want %d", topic, partition, b.BaseOffset(), at)
			}
			var r record.Reader
			if err := r.Reset(b, 0); err != nil {
				return values, err
			}
			for r.Next() {
				if r.Record().Offset >= at {
					values = append(values, string(r.Record().Value))
				}
			}
			if r.Err() != nil {
				return values, r.Err()
			}
			at = b.NextOffset()
		}
	}
	return values, nil
}

// holds says whether a partition has exactly the records [0, count) of fill.
func (n *node) holds(topic string, partition int32, count int) error {
	values, err := n.read(topic, partition, 0)
	if err != nil {
		return err
	}
	if len(values) != count {
		return fmt.Errorf("%s-%d has %d records, want %d", topic, partition, len(values), count)
	}
	for i, v := range values {
		if v != value(partition, i) {
			return fmt.Errorf("%s-%d has %q at offset %d", topic, partition, v, i)
		}
	}
	return nil
}

// mustHold is holds, as a client sees it, which tries again what is retriable:
// right after a start a leader does not know its high watermark yet.
func (n *node) mustHold(topic string, partition int32, count int) {
	n.t.Helper()
	until(n.t, "read the log", func() error {
		err := n.holds(topic, partition, count)
		if err != nil && !kerr.IsRetriable(err) {
			n.t.Fatal(err)
		}
		return err
	})
}

// batchOf is a batch with one record.
func batchOf(t *testing.T, p *record.Producer, value []byte) record.Batch {
	t.Helper()
	b := record.Builder{Producer: p}
	b.Add(time.Now().UnixMilli(), nil, value)
	out, err := b.Build(0)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// produce sends one batch as it is and gives the answer as it is, without the
// client's retries.
func (n *node) produce(topic string, partition int32, batch []byte) kmsg.ProduceResponseTopicPartition {
	n.t.Helper()
	p, err := n.tryProduce(topic, partition, batch)
	if err != nil {
		n.t.Fatalf("produce to %s-%d: %v", topic, partition, err)
	}
	return p
}

func (n *node) tryProduce(topic string, partition int32, batch []byte) (found kmsg.ProduceResponseTopicPartition, err error) {
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 5000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = topic
	if t := n.controller.View().TopicByName(topic); t != nil {
		rt.TopicID = t.ID
	}
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = partition, batch
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	ctx, stop := context.WithTimeout(n.t.Context(), patience)
	defer stop()
	resp, err := n.client.Broker(int(n.cfg.NodeID)).Request(ctx, req)
	if err != nil {
		return found, err
	}
	topics := resp.(*kmsg.ProduceResponse).Topics
	if len(topics) != 1 || len(topics[0].Partitions) != 1 {
		return found, io.ErrUnexpectedEOF
	}
	return topics[0].Partitions[0], nil
}

// code turns an answer's code into an error.
func code(c int16) error { return kerr.ErrorForCode(c) }

// wantCode fails unless the code is the given error's.
func wantCode(t *testing.T, what string, got int16, want *kerr.Error) {
	t.Helper()
	if got != want.Code {
		t.Errorf("%s is answered with %v, want %v", what, code(got), want)
	}
}

// exists says whether a file is there.
func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, os.ErrNotExist)
}
