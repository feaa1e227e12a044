package kafka

import (
	"bytes"
	"reflect"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/internal/record"
)

// frameFrom is a frame in pieces of the given lengths and a last one.
func frameFrom(b []byte, lengths ...int) frame {
	f := frame{bytes: len(b)}
	for _, n := range lengths {
		f.more = append(f.more, b[:n:n])
		b = b[n:]
	}
	f.more = append(f.more, b[:len(b):len(b)])
	f.first, f.more = f.more[0], f.more[1:]
	return f
}

// manyParts is a Produce of several topics and partitions, without its length.
func manyParts(t *testing.T, version int16) []byte {
	req := produceOf(version, "first", record.TopicID{1}, 0, -1, batchOf(t, 1, record.None))
	for i := range int32(3) {
		more := kmsg.NewProduceRequestTopicPartition()
		more.Partition, more.Records = i+1, batchOf(t, int(i)+2, record.None)
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, more)
	}
	second := produceOf(version, "second", record.TopicID{2}, 7, -1, batchOf(t, 2, record.None))
	req.Topics = append(req.Topics, second.Topics...)
	return frameOf(1, req)[4:]
}

// A Produce means the same wherever its bytes are cut into pieces, and one that
// is cut short is malformed.
func TestProduceIsTheSameInAnyPieces(t *testing.T) {
	s := newServer(newWorld(newFakeCluster()).config().withDefaults())
	for _, version := range []int16{3, 8, 9, 13} {
		whole := manyParts(t, version)
		read := func(f frame) (*produceCall, error) {
			h, body, err := s.parseHeader(f, "")
			if err != nil {
				return nil, err
			}
			return walkProduce(h.version, body)
		}
		want, err := read(frameFrom(whole))
		if err != nil {
			t.Fatalf("v%d: %v", version, err)
		}
		for cut := range len(whole) {
			for _, lengths := range [][]int{{cut}, {cut, 0}, {cut, (len(whole) - cut) / 2}, {cut / 2, cut - cut/2, min(3, len(whole)-cut)}} {
				got, err := read(frameFrom(whole, lengths...))
				if err != nil || !reflect.DeepEqual(got, want) {
					t.Fatalf("v%d in pieces of %v: got %+v, %v, want %+v", version, lengths, got, err, want)
				}
			}
			if _, err := read(frameFrom(whole[:cut], cut/2)); err == nil {
				t.Fatalf("v%d: the first %d of %d bytes were taken for a request", version, cut, len(whole))
			}
		}
		if _, err := read(frameFrom(append(slices.Clone(whole), 0), len(whole))); err == nil {
			t.Fatalf("v%d: a byte behind a request was passed over", version)
		}
	}
}

// A frame that is larger than its client is trusted with is read in pieces, each
// no larger than what has come, and gives the bytes that were sent.
func TestFrameIsReadInPiecesAsItComes(t *testing.T) {
	c, id := benchConn(t, &nullLog{})
	sent := frameOf(1, produceOf(11, "t", id, 0, -1, benchBatch(t, 5<<20)))
	for range 2 { // the second time the client is trusted
		c.br.Reset(bytes.NewReader(sent))
		f, err := c.readFrame(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		come := len(f.first)
		for i, piece := range f.more {
			if len(piece) > min(come, pieceBytesMax) {
				t.Fatalf("piece %d has %d bytes after %d", i+1, len(piece), come)
			}
			come += len(piece)
		}
		if got := f.joined(); come != f.bytes || !bytes.Equal(got.first, sent[4:]) {
			t.Fatalf("%d bytes in %d pieces are not the %d sent", f.bytes, len(f.more)+1, len(sent)-4)
		}
		c.s.memory.hold(-f.bytes)
	}
	if held := c.s.memory.held(); held != 0 {
		t.Fatalf("%d bytes of memory are charged to nobody", held)
	}
}
