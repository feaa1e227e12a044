package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// What a slow disk takes: little more than the clients write, in few requests.
const (
	slowBytes    = 256 << 10 // a second
	slowRequests = 20        // a second
)

// throttle slows the disks of single brokers: a control group for each, whose
// direct writes to its file system's device are bounded by the kernel.
type throttle struct {
	root    string // where the groups are made
	unified bool   // control groups of version 2
}

// openThrottle mounts a hierarchy that can bound block devices, in the
// harness's own mount namespace, and tries it.
func openThrottle(ctx context.Context, dir string) (*throttle, error) {
	t, err := mountThrottle(ctx, dir)
	if err != nil {
		return nil, err
	}
	probe := exec.CommandContext(ctx, "sleep", "60")
	if err := probe.Start(); err != nil {
		return nil, fmt.Errorf("start a process to hold: %w", err)
	}
	defer func() { _ = probe.Process.Kill(); _ = probe.Wait() }()
	bound := "blkio.throttle.write_iops_device"
	if t.unified {
		bound = "io.max"
	}
	err = t.hold(clientsHost, probe.Process.Pid)
	if err == nil {
		_, err = os.Stat(filepath.Join(t.group(clientsHost), bound))
	}
	if err != nil {
		return nil, fmt.Errorf("try a control group: %w", err)
	}
	return t, nil
}

func mountThrottle(ctx context.Context, dir string) (*throttle, error) {
	at := filepath.Join(dir, "cgroup")
	if err := os.MkdirAll(at, 0o755); err != nil {
		return nil, fmt.Errorf("make mount point: %w", err)
	}
	two := run(ctx, "mount", "-t", "cgroup2", "none", at)
	if two == nil {
		if two = os.WriteFile(filepath.Join(at, "cgroup.subtree_control"), []byte("+io"), 0o644); two == nil {
			return &throttle{root: at, unified: true}, nil
		}
		if err := run(ctx, "umount", at); err != nil {
			return nil, err
		}
	}
	if one := run(ctx, "mount", "-t", "cgroup", "-o", "blkio", "none", at); one != nil {
		return nil, fmt.Errorf("no control group bounds block devices: %w", errors.Join(two, one))
	}
	return &throttle{root: at}, nil
}

func (t *throttle) group(host int) string {
	return filepath.Join(t.root, fmt.Sprintf("tidewater-%d-%d", os.Getpid(), host))
}

// hold puts a process under its host's bounds.
func (t *throttle) hold(host, pid int) error {
	if err := os.MkdirAll(t.group(host), 0o755); err != nil {
		return fmt.Errorf("make control group: %w", err)
	}
	return t.set(host, "cgroup.procs", fmt.Sprint(pid))
}

// slow bounds a host's writes to the file system at a path.
func (t *throttle) slow(host int, path string) error {
	dev, err := device(path)
	if err != nil {
		return err
	}
	if t.unified {
		return t.set(host, "io.max", fmt.Sprintf("%s wbps=%d wiops=%d", dev, slowBytes, slowRequests))
	}
	return errors.Join(t.set(host, "blkio.throttle.write_bps_device", fmt.Sprintf("%s %d", dev, slowBytes)),
		t.set(host, "blkio.throttle.write_iops_device", fmt.Sprintf("%s %d", dev, slowRequests)))
}

// free lifts a host's bounds.
func (t *throttle) free(host int, path string) error {
	dev, err := device(path)
	if err != nil {
		return err
	}
	if t.unified {
		return t.set(host, "io.max", dev+" wbps=max wiops=max")
	}
	return errors.Join(t.set(host, "blkio.throttle.write_bps_device", dev+" 0"), t.set(host, "blkio.throttle.write_iops_device", dev+" 0"))
}

func (t *throttle) set(host int, name, value string) error {
	if err := os.WriteFile(filepath.Join(t.group(host), name), []byte(value), 0o644); err != nil {
		return fmt.Errorf("set %s to %q: %w", name, value, err)
	}
	return nil
}

// close removes the groups, whose processes have ended.
func (t *throttle) close() error {
	groups, err := filepath.Glob(filepath.Join(t.root, fmt.Sprintf("tidewater-%d-*", os.Getpid())))
	errs := []error{err}
	for _, g := range groups {
		errs = append(errs, os.Remove(g))
	}
	return errors.Join(errs...)
}

// device is the number of a file system's block device, as control groups name it.
func device(path string) (string, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return "", fmt.Errorf("find device of %s: %w", path, err)
	}
	return strings.Join([]string{fmt.Sprint(st.Dev >> 8 & 0xfff), fmt.Sprint(st.Dev&0xff | st.Dev>>12&0xfff00)}, ":"), nil
}
