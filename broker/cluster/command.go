package cluster

import (
	"encoding/binary"
	"fmt"
)

// Command is one change of the State, as it stands in the controller's Raft
// log; docs/formats/controller.md. Everything it needs is in it: ids, times
// and choices are made by who proposes.
type Command interface {
	kind() uint64
	appendTo(b []byte) []byte
	decode(c *cursor)
	apply(s *State) (result any, err error)
}

// The head of an encoded command. The first byte has the high bit set, which
// tells a command from a record batch; header, checksum and identity are the
// journal's.
const (
	commandMagic = 0xC1
	// commandVersionLeast is the version of commands that say nothing newer.
	commandVersionLeast = 2
)

// laterVersion commands have parts that came later. They are encoded in the lowest
// version that holds what they say, which is the lowest that reads them; what a
// cluster's feature level does not have yet, they must not say.
type laterVersion interface{ version() byte }

// CommandBytesMax bounds an encoded command. The largest are topics with a
// schema in their properties and pieces of a restore.
const CommandBytesMax = 1 << 20

// The kinds of commands. A number is never used again.
const (
	kindBootstrap           = 1
	kindRegisterBroker      = 2
	kindCreateTopic         = 3
	kindDeleteTopic         = 4
	kindCreatePartitions    = 5
	kindSetTopicConfigs     = 6
	kindAllocateProducerIDs = 7
	kindSetBrokerConfigs    = 8
	kindReportLeaders       = 9
	kindRestore             = 10
	kindForgetDeletions     = 11
	kindForgetKeptTable     = 12
	kindSetFeatureLevel     = 13
	kindSetLiveness         = 14
	kindMovePartitions      = 15
	kindStepMove            = 16
	kindSetBrokerMode       = 17
	kindUnregisterBroker    = 18
	kindRecover             = 19
)

func newCommand(kind uint64) Command {
	switch kind {
	case kindBootstrap:
		return &Bootstrap{}
	case kindRegisterBroker:
		return &RegisterBroker{}
	case kindCreateTopic:
		return &CreateTopic{}
	case kindDeleteTopic:
		return &DeleteTopic{}
	case kindCreatePartitions:
		return &CreatePartitions{}
	case kindSetTopicConfigs:
		return &SetTopicConfigs{}
	case kindAllocateProducerIDs:
		return &AllocateProducerIDs{}
	case kindSetBrokerConfigs:
		return &SetBrokerConfigs{}
	case kindReportLeaders:
		return &ReportLeaders{}
	case kindRestore:
		return &Restore{}
	case kindForgetDeletions:
		return &ForgetDeletions{}
	case kindForgetKeptTable:
		return &ForgetKeptTable{}
	case kindSetFeatureLevel:
		return &SetFeatureLevel{}
	case kindSetLiveness:
		return &SetLiveness{}
	case kindMovePartitions:
		return &MovePartitions{}
	case kindStepMove:
		return &StepMove{}
	case kindSetBrokerMode:
		return &SetBrokerMode{}
	case kindUnregisterBroker:
		return &UnregisterBroker{}
	case kindRecover:
		return &Recover{}
	}
	return nil
}

// RequestID tells a repeated command from a new one: Seq counts what a broker
// has asked for since its start number Session. The zero value is none.
type RequestID struct {
	Node    int32
	Session uint64
	Seq     uint64 // from 1 on
}

// EncodeCommand appends cmd in its stored form to b.
func EncodeCommand(b []byte, id RequestID, cmd Command) []byte {
	version := byte(commandVersionLeast)
	if v, ok := cmd.(laterVersion); ok {
		version = v.version()
	}
	b = append(b, commandMagic, version, version)
	if b = binary.AppendUvarint(b, id.Seq); id.Seq > 0 {
		b = binary.AppendVarint(b, int64(id.Node))
		b = binary.AppendUvarint(b, id.Session)
	}
	b = binary.AppendUvarint(b, cmd.kind())
	return cmd.appendTo(b)
}

// DecodeCommand reads what EncodeCommand wrote. A newer version or kind is an
// error that names it: a replica that met it must stop, not skip it.
func DecodeCommand(b []byte) (RequestID, Command, error) {
	c := &cursor{b: b}
	magic, version, reader := c.byte(), c.byte(), c.byte()
	if c.err == nil && magic != commandMagic {
		return RequestID{}, nil, fmt.Errorf("%w: command begins with %#02x, not %#02x", ErrFormat, magic, commandMagic)
	}
	if c.err == nil && (version < 1 || reader > commandVersion) {
		return RequestID{}, nil, fmt.Errorf("%w: command has version %d for readers from %d on, this build reads %d",
			ErrFormat, version, reader, commandVersion)
	}
	c.version = version
	var id RequestID
	if version >= 2 {
		if id.Seq = c.uvarint(); id.Seq > 0 {
			id.Node, id.Session = c.int32(), c.uvarint()
		}
	}
	kind := c.uvarint()
	if c.err != nil {
		return RequestID{}, nil, fmt.Errorf("decode command: %w", c.err)
	}
	cmd := newCommand(kind)
	if cmd == nil {
		return RequestID{}, nil, fmt.Errorf("%w: unknown command kind %d", ErrFormat, kind)
	}
	cmd.decode(c)
	if err := c.end(); err != nil {
		return RequestID{}, nil, fmt.Errorf("decode command of kind %d: %w", kind, err)
	}
	return id, cmd, nil
}
