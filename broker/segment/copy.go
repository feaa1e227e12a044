package segment

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// Swap exchanges what two logs of one directory hold, for readers in one step.
// It belongs to the appenders of both: a log that was copied from another
// replica, beginning above a gap (Config.First), takes the place of the old.
func (l *Log) Swap(o *Log) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o.mu.Lock() // nobody but the caller knows it
	defer o.mu.Unlock()
	l.dirty, o.dirty = o.dirty, l.dirty
	l.durable, o.durable = o.durable, l.durable
	l.doubt, o.doubt = o.doubt, l.doubt
	l.dirDirty, o.dirDirty = o.dirDirty, l.dirDirty
	l.newDir, o.newDir = o.newDir, l.newDir
	l.sealed, o.sealed = o.sealed, l.sealed
	l.active, o.active = o.active, l.active
	l.end, o.end = o.end, l.end
	l.anchored, o.anchored = o.anchored, l.anchored
	l.failed, o.failed = o.failed, l.failed
	l.damaged, o.damaged = o.damaged, l.damaged
}

// Drop closes the log and removes its own files, not the directory: of two logs
// that lie in one, the other stays.
func (l *Log) Drop() error {
	infos := l.Segments()
	if err := l.Close(); err != nil {
		return err
	}
	for _, in := range infos {
		if err := l.removeFiles(in); err != nil {
			return err
		}
	}
	if err := l.cfg.FS.SyncDir(l.cfg.Dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("sync segment directory %s: %w", l.cfg.Dir, err)
	}
	return nil
}

// Prune removes the segments in dir, and their indexes, whose first entry keep
// does not want; nobody has them open.
func Prune(fsys disk.FS, dir string, keep func(first record.Index) bool) error {
	names, err := fsys.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list segment directory %s: %w", dir, err)
	}
	for _, name := range names {
		first, ok := firstOf(name)
		if !ok || keep(first) {
			continue
		}
		if err := fsys.Remove(path.Join(dir, name)); err != nil {
			return fmt.Errorf("remove segment %s: %w", path.Join(dir, name), err)
		}
	}
	if err := fsys.SyncDir(dir); err != nil {
		return fmt.Errorf("sync segment directory %s: %w", dir, err)
	}
	return nil
}

// firstOf reads the first Index out of the name of a segment or an index.
func firstOf(name string) (record.Index, bool) {
	stem, isIndex := strings.CutSuffix(name, indexSuffix)
	if isIndex {
		name = stem + segmentSuffix
	}
	_, first, _, ok := parseName(name)
	return first, ok
}
