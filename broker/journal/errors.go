package journal

import (
	"errors"
	"fmt"

	"tidewater/internal/disk"
)

var (
	// ErrFull: no room for entries, because the disk is full or LiveBytesMax
	// is passed by half. Nothing of the refused write counts; the caller answers a
	// retriable error, or appends the same Write again later. Writes without
	// entries still go through for a good while, marks and removals for
	// longer, so that they can make room.
	ErrFull = disk.ErrFull
	// ErrDead: a write or sync failed earlier, or now. The caller stops every
	// replica on this disk and does not open the directory again in this
	// process.
	ErrDead = errors.New("journal is dead: its disk failed")
	// ErrTooLarge: an entry does not fit in a journal file. The caller refuses
	// the record batch.
	ErrTooLarge = errors.New("entry is larger than a journal file can hold")
	// ErrCorrupt: bytes that were durable are wrong. The replicas of this disk
	// do not start. The error is a *CorruptError.
	ErrCorrupt = errors.New("journal is corrupt")
	// ErrOlder: the directory once held more (Config.EndMin): it was emptied, or
	// is a copy of before. Votes and entries that were promised are missing; the
	// replicas of this disk must not start.
	ErrOlder = errors.New("journal is older than it was")
	// ErrClosed: the journal was closed.
	ErrClosed = errors.New("journal is closed")
)

// CorruptError says where durable bytes are wrong and in which way.
type CorruptError struct {
	File     string
	Offset   int64 // in the file
	Position int64 // in the journal
	Read     string
	Expected string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%v: file %s at byte %d (journal position %d): read %s, expected %s",
		ErrCorrupt, e.File, e.Offset, e.Position, e.Read, e.Expected)
}

// Is makes errors.Is(err, ErrCorrupt) hold.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }
