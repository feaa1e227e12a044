package disk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"testing"
)

func rng(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func fillBlock(b byte, blocks int) []byte { return bytes.Repeat([]byte{b}, blocks*BlockBytes) }

func write(t testing.TB, f File, p []byte, off int64) {
	t.Helper()
	n, err := f.WriteAt(p, off)
	if err != nil || n != len(p) {
		t.Fatalf("write: %d, %v", n, err)
	}
}

func readAll(t testing.TB, disk FS, name string) []byte {
	t.Helper()
	f, err := disk.Open(name)
	must(t, err)
	defer f.Close()
	size, err := f.Size()
	must(t, err)
	b := Alloc(int(RoundUp(size)))
	if n, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) || int64(n) != size {
		t.Fatalf("read: %d of %d, %v", n, size, err)
	}
	return b[:size]
}

// Synced bytes and names survive every crash; each unsynced sector and name
// operation survives or does not, and both happen.
func TestCrashKeepsWhatWasSynced(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(200) {
		m := NewMem(0)
		must(t, m.MkdirAll("a/b"))
		f, err := m.Create("a/b/kept")
		must(t, err)
		write(t, f, fillBlock(1, 4), 0)
		must(t, errors.Join(f.Sync(), m.SyncDir("a/b")))
		write(t, f, fillBlock(2, 2), BlockBytes)
		g, err := m.Create("a/b/maybe")
		must(t, err)
		write(t, g, fillBlock(3, 1), 0)
		must(t, g.Sync())
		m.Crash(rng(seed))
		if _, err := f.WriteAt(fillBlock(9, 1), 0); !errors.Is(err, ErrCrashed) {
			t.Fatalf("a file open in the crash: %v", err)
		}
		b := readAll(t, m, "a/b/kept")
		if len(b) != 4*BlockBytes || b[0] != 1 || b[3*BlockBytes] != 1 {
			t.Fatal("synced bytes are gone")
		}
		news := 0
		for off := BlockBytes; off < 3*BlockBytes; off += sectorBytes {
			sector := b[off : off+sectorBytes]
			if want := bytes.Repeat(sector[:1], sectorBytes); !bytes.Equal(sector, want) || sector[0] != 1 && sector[0] != 2 {
				t.Fatalf("a sector is torn: %v", sector[:8])
			}
			news += int(sector[0]) - 1
		}
		switch news {
		case 0:
			seen["none"]++
		case 16:
			seen["all"]++
		default:
			seen["some"]++
		}
		if _, err := m.Open("a/b/maybe"); err == nil {
			seen["name"]++
		} else if !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	for _, what := range []string{"none", "some", "all", "name"} {
		if seen[what] < 20 || seen[what] > 180 {
			t.Errorf("%s: %d of 200", what, seen[what])
		}
	}
}

// Names follow SyncDir: a synced rename lasts, an unsynced one may be undone
// but never leaves both or neither when the source was durable.
func TestRenameIsOneOperation(t *testing.T) {
	for _, synced := range []bool{true, false} {
		both := map[string]int{}
		for seed := range uint64(50) {
			m := NewMem(0)
			f, err := m.Create("new")
			must(t, err)
			write(t, f, fillBlock(7, 1), 0)
			must(t, errors.Join(f.Sync(), m.SyncDir("."), m.Rename("new", "final")))
			if synced {
				must(t, m.SyncDir("."))
			}
			m.Crash(rng(seed))
			names, err := m.List(".")
			must(t, err)
			if len(names) != 1 {
				t.Fatalf("names after the crash: %v", names)
			}
			both[names[0]]++
		}
		if synced && both["final"] != 50 || !synced && len(both) != 2 {
			t.Fatalf("synced %v: %v", synced, both)
		}
	}
}

// The same seed gives the same disk, and a clone leaves the original alone.
func TestCrashIsDeterministic(t *testing.T) {
	build := func() *Mem {
		m := NewMem(0)
		for i := range 20 {
			f, err := m.Create(fmt.Sprint("f", i))
			must(t, err)
			write(t, f, fillBlock(byte(i+1), 3), 0)
			if i%2 == 0 {
				must(t, f.Sync())
			}
		}
		return m
	}
	dump := func(m *Mem) string {
		names, err := m.List(".")
		must(t, err)
		out := ""
		for _, name := range names {
			out += fmt.Sprintf("%s %x\n", name, readAll(t, m, name))
		}
		return out
	}
	one, two := build(), build()
	before := dump(one)
	for seed := range uint64(10) {
		if dump(one.CrashClone(rng(seed))) != dump(two.CrashClone(rng(seed))) {
			t.Fatalf("seed %d gives two disks", seed)
		}
	}
	if dump(one) != before {
		t.Fatal("the clone changed the original")
	}
}

// A disk has a size; overwriting needs none of it, removing gives it back.
func TestMemIsBounded(t *testing.T) {
	m := NewMem(8 * BlockBytes)
	f, err := m.Create("a")
	must(t, err)
	must(t, Zero(f, 0, 8*BlockBytes))
	if free, _ := m.Free(); free != 0 {
		t.Fatalf("%d bytes free", free)
	}
	if _, err := f.WriteAt(fillBlock(1, 1), 8*BlockBytes); !errors.Is(err, ErrFull) {
		t.Fatalf("write past the end of the disk: %v", err)
	}
	if _, err := m.Create("b"); !errors.Is(err, ErrFull) {
		t.Fatalf("create on a full disk: %v", err)
	}
	write(t, f, fillBlock(1, 8), 0)
	must(t, m.Remove("a"))
	if free, _ := m.Free(); free != 8*BlockBytes {
		t.Fatalf("%d bytes free after the removal", free)
	}
}

// Random operations on Mem and on a directory of the operating system give
// the same answers.
func TestMemAndOSAgree(t *testing.T) {
	m, o := NewMem(0), newOS(t)
	r := rng(5)
	name := func() string { return fmt.Sprintf("%s%d", [...]string{"", "d/", "d/e/"}[r.IntN(3)], r.IntN(4)) }
	both := func(what string, do func(FS) (string, error)) {
		t.Helper()
		a, aerr := do(m)
		b, berr := do(o)
		if a != b || (aerr == nil) != (berr == nil) ||
			errors.Is(aerr, fs.ErrNotExist) != errors.Is(berr, fs.ErrNotExist) || errors.Is(aerr, fs.ErrExist) != errors.Is(berr, fs.ErrExist) {
			t.Fatalf("%s: memory %.80q, %v; system %.80q, %v", what, a, aerr, b, berr)
		}
	}
	for range 600 {
		n, to, blocks, off := name(), name(), 1+r.IntN(3), int64(r.IntN(5)*BlockBytes)
		size, fill := r.Int64N(6*BlockBytes), byte(r.Uint32())
		open := func(do func(File) (string, error)) func(FS) (string, error) {
			return func(d FS) (string, error) {
				f, err := d.Open(n)
				if err != nil {
					return "", err
				}
				defer f.Close()
				return do(f)
			}
		}
		switch r.IntN(10) {
		case 0:
			both("make d/e", func(d FS) (string, error) { return "", d.MkdirAll("d/e") })
		case 1, 2:
			both("create "+n, func(d FS) (string, error) {
				f, err := d.Create(n)
				if err == nil {
					err = f.Close()
				}
				return "", err
			})
		case 3, 4:
			both("write "+n, open(func(f File) (string, error) {
				_, err := f.WriteAt(fillBlock(fill, blocks), off)
				return "", errors.Join(err, f.Sync())
			}))
		case 5, 6:
			both("read "+n, open(func(f File) (string, error) {
				b := Alloc(blocks * BlockBytes)
				k, err := f.ReadAt(b, off)
				if errors.Is(err, io.EOF) {
					err = nil
				}
				return string(b[:k]), err
			}))
		case 7:
			both("truncate "+n, open(func(f File) (string, error) {
				err := f.Truncate(size)
				got, _ := f.Size()
				return fmt.Sprint(got), err
			}))
		case 8:
			both("rename "+n, func(d FS) (string, error) { return "", d.Rename(n, to) })
		case 9:
			both("remove "+n, func(d FS) (string, error) { return "", d.Remove(n) })
		}
		both("list", func(d FS) (string, error) {
			names, err := d.List(".")
			return fmt.Sprint(slices.DeleteFunc(names, func(n string) bool { return n == LockFile })), err
		})
	}
	both("remove all", func(d FS) (string, error) { return "", errors.Join(d.RemoveAll("d"), d.RemoveAll("d")) })
	both("list d", func(d FS) (string, error) {
		names, err := d.List("d")
		return fmt.Sprint(names), err
	})
}
