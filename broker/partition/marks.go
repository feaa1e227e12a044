package partition

import (
	"encoding/binary"
	"fmt"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// position is what is true at one Index of the log, apart from producers: the
// blob of a group's mark (docs/formats/partition-mark.md), where the producers
// may stand behind it.
type position struct {
	next     record.Offset // offset that the next record takes
	logStart record.Offset
	archived record.Offset // end of what the bucket holds by manifest
	manifest uint64        // its number, 0 for none
	epochs   epochHistory
}

const (
	markMagic = "TWPM"
	// markVersion has producers behind the epochs; version 1 has none.
	markVersion = 2
	// markProducersMax bounds the producers in a mark, in bytes: about 24 of
	// them. More are found by the last snapshot and the batches behind it.
	markProducersMax = 4 << 10
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

// encode gives at most 48 + 12*epochsMax bytes, 48 KiB, in version 1.
func (p *position) encode() []byte { return seal(p.appendTo(nil, 1), 0) }

// encodeMark gives the blob of a mark at s: with its producers, when they are
// few, so that a start need not look for them.
func (s *state) encodeMark() []byte {
	if s.producers.encodedBytes(markProducersMax) > markProducersMax {
		return s.position.encode()
	}
	return seal(s.producers.encode(s.position.appendTo(nil, markVersion)), 0)
}

func (p *position) appendTo(b []byte, version uint16) []byte {
	b = append(b, markMagic...)
	b = binary.BigEndian.AppendUint16(b, version)
	b = binary.BigEndian.AppendUint16(b, version)
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
	return b
}

// decodeMark reads what encodeMark and encode give; the producers are nil
// where the mark has none.
func decodeMark(data []byte) (position, *producers, error) {
	const what = "partition mark"
	f, err := unseal(what, data, markMagic, markVersion)
	if err != nil {
		return position{}, nil, err
	}
	f.u32()
	p := position{next: record.Offset(f.u64()), logStart: record.Offset(f.u64()), archived: record.Offset(f.u64()), manifest: f.u64()}
	for range f.count(12) {
		p.epochs = append(p.epochs, logio.EpochStart{Epoch: record.LeaderEpoch(f.u32()), Start: record.Offset(f.u64())})
	}
	var s *producers
	if binary.BigEndian.Uint16(data[len(markMagic):]) >= 2 {
		with := decodeProducers(f)
		s = &with
	}
	if err := f.end(what); err != nil {
		return position{}, nil, err
	}
	if p.next < 0 || p.logStart < 0 || p.archived < 0 || p.logStart > p.next || p.archived > p.next {
		return position{}, nil, fmt.Errorf("%w: %s: next %d, log start %d, archived %d", ErrCorrupt, what, p.next, p.logStart, p.archived)
	}
	return p, s, checkEpochs(what, p.epochs)
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
