package partition

import (
	"context"
	"fmt"

	"tidewater/internal/record"
)

// scrubbed is where a Scrub stopped: in the segment that begins with first, at
// pos; the zero value is the beginning.
type scrubbed struct {
	first record.Index
	pos   int64
}

// Scrub reads about bytesMax bytes of the segments, at least a chunk, and
// compares them with their checksums, so that damage is found before the bytes
// are needed; Repair mends it. It goes on where the last call stopped; end is
// told when the newest segment was read. It has one caller, Repair's.
func (p *Partition) Scrub(ctx context.Context, bytesMax int64) (read int64, end bool, err error) {
	infos := p.segments.Segments()
	at := &p.scrubbed
	for i := 0; i < len(infos) && read < bytesMax; {
		in := &infos[i]
		if in.First < at.first {
			i++
			continue
		}
		if in.First > at.first {
			*at = scrubbed{first: in.First}
		}
		if err := ctx.Err(); err != nil {
			return read, false, err
		}
		next, err := p.segments.Check(*in, at.pos, bytesMax-read)
		if err != nil {
			return read, false, fmt.Errorf("check segments of %s: %w", p.Name(), err)
		}
		if next == 0 {
			read += max(in.Bytes-at.pos, 1)
			*at = scrubbed{first: in.Last + 1}
			i++
			continue
		}
		read += next - at.pos
		at.pos = next
	}
	p.cfg.Rot.Checked.Add(read)
	if n := len(infos); n == 0 || infos[n-1].Last < at.first {
		*at = scrubbed{}
		return read, true, nil
	}
	return read, false, nil
}
