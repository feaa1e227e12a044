package disk

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// uuidName is the file at a disk's root that says which disk this is.
const uuidName = "disk-uuid"

// UUID gives the identity of the disk, made by fresh on first use. A replica
// is bound to it: a directory that was wiped or swapped has another one.
func UUID(disk FS, fresh func() ([16]byte, error)) ([16]byte, error) {
	id, err := readUUID(disk)
	if !errors.Is(err, fs.ErrNotExist) {
		return id, err
	}
	if id, err = fresh(); err != nil {
		return id, fmt.Errorf("make disk uuid: %w", err)
	}
	if err := writeUUID(disk, id); err != nil {
		return [16]byte{}, fmt.Errorf("write %s: %w", uuidName, err)
	}
	return id, nil
}

// The file is one block: "tidewater disk ", 32 hex digits, a line feed, zeros.
const uuidPrefix = "tidewater disk "

func readUUID(disk FS) (id [16]byte, err error) {
	f, err := disk.Open(uuidName)
	if err != nil {
		return id, err
	}
	defer f.Close()
	block := Alloc(BlockBytes)
	n, err := f.ReadAt(block, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return id, fmt.Errorf("read %s: %w", uuidName, err)
	}
	line, _, whole := bytes.Cut(block[:n], []byte("\n"))
	digits, known := bytes.CutPrefix(line, []byte(uuidPrefix))
	if !whole || !known || len(digits) != 32 {
		return id, fmt.Errorf("read %s: read %q, expected %q and 32 hex digits", uuidName, line[:min(len(line), 64)], uuidPrefix)
	}
	if _, err := hex.Decode(id[:], digits); err != nil {
		return id, fmt.Errorf("read %s: %q: %w", uuidName, digits, err)
	}
	return id, nil
}

func writeUUID(disk FS, id [16]byte) error {
	const fresh = uuidName + ".new"
	if err := disk.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := disk.Create(fresh)
	if err != nil {
		return err
	}
	block := Alloc(BlockBytes)
	copy(block, fmt.Sprintf("%s%x\n", uuidPrefix, id))
	_, err = f.WriteAt(block, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := disk.Rename(fresh, uuidName); err != nil {
		return err
	}
	return disk.SyncDir(".")
}
