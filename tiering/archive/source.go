package archive

import (
	"context"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// Segment is a sealed local segment; every entry in it is committed.
type Segment struct {
	Base         record.Offset // first offset in it
	Next         record.Offset // exclusive end
	Bytes        int64         // batches only, without local padding
	MaxTimestamp int64         // milliseconds since the Unix epoch, -1 if none
}

// Marks is what an archive must know of a partition before each step.
type Marks struct {
	logio.Offsets
	// Leading: this broker leads the partition, the empty entry of its term is
	// committed, and so Offsets.HighWatermark is true. Offsets.Epoch is then
	// the term it leads.
	Leading bool
}

// Source is a partition as the archive sees it; broker/partition implements
// it. All methods are safe for concurrent use.
type Source interface {
	// Marks never blocks.
	Marks() Marks
	// Sealed lists the sealed local segments whose Next is above from, in order.
	Sealed(from record.Offset) []Segment
	// Batches gives committed whole batches from the one that holds from on,
	// none that begins at or above limit, about bytesMax bytes but at least
	// one batch; none at all when from is the end. They come from memory or
	// local disk and are not written to.
	Batches(ctx context.Context, from, limit record.Offset, bytesMax int) ([][]byte, error)
	// History gives what stands beside a segment that ends at end: the
	// producer state before base and before end (nil when the partition does
	// not keep a snapshot there; it is then rebuilt from batches) and the
	// leader-epoch history up to end.
	History(ctx context.Context, base, end record.Offset) (History, error)
	// SetArchived commits in the partition's own log that everything below end
	// is in the bucket by the manifest of that number; local bytes below may
	// go from then on.
	SetArchived(ctx context.Context, end record.Offset, manifest uint64) error
	// Confirm returns nil when a majority of the partition's replicas has said,
	// after the call, that this one leads: only then is anything deleted.
	Confirm(ctx context.Context) error
	// Seal asks that the active segment be sealed soon, because too many bytes
	// wait for the bucket. It does not block.
	Seal()
}

// History is the state of a partition at a segment's two ends. The snapshots
// are opaque here; their format belongs to broker/partition.
type History struct {
	ProducersAtBase []byte
	ProducersAtEnd  []byte
	Epochs          []logio.EpochStart
}
