package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"tidewater/broker"
)

// asCommand has this test binary be the command instead of the tests.
const asCommand = "TIDEWATER_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main() // its own children are commands, too
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// patience is how long a test waits for what must happen: far longer than it
// takes on a machine that is busy with other tests.
const patience = 90 * time.Second

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
		case <-time.After(50 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

// output is a process's output that is read while it is written.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// tail is the newest of the output, short enough not to hide why a test failed.
func (o *output) tail() string {
	const shown = 15
	lines := strings.Split(strings.TrimSpace(o.String()), "\n")
	return "...\n" + strings.Join(lines[max(0, len(lines)-shown):], "\n")
}

// process is a command that runs.
type process struct {
	cmd      *exec.Cmd
	out, err output
	ended    chan struct{} // closed when it has
	failed   error         // of Wait, once ended
}

// command makes a process of this binary that does not run yet.
func command(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, os.Args[0], args...)
	c.Env = append(os.Environ(), asCommand+"=1")
	return c
}

// start starts a command that goes on until it is told to end. dir is where it
// stands, so that no configuration file is met by chance.
func start(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	p := &process{cmd: command(context.Background(), args...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir = &p.out, &p.err, dir
	p.cmd.SysProcAttr = nodeProcess() // it ends with the tests
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.failed = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.end(syscall.SIGTERM)
		if t.Failed() {
			t.Logf("log of tidewater %s: %s\n%s", strings.Join(args, " "), p.out.tail(), p.err.tail())
		}
	})
	return p
}

