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
)

// readyTimeout bounds how long a process may take to say that it is ready.
const readyTimeout = 60 * time.Second

// process is one tidewater process and the file its output goes to.
type process struct {
	name string
	cmd  *exec.Cmd
	out  string
	// ended is closed when the process has: one that is gone must not be taken
	// for the one that answers on its port.
	ended chan struct{}
}

// started is every process of the demo that runs.
type started struct{ all []*process }

// spawn starts the binary with output to a file in the demo's directory.
func (d *demo) spawn(name string, args ...string) (*process, error) {
	p := &process{name: name, cmd: exec.Command(d.binary, args...), out: filepath.Join(d.dir, name+".log"), ended: make(chan struct{})}
	f, err := os.OpenFile(p.out, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p.cmd.Stdout, p.cmd.Stderr = f, f
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended stands in its log
		close(p.ended)
	}()
	d.all = append(d.all, p)
	return p, nil
}

// kill is kill -9.
func (d *demo) kill(p *process) error {
	if err := p.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("kill %s: %w", p.name, err)
	}
	d.forget(p)
	return nil
}

func (d *demo) forget(p *process) {
	<-p.ended
	for i, q := range d.all {
		if q == p {
			d.all = append(d.all[:i], d.all[i+1:]...)
			return
		}
	}
}

func (d *demo) stopAll() {
	for i := len(d.all) - 1; i >= 0; i-- {
		_ = d.all[i].cmd.Process.Signal(syscall.SIGTERM)
	}
	for len(d.all) > 0 {
		d.forget(d.all[len(d.all)-1])
	}
}

// showLogs prints the last lines of every process, for a step that failed.
func (d *demo) showLogs() {
	for _, p := range d.all {
		text, _ := os.ReadFile(p.out)
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		fmt.Printf("\n-- last lines of %s\n%s\n", p.name, strings.Join(lines[max(0, len(lines)-15):], "\n"))
	}
}

// cli runs a tidewater command to its end and gives what it printed.
func (d *demo) cli(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, d.binary, args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return string(out), fmt.Errorf("tidewater %s: %s", strings.Join(args, " "), strings.TrimSpace(string(exit.Stderr)))
	}
	return string(out), err
}

// ready waits until the admin address says so, while the process lives.
func (p *process) ready(ctx context.Context, admin string) error {
	return wait(ctx, readyTimeout, p.name+" to be ready", func() (bool, error) {
		if p.gone() {
			return false, fmt.Errorf("%s has ended", p.name)
		}
		resp, err := http.Get("http://" + admin + "/health/ready")
		if err != nil {
			return false, nil
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK && !p.gone(), nil
	})
}

func (p *process) gone() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// wait asks ok again and again until it is true, fails, or the time is over.
func wait(ctx context.Context, limit time.Duration, what string, ok func() (bool, error)) error {
	deadline := time.Now().Add(limit)
	for {
		done, err := ok()
		if done || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waited %s for %s", limit, what)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// ports are where the demo's servers listen: the documented ports where they
// are free, others where they are not.
type ports struct {
	s3, kafka, admin, catalog, replicaKafka, replicaAdmin string
	lock                                                  *os.File // open as long as they are used
}

// freePorts lets the ports go before the servers take them. The documented ones
// are for one demo at a time, by a lock that ends with the process: two that began together
// would find them free together, and one would talk to the other's broker.
func freePorts() (ports, error) {
	var p ports
	var held []net.Listener
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), "tidewater-demo.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return p, err
	}
	p.lock = lock
	alone := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
	defer func() {
		for _, l := range held {
			l.Close()
		}
	}()
	for _, want := range []struct {
		port int
		at   *string
	}{{9000, &p.s3}, {9092, &p.kafka}, {9644, &p.admin}, {8181, &p.catalog}, {9192, &p.replicaKafka}, {9744, &p.replicaAdmin}} {
		port := want.port
		if !alone {
			port = 0
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
				return p, err
			}
		}
		held = append(held, l)
		*want.at = l.Addr().String()
	}
	return p, nil
}
