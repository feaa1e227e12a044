package journal

import (
	"errors"
	"fmt"
	"log/slog"

	"tidewater/internal/disk"
)

// Defaults and bounds of Config.
const (
	FileBytesDefault    = 64 << 20
	FirstBytesDefault   = 4 << 20
	LiveBytesMaxDefault = 2 << 30

	// fileBytesMin leaves room for the header, a note and one small record.
	fileBytesMin = 16 << 10
	// MarkBytesMax bounds Mark.Data: marks are held in memory and rewritten.
	MarkBytesMax = 64 << 10
)

// Config is what a journal is opened with.
type Config struct {
	FS  disk.FS
	Dir string // in FS; made if missing

	// ClusterID and Incarnation stand in every file. A directory of another
	// cluster is refused.
	ClusterID   [16]byte
	Incarnation uint64

	// FileBytes is the size of a journal file, a multiple of 4 KiB; the
	// largest entry must fit. 0 is FileBytesDefault.
	FileBytes int64
	// FirstBytes is the size of the first file of an empty directory; later
	// ones double up to FileBytes, so that start-up does not wait for zeros.
	// 0 is FirstBytesDefault, at most FileBytes.
	FirstBytes int64
	// LiveBytesMax caps the bytes that replay would read. At the cap Full says
	// so, and half as much above it Append refuses entries with ErrFull. 0 is
	// LiveBytesMaxDefault.
	LiveBytesMax int64

	// EndMin is the highest End that is known of this directory: one that ends
	// before it, or is empty, is refused with ErrOlder and left as it is. 0: none
	// is known.
	EndMin int64

	// Salt gives a random number per use of a file. It keeps a client from
	// writing record values that look like journal records. Nil uses none.
	Salt func() uint64

	Log *slog.Logger // nil is slog.Default

	// Beside runs fn beside the caller and gives what waits for it: Open then
	// reads ahead while it checks. Nil reads one piece after the other.
	Beside func(fn func()) (wait func())

	// Fault plants errors for tests that prove their checkers catch them.
	Fault Fault
}

// Fault switches off rules that the journal's promises rest on. The zero value
// is the only one fit for data.
type Fault struct {
	// AckBeforeFlush makes Flush return before the bytes are synced.
	AckBeforeFlush bool
	// KeepHardStates lets a file be reused although the newest hard state of
	// a group stands in it only: votes are lost (DESIGN 3.3).
	KeepHardStates bool
	// RetrySync tries a failed sync again and goes on if that succeeds.
	RetrySync bool
}

// Validate fills in defaults and collects every fault of the configuration.
func (c *Config) Validate() error {
	if c.FileBytes == 0 {
		c.FileBytes = FileBytesDefault
	}
	if c.FirstBytes == 0 {
		c.FirstBytes = min(FirstBytesDefault, c.FileBytes)
	}
	if c.LiveBytesMax == 0 {
		c.LiveBytesMax = max(LiveBytesMaxDefault, 4*c.FileBytes)
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	var faults []error
	if c.FS == nil {
		faults = append(faults, errors.New("no FS"))
	}
	if c.Dir == "" {
		faults = append(faults, errors.New("no Dir"))
	}
	for _, size := range []struct {
		name  string
		bytes int64
	}{{"FileBytes", c.FileBytes}, {"FirstBytes", c.FirstBytes}} {
		if size.bytes < fileBytesMin || size.bytes > 1<<32 || size.bytes%disk.BlockBytes != 0 {
			faults = append(faults, fmt.Errorf("%s %d: want a multiple of %d from %d to %d",
				size.name, size.bytes, disk.BlockBytes, fileBytesMin, int64(1)<<32))
		}
	}
	if c.FirstBytes > c.FileBytes {
		faults = append(faults, fmt.Errorf("file sizes: FirstBytes %d is more than FileBytes %d", c.FirstBytes, c.FileBytes))
	}
	if c.LiveBytesMax < 2*c.FileBytes {
		faults = append(faults, fmt.Errorf("cap: LiveBytesMax %d is less than two files of %d", c.LiveBytesMax, c.FileBytes))
	}
	if len(faults) > 0 {
		return fmt.Errorf("journal configuration: %w", errors.Join(faults...))
	}
	return nil
}
