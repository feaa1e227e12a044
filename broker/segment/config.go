package segment

import (
	"errors"
	"fmt"

	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// Defaults of Config.
const (
	// SegmentBytesDefault is Kafka's log.segment.bytes divided by eight: small
	// enough that the archive and retention work in steps of seconds.
	SegmentBytesDefault = 128 << 20
	// SegmentBytesMax keeps positions and sizes well inside what one upload
	// and one index take.
	SegmentBytesMax = 8 << 30
	// ChunkBytesMax bounds one Append (header, entries and batches): Kafka's
	// largest request twice over.
	ChunkBytesMax = 256 << 20
	// indexEveryBytes is the distance between two points of the sparse index:
	// a read begins at most this far before the offset asked for. A point
	// takes 40 bytes, so an index is 1/1,600 of its segment.
	indexEveryBytes = 64 << 10
)

// tenantBytesMax is the room for a tenant's name in a file header.
const tenantBytesMax = 63

// Identity is what every file of a log says about whose it is (DESIGN 5). A
// file with another identity is refused.
type Identity struct {
	ClusterID   [16]byte
	Incarnation uint64
	Tenant      string // at most 63 bytes; "" is the default tenant
	KeyID       uint32 // 0: not encrypted; others are refused today
	Partition   record.PartitionID
}

// Position is a place in the log: the last entry, its term, and the offset
// that the next record takes.
type Position struct {
	Index record.Index
	Term  uint64
	Next  record.Offset
}

// Config opens a Log.
type Config struct {
	FS disk.FS
	// Dir belongs to this log alone; it is made when missing.
	Dir      string
	Identity Identity
	// SegmentBytes seals the active segment when the next chunk would pass it
	// (0: SegmentBytesDefault). A segment holds at least one chunk.
	SegmentBytes int64
	// Start is where the log begins when the directory holds no segment: what
	// End gives, and what the first Append must continue. The zero value lets
	// the first Append begin anywhere.
	Start Position
	// First passes over segments whose first entry lies below it: they are
	// another log's, which this one is to follow above a gap.
	First record.Index
	// Durable is the last Index known to be in synced segments (the group's
	// mark). A log that ends before it is corrupt. 0: nothing is known.
	Durable record.Index
	// Cache is shared by the logs of one disk; nil gives the log a small one
	// of its own.
	Cache *Cache
}

// Validate names everything that is wrong.
func (c *Config) Validate() error {
	var faults []error
	if c.FS == nil {
		faults = append(faults, errors.New("no FS is given"))
	}
	if c.Dir == "" {
		faults = append(faults, errors.New("no Dir is given"))
	}
	if c.SegmentBytes < 0 || c.SegmentBytes > SegmentBytesMax {
		faults = append(faults, fmt.Errorf("SegmentBytes is %d, at most %d", c.SegmentBytes, int64(SegmentBytesMax)))
	}
	if len(c.Identity.Tenant) > tenantBytesMax {
		faults = append(faults, fmt.Errorf("tenant %q is over %d bytes", c.Identity.Tenant, tenantBytesMax))
	}
	if c.Identity.KeyID != 0 {
		faults = append(faults, fmt.Errorf("key id %d: encryption is not built", c.Identity.KeyID))
	}
	return errors.Join(faults...)
}

var (
	// ErrCorrupt: bytes that were durable are wrong or gone. The replica stops
	// and is repaired from another; nothing is dropped silently.
	ErrCorrupt = errors.New("segment is corrupt")
	// ErrDead: a sync failed, so what is on disk is unknown, and the log takes no
	// more in this process. A new Open writes again what is in doubt.
	ErrDead = errors.New("segments are dead: their disk failed")
	// ErrVersion: a newer format. The caller stops and says so.
	ErrVersion = errors.New("segment format version is not supported")
	// ErrIdentity: a file belongs to another cluster, tenant or partition, or
	// to a newer incarnation. The caller stops: the directory is not its own.
	ErrIdentity = errors.New("segment belongs to something else")
	// ErrGap: an Append does not continue the log: a fault of the caller.
	ErrGap = errors.New("append does not continue the log")
)

// Entry is one committed Raft entry. Data whose first byte has the high bit
// clear is one whole record batch; anything else (empty, a command) is carried
// along by Index and Term and takes no Offset.
type Entry struct {
	Index record.Index
	Term  uint64
	Data  []byte
}

// isBatch reports whether an entry's data is a record batch: base offsets are
// never negative, so the first byte tells.
func isBatch(data []byte) bool { return len(data) > 0 && data[0]&0x80 == 0 }

// Info describes one segment.
type Info struct {
	Name         string        // of the file, without directory
	Base         record.Offset // first offset
	Next         record.Offset // exclusive end; Base == Next without records
	First, Last  record.Index  // both inclusive
	LastTerm     uint64
	Bytes        int64 // of the file, header and padding included
	PayloadBytes int64 // of record batches
	MaxTimestamp int64 // milliseconds since the Unix epoch, -1 without records
	MinTimestamp int64 // smallest base timestamp of a batch, -1 without records
	Sealed       bool
}
