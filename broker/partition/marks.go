package partition

import (
	"encoding/binary"
	"fmt"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// position is what is true at one Index of the log, apart from producers: the
// blob of a group's mark (docs/formats/partition-mark.md).
type position struct {
	next     record.Offset // offset that the next record takes
	logStart record.Offset
	archived record.Offset // end of what the bucket holds by manifest
	manifest uint64        // its number, 0 for none
	epochs   epochHistory
}

const (
	markMagic   = "TWPM"
	markVersion = 1
)

// apply moves the position by a command.
func (p *position) apply(c command) {
	switch c.kind {
	case setLogStart:
		p.logStart = max(p.logStart, c.logStart)
	case setArchived:
		if c.archived >= p.archived {
			p.archived, p.manifest = c.archived, c.manifest
		}
	}
}

// encode gives at most 48 + 12*epochsMax bytes, 48 KiB.
func (p *position) encode() []byte {
	b := append(make([]byte, 0, 64+12*len(p.epochs)), markMagic...)
	b = binary.BigEndian.AppendUint16(b, markVersion)
	b = binary.BigEndian.AppendUint16(b, markVersion)
	b = binary.BigEndian.AppendUint32(b, 0) // flags
	b = binary.BigEndian.AppendUint64(b, uint64(p.next))
	b = binary.BigEndian.AppendUint64(b, uint64(p.logStart))
	b = binary.BigEndian.AppendUint64(b, uint64(p.archived))
	b = binary.BigEndian.AppendUint64(b, p.manifest)
	b = binary.BigEndian.AppendUint32(b, uint32(len(p.epochs)))
	for _, e := range p.epochs {
		b = binary.BigEndian.AppendUint32(b, uint32(e.Epoch))
		b = binary.BigEndian.AppendUint64(b, uint64(e.Start))
	}
	return seal(b, 0)
}

// decodePosition reads what encode gives.
func decodePosition(data []byte) (position, error) {
	const what = "partition mark"
	f, err := unseal(what, data, markMagic, markVersion)
	if err != nil {
		return position{}, err
	}
	f.u32()
	p := position{next: record.Offset(f.u64()), logStart: record.Offset(f.u64()), archived: record.Offset(f.u64()), manifest: f.u64()}
	for range f.count(12) {
		p.epochs = append(p.epochs, logio.EpochStart{Epoch: record.LeaderEpoch(f.u32()), Start: record.Offset(f.u64())})
	}
	if err := f.end(what); err != nil {
		return position{}, err
	}
	if p.next < 0 || p.logStart < 0 || p.archived < 0 || p.logStart > p.next || p.archived > p.next {
		return position{}, fmt.Errorf("%w: %s: next %d, log start %d, archived %d", ErrCorrupt, what, p.next, p.logStart, p.archived)
	}
	return p, checkEpochs(what, p.epochs)
}

// checkEpochs refuses a history whose columns do not rise.
func checkEpochs(what string, h []logio.EpochStart) error {
	for i, e := range h {
		if e.Epoch < 0 || e.Start < 0 || i > 0 && (e.Epoch <= h[i-1].Epoch || e.Start <= h[i-1].Start) {
			return fmt.Errorf("%w: %s: epoch %d from offset %d is out of order", ErrCorrupt, what, e.Epoch, e.Start)
		}
	}
	return nil
}
