package record

import (
	"encoding/base64"
	"errors"
	"fmt"
)

// Offset is the place of a record in a partition, as Kafka clients see it.
// It is never negative in a log; negative values are Kafka's sentinels and
// stay at the wire. A value named Next… or …End is exclusive, Last… inclusive.
type Offset int64

// Index is the place of an entry in a Raft log, starting at 1. It is not an
// Offset: entries that hold no records take an Index and no Offset.
type Index uint64

// LeaderEpoch is Kafka's name for the Raft term of a partition. It is kept
// below 2^31 because Kafka's field is an int32.
type LeaderEpoch int32

// TopicID is a topic's identity for its whole life (KIP-516); a topic made
// again under the same name has another. The zero value means "none".
type TopicID [16]byte

// String gives Kafka's form: unpadded URL-safe base64, 22 characters.
func (t TopicID) String() string { return base64.RawURLEncoding.EncodeToString(t[:]) }

// IsZero reports whether t is Kafka's "no topic id".
func (t TopicID) IsZero() bool { return t == TopicID{} }

// ParseTopicID reads what String gives.
func ParseTopicID(s string) (TopicID, error) {
	var t TopicID
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) != len(t) {
		return t, fmt.Errorf("parse topic id %q: want 22 characters of URL-safe base64", s)
	}
	copy(t[:], b)
	return t, nil
}

// PartitionID names one partition and, since it is never reused, its Raft
// group.
type PartitionID struct {
	Topic     TopicID
	Partition int32
}

func (p PartitionID) String() string { return fmt.Sprintf("%s-%d", p.Topic, p.Partition) }

// Compare orders ids by topic, then partition; for deterministic walks.
func (p PartitionID) Compare(q PartitionID) int {
	for i := range p.Topic {
		if p.Topic[i] != q.Topic[i] {
			return int(p.Topic[i]) - int(q.Topic[i])
		}
	}
	return int(p.Partition) - int(q.Partition)
}

// Codec is a batch's compression (attributes bits 0-2).
type Codec int8

// The codecs of Kafka's record batch.
const (
	None   Codec = 0
	Gzip   Codec = 1
	Snappy Codec = 2
	LZ4    Codec = 3
	Zstd   Codec = 4
)

func (c Codec) String() string {
	switch c {
	case None:
		return "none"
	case Gzip:
		return "gzip"
	case Snappy:
		return "snappy"
	case LZ4:
		return "lz4"
	case Zstd:
		return "zstd"
	}
	return fmt.Sprintf("codec %d", int8(c))
}

// What a caller does about a bad batch differs by kind; each error below is
// wrapped with the facts.
var (
	// ErrShort: fewer bytes than the batch claims. A reader of a stream waits
	// for more, a reader of a stored object reports corruption.
	ErrShort = errors.New("record batch is cut short")
	// ErrCorrupt: a length, count or checksum is wrong. Answer CORRUPT_MESSAGE.
	ErrCorrupt = errors.New("record batch is corrupt")
	// ErrMagic: a message format older or newer than 2. Answer
	// UNSUPPORTED_FOR_MESSAGE_FORMAT.
	ErrMagic = errors.New("record batch has an unsupported magic")
	// ErrCodec: an unknown compression. Answer UNSUPPORTED_COMPRESSION_TYPE.
	ErrCodec = errors.New("record batch has an unknown compression")
)
