package partition

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// A producer snapshot's file is named for its offset, so that it sorts beside
// the segment that begins there. It is the snapshot's length (4 bytes), the
// snapshot, and zeros up to a block.
const snapshotSuffix = ".producers"

func snapshotName(dir string, next record.Offset) string {
	return path.Join(dir, fmt.Sprintf("%020d%s", next, snapshotSuffix))
}

// writeSnapshot makes data the snapshot at next, durably, under its final name
// only when it is whole.
func writeSnapshot(fsys disk.FS, dir string, next record.Offset, data []byte) error {
	if err := writeWhole(fsys, dir, path.Base(snapshotName(dir, next)), data); err != nil {
		return fmt.Errorf("write producer snapshot: %w", err)
	}
	return nil
}

// writeWhole makes data the content of a small file, durably, under its name
// only when it is whole.
func writeWhole(fsys disk.FS, dir, name string, data []byte) error {
	full := path.Join(dir, name)
	if err := writeFile(fsys, full+".new", data); err != nil {
		return fmt.Errorf("write %s: %w", full, err)
	}
	if err := fsys.Rename(full+".new", full); err != nil {
		return fmt.Errorf("rename %s: %w", full, err)
	}
	if err := fsys.SyncDir(dir); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}

func writeFile(fsys disk.FS, name string, data []byte) error {
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := fsys.Create(name)
	if err != nil {
		return err
	}
	buf := disk.Alloc(int(disk.RoundUp(int64(4 + len(data)))))
	binary.BigEndian.PutUint32(buf, uint32(len(data)))
	copy(buf[4:], data)
	_, err = f.WriteAt(buf, 0)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}

// readSnapshot gives the snapshot at next; fs.ErrNotExist when there is none.
func readSnapshot(fsys disk.FS, dir string, next record.Offset) ([]byte, error) {
	data, err := readWhole(fsys, dir, path.Base(snapshotName(dir, next)))
	if err != nil {
		return nil, fmt.Errorf("read producer snapshot: %w", err)
	}
	return data, nil
}

// readWhole gives what writeWhole wrote; fs.ErrNotExist when there is none.
func readWhole(fsys disk.FS, dir, name string) ([]byte, error) {
	full := path.Join(dir, name)
	f, err := fsys.Open(full)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", full, err)
	}
	defer f.Close() // only read
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("size of %s: %w", full, err)
	}
	buf := disk.Alloc(int(disk.RoundUp(size)))
	n, err := f.ReadAt(buf, 0)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("read %s: %w", full, err)
	}
	if n < 4 || int64(binary.BigEndian.Uint32(buf)) > int64(n-4) {
		return nil, fmt.Errorf("%w: %s: %d bytes do not hold what the length says", ErrCorrupt, full, n)
	}
	return buf[4 : 4+binary.BigEndian.Uint32(buf)], nil
}

// listSnapshots gives the offsets of the snapshots in dir, rising.
func listSnapshots(fsys disk.FS, dir string) ([]record.Offset, error) {
	names, err := fsys.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list directory %s: %w", dir, err)
	}
	var at []record.Offset
	for _, name := range names { // sorted, and the names sort as the offsets do
		digits, ok := strings.CutSuffix(name, snapshotSuffix)
		if n, err := strconv.ParseInt(digits, 10, 64); ok && err == nil {
			at = append(at, record.Offset(n))
		}
	}
	return at, nil
}

// removeSnapshots removes those below next, but the newest at or below it.
func removeSnapshots(fsys disk.FS, dir string, next record.Offset) error {
	at, err := listSnapshots(fsys, dir)
	if err != nil {
		return err
	}
	for i := 0; i+1 < len(at) && at[i+1] <= next; i++ {
		if err := fsys.Remove(snapshotName(dir, at[i])); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove producer snapshot at %d: %w", at[i], err)
		}
	}
	return nil
}
