package broker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// Calls between brokers that this package makes and answers; a number is never
// used again. What they carry is in docs/formats/rpc.md.
const (
	// methodEnds asks how far the bucket holds the partitions that a broker leads.
	methodEnds = 0x40
	// methodTable tells the leaders of a table's partitions how far the table
	// is, and is answered as methodEnds.
	methodTable = 0x41
	// methodFreshen asks the owner of a table to bring it up to date.
	methodFreshen = 0x42
	// methodForget has a coordinator forget its groups' offsets in topics.
	methodForget = 0x43
	// methodRead reads stable records of a log that a broker leads.
	methodRead = 0x44
	// methodSegments streams a replica's segments to another.
	methodSegments = 0x45
	// methodInStep asks a leader whether the asker's replicas keep up.
	methodInStep = 0x46
	// methodSign does nothing: who answers it, with whatever, is there.
	methodSign = 0x47
)

// rpcVersion begins every message; a reader refuses another.
const rpcVersion = 1

// errMessage: a message between brokers is not what it claims to be.
var errMessage = errors.New("message between brokers is not readable")

// endsRequest asks for the ends of one topic's partitions, or of all for a
// zero Topic.
type endsRequest struct {
	Topic record.TopicID
	// Upload has what is committed brought to the bucket first.
	Upload bool
	// Marks are the ends of what the topic's table holds, in methodTable.
	Marks []partitionMark
}

// endsAnswer is what a broker knows of the partitions that it leads.
type endsAnswer struct {
	// Boot is that of its tail series, 0 while it has none.
	Boot uint32
	Ends []partitionMark
}

// partitionMark is how far something is with a partition, End exclusive.
type partitionMark struct {
	ID         record.PartitionID
	Start, End record.Offset
}

// markBytesMin is the least that a mark takes.
const markBytesMin = 16 + 3

func appendMarks(b []byte, marks []partitionMark) []byte {
	b = binary.AppendUvarint(b, uint64(len(marks)))
	for _, m := range marks {
		b = append(b, m.ID.Topic[:]...)
		b = binary.AppendVarint(b, int64(m.ID.Partition))
		b = binary.AppendVarint(b, int64(m.Start))
		b = binary.AppendVarint(b, int64(m.End))
	}
	return b
}

func (r *endsRequest) encode() []byte {
	b := append([]byte{rpcVersion}, r.Topic[:]...)
	b = append(b, 0)
	if r.Upload {
		b[len(b)-1] = 1
	}
	return appendMarks(b, r.Marks)
}

func decodeEndsRequest(b []byte) (endsRequest, error) {
	c := newMessage(b)
	r := endsRequest{Topic: c.topic(), Upload: c.byte() == 1}
	r.Marks = c.marks()
	return r, c.end()
}

func (a *endsAnswer) encode() []byte {
	return appendMarks(binary.AppendUvarint([]byte{rpcVersion}, uint64(a.Boot)), a.Ends)
}

func decodeEndsAnswer(b []byte) (endsAnswer, error) {
	c := newMessage(b)
	a := endsAnswer{Boot: uint32(c.uvarint())}
	a.Ends = c.marks()
	return a, c.end()
}

// encodeNames and decodeNames carry the names of methodFreshen (a namespace's
// parts, then the table) and of methodForget (topics).
func encodeNames(names []string) []byte {
	b := binary.AppendUvarint([]byte{rpcVersion}, uint64(len(names)))
	for _, n := range names {
		b = append(binary.AppendUvarint(b, uint64(len(n))), n...)
	}
	return b
}

func decodeNames(b []byte) ([]string, error) {
	c := newMessage(b)
	var names []string
	for range c.count(1) {
		names = append(names, string(c.take(c.count(1))))
	}
	return names, c.end()
}

// partitionBytesMin is the least that a partition's id takes.
const partitionBytesMin = 16 + 1

func (c *message) partition() record.PartitionID {
	id := record.PartitionID{Topic: c.topic()}
	id.Partition = int32(c.varint())
	return id
}

// encodeInStep and decodeInStep carry the partitions that methodInStep asks
// about; the answer has those of them that the asked broker leads.
func encodeInStep(ids []record.PartitionID) []byte {
	b := binary.AppendUvarint([]byte{rpcVersion}, uint64(len(ids)))
	for _, id := range ids {
		b = binary.AppendVarint(append(b, id.Topic[:]...), int64(id.Partition))
	}
	return b
}

func decodeInStep(b []byte) ([]record.PartitionID, error) {
	c := newMessage(b)
	var ids []record.PartitionID
	for range c.count(partitionBytesMin) {
		ids = append(ids, c.partition())
	}
	return ids, c.end()
}

