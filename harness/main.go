package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"golang.org/x/sync/errgroup"
)

const (
	partitions = 6
	producers  = 3
	members    = 3
	// drainMax is how long acks may take after the last fault was healed.
	drainMax = 60 * time.Second
	// auditMax is how long reading all of a short run may take; auditShare of a
	// long one's time comes on top.
	auditMax   = 2 * time.Minute
	auditShare = 10
	// printedMax bounds how many anomalies are printed; the report has more.
	printedMax = 20
)

type options struct {
	binary string
	nodes  int
	time   time.Duration
	seed   uint64
	rate   int
	faults string
	out    string
}

func main() {
	var o options
	flag.StringVar(&o.binary, "binary", "bin/tidewater", "the broker's program")
	flag.IntVar(&o.nodes, "nodes", 3, "brokers: 1, 3 or 5")
	flag.DurationVar(&o.time, "time", 5*time.Minute, "how long faults are made")
	flag.Uint64Var(&o.seed, "seed", 1, "of the schedule of faults")
	flag.IntVar(&o.rate, "rate", 200, "records a second of each of the three producers")
	flag.StringVar(&o.faults, "faults", "", "only these, comma-separated; all that fit the cluster if empty")
	flag.StringVar(&o.out, "out", "", "directory for report, history and logs; a new temporary one if empty")
	flag.Parse()
	code, err := start(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "harness:", err)
		code = 1
	}
	os.Exit(code)
}

