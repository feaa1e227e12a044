package record

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var updateGolden = flag.Bool("update-golden", false, "write golden bytes again")

var codecs = []Codec{None, Gzip, Snappy, LZ4, Zstd}

var franzCodecs = map[Codec]kgo.CompressionCodec{
	None: kgo.NoCompression(), Gzip: kgo.GzipCompression(), Snappy: kgo.SnappyCompression(), LZ4: kgo.Lz4Compression(), Zstd: kgo.ZstdCompression(),
}

// sample is what the batches of these tests hold.
func sample() []Record {
	out := []Record{
		{Offset: 100, Timestamp: 5000, Key: []byte("k"), Value: []byte("v")},
		{Offset: 101, Timestamp: 4000, Key: nil, Value: []byte{}},
		{Offset: 102, Timestamp: 6000, Key: []byte{}, Value: nil, Headers: []Header{{"h", []byte("x")}, {"", nil}, {"h", []byte{}}}},
	}
	for i := range 20 {
		out = append(out, Record{Offset: Offset(103 + i), Timestamp: 6000, Key: []byte(fmt.Sprint(i)), Value: bytes.Repeat([]byte("value "), 50)})
	}
	return out
}

func build(t testing.TB, c Codec) Batch {
	t.Helper()
	b := Builder{Codec: c, Producer: &Producer{ID: 7, Epoch: 2, Sequence: 30}, Transactional: true}
	for _, r := range sample() {
		b.Add(r.Timestamp, r.Key, r.Value, r.Headers...)
	}
	batch, err := b.Build(100)
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

// franzBatch is the sample as franz-go's own encoder writes it.
func franzBatch(t testing.TB, c Codec) Batch {
	t.Helper()
	var body []byte
	for _, r := range sample() {
		k := kmsg.Record{TimestampDelta64: r.Timestamp - 5000, OffsetDelta: int32(r.Offset - 100), Key: r.Key, Value: r.Value}
		for _, h := range r.Headers {
			k.Headers = append(k.Headers, kmsg.Header{Key: h.Key, Value: h.Value})
		}
		k.Length = int32(len(k.AppendTo(nil)) - 1) // without the length itself, which takes one byte while it is 0
		body = k.AppendTo(body)
	}
	if c != None {
		z, err := kgo.DefaultCompressor(franzCodecs[c])
		if err != nil {
			t.Fatal(err)
		}
		compressed, got := z.Compress(new(bytes.Buffer), body)
		if Codec(got) != c {
			t.Fatalf("compressed by %d, want %s", got, c)
		}
		body = compressed
	}
	n := int32(len(sample()))
	k := kmsg.RecordBatch{FirstOffset: 100, Length: int32(HeaderBytes - 12 + len(body)), PartitionLeaderEpoch: -1, Magic: 2, Attributes: int16(c),
		LastOffsetDelta: n - 1, FirstTimestamp: 5000, MaxTimestamp: 6000, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: n, Records: body}
	b := Batch(k.AppendTo(nil))
	b.SetCRC()
	return b
}

func records(t testing.TB, b Batch) []Record {
	t.Helper()
	var r Reader
	if err := r.Reset(b, 0); err != nil {
		t.Fatal(err)
	}
	var out []Record
	for r.Next() {
		one := *r.Record()
		one.Headers = slices.Clone(one.Headers)
		if len(one.Headers) == 0 {
			one.Headers = nil
		}
		out = append(out, one)
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	return out
}

// Every codec's batch gives its records back, null and empty told apart, and
// batches made by franz-go read the same.
func TestRecordsComeBack(t *testing.T) {
	for _, c := range codecs {
		for name, b := range map[string]Batch{"ours": build(t, c), "franz-go": franzBatch(t, c)} {
			if err := b.Check(); err != nil {
				t.Fatalf("%s by %s: %v", c, name, err)
			}
			if got := records(t, b); !reflect.DeepEqual(got, sample()) {
				t.Errorf("%s by %s: records differ:\n%+v", c, name, got)
			}
		}
	}
}

// franz-go decodes what Builder makes.
func TestOthersReadOurs(t *testing.T) {
	for _, c := range codecs {
		var k kmsg.RecordBatch
		if err := k.ReadFrom(build(t, c)); err != nil {
			t.Fatal(err)
		}
		body := k.Records
		if c != None {
			var err error
			if body, err = kgo.DefaultDecompressor().Decompress(body, kgo.CompressionCodecType(c)); err != nil {
				t.Fatalf("%s: %v", c, err)
			}
		}
		got, err := readAsFranz(body)
		if err != nil || len(got) != len(sample()) || k.ProducerID != 7 || k.FirstSequence != 30 || k.MaxTimestamp != 6000 {
			t.Fatalf("%s: %d records, header %+v, %v", c, len(got), k, err)
		}
		for i, want := range sample() {
			if !bytes.Equal(got[i].Key, want.Key) || !bytes.Equal(got[i].Value, want.Value) || len(got[i].Headers) != len(want.Headers) {
				t.Errorf("%s: record %d differs", c, i)
			}
		}
	}
}

// readAsFranz decodes a body by kmsg's record codec.
func readAsFranz(body []byte) ([]kmsg.Record, error) {
	var out []kmsg.Record
	for len(body) > 0 {
		n, w := binary.Varint(body)
		if w <= 0 || n < 0 || int(n)+w > len(body) {
			return out, fmt.Errorf("record length %d in %d bytes", n, len(body))
		}
		var r kmsg.Record
		if err := r.ReadFrom(body[:w+int(n)]); err != nil {
			return out, err
		}
		out, body = append(out, r), body[w+int(n):]
	}
	return out, nil
}

// The bytes of an uncompressed batch are fixed.
func TestGoldenBatch(t *testing.T) {
	got := hex.Dump(build(t, None)[:200])
	if *updateGolden {
		if err := os.WriteFile("testdata/batch.hex", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/batch.hex")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestHeaderFields(t *testing.T) {
	b := build(t, LZ4)
	b.SetEpoch(9)
	for name, ok := range map[string]bool{
		"offsets":    b.BaseOffset() == 100 && b.LastOffset() == 122 && b.NextOffset() == 123 && b.LastOffsetDelta() == 22 && b.RecordCount() == 23,
		"epoch":      b.Epoch() == 9 && b.Magic() == 2,
		"attributes": b.Codec() == LZ4 && b.Transactional() && !b.Control() && !b.LogAppendTime(),
		"times":      b.BaseTimestamp() == 5000 && b.MaxTimestamp() == 6000,
		"producer":   b.ProducerID() == 7 && b.ProducerEpoch() == 2 && b.BaseSequence() == 30,
		"size":       b.Size() == int64(len(b)),
	} {
		if !ok {
			t.Errorf("%s are wrong in %x", name, b[:HeaderBytes])
		}
	}
	crc := b.CRC()
	b.SetBaseOffset(1 << 40)
	if b.Check() != nil || b.CRC() != crc {
		t.Error("the base offset is inside the CRC")
	}
	b.SetLogAppendTime(7777)
	if b.Check() != nil || records(t, b)[2].Timestamp != 7777 {
		t.Error("log append time is not every record's timestamp")
	}
}

// Recompress changes the codec and the body's bytes, nothing else.
func TestRecompress(t *testing.T) {
	for _, from := range codecs {
		for _, to := range codecs {
			b := build(t, from)
			out, err := b.Recompress(to)
			if err != nil || out.Check() != nil || out.Codec() != to {
				t.Fatalf("%s to %s: codec %s, %v, %v", from, to, out.Codec(), err, out.Check())
			}
			if !reflect.DeepEqual(records(t, out), sample()) || out.ProducerID() != 7 || !out.Transactional() || out.BaseOffset() != 100 {
				t.Errorf("%s to %s: something else changed", from, to)
			}
		}
	}
}

// Bad bytes are refused by kind.
func TestRefusals(t *testing.T) {
	change := func(at int, to ...byte) Batch {
		b := build(t, None)
		copy(b[at:], to)
		return b
	}
	checked := func(b Batch) error {
		b.SetCRC()
		return b.Check()
	}
	next := func(b []byte) error {
		_, _, err := Next(b)
		return err
	}
	for name, c := range map[string]struct{ got, want error }{
		"empty":             {next(nil), ErrShort},
		"half a header":     {next(build(t, None)[:60]), ErrShort},
		"half a body":       {next(build(t, None)[:100]), ErrShort},
		"100 MB claimed":    {next(change(8, 0x06, 0, 0, 0)), ErrShort},
		"negative length":   {next(change(8, 0xff, 0xff, 0xff, 0xff)), ErrCorrupt},
		"length of nothing": {next(change(8, 0, 0, 0, 1)), ErrCorrupt},
		"magic 1":           {next(change(16, 1)), ErrMagic},
		"crc":               {change(150, 0x55).Check(), ErrCorrupt},
		"cut":               {build(t, None)[:100].Check(), ErrCorrupt},
		"codec 5":           {checked(change(22, 5)), ErrCodec},
		"negative delta":    {checked(change(23, 0xff)), ErrCorrupt},
		"negative count":    {checked(change(57, 0xff)), ErrCorrupt},
		"count over delta":  {checked(change(57, 0, 0, 1, 0)), ErrCorrupt},
		"sound":             {next(build(t, None)), nil},
	} {
		if !errors.Is(c.got, c.want) || (c.want == nil) != (c.got == nil) {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
}

// A record section that does not fit its header is found by the reader.
func TestReaderRefuses(t *testing.T) {
	for name, change := range map[string]func(Batch) Batch{
		"fewer records than bytes": func(b Batch) Batch { b[60]--; return b },
		"more records than bytes":  func(b Batch) Batch { b[60]++; b[26]++; return b },
		"record length":            func(b Batch) Batch { b[HeaderBytes] = 0x7f; return b },
		"negative record length":   func(b Batch) Batch { b[HeaderBytes] = 0x01; return b },
		"not what the codec says":  func(b Batch) Batch { b[22] = byte(Gzip); return b },
	} {
		var r Reader
		err := r.Reset(change(build(t, None)), 0)
		for err == nil && r.Next() {
		}
		if err == nil {
			err = r.Err()
		}
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTypes(t *testing.T) {
	id := TopicID{1, 2, 3, 250}
	back, err := ParseTopicID(id.String())
	if err != nil || back != id || len(id.String()) != 22 {
		t.Errorf("topic id %s came back as %s, %v", id, back, err)
	}
	if _, err := ParseTopicID("short"); err == nil {
		t.Error("a short topic id was taken")
	}
	p := PartitionID{Topic: id, Partition: 3}
	for _, c := range []struct {
		q    PartitionID
		sign int
	}{{p, 0}, {PartitionID{id, 4}, -1}, {PartitionID{TopicID{1, 2, 2, 251}, 9}, 1}} {
		if got := p.Compare(c.q); got < 0 != (c.sign < 0) || got > 0 != (c.sign > 0) {
			t.Errorf("compare with %s: %d", c.q, got)
		}
	}
}
