package partition

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"tidewater/broker/segment"
	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// copyFile lies in a partition's directory while segments of two logs do: the
// replica's own, and one copied from another replica that begins above a gap
// (docs/formats/segment-copy.md). The copy counts once the group's mark has
// reached its end, since the mark is written when all of the copy is durable.
type copyFile struct {
	first record.Index // the first entry copied
	last  record.Index // the RaftSnapshot's
}

const (
	copyFileName    = "copying"
	copyFileMagic   = "TWCF"
	copyFileVersion = 1
)

func (c copyFile) encode() []byte {
	b := append([]byte(nil), copyFileMagic...)
	b = binary.BigEndian.AppendUint16(b, copyFileVersion)
	b = binary.BigEndian.AppendUint16(b, copyFileVersion)
	b = binary.BigEndian.AppendUint64(b, uint64(c.first))
	b = binary.BigEndian.AppendUint64(b, uint64(c.last))
	return seal(b, 0)
}

func decodeCopyFile(data []byte) (copyFile, error) {
	const what = "copy file"
	f, err := unseal(what, data, copyFileMagic, copyFileVersion)
	if err != nil {
		return copyFile{}, err
	}
	c := copyFile{first: record.Index(f.u64()), last: record.Index(f.u64())}
	return c, f.end(what)
}

func (c copyFile) write(fsys disk.FS, dir string) error {
	if err := writeWhole(fsys, dir, copyFileName, c.encode()); err != nil {
		return fmt.Errorf("write copy file: %w", err)
	}
	return nil
}

func removeCopyFile(fsys disk.FS, dir string) error {
	name := path.Join(dir, copyFileName)
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove copy file %s: %w", name, err)
	}
	if err := fsys.SyncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}

// settleCopy leaves one log in the directory: the copied one if the mark has
// reached its end, else the replica's own.
func settleCopy(fsys disk.FS, dir string, mark record.Index) error {
	data, err := readWhole(fsys, dir, copyFileName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var c copyFile
	if err == nil {
		c, err = decodeCopyFile(data)
	}
	if err != nil {
		return fmt.Errorf("read copy file: %w", err)
	}
	copied := mark >= c.last
	err = segment.Prune(fsys, dir, func(first record.Index) bool { return first >= c.first == copied })
	if err != nil {
		return err
	}
	return removeCopyFile(fsys, dir)
}

// makeDir makes a directory and its name durable.
func makeDir(fsys disk.FS, dir string) error {
	if err := fsys.MkdirAll(dir); err != nil {
		return fmt.Errorf("make directory %s: %w", dir, err)
	}
	for dir = path.Clean(dir); dir != "." && dir != "/"; dir = path.Dir(dir) {
		if err := fsys.SyncDir(path.Dir(dir)); err != nil {
			return fmt.Errorf("sync directory %s: %w", path.Dir(dir), err)
		}
	}
	return nil
}