// start runs the harness in namespaces of its own; the code is 2 when there
// were anomalies.
func start(o options) (int, error) {
	if os.Geteuid() != 0 {
		return 0, errors.New("network namespaces and file systems of its own need root")
	}
	if os.Getenv(insideEnv) == "" {
		return enter()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r, dir, err := harness(ctx, o)
	if err != nil {
		return 0, err
	}
	fmt.Printf("\n%d records acked, %d polled, %d faults, %d anomalies; report in %s\n", r.Acked, r.Polled, len(r.Events), r.anomalies(), filepath.Join(dir, "report.md"))
	for _, a := range anomalies {
		fmt.Printf("  %-22s %d\n", a, r.Counts[a])
	}
	if r.anomalies() == 0 {
		return 0, removeImages(dir)
	}
	for _, f := range r.Found[:min(len(r.Found), printedMax)] {
		fmt.Println(f)
	}
	return 2, nil
}

// harness is one run: cluster up, clients and faults side by side, audit.
func harness(ctx context.Context, o options) (*result, string, error) {
	dir, err := o.out, error(nil)
	if dir == "" {
		if dir, err = os.MkdirTemp("", "tidewater-harness-"); err != nil {
			return nil, "", err
		}
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, "", err
	}
	hosts := []int{storeHost}
	for id := 1; id <= o.nodes; id++ {
		hosts = append(hosts, brokerHost(id))
	}
	net, err := openNetwork(ctx, hosts)
	if err != nil {
		return nil, "", err
	}
	binary, err := filepath.Abs(o.binary)
	if err != nil {
		return nil, "", err
	}
	c := newCluster(net, binary, dir, o.nodes)
	defer c.close()
	c.prepare(ctx)
	list, err := choose(o, c.cannot)
	if err != nil {
		return nil, "", err
	}
	fmt.Printf("%d brokers and a store, logs in %s\n", o.nodes, dir)
	if err := c.open(ctx); err != nil {
		return nil, "", err
	}
	r, err := play(ctx, o, c, list)
	return r, dir, err
}

// choose gives the faults of this run, and prints which the machine cannot make.
func choose(o options, cannot map[string]string) ([]fault, error) {
	var list []fault
	var names []string
	for _, f := range faults() {
		names = append(names, f.name)
		why, not := cannot[f.name]
		switch {
		case o.nodes < f.nodes || o.faults != "" && !slices.Contains(strings.Split(o.faults, ","), f.name):
		case not:
			fmt.Printf("left out: %s: %s\n", f.name, why)
		default:
			list = append(list, f)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no fault of %q fits %d brokers; there are: %s", o.faults, o.nodes, strings.Join(names, ", "))
	}
	return list, nil
}

// play runs clients and nemesis on a cluster that serves.
func play(ctx context.Context, o options, c *cluster, list []fault) (*result, error) {
	l, g := newLedger(partitions, time.Now), &gaps{now: time.Now, begin: time.Now()}
	w := &workload{seeds: c.seeds(), partitions: partitions, rate: o.rate, seed: o.seed, ledger: l, gaps: g, errors: map[string]int{}}
	if err := w.create(ctx, int16(min(3, o.nodes))); err != nil {
		return nil, err
	}
	begin := time.Now()
	work, stopWork := context.WithCancel(ctx)
	defer stopWork()
	drain, stopDrain := context.WithCancel(ctx)
	defer stopDrain()
	send, read := &errgroup.Group{}, &errgroup.Group{}
	sending, stopSending := context.WithCancel(ctx)
	defer stopSending()
	for p := 1; p <= producers; p++ {
		send.Go(func() error { return w.produce(sending, drain, p) })
	}
	read.Go(func() error { return w.poll(work, "poller", o.time) })
	read.Go(func() error { return w.poll(work, "historian", 20*time.Second) })
	read.Go(func() error { return w.ends(work) })
	for m := 1; m <= members; m++ {
		read.Go(func() error { return w.work(work, fmt.Sprintf("member %d", m), time.Duration(10+7*m)*time.Second) })
	}

	n := &nemesis{cluster: c, ledger: l, random: rand.New(rand.NewPCG(o.seed, 0)), leader: w.leader}
	printed := 0
	faults, stopFaults := context.WithTimeout(ctx, o.time)
	err := n.run(faults, list, func(e event) {
		fmt.Printf("%s  %-15s %-62s %5s  longest without an ack %s\n", e.Begin.Format("15:04:05"), e.Fault, e.What, e.Heal.Sub(e.Begin).Round(100*time.Millisecond), orUnder(g.longest(e.Begin, time.Now())))
		for ; printed < min(len(l.found()), printedMax); printed++ {
			fmt.Printf("          ANOMALY %s\n", l.found()[printed])
		}
	})
	stopFaults()
	if err != nil && ctx.Err() == nil {
		l.report(stuck, "%v", err)
	}
	stopSending()
	timer := time.AfterFunc(drainMax, stopDrain)
	defer timer.Stop()
	err = send.Wait()
	stopWork()
	err = errors.Join(err, read.Wait(), ctx.Err())
	if err != nil {
		return nil, err
	}
	r := &result{Nodes: o.nodes, Seed: o.seed, Begin: begin, Took: time.Since(begin), Events: n.events, Cannot: c.cannot}
	r.TableRows = w.finish(ctx, c, auditMax+r.Took/auditShare)
	r.Counts, r.Found, r.Acked, r.Polled = l.total()
	r.Gaps, r.Rate, r.Told = g.all, g.rate, w.errors
	if r.Repairs, err = c.repairs(n.flipped); err != nil {
		return nil, err
	}
	return r, r.write(c.dir, g)
}

// create makes the topic: tiered, with a table, in small segments, so that
// readers of history go to memory, disk and bucket.
func (w *workload) create(ctx context.Context, replicas int16) error {
	c, err := w.client()
	if err != nil {
		return err
	}
	defer c.Close()
	props := map[string]*string{}
	for k, v := range map[string]string{
		"retention.ms": "-1", "remote.storage.enable": "true", "local.retention.ms": "30000", "local.retention.bytes": fmt.Sprint(4 << 20),
		"segment.bytes": fmt.Sprint(1 << 20), "segment.ms": "10000", "tidewater.iceberg.mode": "key_value",
	} {
		props[k] = &v
	}
	r, err := kadm.NewClient(c).CreateTopic(ctx, partitions, replicas, props, topicName)
	return errors.Join(err, r.Err)
}

// leader is the broker that leads partition 0.
func (w *workload) leader(ctx context.Context) (int, error) {
	c, err := w.client()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	ctx, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	topics, err := kadm.NewClient(c).ListTopics(ctx, topicName)
	if err != nil {
		return 0, err
	}
	p, ok := topics[topicName].Partitions[0]
	if !ok || p.Leader < 1 {
		return 1, nil // nobody leads: any will do
	}
	return int(p.Leader), nil
}

// finish audits the log and has the table compared with it.
func (w *workload) finish(ctx context.Context, c *cluster, limit time.Duration) string {
	ctx, stop := context.WithTimeout(ctx, limit)
	defer stop()
	if err := w.audit(ctx); err != nil {
		w.ledger.report(stuck, "the log cannot be read from its start: %v", err)
	}
	out, err := exec.CommandContext(ctx, c.binary, "verify", "-b", strings.Join(w.seeds, ","), "--catalog", "http://"+at(brokerHost(1), catalogPort), topicName).CombinedOutput()
	said := strings.TrimSpace(string(out))
	if err != nil {
		w.ledger.report(tableDiffers, "tidewater verify: %v: %s", err, said)
		return "Log and table: " + said
	}
	return "Log and table agree: " + said
}
