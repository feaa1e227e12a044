package disk

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// openDirect is the flag of direct I/O.
const openDirect = unix.O_DIRECT

// dataSync makes the file's data and the metadata needed to read it durable.
func dataSync(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := conn.Control(func(fd uintptr) {
		for {
			if failed = unix.Fdatasync(int(fd)); failed != unix.EINTR {
				return
			}
		}
	}); err != nil {
		return err
	}
	if failed != nil {
		return fmt.Errorf("fdatasync %s: %w", f.Name(), failed)
	}
	return nil
}

// freeBytes is what an ordinary user may still write below dir.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("statfs %s: %w", dir, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// hugePages asks for huge pages behind b, also where small ones are already. It
// is only about speed: what the system refuses stays as it is.
func hugePages(b []byte) {
	_ = unix.Madvise(b, unix.MADV_HUGEPAGE)
	_ = unix.Madvise(b, unix.MADV_COLLAPSE)
}
