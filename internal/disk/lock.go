package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// LockFile is the file whose flock is the directory's owner. The kernel lets
// go of it when the process ends, however it ends.
const LockFile = "LOCK"

// Lock takes the directory root for this process until unlock. Another
// holder, in this process or another, makes it ErrLocked naming the directory
// and, where known, the other's process id.
func Lock(root string) (unlock func() error, err error) {
	if err := makeDirs(root); err != nil {
		return nil, fmt.Errorf("lock %s: %w", root, full(err))
	}
	f, err := os.OpenFile(filepath.Join(root, LockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", root, full(err))
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s%s: %w", root, holder(f), ErrLocked)
		}
		return nil, fmt.Errorf("lock %s: %w", root, err)
	}
	// The process id is for the reader of the message only; a full disk must
	// not keep us from starting.
	if f.Truncate(0) == nil {
		_, _ = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	return f.Close, nil
}

// holder words the process id the lock file holds.
func holder(f *os.File) string {
	b := make([]byte, 20)
	n, _ := f.ReadAt(b, 0)
	if pid := strings.TrimSpace(string(b[:n])); pid != "" {
		return " (held by process " + pid + ")"
	}
	return ""
}
