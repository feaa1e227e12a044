package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	kafkaPort, rpcPort, adminPort, catalogPort, storePort = 9092, 33145, 9644, 8181, 9000

	bucketName = "tidewater"
	// readyMax is how long a broker may take from its start until it serves.
	readyMax = 30 * time.Second
	// diskBytes is the size of a broker's file system, sparse in its image.
	diskBytes = 8 << 30
)

// process is a program in a namespace, with its output in a file.
type process struct {
	name string
	host int
	args []string
	log  string

	mu   sync.Mutex
	cmd  *exec.Cmd     // nil while it is not meant to run
	done chan struct{} // ends when the process has
}

// cluster is the brokers and the store.
type cluster struct {
	net    *network
	binary string
	dir    string
	client http.Client

	brokers []*process // by node id - 1
	store   *process

	throttle *throttle         // nil where the machine has none
	cannot   map[string]string // faults that this machine cannot make, with the reason
}

// prepare finds out which faults this machine cannot make.
func (c *cluster) prepare(ctx context.Context) {
	c.cannot = map[string]string{}
	var err error
	if c.throttle, err = openThrottle(ctx, c.dir); err != nil {
		c.cannot[faultSlowDisk] = err.Error()
	}
	if err := canSkew(); err != nil {
		c.cannot[faultClock] = err.Error()
	}
	if err := canFail(ctx, filepath.Join(c.dir, "probe")); err != nil {
		c.cannot[faultDiskFails] = err.Error()
	}
}

// newCluster says what will run; nothing runs yet.
func newCluster(net *network, binary, dir string, nodes int) *cluster {
	c := &cluster{net: net, binary: binary, dir: dir, client: http.Client{Timeout: time.Second}}
	c.store = &process{name: "store", host: storeHost, log: filepath.Join(dir, "store.log"),
		args: []string{binary, "s3", "--data-dir", filepath.Join(dir, "bucket"), "--addr", at(storeHost, storePort)}}
	var seeds []string
	for id := 1; id <= nodes; id++ {
		seeds = append(seeds, at(brokerHost(id), rpcPort))
	}
	for id := 1; id <= nodes; id++ {
		h := brokerHost(id)
		args := []string{binary, "broker", "--node-id", fmt.Sprint(id), "--data-dir", c.dataDir(id),
			"--kafka-addr", at(h, kafkaPort), "--admin-addr", at(h, adminPort), "--catalog-addr", at(h, catalogPort),
			"--bucket", fmt.Sprintf("s3://%s?endpoint=http://%s&region=us-east-1", bucketName, at(storeHost, storePort)),
			"--bucket-access-key", "tidewater", "--bucket-secret-key", "tidewater",
			"--catalog-access-key", "tidewater", "--catalog-secret-key", "tidewater",
			"--group-initial-delay", "200ms", "--memory", fmt.Sprint(256 << 20)}
		if nodes > 1 {
			args = append(args, "--rpc-addr", at(h, rpcPort), "--seeds", strings.Join(seeds, ","), "--rack", fmt.Sprintf("rack-%d", id))
		}
		c.brokers = append(c.brokers, &process{name: fmt.Sprintf("broker %d", id), host: h, args: args, log: filepath.Join(dir, fmt.Sprintf("broker-%d.log", id))})
	}
	return c
}

func at(host, port int) string { return fmt.Sprintf("%s:%d", address(host), port) }

// brokerHost is the last number of a broker's address.
func brokerHost(id int) int { return 10 + id }

// seeds are the Kafka addresses of all brokers.
func (c *cluster) seeds() []string {
	var out []string
	for _, b := range c.brokers {
		out = append(out, at(b.host, kafkaPort))
	}
	return out
}

func (c *cluster) mountPoint(id int) string { return filepath.Join(c.dir, fmt.Sprintf("disk-%d", id)) }
func (c *cluster) dataDir(id int) string    { return filepath.Join(c.mountPoint(id), "data") }

// open makes the brokers' file systems, starts everything and waits until all
// brokers serve.
func (c *cluster) open(ctx context.Context) error {
	for id := range c.brokers {
		if err := mount(ctx, c.mountPoint(id+1), diskBytes); err != nil {
			return err
		}
	}
	if err := c.start(c.store); err != nil {
		return err
	}
	for _, b := range c.brokers {
		if err := c.start(b); err != nil {
			return err
		}
	}
	return c.ready(ctx, readyMax)
}

// mount makes a file system of its own in a file beside its mount point.
func mount(ctx context.Context, point string, bytes int64) error {
	image := point + ".img"
	if err := os.MkdirAll(point, 0o755); err != nil {
		return fmt.Errorf("make mount point: %w", err)
	}
	f, err := os.Create(image)
	if err != nil {
		return fmt.Errorf("make disk image: %w", err)
	}
	if err := errors.Join(f.Truncate(bytes), f.Close()); err != nil {
		return fmt.Errorf("make disk image: %w", err)
	}
	if err := run(ctx, "mkfs.ext4", "-q", "-m", "0", image); err != nil {
		return err
	}
	return run(ctx, "mount", "-o", "loop", image, point)
}

// start starts a process that does not run.
func (c *cluster) start(p *process) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		return nil
	}
	f, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open log of %s: %w", p.name, err)
	}
	defer f.Close()
	cmd := c.net.command(p.host, p.args...)
	cmd.Stdout, cmd.Stderr = f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.cmd, p.done = cmd, make(chan struct{})
	go func(done chan struct{}) { _ = cmd.Wait(); close(done) }(p.done)
	if c.throttle != nil {
		return c.throttle.hold(p.host, cmd.Process.Pid)
	}
	return nil
}

// pid is the process's number, 0 while it is not meant to run.
func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// signal sends a signal to a process that runs.
func (p *process) signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return nil
	}
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("%s: send %s: %w", p.name, s, err)
	}
	return nil
}

// kill ends a process at once and forgets it.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
		<-p.done
		p.cmd = nil
	}
}

// stop ends a process as an operator does, and says when it does not end.
func (p *process) stop(limit time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return nil
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	defer func() { p.cmd = nil }()
	select {
	case <-p.done:
		return nil
	case <-time.After(limit):
		_ = p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("%s did not stop within %s", p.name, limit)
	}
}

// gone reports whether a process that is meant to run has ended by itself.
func (p *process) gone() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// ready waits until every broker says that it serves.
func (c *cluster) ready(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for _, b := range c.brokers {
		for !c.serves(ctx, b) {
			select {
			case <-ctx.Done():
				return fmt.Errorf("%s is not ready after %s", b.name, limit)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	return nil
}

func (c *cluster) serves(ctx context.Context, b *process) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at(b.host, adminPort)+"/health/ready", nil)
	if err != nil {
		return false
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// close ends everything; the directories stay.
func (c *cluster) close() {
	for _, p := range append([]*process{c.store}, c.brokers...) {
		p.kill()
	}
	for id := range c.brokers {
		_ = run(context.Background(), "umount", "-l", c.mountPoint(id+1))
	}
	if c.throttle != nil {
		_ = c.throttle.close()
	}
}

// removeImages removes the brokers' file systems; after anomalies they stay.
func removeImages(dir string) error {
	images, err := filepath.Glob(filepath.Join(dir, "disk-*.img"))
	if err != nil {
		return fmt.Errorf("list disk images: %w", err)
	}
	var errs []error
	for _, image := range images {
		errs = append(errs, os.Remove(image))
	}
	return errors.Join(errs...)
}