func encodeInStepAnswer(steps map[record.PartitionID]bool) []byte {
	b := binary.AppendUvarint([]byte{rpcVersion}, uint64(len(steps)))
	for _, id := range slices.SortedFunc(maps.Keys(steps), record.PartitionID.Compare) {
		b = binary.AppendVarint(append(b, id.Topic[:]...), int64(id.Partition))
		if steps[id] {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	return b
}

func decodeInStepAnswer(b []byte) (map[record.PartitionID]bool, error) {
	c := newMessage(b)
	steps := map[record.PartitionID]bool{}
	for range c.count(partitionBytesMin + 1) {
		id := c.partition()
		steps[id] = c.byte() == 1
	}
	return steps, c.end()
}

// readRequest asks for records from Offset on, about BytesMax bytes; a negative
// Offset for the marks alone.
type readRequest struct {
	ID       record.PartitionID
	Offset   record.Offset
	BytesMax int
}

func (r *readRequest) encode() []byte {
	b := append([]byte{rpcVersion}, r.ID.Topic[:]...)
	for _, v := range []int64{int64(r.ID.Partition), int64(r.Offset), int64(r.BytesMax)} {
		b = binary.AppendVarint(b, v)
	}
	return b
}

func decodeReadRequest(b []byte) (readRequest, error) {
	c := newMessage(b)
	r := c.readRequest()
	return r, c.end()
}

func (c *message) readRequest() readRequest {
	r := readRequest{ID: record.PartitionID{Topic: c.topic()}}
	r.ID.Partition = int32(c.varint())
	r.Offset = record.Offset(c.varint())
	r.BytesMax = int(min(max(c.varint(), 0), remoteReadBytes))
	return r
}

// encodeReadAnswer gives marks, aborted transactions, then the batches.
func encodeReadAnswer(res *logio.ReadResult) []byte {
	b := make([]byte, 1, 128+res.Size())
	b[0] = rpcVersion
	o := &res.Offsets
	for _, v := range []record.Offset{o.LogStart, o.LocalLogStart, o.Archived, o.LastStable, o.HighWatermark, o.LogEnd, record.Offset(o.Epoch)} {
		b = binary.AppendVarint(b, int64(v))
	}
	b = binary.AppendUvarint(b, uint64(len(res.Aborted)))
	for _, a := range res.Aborted {
		b = binary.AppendVarint(b, a.ProducerID)
		b = binary.AppendVarint(b, int64(a.FirstOffset))
		b = binary.AppendVarint(b, int64(a.LastOffset))
	}
	for _, batch := range res.Batches {
		b = append(b, batch...)
	}
	return b
}

func decodeReadAnswer(b []byte) (logio.ReadResult, error) {
	c := newMessage(b)
	var res logio.ReadResult
	o := &res.Offsets
	for _, v := range []*record.Offset{&o.LogStart, &o.LocalLogStart, &o.Archived, &o.LastStable, &o.HighWatermark, &o.LogEnd} {
		*v = record.Offset(c.varint())
	}
	o.Epoch = record.LeaderEpoch(c.varint())
	for range c.count(3) {
		res.Aborted = append(res.Aborted, logio.AbortedTxn{ProducerID: c.varint(), FirstOffset: record.Offset(c.varint()), LastOffset: record.Offset(c.varint())})
	}
	if c.bad == nil && len(c.b) > 0 {
		res.Batches = [][]byte{c.take(len(c.b))}
	}
	return res, c.end()
}

// message reads a message; bad sticks.
type message struct {
	b   []byte
	bad error
}

func newMessage(b []byte) *message {
	c := &message{b: b}
	if v := c.byte(); c.bad == nil && v != rpcVersion {
		c.bad = fmt.Errorf("%w: version %d, this build reads %d", errMessage, v, rpcVersion)
	}
	return c
}

func (c *message) take(n int) []byte {
	if c.bad != nil || n > len(c.b) {
		c.fail()
		return nil
	}
	p := c.b[:n]
	c.b = c.b[n:]
	return p
}

func (c *message) fail() {
	if c.bad == nil {
		c.bad = fmt.Errorf("%w: it is cut short", errMessage)
	}
	c.b = nil
}

func (c *message) byte() byte {
	if p := c.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (c *message) topic() (id record.TopicID) {
	copy(id[:], c.take(len(id)))
	return id
}

func (c *message) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.fail()
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *message) varint() int64 {
	v, n := binary.Varint(c.b)
	if n <= 0 {
		c.fail()
		return 0
	}
	c.b = c.b[n:]
	return v
}

// count reads the number of what follows, each of at least size bytes.
func (c *message) count(size int) int {
	n := c.uvarint()
	if n > uint64(len(c.b)/size) {
		c.fail()
		return 0
	}
	return int(n)
}

func (c *message) marks() []partitionMark {
	n := c.count(markBytesMin)
	marks := make([]partitionMark, 0, n)
	for range n {
		m := partitionMark{ID: record.PartitionID{Topic: c.topic()}}
		m.ID.Partition = int32(c.varint())
		m.Start, m.End = record.Offset(c.varint()), record.Offset(c.varint())
		marks = append(marks, m)
	}
	return marks
}

func (c *message) end() error {
	if c.bad == nil && len(c.b) > 0 {
		c.bad = fmt.Errorf("%w: %d bytes are left over", errMessage, len(c.b))
	}
	return c.bad
}
