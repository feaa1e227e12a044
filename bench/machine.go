package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"tidewater/bench/generator"
)

const (
	// The disk probe writes at most so much, for at most so long.
	probeBytes   = 512 << 20
	probeWrite   = 1 << 20
	probeSyncs   = 1000
	probeTimeout = 5 * time.Second
	probeBlock   = 4096
)

// facts are what a reader must know of the machine to compare figures.
type facts struct {
	Time    time.Time `json:"time"`
	CPU     string    `json:"cpu"`
	Cores   int       `json:"cores"`
	Memory  string    `json:"memory"`
	Kernel  string    `json:"kernel"`
	Go      string    `json:"go"`
	Commit  string    `json:"commit"`
	Version string    `json:"version"`
	Kafka   string    `json:"kafka,omitempty"` // the version compared with
	Command string    `json:"command"`
	LoadAvg string    `json:"load_average_before"`
	Disk    diskFacts `json:"disk"`
	// What one core copies in memory, and what one connection carries on loopback.
	CopyMBps     float64 `json:"memory_copy_mb_per_s"`
	LoopbackMBps float64 `json:"loopback_mb_per_s"`
}

// diskFacts are the probe's: sequential O_DIRECT writes of 1 MiB with one
// fdatasync at the end, reads of the same, and single blocks of 4 KiB each with an fdatasync.
type diskFacts struct {
	FileSystem     string  `json:"file_system"`
	Direct         bool    `json:"o_direct"`
	WriteMBps      float64 `json:"write_1mib_mb_per_s"`
	ReadMBps       float64 `json:"read_1mib_mb_per_s"`
	Syncs          int     `json:"syncs"`
	SyncsPerSecond float64 `json:"write_4kib_fdatasync_per_s"`
	SyncP50Micro   float64 `json:"write_4kib_fdatasync_p50_us"`
	SyncP99Micro   float64 `json:"write_4kib_fdatasync_p99_us"`
}

func (f facts) String() string {
	return fmt.Sprintf("%s, %d cores (%s), %s memory, Linux %s, %s, commit %s; disk (%s): %.0f MB/s in O_DIRECT writes of 1 MiB, and %.0f MB/s in reads, 4 KiB write and fdatasync %.0f a second (p50 %.0f µs, p99 %.0f µs); memory copy %.0f MB/s a core, loopback %.0f MB/s a connection. Command: %s",
		f.Time.Format("2006-01-02 15:04 UTC"), f.Cores, f.CPU, f.Memory, f.Kernel, f.Go, f.Commit, f.Disk.FileSystem, f.Disk.WriteMBps, f.Disk.ReadMBps, f.Disk.SyncsPerSecond, f.Disk.SyncP50Micro, f.Disk.SyncP99Micro,
		f.CopyMBps, f.LoopbackMBps, f.Command)
}

func machineFacts(ctx context.Context, binary, dir string) (facts, error) {
	f := facts{Time: time.Now().UTC(), Cores: runtime.NumCPU(), Go: runtime.Version(), Command: strings.TrimSpace("go run ./bench " + strings.Join(os.Args[1:], " "))}
	f.CPU = lineAfter("/proc/cpuinfo", "model name")
	f.Memory = lineAfter("/proc/meminfo", "MemTotal")
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		f.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	load, _ := os.ReadFile("/proc/loadavg")
	f.LoadAvg = strings.TrimSpace(string(load))
	f.Commit = output(ctx, "git", "rev-parse", "--short=12", "HEAD")
	if output(ctx, "git", "status", "--porcelain", "--untracked-files=no") != "" {
		f.Commit += " with changes"
	}
	f.Version = output(ctx, binary, "version")
	if f.Version == "" {
		return f, fmt.Errorf("%s version says nothing: is it built? (make build)", binary)
	}
	f.CopyMBps = probeCopy()
	var err error
	if f.LoopbackMBps, err = probeLoopback(); err != nil {
		return f, err
	}
	f.Disk, err = probeDisk(dir)
	return f, err
}

