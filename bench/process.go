package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// readyTimeout bounds how long a process may take to serve, endTimeout to end.
	readyTimeout = 30 * time.Second
	endTimeout   = 30 * time.Second
	pollEvery    = 20 * time.Millisecond
)

// process is one tidewater process and the file its output goes to.
type process struct {
	name string
	cmd  *exec.Cmd
	out  string
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// world is a directory, ports and processes of one measurement.
type world struct {
	b     *bench
	dir   string
	ports ports
	all   []*process
}

type ports struct{ s3, kafka, admin, catalog, replicaKafka, replicaAdmin string }

func (b *bench) newWorld() (*world, error) {
	dir, err := os.MkdirTemp(b.dir, "tidewater-bench-")
	if err != nil {
		return nil, err
	}
	w := &world{b: b, dir: dir}
	for _, at := range []*string{&w.ports.s3, &w.ports.kafka, &w.ports.admin, &w.ports.catalog, &w.ports.replicaKafka, &w.ports.replicaAdmin} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
		*at = l.Addr().String()
		defer l.Close()
	}
	return w, nil
}

// close ends every process and removes the directory. A failure's last log
// lines are printed before they are gone.
func (w *world) close(failed *error) {
	if *failed != nil {
		for _, p := range w.all {
			text, _ := os.ReadFile(p.out)
			lines := strings.Split(strings.TrimSpace(string(text)), "\n")
			fmt.Fprintf(os.Stderr, "-- last lines of %s\n%s\n", p.name, strings.Join(lines[max(0, len(lines)-10):], "\n"))
		}
	}
	for len(w.all) > 0 {
		*failed = errors.Join(*failed, w.end(w.all[len(w.all)-1], syscall.SIGTERM))
	}
	*failed = errors.Join(*failed, os.RemoveAll(w.dir))
}

// spawn starts the binary with its output in the world's directory.
func (w *world) spawn(name string, args ...string) (*process, error) {
	return w.start(name, exec.Command(w.b.binary, args...))
}

// start starts a command with its output in the world's directory.
func (w *world) start(name string, cmd *exec.Cmd) (*process, error) {
	p := &process{name: name, cmd: cmd, out: filepath.Join(w.dir, name+".log")}
	f, err := os.OpenFile(p.out, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = w.dir, f, f
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	w.all = append(w.all, p)
	return p, nil
}

// end sends a signal and waits; what does not end in time is killed.
func (w *world) end(p *process, s os.Signal) error {
	_ = p.cmd.Process.Signal(s) // one that is gone already is waited for
	kill := time.AfterFunc(endTimeout, func() { _ = p.cmd.Process.Kill() })
	_ = p.cmd.Wait()
	for i, q := range w.all {
		if q == p {
			w.all = append(w.all[:i], w.all[i+1:]...)
		}
	}
	if !kill.Stop() {
		return fmt.Errorf("%s did not end within %s", p.name, endTimeout)
	}
	return nil
}

// store starts the development store as a process of its own.
func (w *world) store(ctx context.Context) (*process, error) {
	p, err := w.spawn("store", "s3", "--data-dir", filepath.Join(w.dir, "bucket"), "--addr", w.ports.s3)
	if err != nil {
		return nil, err
	}
	return p, wait(ctx, readyTimeout, "the store", func() (bool, error) { return listens(w.ports.s3), nil })
}

// broker runs `tidewater dev` on the store's bucket and waits until it serves.
func (w *world) broker(ctx context.Context, dir string) (*process, error) {
	p, err := w.spawn("broker", w.brokerArgs(dir)...)
	if err != nil {
		return nil, err
	}
	return p, w.ready(ctx, p, w.ports.admin)
}

func (w *world) brokerArgs(dir string) []string {
	return []string{"dev", "--data-dir", filepath.Join(w.dir, dir), "--bucket", w.bucketURL(),
		"--kafka-addr", w.ports.kafka, "--admin-addr", w.ports.admin, "--catalog-addr", w.ports.catalog}
}

// alone is `tidewater dev` with the store in its own process.
func (w *world) alone(dir string) (*process, error) {
	return w.spawn("broker", "dev", "--data-dir", filepath.Join(w.dir, dir), "--s3-addr", w.ports.s3,
		"--kafka-addr", w.ports.kafka, "--admin-addr", w.ports.admin, "--catalog-addr", w.ports.catalog)
}

func (w *world) bucketURL() string {
	return fmt.Sprintf("s3://%s?endpoint=http://%s&region=%s", bucketName, w.ports.s3, bucketRegion)
}

// ready waits until the admin address says so, while the process lives.
func (w *world) ready(ctx context.Context, p *process, admin string) error {
	return wait(ctx, readyTimeout, p.name+" to be ready", func() (bool, error) {
		if _, err := readCPU(p.pid()); err != nil {
			return false, fmt.Errorf("%s is gone: %w", p.name, err)
		}
		resp, err := http.Get("http://" + admin + "/health/ready")
		if err != nil {
			return false, nil
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK, nil
	})
}

func (w *world) client(opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(w.ports.kafka), kgo.ClientID("bench")}, opts...)...)
}

func listens(addr string) bool {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// wait asks ok again and again until it is true, fails, or the time is over.
func wait(ctx context.Context, limit time.Duration, what string, ok func() (bool, error)) error {
	for deadline := time.Now().Add(limit); ; {
		done, err := ok()
		if done || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waited %s for %s", limit, what)
		}
		if err := pause(ctx, pollEvery); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
