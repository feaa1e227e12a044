package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// flipsMax is how many segments of a broker rot at a time.
	flipsMax = 6
	// mendMax is how long a broker may take from its start until all that rotted
	// is made anew, or gone.
	mendMax = 30 * time.Second
	// failedBytes is what is left of a disk that fails: nothing that matters.
	failedBytes = 64 << 10
)

// flip is a bit that was turned over on a disk.
type flip struct {
	path string
	at   int64
	is   byte // what stands there since
}

// flipIn turns over a bit of a file; false if it has gone meanwhile. Zeros are
// left alone: most are room that nobody reads.
func flipIn(path string, random *rand.Rand) (flip, bool, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return flip{}, false, nil
	}
	if err != nil {
		return flip{}, false, fmt.Errorf("rot: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return flip{}, false, err
	}
	b := make([]byte, 1)
	for range 64 {
		at := random.Int64N(info.Size())
		if _, err := f.ReadAt(b, at); err != nil {
			return flip{}, false, fmt.Errorf("rot: %w", err)
		}
		if b[0] == 0 {
			continue
		}
		b[0] ^= 1 << random.IntN(8)
		if _, err := f.WriteAt(b, at); err != nil {
			return flip{}, false, fmt.Errorf("rot: %w", err)
		}
		return flip{path, at, b[0]}, true, f.Sync()
	}
	return flip{}, false, nil
}

// there reports whether the bit is still turned over.
func (x flip) there() (bool, error) {
	f, err := os.Open(x.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for rot: %w", err)
	}
	defer f.Close()
	b := make([]byte, 1)
	_, err = f.ReadAt(b, x.at)
	return err == nil && b[0] == x.is, nil
}

// rot turns over bits of sealed segments of a broker that runs.
func (n *nemesis) rot(context.Context) (string, error) {
	id := n.pick()
	var paths []string
	names, err := filepath.Glob(filepath.Join(n.cluster.dataDir(id), "partitions", "*", "*.segment"))
	if err != nil {
		return "", fmt.Errorf("list segments: %w", err)
	}
	for _, name := range names {
		if _, err := os.Stat(strings.TrimSuffix(name, ".segment") + ".index"); err == nil {
			paths = append(paths, name)
		}
	}
	n.random.Shuffle(len(paths), func(i, j int) { paths[i], paths[j] = paths[j], paths[i] })
	n.flips, n.rotten = nil, id
	for _, path := range paths[:min(len(paths), flipsMax)] {
		x, ok, err := flipIn(path, n.random)
		if err != nil {
			return "", err
		}
		if ok {
			n.flips = append(n.flips, x)
		}
	}
	n.flipped += len(n.flips)
	return fmt.Sprintf("a bit flips in each of %d sealed segments of broker %d", len(n.flips), id), nil
}

// rotMended kills the broker whose segments rotted and starts it again, which
// reads all of them, and waits until none is left as it is.
func (n *nemesis) rotMended(ctx context.Context) error {
	n.cluster.brokers[n.rotten-1].kill()
	if err := n.startAll(ctx); err != nil {
		return err
	}
	left := n.flips
	for end := time.Now().Add(mendMax); len(left) > 0; time.Sleep(100 * time.Millisecond) {
		var still []flip
		for _, x := range left {
			there, err := x.there()
			if err != nil {
				return err
			}
			if there {
				still = append(still, x)
			}
		}
		if left = still; len(left) > 0 && time.Now().After(end) {
			n.ledger.report(unmended, "%d segments of broker %d are not made anew after %s: byte %d of %s", len(left), n.rotten, mendMax, left[0].at, left[0].path)
			return nil
		}
	}
	return nil
}

// diskFails has every read and write of one broker's disk give an I/O error. The
// broker may end of it.
func (n *nemesis) diskFails(context.Context) (string, error) {
	n.failing = n.pick()
	return fmt.Sprintf("disk of broker %d gives I/O errors", n.failing), limitDisk(n.cluster.mountPoint(n.failing), failedBytes)
}

// diskReplaced gives the broker its disk back, checked, and starts it again.
func (n *nemesis) diskReplaced(ctx context.Context) error {
	id := n.failing
	n.failing = 0
	if id == 0 {
		return nil
	}
	n.cluster.brokers[id-1].kill()
	point := n.cluster.mountPoint(id)
	if err := errors.Join(limitDisk(point, 0), run(ctx, "umount", point)); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "e2fsck", "-p", point+".img").CombinedOutput()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 1 {
		err = nil // it had something to mend
	}
	if err != nil {
		return fmt.Errorf("check file system of broker %d: %w: %s", id, err, strings.TrimSpace(string(out)))
	}
	if err := run(ctx, "mount", "-o", "loop", point+".img", point); err != nil {
		return err
	}
	return n.startAll(ctx)
}

// canFail tries whether a disk here can be made to fail, with a small one.
func canFail(ctx context.Context, point string) error {
	if err := mount(ctx, point, 16<<20); err != nil {
		return err
	}
	err := errors.Join(limitDisk(point, failedBytes), limitDisk(point, 0), run(ctx, "umount", point))
	_, missing := exec.LookPath("e2fsck")
	return errors.Join(err, missing, os.Remove(point), os.Remove(point+".img"))
}

// limitDisk makes the device under the file system at a path that long; 0 is as
// long as it was. Whatever lies behind the end fails.
func limitDisk(point string, bytes uint64) error {
	dev, err := device(point)
	if err != nil {
		return err
	}
	link, err := os.Readlink("/sys/dev/block/" + dev)
	if err != nil {
		return fmt.Errorf("find loop device of %s: %w", point, err)
	}
	f, err := os.OpenFile("/dev/"+filepath.Base(link), os.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open loop device of %s: %w", point, err)
	}
	defer f.Close()
	status, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil {
		return fmt.Errorf("read status of %s: %w", f.Name(), err)
	}
	status.Sizelimit = bytes
	if err := unix.IoctlLoopSetStatus64(int(f.Fd()), status); err != nil {
		return fmt.Errorf("set size of %s: %w", f.Name(), err)
	}
	return nil
}

// repairs is what brokers said of damage, in their logs.
type repairs struct {
	Flipped int `json:"bits_flipped"`
	Found   int `json:"segments_found"`
	Mended  int `json:"segments_made_anew"`
	Left    int `json:"segments_left_to_the_bucket"`
}

func (r repairs) String() string {
	return fmt.Sprintf("%d bits of segments were flipped; brokers found %d segments damaged, made %d anew from replicas or the bucket, and left %d to the bucket.", r.Flipped, r.Found, r.Mended, r.Left)
}

// repairs reads the brokers' logs.
func (c *cluster) repairs(flipped int) (repairs, error) {
	r := repairs{Flipped: flipped}
	for _, b := range c.brokers {
		said, err := os.ReadFile(b.log)
		if err != nil {
			return r, fmt.Errorf("read log of %s: %w", b.name, err)
		}
		text := string(said)
		r.Found += strings.Count(text, "a segment is damaged and will be made anew")
		r.Mended += strings.Count(text, "a damaged segment was made anew")
		r.Left += strings.Count(text, "a damaged segment was left to the bucket")
	}
	return r, nil
}
