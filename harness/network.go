package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

const (
	// subnet holds every address; it exists only inside the namespaces.
	subnet      = "10.77.0."
	clientsHost = 1
	storeHost   = 200
	// insideEnv tells the harness that it stands in the clients' namespace.
	insideEnv = "TIDEWATER_HARNESS_INSIDE"
	netnsDir  = "/run/netns/"
)

// network is a bridge in the clients' namespace with a leg to each other one.
type network struct {
	names map[int]string // of namespaces, by the last number of the address
}

// enter runs the harness again inside namespaces of its own, one for its
// network and one for its mounts, and gives its exit code. Whatever it makes
// there, other namespaces too, goes when the last process in it ends, however
// that happens.
func enter() (code int, err error) {
	cmd := exec.Command("unshare", append([]string{"--net", "--mount", "--propagation", "private", os.Args[0]}, os.Args[1:]...)...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// An interrupt reaches both; the inner one ends its brokers and tells how.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// openNetwork makes the bridge and a leg for each host.
func openNetwork(ctx context.Context, hosts []int) (*network, error) {
	n := &network{names: map[int]string{}}
	steps := [][]string{
		{"mkdir", "-p", netnsDir},
		{"mount", "-t", "tmpfs", "none", netnsDir}, // names are seen inside only
		{"ip", "link", "set", "lo", "up"},
		{"ip", "link", "add", "br0", "type", "bridge"},
		{"ip", "addr", "add", address(clientsHost) + "/24", "dev", "br0"},
		{"ip", "link", "set", "br0", "up"},
	}
	for _, h := range hosts {
		name, leg := fmt.Sprintf("host%d", h), fmt.Sprintf("leg%d", h)
		n.names[h] = name
		inside := []string{"nsenter", "--net=" + netnsDir + name}
		steps = append(steps,
			[]string{"ip", "netns", "add", name},
			[]string{"ip", "link", "add", leg, "type", "veth", "peer", "name", "eth0", "netns", name},
			[]string{"ip", "link", "set", leg, "master", "br0", "up"},
			append(inside, "ip", "link", "set", "lo", "up"),
			append(inside, "ip", "addr", "add", address(h)+"/24", "dev", "eth0"),
			append(inside, "ip", "link", "set", "eth0", "up"))
	}
	for _, step := range steps {
		if err := run(ctx, step...); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func address(host int) string { return fmt.Sprintf("%s%d", subnet, host) }

// command is a command in a host's namespace.
func (n *network) command(host int, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--net=" + netnsDir + n.names[host]}, args...)...)
}

// cut drops what one host sends to another; the other way stays open, for as
// far as TCP can use it.
func (n *network) cut(ctx context.Context, from, to int) error {
	return run(ctx, n.command(from, "ip", "route", "replace", "blackhole", address(to)+"/32").Args...)
}

// heal opens every way from a host.
func (n *network) heal(ctx context.Context, from int) error {
	return run(ctx, n.command(from, "ip", "route", "flush", "type", "blackhole").Args...)
}

// run runs a command to its end and puts what it printed into its error.
func run(ctx context.Context, args ...string) error {
	if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
