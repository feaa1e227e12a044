package broker

import (
	"errors"
	"strings"
	"testing"

	"tidewater/internal/disk"
)

// Many partitions with less than a chunk each fill the memory that may wait for
// segments, and one slow partition the journal. Nobody would write them for
// chunkAge, and produce would be refused that long.
func TestLittleIsWrittenBeforeProduceIsRefused(t *testing.T) {
	const memory = 512 << 20
	const from = memory / memoryShares * spillShare
	for _, c := range []struct {
		held int64
		full bool
		want int64
	}{
		{0, false, 0}, {from, false, 0}, {from + 8, false, 8 + from/memoryShares}, {0, true, 0}, {9, true, 9},
	} {
		if got := spillBytes(c.held, memory, c.full); got != c.want {
			t.Errorf("%d bytes wait, journal full %v: %d bytes are to be written, want %d", c.held, c.full, got, c.want)
		}
	}
}

// Of those with less than a chunk the largest go first, as many as are needed.
func TestLargestAreWrittenFirst(t *testing.T) {
	var small []waiting
	for _, bytes := range []int64{10, 40, 20, 40} {
		small = append(small, waiting{bytes: bytes})
	}
	for _, c := range []struct {
		bytes int64
		want  int
	}{{-1, 0}, {0, 0}, {1, 1}, {40, 1}, {41, 2}, {81, 3}, {1000, 4}} {
		more, rest := largest(small, c.bytes)
		if len(more) != c.want || len(rest) != 4-c.want {
			t.Errorf("%d bytes: %d partitions, %d stay", c.bytes, len(more), len(rest))
		}
		for i := range more {
			if i > 0 && more[i].bytes > more[i-1].bytes {
				t.Errorf("%d bytes: %d after %d", c.bytes, more[i].bytes, more[i-1].bytes)
			}
		}
	}
}

// A partition that could not be opened is opened when the disk lets it, without
// another change of the cluster's metadata.
func TestPartitionThatCouldNotBeOpenedIsTriedAgain(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	var d *disk.Fault
	cfg.disk = func(below disk.FS) disk.FS {
		d = disk.NewFault(below)
		return d
	}
	n := openNode(t, cfg)
	d.Add(disk.Rule{Err: disk.ErrFull, When: func(c disk.Call) bool {
		return strings.HasPrefix(c.Name, partitionsDir) && c.Op == disk.OpList
	}})
	n.topic("t", 1, nil)
	until(t, "the partition is not opened", func() error {
		if n.logged.count("could not be opened") == 0 {
			return errors.New("nothing in the log")
		}
		return nil
	})
	d.Clear()
	n.fill("t", 0, 0, 3)
	n.mustHold("t", 0, 3)
}
