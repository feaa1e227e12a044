package translate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	ice "github.com/apache/iceberg-go"

	"tidewater/iceberg/icebergtest"
	"tidewater/iceberg/schema"
	"tidewater/iceberg/tablefs"
	"tidewater/internal/objstore"
	"tidewater/internal/record"
)

func translator(c Config) (*Translator, tablefs.FS) {
	names := 0
	c.Name = func() string { names++; return fmt.Sprintf("f%d", names) }
	c.FS = tablefs.FS{Store: objstore.NewMem(func() time.Time { return time.Unix(0, 0) }), Root: "s3://lake"}
	return New(c), c.FS
}

func keyValue(ranges ...Range) Request {
	return Request{Table: Target{Schema: schema.KeyValueSchema(), Spec: *ice.UnpartitionedSpec, Location: "s3://lake/t"}, Ranges: ranges}
}

func jsonRequest(t testing.TB, text string, ranges ...Range) Request {
	t.Helper()
	v, err := schema.Compile(text)
	if err != nil {
		t.Fatal(err)
	}
	return Request{Table: Target{Schema: schema.JSONSchema(v), Spec: *ice.UnpartitionedSpec, Location: "s3://lake/t"}, Value: v, Ranges: ranges}
}

const small = `{"type": "object", "properties": {"a": {"type": "integer"}, "s": {"type": "string"}, "n": {"type": "number"}}}`

func part(p int32, values ...string) *icebergtest.Partition {
	log := icebergtest.NewPartition(record.TopicID{1}, p)
	log.AppendValues(values...)
	return log
}

// A damaged batch stops the round; nothing of it is skipped.
func TestCorruptBatchStops(t *testing.T) {
	p := part(0, "a")
	p.AppendValues("b")
	p.Corrupt(1)
	tr, _ := translator(Config{})
	_, err := tr.Translate(context.Background(), keyValue(Range{Source: p, To: 2}))
	if !errors.Is(err, record.ErrCorrupt) {
		t.Fatalf("got %v, want ErrCorrupt", err)
	}
}

// A range may begin and end inside a batch; the end of the log ends it early;
// what retention took is counted.
func TestRangeBounds(t *testing.T) {
	p := part(0, "0", "1", "2", "3")
	p.AppendValues("4", "5", "6")
	tr, _ := translator(Config{})
	for _, c := range []struct{ from, to, start, wantTo, rows, lost int64 }{
		{0, 7, 0, 7, 7, 0}, {1, 3, 0, 3, 2, 0}, {3, 5, 0, 5, 2, 0}, {2, 9, 0, 7, 5, 0}, {0, 7, 4, 7, 3, 4}, {0, 2, 4, 2, 0, 2},
	} {
		p.Trim(record.Offset(c.start))
		got, err := tr.Translate(context.Background(), keyValue(Range{Source: p, From: record.Offset(c.from), To: record.Offset(c.to)}))
		if err != nil {
			t.Fatal(err)
		}
		if d := got.Done[0]; int64(d.To) != c.wantTo || d.Rows != c.rows || got.Rows() != c.rows || d.Lost != c.lost {
			t.Errorf("[%d, %d) from log start %d: %+v, %d rows in files", c.from, c.to, c.start, d, got.Rows())
		}
	}
}

// Several partitions share one file; a full one is followed by another; the
// checksums do not depend on how the range was cut.
func TestFilesRollAndChecksumsAdd(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var parts []*icebergtest.Partition
	for p := range int32(3) {
		log := icebergtest.NewPartition(record.TopicID{1}, p)
		for range 40 {
			text := make([]byte, 500)
			for i := range text {
				text[i] = byte(random.Uint32())
			}
			log.Append(icebergtest.Rec{Time: 1, Value: text}, icebergtest.Rec{Time: 2, Key: text[:3]})
		}
		parts = append(parts, log)
	}
	ranges := func(from, to record.Offset) (out []Range) {
		for _, p := range parts {
			out = append(out, Range{Source: p, From: from, To: to})
		}
		return out
	}
	tr, _ := translator(Config{RowGroupBytes: 4 << 10, FileBytes: 20 << 10, ReadBytes: 1})
	whole, err := tr.Translate(context.Background(), keyValue(ranges(0, 80)...))
	if err != nil {
		t.Fatal(err)
	}
	if len(whole.Files) < 2 || len(whole.Files) > 5 || whole.Rows() != 240 {
		t.Fatalf("%d files of %d rows", len(whole.Files), whole.Rows())
	}
	a, _ := tr.Translate(context.Background(), keyValue(ranges(0, 33)...))
	b, _ := tr.Translate(context.Background(), keyValue(ranges(33, 80)...))
	for i := range whole.Done {
		if whole.Done[i].Checksum != a.Done[i].Checksum+b.Done[i].Checksum {
			t.Errorf("partition %d: checksums of parts do not add up", i)
		}
	}
	one, _ := tr.Translate(context.Background(), Request{Table: keyValue().Table, Ranges: ranges(0, 80), RangeBytesMax: 5000})
	if d := one.Done[1]; d.To == 80 || d.To < 10 {
		t.Errorf("a bound of 5000 bytes ended the range at %d", d.To)
	}
}

