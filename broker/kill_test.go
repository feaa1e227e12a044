package broker

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// childEnv holds the configuration of a broker that this test binary is to
// run instead of the tests.
const childEnv = "TIDEWATER_TEST_BROKER"

// runChild runs a broker until it is killed; it closes it when its input ends,
// which also happens when its parent is gone.
func runChild(config string) int {
	var cfg Config
	if err := json.Unmarshal([]byte(config), &cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	b, err := Open(context.Background(), cfg, slogOf(os.Stderr))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(b.KafkaAddr())
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := b.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// child is a broker in a process of its own.
type child struct {
	cmd    *exec.Cmd
	addr   string
	stdin  io.Closer
	out    io.Reader
	logged *logged
	closed bool // by stop, as it should
}

func startChild(t *testing.T, cfg Config) *child {
	t.Helper()
	c := launchChild(t, cfg)
	c.serves(t)
	return c
}

// launchChild starts the process and does not wait.
func launchChild(t *testing.T, cfg Config) *child {
	t.Helper()
	return launchBuild(t, os.Args[0], cfg)
}

// launchBuild starts a broker of a test binary, this one or another.
func launchBuild(t *testing.T, binary string, cfg Config) *child {
	t.Helper()
	config, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: exec.Command(binary), logged: &logged{}}
	c.cmd.Env = append(os.Environ(), childEnv+"="+string(config))
	c.cmd.Stderr = c.logged
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if c.out, err = c.cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.kill()
		if t.Failed() && !c.closed {
			t.Logf("log of broker %d on %s: %s", cfg.NodeID, cfg.DataDir, c.logged.tail())
		}
	})
	return c
}

// serves waits until the broker is there.
func (c *child) serves(t *testing.T) {
	t.Helper()
	line, err := bufio.NewReader(c.out).ReadString('\n')
	if err != nil {
		c.kill()
		t.Fatalf("broker does not start: %v; its log: %s", err, c.logged.tail())
	}
	c.addr = strings.TrimSpace(line)
}

// stop has the broker close, and waits for it.
func (c *child) stop(t *testing.T) {
	t.Helper()
	_ = c.stdin.Close()
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("broker ends with %v; its log: %s", err, c.logged.tail())
	}
	c.closed = true
}

// kill ends the process as a power cut of the process would: at once.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
	_ = c.stdin.Close()
}

// acks is what was acked: the value at each offset.
type acks struct {
	mu     sync.Mutex
	values map[int64]string
}

func (a *acks) add(offset int64, value string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.values[offset] = value
}

func (a *acks) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.values)
}

// produceUntil produces records one after the other from several loops until
// ctx ends, and keeps what was acked.
func (a *acks) produceUntil(ctx context.Context, client *kgo.Client, life int) {
	var wg sync.WaitGroup
	for loop := range 4 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				v := fmt.Sprintf("life %d loop %d record %d", life, loop, i)
				r := client.ProduceSync(ctx, &kgo.Record{Topic: "t", Partition: 0, Value: []byte(v)})[0]
				if r.Err == nil {
					a.add(r.Record.Offset, v)
				}
			}
		})
	}
	wg.Wait()
}

// Shows that a broker that is killed at any moment under load, again and
// again, loses nothing it acked, and that the table has each record once.
func TestKilledBrokerLosesNothingAcked(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	n := openNode(t, cfg)
	topic := withTable()
	topic["segment.bytes"] = fmt.Sprint(1 << 20)
	n.topic("t", 1, topic)
	n.close()

	acked := &acks{values: map[int64]string{}}
	for life := range 5 {
		c := startChild(t, cfg)
		client, _ := openClient(t, c.addr)
		ctx, stop := context.WithCancel(t.Context())
		before := acked.count()
		var wg sync.WaitGroup
		wg.Go(func() { acked.produceUntil(ctx, client, life) })
		until(t, "records are acked", func() error {
			if n := acked.count() - before; n < 20+rand.IntN(200) {
				return fmt.Errorf("%d are", n)
			}
			return nil
		})
		c.kill()
		stop()
		client.Close() // an idempotent producer gives up in no other way
		wg.Wait()
	}

	n = openNode(t, cfg)
	var values []string
	until(t, "the log is read", func() (err error) {
		values, err = n.read("t", 0, 0)
		return err
	})
	for offset, want := range acked.values {
		if offset >= int64(len(values)) || values[offset] != want {
			t.Fatalf("%q was acked at offset %d of %d and is not there", want, offset, len(values))
		}
	}
	seen := map[string]int{}
	for i, v := range values {
		if at, twice := seen[v]; twice {
			t.Errorf("%q is at offsets %d and %d", v, at, i)
		}
		seen[v] = i
	}
	begin := time.Now()
	until(t, "the table has all", func() error { return n.agrees("t", int64(len(values))) })
	t.Logf("%d records acked in 5 lives, %d in the log; the table had them %s later", acked.count(), len(values), time.Since(begin).Round(time.Millisecond))
}

// Shows that a broker that is asked to unregister itself answers, although the
// others speak to it no more.
func TestBrokerUnregistersItself(t *testing.T) {
	t.Parallel()
	cfgs := threeOf(t, testConfig)
	startChildren(t, cfgs)
	four := cfgs[0]
	four.NodeID, four.DataDir, four.RPCAddr = 4, t.TempDir(), strings.Replace(four.RPCAddr, ".1:", ".4:", 1)
	client, admin := openClient(t, startChild(t, four).addr, kgo.RequestRetries(0))
	until(t, "all four are there", func() error {
		all, err := admin.ListBrokers(t.Context())
		if err == nil && len(all) < 4 {
			err = fmt.Errorf("%d brokers", len(all))
		}
		return err
	})
	req := kmsg.NewPtrUnregisterBrokerRequest()
	req.BrokerID = 4
	said, err := client.Broker(4).Request(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if code := said.(*kmsg.UnregisterBrokerResponse).ErrorCode; code != 0 {
		t.Errorf("answered %v", kerr.ErrorForCode(code))
	}
}
