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
	const room = 128 << 20
	for _, c := range []struct {
		pending int64
		full    bool
		want    int64
	}{
		{0, false, chunkBytes}, {room / 2, false, chunkBytes}, {room/2 + 1, false, 1}, {room, false, 1}, {0, true, 1},
	} {
		if got := worthWriting(c.pending, room, c.full); got != c.want {
			t.Errorf("%d bytes wait, journal full %v: %d bytes are worth a write, want %d", c.pending, c.full, got, c.want)
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
