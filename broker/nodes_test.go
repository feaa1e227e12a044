package broker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"tidewater/internal/record"
)

// threeOf makes the configurations of a cluster of three out of one for each
// directory. Each cluster has loopback addresses of its own, so that nobody
// else's ports are met.
func threeOf(t *testing.T, config func(dir string) Config) []Config {
	t.Helper()
	net := fmt.Sprintf("127.%d.%d", 1+rand.IntN(250), rand.IntN(250))
	cfgs := make([]Config, 3)
	for i := range cfgs {
		cfgs[i] = config(t.TempDir())
		cfgs[i].NodeID = int32(i + 1)
		cfgs[i].Rack = string(rune('a' + i))
		cfgs[i].RPCAddr = fmt.Sprintf("%s.%d:33145", net, i+1)
		cfgs[i].AdminAddr = ""
	}
	for i := range cfgs {
		for j := range cfgs {
			cfgs[i].Seeds = append(cfgs[i].Seeds, cfgs[j].RPCAddr)
		}
	}
	return cfgs
}

// nodes is a cluster of brokers in this process.
type nodes struct {
	t   *testing.T
	all []*node
}

// openNodes starts brokers at once, as a new cluster needs it.
func openNodes(t *testing.T, cfgs []Config) *nodes {
	t.Helper()
	ns := &nodes{t: t}
	var opening sync.WaitGroup
	for _, cfg := range cfgs {
		n := &node{t: t, logged: &logged{}}
		ns.all = append(ns.all, n)
		opening.Go(func() { n.open(cfg) })
	}
	opening.Wait()
	for i, n := range ns.all {
		n.begin(cfgs[i])
	}
	return ns
}

// again closes a broker and starts it, as its configuration now is.
func (ns *nodes) again(i int, between func()) {
	ns.t.Helper()
	cfg := ns.all[i].cfg
	ns.all[i].close()
	if between != nil {
		between()
	}
	ns.all[i] = openNode(ns.t, cfg)
}

// topic makes a topic with a replica on each broker, asking broker i.
func (ns *nodes) topic(i int, name string, partitions int32, configs map[string]string) record.TopicID {
	ns.t.Helper()
	values := map[string]*string{}
	for k, v := range configs {
		values[k] = &v
	}
	r, err := ns.all[i].admin.CreateTopic(ns.t.Context(), partitions, 3, values, name)
	if err != nil {
		ns.t.Fatalf("create topic %s: %v: %s", name, err, r.ErrMessage)
	}
	return record.TopicID(r.ID)
}

// client knows all brokers and has a client's defaults.
func (ns *nodes) client(opts ...kgo.Opt) *kgo.Client {
	ns.t.Helper()
	var seeds []string
	for _, n := range ns.all {
		seeds = append(seeds, n.KafkaAddr())
	}
	return patientClient(ns.t, "client", seeds, opts...)
}

// patientClient is a client with a client's defaults. What it logged is shown
// when the test fails.
func patientClient(t *testing.T, name string, seeds []string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	said := &logged{}
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(seeds...), kgo.WithLogger(kgo.BasicLogger(said, kgo.LogLevelWarn, func() string {
		return time.Now().UTC().Format("15:04:05.000 ")
	})))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		if t.Failed() && said.String() != "" {
			t.Logf("log of the %s: %s", name, said.tail())
		}
	})
	return c
}

// leader is who leads a partition, as broker i knows it.
func (ns *nodes) leader(i int, id record.PartitionID) *node {
	p := ns.all[i].controller.View().PartitionOf(id)
	if p == nil || p.Leader < 1 {
		return nil
	}
	return ns.all[p.Leader-1]
}

// ready waits until a broker says that it is, and fails the test if one of its
// replicas is then without what was committed before.
func (ns *nodes) ready(i int) {
	ns.t.Helper()
	committed := map[record.PartitionID]record.Offset{}
	for _, n := range ns.all {
		for _, h := range n.parts.all() {
			if m, leads := h.Marks(); leads {
				committed[h.ID()] = m.HighWatermark
			}
		}
	}
	until(ns.t, "the broker is ready", ns.all[i].readiness)
	for _, h := range ns.all[i].parts.all() {
		if m, _ := h.Marks(); m.LogEnd+stepEntries < committed[h.ID()] {
			ns.t.Errorf("%s is called ready: it ends at %d, and %d was committed", h.Name(), m.LogEnd, committed[h.ID()])
		}
	}
}

