package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// restore answers figure restore: kill -9, the data directory deleted, and the
// time that each part takes until a client reads offset 0 again.
func (w *world) restore(ctx context.Context, p *process) error {
	if err := w.end(p, syscall.SIGKILL); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(w.dir, "node")); err != nil {
		return err
	}
	begin := time.Now()
	out, err := exec.CommandContext(ctx, w.b.binary, "restore", "--data-dir", filepath.Join(w.dir, "restored"), "--bucket", w.bucketURL(),
		"--bucket-access-key", accessKey, "--bucket-secret-key", secretKey).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("tidewater restore: %s", exit.Stderr)
	}
	if err != nil {
		return err
	}
	restored := time.Now()
	if _, err := w.broker(ctx, "restored"); err != nil {
		return err
	}
	ready := time.Now()
	k, err := w.client()
	if err != nil {
		return err
	}
	defer k.Close()
	if err := readAtLast(ctx, k, coldTopic); err != nil {
		return err
	}
	fetched := time.Now()
	if err := w.b.results.keep("restore.txt", out); err != nil {
		return err
	}
	n, err := records(ctx, k, coldTopic)
	if err != nil {
		return err
	}
	r := newResult("restore", "%d records of 1 KiB in the bucket, to the first fetch", n)
	r.add("in all", "ms", ms(fetched.Sub(begin)))
	r.add("the restore command", "ms", ms(restored.Sub(begin)))
	r.add("start of the broker until it is ready", "ms", ms(ready.Sub(restored)))
	return w.b.results.add(r.add("the first fetch, leaders elected before it", "ms", ms(fetched.Sub(ready))))
}

// readAtLast reads the first batch, again and again while that is refused: a
// leader is elected before it serves.
func readAtLast(ctx context.Context, k *kgo.Client, topic string) error {
	var last error
	err := wait(ctx, readyTimeout, "the first fetch", func() (bool, error) {
		last = readFirst(ctx, k, topic)
		return last == nil, nil
	})
	if err != nil {
		return errors.Join(err, last)
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
