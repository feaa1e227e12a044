package partition

import (
	"encoding/binary"
	"fmt"

	"tidewater/internal/record"
)

// A command is an entry of the partition's own log that holds no record: it
// takes an Index and no Offset. Its first byte has the high bit set, which no
// record batch has. Format: docs/formats/partition-commands.md.
type command struct {
	kind commandKind
	// logStart, for setLogStart: the new log start.
	logStart record.Offset
	// archived and manifest, for setArchived: the end of what the manifest of
	// that number covers, checked by reading it back.
	archived record.Offset
	manifest uint64
}

type commandKind uint8

const (
	setLogStart commandKind = 0x81
	setArchived commandKind = 0x82
)

// commandVersion is the version of both kinds, and the least a reader needs.
const commandVersion = 1

// isCommand tells a command from a batch and from raft's own empty entries.
func isCommand(data []byte) bool { return len(data) > 0 && data[0]&0x80 != 0 }

// isBatch: base offsets are never negative, so a batch's first byte tells.
func isBatch(data []byte) bool { return len(data) > 0 && data[0]&0x80 == 0 }

// encode gives kind (1), version (1), minimum reader version (1), flags (1),
// then the kind's fields.
func (c command) encode() []byte {
	b := []byte{byte(c.kind), commandVersion, commandVersion, 0}
	switch c.kind {
	case setLogStart:
		b = binary.BigEndian.AppendUint64(b, uint64(c.logStart))
	case setArchived:
		b = binary.BigEndian.AppendUint64(b, uint64(c.archived))
		b = binary.BigEndian.AppendUint64(b, c.manifest)
	}
	return b
}

// decodeCommand reads what encode gives. An unknown kind is ErrVersion: a
// replica that skipped it would differ from the others.
func decodeCommand(data []byte) (command, error) {
	const what = "partition command"
	f := fields{b: data}
	c := command{kind: commandKind(f.u8())}
	version, least := f.u8(), f.u8()
	f.u8() // flags, none yet
	if f.bad {
		return c, fmt.Errorf("%w: %s of %d bytes", ErrCorrupt, what, len(data))
	}
	if least > commandVersion {
		return c, fmt.Errorf("%w: %s %#x has version %d and needs a reader of version %d, this one has %d", ErrVersion, what, byte(c.kind), version, least, commandVersion)
	}
	switch c.kind {
	case setLogStart:
		c.logStart = record.Offset(f.u64())
	case setArchived:
		c.archived, c.manifest = record.Offset(f.u64()), f.u64()
	default:
		return c, fmt.Errorf("%w: %s %#x is unknown", ErrVersion, what, byte(c.kind))
	}
	if c.logStart < 0 || c.archived < 0 {
		return c, fmt.Errorf("%w: %s %#x: negative offset", ErrCorrupt, what, byte(c.kind))
	}
	return c, f.end(what)
}
