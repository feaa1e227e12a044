package broker

import (
	"context"

	"tidewater/broker/partition"
	"tidewater/internal/record"
	"tidewater/tiering/archive"
)

// archiveSource is a partition as the archive sees it.
type archiveSource struct{ p *partition.Partition }

var _ archive.Source = archiveSource{}

// Marks implements archive.Source.
func (s archiveSource) Marks() archive.Marks {
	o, leading := s.p.Marks()
	return archive.Marks{Offsets: o, Leading: leading}
}

// Sealed implements archive.Source.
func (s archiveSource) Sealed(from record.Offset) []archive.Segment {
	local := s.p.Sealed(from)
	out := make([]archive.Segment, len(local))
	for i, l := range local {
		out[i] = archive.Segment(l)
	}
	return out
}

// Batches implements archive.Source.
func (s archiveSource) Batches(ctx context.Context, from, limit record.Offset, bytesMax int) ([][]byte, error) {
	return s.p.Batches(ctx, from, limit, bytesMax)
}

// History implements archive.Source.
func (s archiveSource) History(ctx context.Context, base, end record.Offset) (archive.History, error) {
	h, err := s.p.History(ctx, base, end)
	return archive.History(h), err
}

// SetArchived implements archive.Source.
func (s archiveSource) SetArchived(ctx context.Context, end record.Offset, manifest uint64) error {
	return s.p.SetArchived(ctx, end, manifest)
}

// Confirm implements archive.Source.
func (s archiveSource) Confirm(ctx context.Context) error { return s.p.Confirm(ctx) }

// Seal implements archive.Source.
func (s archiveSource) Seal() { s.p.Seal() }