// end signals the process and waits for it, SIGKILL at last.
func (p *process) end(s syscall.Signal) {
	_ = p.cmd.Process.Signal(s)
	select {
	case <-p.ended:
	case <-time.After(patience / 2):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// says waits for a text on standard output, or standard error.
func (p *process) says(t *testing.T, text string) {
	t.Helper()
	until(t, fmt.Sprintf("%q is said", text), func() error {
		if strings.Contains(p.out.String(), text) || strings.Contains(p.err.String(), text) {
			return nil
		}
		select {
		case <-p.ended:
			t.Fatalf("the process ended (%v) and never said %q: %s\n%s", p.failed, text, p.out.tail(), p.err.tail())
		default:
		}
		return errors.New("it is not")
	})
}

// run runs a command to its end.
func run(t *testing.T, stdin string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	c := command(ctx, args...)
	var out, bad bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr, c.Dir = strings.NewReader(stdin), &out, &bad, t.TempDir()
	err = c.Run()
	return out.String(), bad.String(), err
}

// must is run, of a command that has to work.
func must(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	out, bad, err := run(t, stdin, args...)
	if err != nil {
		t.Fatalf("tidewater %s: %v\n%s%s", strings.Join(args, " "), err, out, bad)
	}
	return out
}

// refused is run, of a command that must fail and say each of the words.
func refused(t *testing.T, args []string, words ...string) {
	t.Helper()
	out, bad, err := run(t, "", args...)
	if err == nil {
		t.Errorf("tidewater %s does it:\n%s%s", strings.Join(args, " "), out, bad)
		return
	}
	for _, w := range words {
		if !strings.Contains(bad, w) {
			t.Errorf("tidewater %s says %q, and not %q", strings.Join(args, " "), bad, w)
		}
	}
}

// brokers is a cluster of broker processes, each by its configuration file.
type brokers struct {
	t    *testing.T
	dir  string
	host string // of broker n is host.n
	keys []map[string]any
	all  []*process
}

// newBrokers makes configurations for n brokers, the first of which are the
// seeds. The addresses are loopback ones that nobody else meets.
func newBrokers(t *testing.T, n, founders int) *brokers {
	t.Helper()
	bs := &brokers{t: t, dir: t.TempDir(), host: fmt.Sprintf("127.%d.%d", 1+rand.IntN(250), rand.IntN(250)), all: make([]*process, n)}
	var seeds []string
	for i := range founders {
		seeds = append(seeds, bs.rpc(i))
	}
	for i := range n {
		host := fmt.Sprintf("%s.%d", bs.host, i+1)
		bs.keys = append(bs.keys, map[string]any{
			"node-id": i + 1, "data-dir": filepath.Join(bs.dir, fmt.Sprintf("node-%d", i+1)),
			"kafka-addr": host + ":9092", "admin-addr": host + ":9644", "catalog-addr": "",
			"rpc-addr": bs.rpc(i), "seeds": seeds, "memory": 64 << 20, "group-initial-delay": "0s", "tail-every": "100ms",
		})
	}
	return bs
}

func (bs *brokers) rpc(i int) string { return fmt.Sprintf("%s.%d:33145", bs.host, i+1) }

// dataDir is broker i's.
func (bs *brokers) dataDir(i int) string { return bs.keys[i]["data-dir"].(string) }

// config writes broker i's configuration file.
func (bs *brokers) config(i int) string {
	bs.t.Helper()
	text, err := yaml.Marshal(bs.keys[i])
	if err != nil {
		bs.t.Fatal(err)
	}
	path := filepath.Join(bs.dir, fmt.Sprintf("node-%d.yaml", i+1))
	if err := os.WriteFile(path, text, 0o600); err != nil {
		bs.t.Fatal(err)
	}
	return path
}

// start starts brokers, and waits until they serve.
func (bs *brokers) start(which ...int) {
	bs.t.Helper()
	for _, i := range which {
		bs.launch(i)
	}
	for _, i := range which {
		bs.all[i].says(bs.t, "is ready")
	}
}

// launch starts a broker and does not wait.
func (bs *brokers) launch(i int) *process {
	bs.t.Helper()
	bs.all[i] = start(bs.t, bs.dir, "broker", "--config", bs.config(i))
	return bs.all[i]
}

// admin are the flags that say where the brokers' admin addresses are.
func (bs *brokers) admin(which ...int) string { return "--admin=" + bs.list("admin-addr", which) }

// kafka are the flags that say where the brokers are.
func (bs *brokers) kafka(which ...int) string { return "--brokers=" + bs.list("kafka-addr", which) }

func (bs *brokers) list(key string, which []int) string {
	var addrs []string
	for i := range bs.keys {
		if len(which) == 0 {
			addrs = append(addrs, bs.keys[i][key].(string))
		}
	}
	for _, i := range which {
		addrs = append(addrs, bs.keys[i][key].(string))
	}
	return strings.Join(addrs, ",")
}

// status asks broker i for the cluster.
func (bs *brokers) status(i int) (s broker.ClusterStatus, err error) {
	bs.t.Helper()
	out, bad, err := run(bs.t, "", "cluster", "status", "-o", "json", bs.admin(i))
	if err != nil {
		return s, fmt.Errorf("%w: %s", err, bad)
	}
	return s, json.Unmarshal([]byte(out), &s)
}

// whole waits until every partition has a leader and all its replicas, and
// nothing moves.
func (bs *brokers) whole(i, brokers int) broker.ClusterStatus {
	bs.t.Helper()
	var s broker.ClusterStatus
	until(bs.t, "the cluster is well", func() (err error) {
		if s, err = bs.status(i); err != nil {
			return err
		}
		for _, b := range s.Brokers {
			if b.State != "active" {
				return fmt.Errorf("broker %d is %s", b.ID, b.State)
			}
		}
		if len(s.Brokers) != brokers || s.Controller < 0 || s.UnderReplicated+s.Leaderless+s.Lost+s.Balance.Moves > 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	return s
}

// lines gives the values of a topic as the CLI consumes them.
func (bs *brokers) lines(topic string, which ...int) ([]string, error) {
	bs.t.Helper()
	out, bad, err := run(bs.t, "", "consume", topic, "--from", "earliest", "--format", "json", bs.kafka(which...))
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, bad)
	}
	var values []string
	for d := json.NewDecoder(strings.NewReader(out)); ; {
		var r struct {
			Value string `json:"value"`
		}
		if err := d.Decode(&r); errors.Is(err, io.EOF) {
			return values, nil
		} else if err != nil {
			return nil, err
		}
		values = append(values, r.Value)
	}
}

// holds waits until a topic has exactly the records [0, count) of fill.
func (bs *brokers) holds(topic string, count int, which ...int) {
	bs.t.Helper()
	until(bs.t, "the records are there", func() error {
		values, err := bs.lines(topic, which...)
		if err != nil {
			return err
		}
		seen := map[string]int{}
		for _, v := range values {
			seen[v]++
		}
		for i := range count {
			if v := fmt.Sprintf("record %d", i); seen[v] != 1 {
				bs.t.Fatalf("%q is there %d times among %d records", v, seen[v], len(values))
			}
		}
		if len(values) != count {
			bs.t.Fatalf("%d records are there, want %d", len(values), count)
		}
		return nil
	})
}

// fill produces the records [from, to) by the CLI.
func (bs *brokers) fill(topic string, from, to int, which ...int) {
	bs.t.Helper()
	var lines strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&lines, "record %d\n", i)
	}
	must(bs.t, lines.String(), "produce", topic, bs.kafka(which...))
}
