package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"tidewater/broker"
)

const (
	// nodeAgain is the pause before a node that ended is started again: long
	// enough to see the others take over.
	nodeAgain = 3 * time.Second
	// nodeStop bounds how long a node may take to close.
	nodeStop = 15 * time.Second
	// nodeRPC is where the first node listens for the others.
	nodeRPC = "127.0.0.1:33145"
)

// devNodes runs a cluster of broker processes and starts those again that end.
type devNodes struct {
	dir   string
	nodes []broker.Config
	out   io.Writer
	err   io.Writer
	ready chan int32 // a node's id, each time it says that it serves

	mu sync.Mutex // held while a line is written
}

// planNodes gives each node its directory and its ports, counted up from the
// first; what else it is told is the same for all.
func planNodes(cfg broker.Config, nodes int) ([]broker.Config, error) {
	if cfg.RPCAddr == "" {
		cfg.RPCAddr = nodeRPC
	}
	cfg.Seeds = nil
	for i := range nodes {
		addr, err := countUp(cfg.RPCAddr, i)
		if err != nil {
			return nil, fmt.Errorf("rpc-addr: %w", err)
		}
		cfg.Seeds = append(cfg.Seeds, addr)
	}
	all := make([]broker.Config, nodes)
	for i := range all {
		n := cfg
		n.NodeID = int32(i + 1)
		n.DataDir = filepath.Join(cfg.DataDir, fmt.Sprintf("node-%d", n.NodeID))
		n.MoreDataDirs = nil
		for _, dir := range cfg.MoreDataDirs {
			n.MoreDataDirs = append(n.MoreDataDirs, filepath.Join(dir, fmt.Sprintf("node-%d", n.NodeID)))
		}
		for _, addr := range []*string{&n.KafkaAddr, &n.KafkaAdvertised, &n.AdminAddr, &n.CatalogAddr, &n.RPCAddr, &n.RPCAdvertised} {
			var err error
			if *addr, err = countUp(*addr, i); err != nil {
				return nil, err
			}
		}
		all[i] = n
	}
	return all, nil
}

// countUp adds n to an address's port; port 0 and no address stay.
func countUp(addr string, n int) (string, error) {
	if addr == "" {
		return "", nil
	}
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	port, err := strconv.Atoi(text)
	if err != nil || port < 0 || port > 65535-n {
		return "", fmt.Errorf("%q: port out of range", addr)
	}
	if port == 0 {
		return addr, nil
	}
	return net.JoinHostPort(host, strconv.Itoa(port+n)), nil
}

// run keeps the nodes running until ctx ends, and closes them. started is
// called once, when all serve.
func (d *devNodes) run(ctx context.Context, started func()) error {
	d.ready = make(chan int32, len(d.nodes))
	var running sync.WaitGroup
	faults := make([]error, len(d.nodes))
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	for i := range d.nodes {
		config, err := d.write(&d.nodes[i])
		if err != nil {
			return err
		}
		running.Go(func() {
			faults[i] = d.keep(ctx, d.nodes[i].NodeID, config)
			if faults[i] != nil {
				stop()
			}
		})
	}
	running.Go(func() {
		serve := map[int32]bool{}
		for len(serve) < len(d.nodes) {
			select {
			case id := <-d.ready:
				serve[id] = true
			case <-ctx.Done():
				return
			}
		}
		started()
	})
	running.Wait()
	return errors.Join(faults...)
}

// write puts a node's configuration where a person finds it.
func (d *devNodes) write(cfg *broker.Config) (string, error) {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	written := *cfg // declaring the flags writes defaults into it
	brokerFlags(flags, &written)
	keys := map[string]any{}
	flags.VisitAll(func(f *pflag.Flag) {
		if list, ok := f.Value.(pflag.SliceValue); ok {
			keys[f.Name] = list.GetSlice()
		} else {
			keys[f.Name] = f.Value.String()
		}
	})
	text, err := yaml.Marshal(keys)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(d.dir, fmt.Sprintf("node-%d.yaml", cfg.NodeID))
	return path, os.WriteFile(path, text, 0o600)
}

