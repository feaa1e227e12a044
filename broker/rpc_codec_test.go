package broker

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"testing"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

var rpcID = record.PartitionID{Topic: record.TopicID{1, 2, 3}, Partition: 7}

// Shows that the messages between brokers keep their bytes (docs/formats/rpc.md)
// and are read back as they were.
func TestMessagesBetweenBrokersAreGolden(t *testing.T) {
	ends := endsRequest{Topic: rpcID.Topic, Upload: true, Marks: []partitionMark{{ID: rpcID, Start: 5, End: 300}}}
	answer := endsAnswer{Boot: 9, Ends: []partitionMark{{ID: rpcID, Start: 0, End: -1}}}
	read := readRequest{ID: rpcID, Offset: -1, BytesMax: 1 << 20}
	res := logio.ReadResult{Offsets: logio.Offsets{LogStart: 1, LocalLogStart: 2, Archived: 3, LastStable: 4, HighWatermark: 5, LogEnd: 6, Epoch: 7},
		Aborted: []logio.AbortedTxn{{ProducerID: 1, FirstOffset: 2, LastOffset: 3}}, Batches: [][]byte{[]byte("batch")}}
	for _, line := range []struct {
		name string
		got  []byte
		want string
	}{
		{"ends", ends.encode(), "0101020300000000000000000000000000" + "01" + "01" + "01020300000000000000000000000000" + "0e" + "0a" + "d804"},
		{"answer", answer.encode(), "0109" + "01" + "01020300000000000000000000000000" + "0e" + "00" + "01"},
		{"names", encodeNames([]string{"topics", "t"}), "0102" + "06" + "746f70696373" + "01" + "74"},
		{"read", read.encode(), "01" + "01020300000000000000000000000000" + "0e" + "01" + "80808001"},
		{"records", encodeReadAnswer(&res), "01" + "02040608" + "0a0c0e" + "01" + "020406" + "6261746368"},
		{"in step", encodeInStep([]record.PartitionID{rpcID}), "0101" + "01020300000000000000000000000000" + "0e"},
		{"in step, answer", encodeInStepAnswer(map[record.PartitionID]bool{rpcID: true}), "0101" + "01020300000000000000000000000000" + "0e" + "01"},
		{"segments", encodeSegments(rpcID, []byte{0xaa}), "01" + "01020300000000000000000000000000" + "0e" + "00" + "00" + "aa"},
	} {
		if got := hex.EncodeToString(line.got); got != line.want {
			t.Errorf("%s: %s, want %s", line.name, got, line.want)
		}
	}
	if got, err := decodeEndsRequest(ends.encode()); err != nil || !reflect.DeepEqual(got, ends) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := decodeEndsAnswer(answer.encode()); err != nil || !reflect.DeepEqual(got, answer) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := decodeReadRequest(read.encode()); err != nil || got != read {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := decodeReadAnswer(encodeReadAnswer(&res)); err != nil || !reflect.DeepEqual(got, res) {
		t.Errorf("%+v, %v", got, err)
	}
	if id, rest, err := decodeSegments(encodeSegments(rpcID, []byte{0xaa})); err != nil || id != rpcID || !bytes.Equal(rest, []byte{0xaa}) {
		t.Errorf("%v %x, %v", id, rest, err)
	}
}

// No bytes make a decoder panic or allocate beyond what they can hold; what is
// read is written as the same value again.
func FuzzMessagesBetweenBrokers(f *testing.F) {
	f.Add((&endsRequest{Topic: rpcID.Topic, Marks: []partitionMark{{ID: rpcID, End: 3}}}).encode())
	f.Add((&endsAnswer{Boot: 1, Ends: []partitionMark{{ID: rpcID, End: 3}}}).encode())
	f.Add(encodeNames([]string{"a", "b"}))
	f.Add((&readRequest{ID: rpcID, Offset: 4, BytesMax: 5}).encode())
	f.Add(encodeInStep([]record.PartitionID{rpcID}))
	f.Add(encodeInStepAnswer(map[record.PartitionID]bool{rpcID: true}))
	f.Add(encodeReadAnswer(&logio.ReadResult{Aborted: []logio.AbortedTxn{{ProducerID: 1}}, Batches: [][]byte{{1}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := decodeEndsRequest(b); err == nil {
			if again, err := decodeEndsRequest(r.encode()); err != nil || !reflect.DeepEqual(again, r) {
				t.Errorf("%+v became %+v, %v", r, again, err)
			}
		}
		if a, err := decodeEndsAnswer(b); err == nil {
			if again, err := decodeEndsAnswer(a.encode()); err != nil || !reflect.DeepEqual(again, a) {
				t.Errorf("%+v became %+v, %v", a, again, err)
			}
		}
		if n, err := decodeNames(b); err == nil {
			if again, err := decodeNames(encodeNames(n)); err != nil || !reflect.DeepEqual(again, n) {
				t.Errorf("%q became %q, %v", n, again, err)
			}
		}
		if ids, err := decodeInStep(b); err == nil {
			if again, err := decodeInStep(encodeInStep(ids)); err != nil || !reflect.DeepEqual(again, ids) {
				t.Errorf("%v became %v, %v", ids, again, err)
			}
		}
		if steps, err := decodeInStepAnswer(b); err == nil {
			if again, err := decodeInStepAnswer(encodeInStepAnswer(steps)); err != nil || !reflect.DeepEqual(again, steps) {
				t.Errorf("%v became %v, %v", steps, again, err)
			}
		}
		if r, err := decodeReadRequest(b); err == nil {
			if again, err := decodeReadRequest(r.encode()); err != nil || again != r {
				t.Errorf("%+v became %+v, %v", r, again, err)
			}
		}
		if res, err := decodeReadAnswer(b); err == nil {
			if again, err := decodeReadAnswer(encodeReadAnswer(&res)); err != nil || !reflect.DeepEqual(again, res) {
				t.Errorf("%+v became %+v, %v", res, again, err)
			}
		}
	})
}