// drop, fail and dlq_table.
func TestInvalidRecords(t *testing.T) {
	p := part(0, `{"a": 1}`, `x`, `{"a": "y"}`, `{"a": 2}`)
	tr, _ := translator(Config{})
	r := jsonRequest(t, small, Range{Source: p, To: 4, Decided: map[record.Offset]bool{2: true}})
	r.Invalid = Drop
	got, err := tr.Translate(context.Background(), r)
	if err != nil || got.Done[0].Dropped != 1 || got.Done[0].Rows != 2 || got.Done[0].Decided != 1 {
		t.Fatalf("drop: %+v %v", got, err)
	}
	r.Invalid = Fail
	var invalid *InvalidRecordError
	if _, err := tr.Translate(context.Background(), r); !errors.As(err, &invalid) || invalid.Offset != 1 || !strings.Contains(err.Error(), "dlq_table") {
		t.Fatalf("fail: %v", err)
	}
	r.Invalid = DeadLetter
	r.Dead = &Target{Schema: schema.DeadLetterSchema(), Spec: *ice.UnpartitionedSpec, Location: "s3://lake/d"}
	got, err = tr.Translate(context.Background(), r)
	if err != nil || len(got.DeadFiles) != 1 || got.DeadFiles[0].Count() != 1 {
		t.Fatalf("dlq_table: %+v %v", got, err)
	}
}

// Files carry field ids, and the metrics that let engines skip them.
func TestFileMetrics(t *testing.T) {
	p := part(3, `{"a": -5, "s": "banana split with cream and nuts", "n": 0}`, `{"a": 7, "n": -1.5}`, `{"s": "zzzzzzzzzzzzzzzzzzzz"}`)
	tr, fs := translator(Config{})
	got, err := tr.Translate(context.Background(), jsonRequest(t, small, Range{Source: p, To: 3}))
	if err != nil {
		t.Fatal(err)
	}
	f := got.Files[0]
	id := func(name string) int {
		sc := jsonRequest(t, small).Table.Schema
		field, _ := sc.FindFieldByName(name)
		return field.ID
	}
	check := func(name, lower, upper string, nulls int64) {
		t.Helper()
		sc := jsonRequest(t, small).Table.Schema
		field, _ := sc.FindFieldByName(name)
		lo, err1 := ice.LiteralFromBytes(field.Type, f.LowerBoundValues()[field.ID])
		hi, err2 := ice.LiteralFromBytes(field.Type, f.UpperBoundValues()[field.ID])
		if err1 != nil || err2 != nil || lo.String() != lower || hi.String() != upper || f.NullValueCounts()[field.ID] != nulls || f.ValueCounts()[field.ID] != 3 {
			t.Errorf("%s: %v to %v, %d nulls of %d (%v %v)", name, lo, hi, f.NullValueCounts()[field.ID], f.ValueCounts()[field.ID], err1, err2)
		}
	}
	check("kafka_partition", "3", "3", 0)
	check("kafka_offset", "0", "2", 0)
	check("a", "-5", "7", 1)
	check("n", "-1.5", "0", 1)
	check("s", "banana split wit", "zzzzzzzzzzzzzzz{", 1)
	if f.LowerBoundValues()[id("kafka_key")] != nil || f.NullValueCounts()[id("kafka_key")] != 3 {
		t.Error("metrics of kafka_key")
	}
	body, err := fs.Read(context.Background(), f.FilePath())
	if err != nil || int64(len(body)) != f.FileSizeBytes() {
		t.Fatal(err)
	}
	meta := open(t, body)
	if field := meta.Schema.Root().Field(5); field.Name() != "a" || int(field.FieldID()) != id("a") {
		t.Errorf("parquet field 5 is %s id %d", field.Name(), field.FieldID())
	}
}

func open(t *testing.T, body []byte) *metadata.FileMetaData {
	t.Helper()
	r, err := file.NewParquetReader(strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	return r.MetaData()
}

// Rows go to the file of their table partition, by any transform; too many
// partitions are refused.
func TestTablePartitions(t *testing.T) {
	log := icebergtest.NewPartition(record.TopicID{1}, 0)
	day := int64(86_400_000)
	for i := range int64(6) {
		log.Append(icebergtest.Rec{Time: day * (i % 2), Value: fmt.Appendf(nil, `{"a": %d, "s": "x%d"}`, i%3, i)}, icebergtest.Rec{Time: -1})
	}
	r := jsonRequest(t, small, Range{Source: log, To: log.End()})
	field := func(name string) int { f, _ := r.Table.Schema.FindFieldByName(name); return f.ID }
	r.Table.Spec = ice.NewPartitionSpec(
		ice.PartitionField{SourceIDs: []int{field("kafka_timestamp")}, FieldID: 1000, Name: "d", Transform: ice.DayTransform{}},
		ice.PartitionField{SourceIDs: []int{field("a")}, FieldID: 1001, Name: "a", Transform: ice.IdentityTransform{}})
	tr, _ := translator(Config{RowGroupBytes: 100})
	got, err := tr.Translate(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Files) != 7 || got.Rows() != 12 {
		t.Fatalf("%d files of %d rows, want 6 partitions and null", len(got.Files), got.Rows())
	}
	tr, _ = translator(Config{PartitionsMax: 3})
	if _, err := tr.Translate(context.Background(), r); err == nil || !strings.Contains(err.Error(), "coarser") {
		t.Fatalf("got %v", err)
	}
}
