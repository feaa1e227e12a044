package journal

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"hash/crc32"
	"os"
	"reflect"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// resum mends a header's checksum.
func resum(block []byte) {
	binary.LittleEndian.PutUint32(block[headerCRCAt:], crc32.Checksum(block[:headerCRCAt], castagnoli))
}

func sampleHeader() header {
	return header{clusterID: [16]byte{0xc1, 0xd1}, incarnation: 3, use: 5, salt: 0x5a17, size: 64 << 20,
		start: 4 << 26, prevEnd: 4<<26 - 8192, needed: 2}
}

func sampleFrames() []frame {
	id := record.PartitionID{Topic: record.TopicID{1, 2, 3}, Partition: 4}
	return []frame{
		{kind: kindWrite, position: 4096, durable: 4096, group: id,
			mark:    &Mark{Index: 6, Term: 2, Data: []byte("mark")},
			reset:   true,
			conf:    &raftpb.ConfState{Voters: []uint64{1, 2}, Learners: []uint64{3}, VotersOutgoing: []uint64{1}, LearnersNext: []uint64{4}, AutoLeave: true},
			hard:    &raftpb.HardState{Term: 3, Vote: 2, Commit: 7},
			entries: []raftpb.Entry{{Index: 7, Term: 2, Data: []byte("batch")}, {Index: 8, Term: 3, Type: raftpb.EntryConfChangeV2}}},
		{kind: kindRemove, position: 8192, durable: 8192, group: id},
		{kind: kindNote, position: 12288, durable: 8192, needed: 2},
	}
}

func encode(f *frame, seed uint32) []byte {
	b := f.appendHead(nil, seed)
	for i := range f.entries {
		b = append(b, f.entries[i].Data...)
	}
	return b
}

var rewrite = flag.Bool("rewrite", false, "write golden files anew")

// The bytes of the format do not change unnoticed; docs/formats/journal.md.
func TestGoldenBytes(t *testing.T) {
	h := sampleHeader()
	block := make([]byte, disk.BlockBytes)
	h.put(block)
	text := "header " + hex.EncodeToString(block[:headerFieldBytes]) + " crc " + hex.EncodeToString(block[headerCRCAt:512]) + "\n"
	for _, f := range sampleFrames() {
		text += "record " + hex.EncodeToString(encode(&f, h.seed())) + "\n"
	}
	const name = "testdata/format-v1.golden"
	if *rewrite {
		must(t, os.WriteFile(name, []byte(text), 0o644))
	}
	want, err := os.ReadFile(name)
	must(t, err)
	if text != string(want) {
		t.Fatalf("format changed:\n%s\nexpected\n%s", text, want)
	}
	got, err := decodeHeader(block)
	if err != nil || got != h {
		t.Fatalf("decoded %+v, %v; expected %+v", got, err, h)
	}
	for _, f := range sampleFrames() {
		b := encode(&f, h.seed())
		if int64(len(b)) != f.size() {
			t.Fatalf("%d bytes, size says %d", len(b), f.size())
		}
		got, n, err := decodeFrame(append(b, 1, 2, 3), h.seed(), f.position)
		if err != nil || n != f.size() || !reflect.DeepEqual(got, f) {
			t.Fatalf("decoded %+v, %v; expected %+v", got, err, f)
		}
	}
}

// Every single flipped bit of a header or record is seen.
func TestFlippedBitsAreSeen(t *testing.T) {
	h := sampleHeader()
	block := make([]byte, disk.BlockBytes)
	h.put(block)
	for bit := range 512 * 8 {
		block[bit/8] ^= 1 << (bit % 8)
		if _, err := decodeHeader(block); err == nil {
			t.Fatalf("header: bit %d", bit)
		}
		block[bit/8] ^= 1 << (bit % 8)
	}
	f := sampleFrames()[0]
	b := encode(&f, h.seed())
	for bit := range len(b) * 8 {
		b[bit/8] ^= 1 << (bit % 8)
		if _, _, err := decodeFrame(b, h.seed(), f.position); err == nil {
			t.Fatalf("record: bit %d", bit)
		}
		b[bit/8] ^= 1 << (bit % 8)
	}
}

// A record's checksum depends on use, cluster and salt.
func TestSeedSeparatesUses(t *testing.T) {
	h := sampleHeader()
	f := sampleFrames()[0]
	b := encode(&f, h.seed())
	use, cluster, salt := h, h, h
	use.use++
	cluster.clusterID[15]++
	salt.salt++
	for _, other := range []header{use, cluster, salt} {
		if _, _, err := decodeFrame(b, other.seed(), f.position); err == nil {
			t.Fatalf("accepted under %+v", other)
		}
	}
}

// The decoder never panics, allocates no more than its input holds, and what
// it takes it gives back byte for byte. The fuzzer mends checksum and length,
// else it would never get past them.
func FuzzDecodeFrame(f *testing.F) {
	h := sampleHeader()
	for _, s := range sampleFrames() {
		f.Add(encode(&s, h.seed()), false)
	}
	f.Add([]byte{}, false)
	f.Add(bytes.Repeat([]byte{0xff}, 80), true)
	f.Fuzz(func(t *testing.T, b []byte, raw bool) {
		position := int64(0)
		if len(b) >= frameBytes && !raw {
			le := binary.LittleEndian
			le.PutUint32(b, frameMagic)
			le.PutUint32(b[8:], uint32(len(b)-frameBytes))
			position = int64(le.Uint64(b[16:]))
			le.PutUint32(b[4:], crc32.Update(h.seed(), castagnoli, b[8:]))
		}
		got, n, err := decodeFrame(b, h.seed(), position)
		if err != nil {
			return
		}
		if again := encode(&got, h.seed()); !bytes.Equal(again, b[:n]) {
			t.Fatalf("decoded %+v\nfrom %x\nencodes to %x", got, b[:n], again)
		}
	})
}

// decodeHeader is under the same rules.
func FuzzDecodeHeader(f *testing.F) {
	h := sampleHeader()
	block := make([]byte, disk.BlockBytes)
	h.put(block)
	f.Add(block[:512])
	f.Fuzz(func(t *testing.T, b []byte) {
		whole := make([]byte, disk.BlockBytes)
		copy(whole, b)
		resum(whole)
		got, err := decodeHeader(whole)
		if err != nil {
			return
		}
		again := make([]byte, disk.BlockBytes)
		got.put(again)
		if back, err := decodeHeader(again); err != nil || back != got {
			t.Fatalf("decoded %+v, encoded and decoded %+v, %v", got, back, err)
		}
	})
}