// keep runs a node, again and again, until ctx ends. A node that never served
// is a failure: it would not the next time either.
func (d *devNodes) keep(ctx context.Context, id int32, config string) error {
	for served := false; ; {
		err := d.once(ctx, id, config, &served)
		if ctx.Err() != nil {
			return nil
		}
		if !served {
			return fmt.Errorf("node %d: %w", id, err)
		}
		d.say(d.out, "node %d ended (%v); it is started again in %s", id, err, nodeAgain)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(nodeAgain):
		}
	}
}

// once runs a node until it ends, or ctx does and it is told to.
func (d *devNodes) once(ctx context.Context, id int32, config string, served *bool) error {
	c := exec.Command(os.Args[0], "broker", "--config", config)
	c.SysProcAttr = nodeProcess()
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	logged, err := c.StderrPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	d.say(d.out, "node %d pid %d", id, c.Process.Pid)
	over := context.AfterFunc(ctx, func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		time.AfterFunc(nodeStop, func() { _ = c.Process.Kill() })
	})
	defer over()
	var pipes sync.WaitGroup
	pipes.Go(func() { d.lines(d.err, id, logged) })
	lines := bufio.NewScanner(out)
	for lines.Scan() { // its one line says that it serves
		d.say(d.out, "%s", lines.Text())
		if !*served {
			*served = true
			d.ready <- id
		}
	}
	pipes.Wait()
	if err := c.Wait(); err != nil {
		return err
	}
	return errors.New("exit status 0")
}

// lines passes on what a node logs.
func (d *devNodes) lines(w io.Writer, id int32, from io.Reader) {
	r := bufio.NewReader(from)
	for {
		line, err := r.ReadString('\n')
		if line != "" {
			d.say(w, "node=%d %s", id, line[:len(line)-btoi(line[len(line)-1] == '\n')])
		}
		if err != nil {
			return
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (d *devNodes) say(w io.Writer, format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fmt.Fprintf(w, format+"\n", args...)
}

// runDevNodes is dev with --nodes: as many broker processes on one store.
func runDevNodes(c *cobra.Command, cfg broker.Config, nodes int) error {
	begin := time.Now()
	if !c.Flags().Changed("memory") {
		cfg.Memory /= int64(nodes)
	}
	all, err := planNodes(cfg, nodes)
	if err != nil {
		return usageError{err}
	}
	for i := range all {
		if err := all[i].Validate(); err != nil {
			return usageError{err}
		}
	}
	d := &devNodes{dir: cfg.DataDir, nodes: all, out: c.OutOrStdout(), err: c.ErrOrStderr()}
	err = d.run(c.Context(), func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		nodesBanner(d.out, all, time.Since(begin))
	})
	if c.Context().Err() != nil {
		d.say(d.err, "closed")
	}
	return err
}

func nodesBanner(w io.Writer, all []broker.Config, took time.Duration) {
	first := &all[0]
	var addrs string
	for i := range all {
		if i > 0 {
			addrs += ","
		}
		addrs += all[i].KafkaAddr
	}
	fmt.Fprintf(w, "tidewater is ready after %d ms: %d brokers, each with its configuration in %s/node-N.yaml\n  Kafka     %s\n  bucket    %s\n",
		took.Milliseconds(), len(all), filepath.Dir(first.DataDir), addrs, first.Bucket)
	if first.CatalogAddr != "" {
		fmt.Fprintf(w, "  catalog   http://%s (one catalog, served by every broker)\n", first.CatalogAddr)
	}
	if first.AdminAddr != "" {
		fmt.Fprintf(w, "  admin     %s://%s/metrics\n", adminScheme(*first), first.AdminAddr)
	}
	fmt.Fprintf(w, "\n  kill -9 a node's pid: the others take over, and it is started again after %s.\n  Ctrl-C ends them all.\n", nodeAgain)
}