func output(ctx context.Context, name string, args ...string) string {
	out, _ := exec.CommandContext(ctx, name, args...).Output() // a fact that is not known stays empty
	return strings.TrimSpace(string(out))
}

func lineAfter(file, key string) string {
	text, _ := os.ReadFile(file)
	for line := range bytes.Lines(text) {
		if name, v, ok := strings.Cut(string(line), ":"); ok && strings.TrimSpace(name) == key {
			return strings.Join(strings.Fields(v), " ")
		}
	}
	return "unknown"
}

// probeDisk measures what the disk gives to anybody, beside any broker.
func probeDisk(dir string) (diskFacts, error) {
	d := diskFacts{FileSystem: fileSystem(dir), Direct: true}
	name := filepath.Join(dir, fmt.Sprintf("tidewater-bench-probe-%d", os.Getpid()))
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|syscall.O_DIRECT, 0o600)
	if err != nil {
		d.Direct = false
		if f, err = os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600); err != nil {
			return d, fmt.Errorf("probe disk: %w", err)
		}
	}
	defer os.Remove(name)
	defer f.Close()
	buf := aligned(probeWrite)
	at, written := time.Now(), 0
	for ; written < probeBytes && time.Since(at) < probeTimeout; written += probeWrite {
		if _, err := f.WriteAt(buf, int64(written)); err != nil {
			return d, fmt.Errorf("probe disk: %w", err)
		}
	}
	if err := unix.Fdatasync(int(f.Fd())); err != nil {
		return d, fmt.Errorf("probe disk: %w", err)
	}
	d.WriteMBps = float64(written) / 1e6 / time.Since(at).Seconds()
	if d.ReadMBps, err = probeReads(f, buf, written); err != nil {
		return d, err
	}
	return d, d.probeSyncs(f, buf[:probeBlock], written)
}

// probeReads reads what was written, from the disk where O_DIRECT is possible.
func probeReads(f *os.File, buf []byte, size int) (float64, error) {
	begin, read := time.Now(), 0
	for ; read < size && time.Since(begin) < probeTimeout; read += len(buf) {
		if _, err := f.ReadAt(buf, int64(read)); err != nil {
			return 0, fmt.Errorf("probe disk: %w", err)
		}
	}
	return float64(read) / 1e6 / time.Since(begin).Seconds(), nil
}

// probeSyncs times single blocks, each made durable, in space that is written already.
func (d *diskFacts) probeSyncs(f *os.File, block []byte, size int) error {
	var took []float64
	begin := time.Now()
	for len(took) < probeSyncs && time.Since(begin) < probeTimeout {
		at := time.Now()
		if _, err := f.WriteAt(block, int64(len(took)*probeBlock%size)); err != nil {
			return fmt.Errorf("probe disk: %w", err)
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return fmt.Errorf("probe disk: %w", err)
		}
		took = append(took, float64(time.Since(at).Microseconds()))
	}
	d.SyncsPerSecond = float64(len(took)) / time.Since(begin).Seconds()
	slices.Sort(took)
	d.Syncs, d.SyncP50Micro, d.SyncP99Micro = len(took), percentile(took, 50), percentile(took, 99)
	return nil
}

// aligned gives n bytes at an address that O_DIRECT takes, not all zero.
func aligned(n int) []byte {
	raw := make([]byte, n+probeBlock)
	skip := probeBlock - int(uintptr(unsafe.Pointer(&raw[0]))%probeBlock)
	copy(raw, generator.Payload())
	return raw[skip : skip+n]
}

func fileSystem(dir string) string {
	var s unix.Statfs_t
	if unix.Statfs(dir, &s) != nil {
		return "unknown"
	}
	names := map[int64]string{unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.TMPFS_MAGIC: "tmpfs", unix.OVERLAYFS_SUPER_MAGIC: "overlay"}
	if name, ok := names[int64(s.Type)]; ok {
		return name
	}
	return fmt.Sprintf("type %#x", s.Type)
}

// percentile takes sorted numbers and gives the one that p percent do not exceed.
func percentile(sorted []float64, p float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(float64(len(sorted))*p/100))]
}
