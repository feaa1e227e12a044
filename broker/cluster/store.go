package cluster

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// The store's sizes: the controller's state is small, and an idle broker's
// memory is counted. One table of 1 MiB in memory holds the changes of several
// thousand topics.
const (
	storeMemTableBytes = 1 << 20
	storeCacheBytes    = 1 << 20
	storeOpenFilesMax  = 64
)

// storeFormat is the value of the key formatKey; docs/formats/controller.md.
const (
	formatKey   = "\x00format"
	stagedKey   = "\x00staged"           // a metadata snapshot that is to take the state's place
	storeFormat = "TWCS\x00\x01\x00\x01" // magic, version, oldest reader's version
)

// store is the controller's State on disk: the entities by key, and under the
// meta key the Index they are at.
type store struct {
	db    *pebble.DB
	cache *pebble.Cache
	ran   bool // it held applied entries when it was opened
}

// openStore opens or makes the store in dir and reads the state it holds.
func openStore(fs vfs.FS, dir string, log *slog.Logger) (*store, *State, error) {
	cache := pebble.NewCache(storeCacheBytes)
	db, err := pebble.Open(dir, &pebble.Options{
		FS: fs, Cache: cache, MaxOpenFiles: storeOpenFilesMax,
		MemTableSize: storeMemTableBytes, MemTableStopWritesThreshold: 4,
		FormatMajorVersion: pebble.FormatNewest,
		Logger:             storeLogger{log},
	})
	if err != nil {
		cache.Unref()
		return nil, nil, fmt.Errorf("open controller store %s: %w", dir, err)
	}
	s := &store{db: db, cache: cache}
	state, err := s.read()
	if err != nil {
		_ = s.close() // the read error is the one to tell
		return nil, nil, fmt.Errorf("read controller store %s: %w", dir, err)
	}
	return s, state, nil
}

// fits refuses a store whose feature level this build cannot work at, before
// anything is read that it may not know.
func (s *store) fits() error {
	value, done, err := s.db.Get([]byte{keyMeta})
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	v := emptyView()
	err = v.load(string(byte(keyMeta)), value)
	if err == nil {
		err = v.works()
	}
	return errors.Join(err, done.Close())
}

func (s *store) read() (*State, error) {
	if err := s.fits(); err != nil {
		return nil, err
	}
	it, err := s.db.NewIter(nil)
	if err != nil {
		return nil, err
	}
	defer it.Close()
	v, format := emptyView(), ""
	var staged *View
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return nil, err
		}
		if key := string(it.Key()); key == formatKey {
			format = string(value)
		} else if key == stagedKey {
			if staged, err = DecodeView(value); err != nil {
				return nil, err
			}
		} else if err := v.load(key, value); err != nil {
			return nil, err
		}
	}
	if err := it.Error(); err != nil {
		return nil, err
	}
	switch {
	case format == storeFormat:
	case format == "" && v.applied == 0:
		if err := s.db.Set([]byte(formatKey), []byte(storeFormat), pebble.Sync); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("%w: format is %q, this build reads %q", ErrFormat, format, storeFormat)
	}
	s.ran = v.applied > 0
	if staged == nil {
		return stateOf(v), nil
	}
	// What was staged is committed, whether raft took it before the crash or
	// not; entries below it pass the state by.
	if staged.applied > v.applied {
		v = *staged
	}
	if err := v.works(); err != nil {
		return nil, err
	}
	return stateOf(v), s.replace(&v)
}

// stage keeps a metadata snapshot beside the state, durably.
func (s *store) stage(snapshot []byte) error {
	if err := s.db.Set([]byte(stagedKey), snapshot, pebble.Sync); err != nil {
		return fmt.Errorf("stage controller snapshot: %w", err)
	}
	return nil
}

// replace puts v in the place of everything, what is staged included, in one
// step. A crash may undo it until sync; then the staged snapshot is there.
func (s *store) replace(v *View) error {
	b := s.db.NewBatch()
	defer b.Close()
	err := b.DeleteRange([]byte{0x01}, []byte{0xff}, nil)
	for _, k := range v.keys() {
		if err == nil {
			err = b.Set([]byte(k), v.stored(k), nil)
		}
	}
	if err == nil {
		err = b.Delete([]byte(stagedKey), nil)
	}
	if err == nil {
		err = b.Commit(pebble.NoSync)
	}
	if err != nil {
		return fmt.Errorf("replace controller store: %w", err)
	}
	return nil
}

// write makes the changes in one step, which a crash may undo until sync.
func (s *store) write(changes []Change) error {
	b := s.db.NewBatch()
	defer b.Close()
	for _, c := range changes {
		var err error
		if c.Value == nil {
			err = b.Delete([]byte(c.Key), nil)
		} else {
			err = b.Set([]byte(c.Key), c.Value, nil)
		}
		if err != nil {
			return fmt.Errorf("write controller store: %w", err)
		}
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("write controller store: %w", err)
	}
	return nil
}

// sync makes everything written so far durable.
func (s *store) sync() error {
	if err := s.db.LogData(nil, pebble.Sync); err != nil {
		return fmt.Errorf("sync controller store: %w", err)
	}
	return nil
}

func (s *store) close() error {
	err := s.db.Close()
	s.cache.Unref()
	if err != nil {
		return fmt.Errorf("close controller store: %w", err)
	}
	return nil
}

// storeLogger keeps the store's chatter out of the log. A fatal error is one
// after which the store's own state is unknown: the process must not go on.
type storeLogger struct{ log *slog.Logger }

func (storeLogger) Infof(string, ...any) {}

func (l storeLogger) Errorf(format string, args ...any) {
	l.log.Error("controller store", "error", fmt.Sprintf(format, args...))
}

func (l storeLogger) Fatalf(format string, args ...any) {
	panic("controller store: " + fmt.Sprintf(format, args...))
}