// whole waits until every partition has a leader and all its replicas hold what
// is committed.
func (ns *nodes) whole() {
	ns.t.Helper()
	until(ns.t, "all replicas are up to date", func() error {
		for _, h := range ns.all[0].parts.all() {
			ends := map[record.Offset]bool{}
			leaders := 0
			for _, n := range ns.all {
				o, err := n.parts.get(h.ID())
				if err != nil {
					return err
				}
				m, leading := o.Marks()
				if ends[m.HighWatermark] = true; leading {
					leaders++
				}
			}
			if len(ends) != 1 || leaders != 1 {
				return fmt.Errorf("%s has %d leaders and ends %v", h.Name(), leaders, ends)
			}
		}
		return nil
	})
}

// load produces numbered records to the partitions of a topic until it is
// stopped, and notes what clients see.
type load struct {
	stop    context.CancelFunc
	running sync.WaitGroup
	client  *kgo.Client

	mu     sync.Mutex
	acked  map[string]bool
	faults []error
	gap    time.Duration // the longest without an ack
	last   time.Time
}

func (ns *nodes) load(topic string, opts ...kgo.Opt) *load {
	return startLoad(ns.t, ns.client(append([]kgo.Opt{kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(0)}, opts...)...))
}

// startLoad produces with a client to its topic.
func startLoad(t *testing.T, client *kgo.Client) *load {
	ctx, stop := context.WithCancel(t.Context())
	l := &load{stop: stop, acked: map[string]bool{}, last: time.Now(), client: client}
	l.running.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			value := fmt.Sprintf("record %d", i)
			l.client.Produce(context.WithoutCancel(ctx), &kgo.Record{Key: []byte(value), Value: []byte(value)}, func(_ *kgo.Record, err error) { l.done(value, err) })
			select {
			case <-time.After(4 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	})
	return l
}

func (l *load) done(value string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.faults = append(l.faults, fmt.Errorf("%s: %w", value, err))
		return
	}
	l.acked[value] = true
	l.gap = max(l.gap, time.Since(l.last))
	l.last = time.Now()
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// more waits for n more acks.
func (l *load) more(t *testing.T, n int) {
	t.Helper()
	goal := l.count() + n
	until(t, "records are acked", func() error {
		if have := l.count(); have < goal {
			return fmt.Errorf("%d of %d", have, goal)
		}
		return nil
	})
}

// end stops producing and waits until everything is answered.
func (l *load) end(t *testing.T) {
	t.Helper()
	l.stop()
	l.running.Wait()
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	if err := l.client.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := errors.Join(l.faults...); err != nil {
		t.Errorf("clients saw %v", err)
	}
}

// sameLog fails unless the partitions of a topic hold every acked record once,
// and no other.
func (ns *nodes) sameLog(topic string, partitions int32, l *load) {
	ns.t.Helper()
	sameLog(ns.t, ns.client(), topic, partitions, l)
}

