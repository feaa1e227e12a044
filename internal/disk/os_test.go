package disk

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func newOS(t testing.TB) *OS {
	t.Helper()
	d, err := NewOS(filepath.Join(t.TempDir(), "made", "on", "demand"), slog.New(slog.DiscardHandler))
	must(t, err)
	return d
}

// Reads and writes are right for aligned memory, unaligned memory, and at the
// end of a file that is no whole number of blocks.
func TestOSFilesTakeAnyMemory(t *testing.T) {
	d := newOS(t)
	f, err := d.Create("f")
	must(t, err)
	defer f.Close()
	want := make([]byte, 3*bounceBytes)
	for i := range want {
		want[i] = byte(i * 13 >> 3)
	}
	skew := append(make([]byte, 1, 1+len(want)), want...)
	write(t, f, skew[1:], 0)
	must(t, f.Sync())
	for _, got := range [][]byte{Alloc(len(want)), make([]byte, len(want)+1)[1:]} {
		n, err := f.ReadAt(got, 0)
		if err != nil && !errors.Is(err, io.EOF) || n != len(want) || !bytes.Equal(got, want) {
			t.Fatalf("read back %d bytes, %v", n, err)
		}
	}
	must(t, f.Truncate(BlockBytes+100))
	for _, got := range [][]byte{Alloc(2 * BlockBytes), make([]byte, 2*BlockBytes+1)[1:]} {
		n, err := f.ReadAt(got, 0)
		if !errors.Is(err, io.EOF) || n != BlockBytes+100 || !bytes.Equal(got[:n], want[:n]) {
			t.Fatalf("read at the end: %d bytes, %v", n, err)
		}
	}
}

// A second process on a directory is refused by name; when the first is gone,
// however it ended, the directory is free.
func TestLockNamesTheDirectory(t *testing.T) {
	if dir := os.Getenv("LOCK_DIR"); dir != "" {
		_, err := Lock(dir)
		if err != nil {
			_, _ = os.Stdout.WriteString(err.Error() + "\n")
			os.Exit(3)
		}
		_, _ = os.Stdout.WriteString("locked\n")
		os.Exit(0)
	}
	dir := filepath.Join(t.TempDir(), "data")
	other := func() string {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestLockNamesTheDirectory$")
		cmd.Env = append(os.Environ(), "LOCK_DIR="+dir)
		out, _ := cmd.Output()
		return string(out)
	}
	unlock, err := Lock(dir)
	must(t, err)
	if _, err := Lock(dir); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Fatalf("second lock: %v", err)
	}
	if out := other(); !strings.Contains(out, dir) || !strings.Contains(out, ErrLocked.Error()) || !strings.Contains(out, "held by process") {
		t.Fatalf("another process says %q", out)
	}
	must(t, unlock())
	if out := other(); out != "locked\n" {
		t.Fatalf("after unlock another process says %q", out)
	}
	again, err := Lock(dir)
	must(t, err)
	must(t, again())
}

// A disk keeps its uuid, and a damaged one is not replaced silently.
func TestUUIDStays(t *testing.T) {
	for _, d := range []FS{NewMem(0), newOS(t)} {
		n := byte(0)
		fresh := func() ([16]byte, error) { n++; return [16]byte{0: 0xab, 15: n}, nil }
		one, err := UUID(d, fresh)
		must(t, err)
		two, err := UUID(d, fresh)
		must(t, err)
		if one != two || one != [16]byte{0: 0xab, 15: 1} {
			t.Fatalf("%x, then %x", one, two)
		}
		f, err := d.Open(uuidName)
		must(t, err)
		write(t, f, Alloc(BlockBytes), 0)
		must(t, f.Close())
		if _, err := UUID(d, fresh); err == nil || !strings.Contains(err.Error(), "expected") {
			t.Fatalf("a damaged file: %v", err)
		}
	}
}

// A power cut while the uuid is made leaves none or a whole one.
func TestUUIDSurvivesPowerCuts(t *testing.T) {
	for seed := range uint64(60) {
		for cut := range 5 {
			m := NewMem(0)
			f := NewFault(m)
			f.Before(func(c Call) {
				if c.Changes() {
					if cut--; cut < 0 {
						panic("cut")
					}
				}
			})
			func() {
				defer func() { _ = recover() }()
				_, _ = UUID(f, func() ([16]byte, error) { return [16]byte{1}, nil })
			}()
			m.Crash(rng(seed))
			id, err := UUID(m, func() ([16]byte, error) { return [16]byte{2}, nil })
			must(t, err)
			if id[0] != 1 && id[0] != 2 {
				t.Fatalf("id %x", id)
			}
		}
	}
}

// A file system that refuses direct I/O is used all the same, and says so
// once. /dev/shm refuses it on older kernels only, so the answer may be
// either; what must hold is that both work.
func TestOSOnSharedMemory(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "disk-test")
	if err != nil {
		dir = t.TempDir()
	}
	defer os.RemoveAll(dir)
	var log bytes.Buffer
	d, err := NewOS(dir, slog.New(slog.NewTextHandler(&log, nil)))
	must(t, err)
	for range 3 {
		f, err := d.Create("f")
		must(t, err)
		write(t, f, fillBlock(1, 1), 0)
		must(t, errors.Join(f.Sync(), f.Close(), d.Remove("f")))
	}
	if warned := strings.Count(log.String(), "level=WARN"); d.Direct() == (warned == 1) || warned > 1 {
		t.Fatalf("direct %v, log %q", d.Direct(), log.String())
	}
}

// The fallback without direct I/O takes any memory as well.
func TestFallbackWorks(t *testing.T) {
	d := newOS(t)
	d.direct.Store(false)
	f, err := d.Create("f")
	must(t, err)
	write(t, f, make([]byte, 2*BlockBytes+1)[1:], 0)
	must(t, errors.Join(f.Sync(), f.Close(), d.SyncDir(".")))
	if b := readAll(t, d, "f"); len(b) != 2*BlockBytes {
		t.Fatalf("%d bytes", len(b))
	}
	if free, err := d.Free(); err != nil || free <= 0 {
		t.Fatalf("free: %d, %v", free, err)
	}
}