func sameLog(t *testing.T, client *kgo.Client, topic string, partitions int32, l *load) {
	t.Helper()
	seen := map[string]bool{}
	for p := range partitions {
		var values []string
		until(t, "the log is read", func() (err error) {
			values, err = readLog(t.Context(), client, topic, p, 0)
			return err
		})
		for _, v := range values {
			if seen[v] {
				t.Errorf("%q is there twice", v)
			}
			seen[v] = true
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for v := range l.acked {
		if !seen[v] {
			t.Errorf("%q was acked and is not there", v)
		}
	}
	if len(seen) != len(l.acked) {
		t.Errorf("%d records are there, %d were acked", len(seen), len(l.acked))
	}
}

// Shows that brokers can be started again one after the other, under load, and
// that neither producers nor consumers with default settings see an error; that
// topics can be made by any broker; and that everything is there once.
func TestRollingRestartIsNotSeen(t *testing.T) {
	t.Parallel()
	ns := openNodes(t, threeOf(t, testConfig))
	for i := range ns.all {
		ns.topic(i, fmt.Sprintf("made-by-%d", i+1), 1, nil)
	}
	const partitions = 4
	ns.topic(1, "t", partitions, nil)
	consumer := ns.client(kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	consumed := consumeAll(t, consumer)
	l := ns.load("t")
	l.more(t, 50)
	joined(t, consumed)
	for i := range ns.all {
		ns.again(i, nil)
		ns.ready(i)
		l.more(t, 50)
	}
	l.end(t)
	ns.sameLog("t", partitions, l)
	until(t, "everything is consumed", func() error {
		if n := consumed(); n < l.count() {
			return fmt.Errorf("%d of %d are", n, l.count())
		}
		return nil
	})
	t.Logf("%d records; the longest pause between acks was %s", l.count(), l.gap.Round(time.Millisecond))
}

// joined waits until a consumer is in its group.
func joined(t *testing.T, consumed func() int) {
	until(t, "the consumer is in its group", func() error {
		if consumed() == 0 {
			return errors.New("nothing is consumed")
		}
		return nil
	})
}

// consumeAll consumes until the test ends; the function tells how many
// different values there were. An error that a consumer sees fails the test.
func consumeAll(t *testing.T, c *kgo.Client) func() int {
	var mu sync.Mutex
	seen := map[string]bool{}
	ctx, stop := context.WithCancel(t.Context())
	var polling sync.WaitGroup
	polling.Go(func() {
		for ctx.Err() == nil {
			fs := c.PollFetches(ctx)
			mu.Lock()
			fs.EachRecord(func(r *kgo.Record) { seen[string(r.Value)] = true })
			mu.Unlock()
			for _, e := range fs.Errors() {
				if ctx.Err() == nil {
					t.Errorf("consumer sees, at %s: %v", time.Now().UTC().Format("15:04:05.000"), e.Err)
				}
			}
		}
	})
	t.Cleanup(func() { stop(); polling.Wait() })
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(seen)
	}
}

// Shows that records and group offsets survive a kill -9 of the broker that
// leads them, that others take over within seconds, and that the killed broker
// comes back.
func TestKilledBrokerIsReplaced(t *testing.T) {
	t.Parallel()
	cfgs := threeOf(t, testConfig)
	kids := startChildren(t, cfgs)
	client, admin := openClient(t, kids[0].addr, kgo.SeedBrokers(kids[0].addr, kids[1].addr, kids[2].addr))
	if _, err := admin.CreateTopic(t.Context(), 1, 3, nil, "t"); err != nil {
		t.Fatal(err)
	}
	var all kadm.Offsets
	all.AddOffset("t", 0, 7, -1)
	until(t, "a group commits", func() error { return admin.CommitAllOffsets(t.Context(), "g", all) })
	coordinators := admin.FindGroupCoordinators(t.Context(), "g")
	victim := coordinators["g"].NodeID
	if coordinators.Error() != nil || victim < 1 {
		t.Fatal(coordinators.Error())
	}
	acked := &acks{values: map[int64]string{}}
	ctx, stop := context.WithCancel(t.Context())
	var producing sync.WaitGroup
	producing.Go(func() { acked.produceUntil(ctx, client, 1) })
	t.Cleanup(func() { stop(); client.Close(); producing.Wait() }) // an idempotent producer gives up in no other way
	grows := func(n int) {
		t.Helper()
		goal := acked.count() + n
		until(t, "records are acked", func() error {
			if have := acked.count(); have < goal {
				return fmt.Errorf("%d of %d", have, goal)
			}
			return nil
		})
	}
	grows(50)
	meta, err := admin.Metadata(t.Context(), "t")
	if err != nil {
		t.Fatal(err)
	}
	// The coordinator's broker and the partition's leader, each in its turn.
	killed := slices.Compact([]int32{victim, meta.Topics["t"].Partitions[0].Leader})
	for _, node := range killed {
		kids[node-1].kill()
		begin := time.Now()
		grows(20)
		t.Logf("killed broker %d; 20 more acks after %s", node, time.Since(begin).Round(time.Millisecond))
		until(t, "the group's offset is there", func() error {
			r, err := admin.FetchOffsets(t.Context(), "g")
			if o, ok := r.Lookup("t", 0); err != nil || !ok || o.At != 7 {
				c := admin.FindGroupCoordinators(t.Context(), "g")
				m, e2 := admin.Metadata(t.Context(), "__consumer_offsets")
				return fmt.Errorf("offset %+v, %w; coord %+v; %v %v", o, err, c, m, e2)
			}
			return nil
		})
		cfgs[node-1].KafkaAddr = kids[node-1].addr
		kids[node-1] = startChild(t, cfgs[node-1])
		grows(20)
	}
	stop()
	client.Close()
	producing.Wait()
	reader, _ := openClient(t, kids[0].addr)
	var values []string
	until(t, "the log is read", func() (err error) {
		values, err = readLog(t.Context(), reader, "t", 0, 0)
		return err
	})
	for offset, want := range acked.values {
		if offset >= int64(len(values)) || values[offset] != want {
			t.Fatalf("%q was acked at offset %d of %d and is not there", want, offset, len(values))
		}
	}
	if n := len(slices.Compact(slices.Sorted(slices.Values(values)))); n != len(values) {
		t.Errorf("%d of %d records are there twice", len(values)-n, len(values))
	}
}

// startChildren starts brokers in processes of their own, at once.
func startChildren(t *testing.T, cfgs []Config) []*child {
	t.Helper()
	kids := make([]*child, len(cfgs))
	for i, cfg := range cfgs {
		kids[i] = launchChild(t, cfg)
	}
	for _, c := range kids {
		c.serves(t)
	}
	return kids
}

// Shows that a tiered topic with a table keeps one history over changes of
// leaders: the table has each record once, and what is read back from the
// bucket is what was acked.
func TestTableAndBucketOverLeaderChanges(t *testing.T) {
	w := newWorld(t)
	ns := openNodes(t, threeOf(t, w.configIn))
	const partitions = 3
	configs := withTable()
	configs["local.retention.bytes"] = "0"
	id := ns.topic(0, "t", partitions, configs)
	l := ns.load("t")
	l.more(t, 30)
	for range 2 {
		owner := ns.leader(0, record.PartitionID{Topic: id})
		ns.again(int(owner.cfg.NodeID)-1, func() { l.more(t, 30) })
		ns.whole()
		l.more(t, 30)
	}
	l.end(t)
	until(t, "the table has everything", func() error { return ns.all[0].agrees("t", int64(l.count())) })
	for p := range int32(partitions) {
		until(t, "the log is in the bucket alone", func() error {
			n := ns.leader(0, record.PartitionID{Topic: id, Partition: p})
			if n == nil {
				return errors.New("no leader")
			}
			h, err := n.parts.get(record.PartitionID{Topic: id, Partition: p})
			if err != nil {
				return err
			}
			if o, _ := h.Marks(); o.LocalLogStart < o.HighWatermark {
				return fmt.Errorf("the disk has [%d, %d)", o.LocalLogStart, o.HighWatermark)
			}
			return nil
		})
	}
	ns.sameLog("t", partitions, l)
	for _, n := range ns.all {
		if strings.Contains(n.logged.String(), "level=ERROR") {
			t.Logf("broker %d logged errors: %s", n.cfg.NodeID, n.logged.tail())
		}
	}
}

// Shows that a broker whose disk was lost comes back with an empty one under its
// old node id: it joins anew, and gets its replicas again from the others, while
// these go on.
func TestWipedBrokerComesBack(t *testing.T) {
	t.Parallel()
	ns := openNodes(t, threeOf(t, testConfig))
	const partitions = 2
	ns.topic(0, "t", partitions, nil)
	l := ns.load("t")
	l.more(t, 50)
	ns.again(2, func() {
		dir := ns.all[2].cfg.DataDir
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
		l.more(t, 50)
	})
	until(t, "the replicas are made anew", func() error {
		v := ns.all[0].controller.View()
		for p := range v.TopicByName("t").Partitions {
			part := &v.TopicByName("t").Partitions[p]
			r, ok := v.ReplicaOn(part, 3)
			if !ok || part.Move != nil || len(part.Replicas) != 3 {
				return fmt.Errorf("partition %d has replicas %+v, move %+v", p, part.Replicas, part.Move)
			}
			if h, err := ns.all[2].parts.get(record.PartitionID{Topic: v.TopicByName("t").ID, Partition: int32(p)}); err != nil || h.replica != r.ID {
				return fmt.Errorf("partition %d does not run on the new disk: %v", p, err)
			}
		}
		return nil
	})
	l.end(t)
	ns.whole()
	ns.sameLog("t", partitions, l)
}

// Shows that consumers with default settings see no error when the coordinator
// goes elsewhere in the middle of their first join, again and again.
func TestGroupsJoinWhileCoordinatorsMove(t *testing.T) {
	t.Parallel()
	ns := openNodes(t, threeOf(t, testConfig))
	ns.topic(0, "t", 1, nil)
	if err := ns.client().ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte("v")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var moving sync.WaitGroup
	moving.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			ns.all[i%len(ns.all)].handOver()
			select {
			case <-time.After(time.Duration(rand.IntN(200)) * time.Millisecond):
			case <-ctx.Done():
			}
		}
	})
	defer moving.Wait()
	defer stop()
	for i := range 6 {
		consumer := ns.client(kgo.ConsumerGroup(fmt.Sprint("g", i)), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		joined(t, consumeAll(t, consumer))
	}
}
