package verify

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	ice "github.com/apache/iceberg-go"
	icetable "github.com/apache/iceberg-go/table"

	"tidewater/catalog"
	"tidewater/iceberg/commit"
	"tidewater/iceberg/icebergtest"
	"tidewater/iceberg/schema"
	"tidewater/iceberg/tablefs"
	"tidewater/iceberg/translate"
	"tidewater/internal/objstore"
	"tidewater/internal/record"
)

const valueSchema = `{"type": "object", "properties": {
	"id": {"type": "integer"}, "name": {"type": "string"}, "ratio": {"type": "number"}, "ok": {"type": "boolean"},
	"at": {"type": "string", "format": "date-time"}, "day": {"type": "string", "format": "date"}, "hour": {"type": "string", "format": "time"},
	"tags": {"type": "array", "items": {"type": ["string", "null"]}},
	"place": {"type": "object", "properties": {"lat": {"type": "number"}, "names": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "string"}}}}}},
	"by": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "integer"}}}},
	"required": ["id"]}`

func value(i int) string {
	return fmt.Sprintf(`{"id": %d, "name": "n%d", "ratio": %d.25, "ok": true, "at": "2013-01-01T05:00:0%dZ", "day": "2013-01-0%d",
		"hour": "10:00:00.5+01:00", "tags": ["a", null, "b"], "place": {"lat": 1.5, "names": [{"n": "x"}, {}, {"n": null}]}, "by": {"k": [1, 2], "e": [], "": [3]}}`,
		i, i, i, i%10, i%9+1)
}

var topicID = record.TopicID{9}

func ident() catalog.Ident {
	return catalog.Ident{Namespace: catalog.Namespace{"topics"}, Name: "t"}
}

type world struct {
	t       *testing.T
	fs      tablefs.FS
	catalog *icebergtest.Catalog
	n       uint64
	value   *schema.Type
}

func newWorld(t *testing.T, json bool) *world {
	now := func() time.Time { return time.Unix(1_700_000_000, 0) }
	w := &world{t: t, fs: tablefs.FS{Store: objstore.NewMem(now), Root: "s3://lake"}, catalog: icebergtest.NewCatalog("s3://lake/tables")}
	if json {
		var err error
		if w.value, err = schema.Compile(valueSchema); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *world) random() uint64 {
	w.n++
	return w.n * 0x9e3779b97f4a7c15
}

// log makes a log of ten records (0 to 9), an aborted one and its marker (10,
// 11), and another record (12).
func log() *icebergtest.Partition {
	p := icebergtest.NewPartition(topicID, 0)
	for i := range 5 {
		rec := func(i int) icebergtest.Rec {
			return icebergtest.Rec{Time: int64(1000 + i), Key: []byte{byte(i)}, Value: []byte(value(i)), Headers: []record.Header{{Key: "h", Value: []byte("v")}}}
		}
		p.Append(rec(2*i), rec(2*i+1))
	}
	p.AppendTxn(5, icebergtest.Rec{Value: []byte(value(10))})
	p.EndTxn(5, false)
	p.Append(icebergtest.Rec{Time: 5000, Key: []byte("tombstone")})
	return p
}

// plant writes a table of the given ranges of p, in that order, which claims
// to hold offsets [0, 13).
func (w *world) plant(p translate.Source, ranges ...[2]record.Offset) {
	w.t.Helper()
	ctx := context.Background()
	sc := schema.KeyValueSchema()
	if w.value != nil {
		sc = schema.JSONSchema(w.value)
	}
	table, err := w.catalog.CreateTable(ctx, catalog.CreateRequest{Ident: ident(), Schema: sc})
	if err != nil {
		w.t.Fatal(err)
	}
	tr := translate.New(translate.Config{FS: w.fs, Name: func() string { return fmt.Sprint(w.random()) }})
	request := translate.Request{Table: translate.Target{Schema: table.Metadata.CurrentSchema(), Location: table.Metadata.Location()}, Value: w.value}
	for _, r := range ranges {
		request.Ranges = append(request.Ranges, translate.Range{Source: p, From: r[0], To: r[1]})
	}
	got, err := tr.Translate(ctx, request)
	if err != nil {
		w.t.Fatal(err)
	}
	id, seq := int64(w.random()>>1), int64(1)
	var entries []ice.ManifestEntry
	for _, f := range got.Files {
		entries = append(entries, ice.NewManifestEntry(ice.EntryStatusADDED, &id, nil, nil, f))
	}
	var manifest, list bytes.Buffer
	location := table.Metadata.Location() + "/metadata/m.avro"
	m, err := ice.WriteManifest(location, &manifest, 2, *ice.UnpartitionedSpec, table.Metadata.CurrentSchema(), id, entries)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := ice.WriteManifestList(2, &list, id, nil, &seq, 0, []ice.ManifestFile{m}); err != nil {
		w.t.Fatal(err)
	}
	_ = w.fs.Write(ctx, location, manifest.Bytes())
	_ = w.fs.Write(ctx, table.Metadata.Location()+"/metadata/l.avro", list.Bytes())
	offsets := commit.Offsets{Seq: 1, Owners: []commit.Owner{{Topic: topicID, Incarnation: 1}}, Marks: map[int32]commit.Mark{0: {End: 13}}}
	_, _, err = w.catalog.CommitTable(ctx, ident(), nil, []icetable.Update{
		icetable.NewAddSnapshotUpdate(&icetable.Snapshot{SnapshotID: id, SequenceNumber: 1, TimestampMs: time.Now().UnixMilli(),
			ManifestList: table.Metadata.Location() + "/metadata/l.avro", Summary: &icetable.Summary{Operation: icetable.OpAppend}}),
		icetable.NewSetSnapshotRefUpdate(icetable.MainBranch, id, icetable.BranchRef, 0, 0, 0),
		icetable.NewSetPropertiesUpdate(ice.Properties{commit.PropertyOffsets: offsets.String()}),
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) verify(p translate.Source) *Report {
	w.t.Helper()
	cfg, err := Open(context.Background(), w.catalog, w.fs, ident(), commit.Topic{Value: w.value}, []translate.Source{p})
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := Run(context.Background(), cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// first checks that the first difference is as said.
func first(t *testing.T, r *Report, k Kind, offset int64, detail string) {
	t.Helper()
	if r.OK() {
		t.Fatal("nothing was found")
	}
	d := r.Differences[0]
	if d.Kind != k || d.Offset != offset || d.Partition != 0 || !strings.Contains(d.Detail, detail) {
		t.Fatalf("found %v, want %s at %d with %q; all: %v", d, k, offset, detail, r.Differences)
	}
	if !strings.Contains(r.String(), fmt.Sprintf("%s: partition 0 offset %d", k, offset)) {
		t.Fatalf("the report does not name it: %s", r)
	}
}

func modes(t *testing.T, fn func(t *testing.T, w *world)) {
	for _, json := range []bool{false, true} {
		t.Run(fmt.Sprintf("json=%v", json), func(t *testing.T) { fn(t, newWorld(t, json)) })
	}
}

func TestAgreement(t *testing.T) {
	modes(t, func(t *testing.T, w *world) {
		w.plant(log(), [2]record.Offset{0, 13})
		r := w.verify(log())
		if !r.OK() || r.Partitions[0].Records != 11 || r.Partitions[0].Rows != 11 {
			t.Fatalf("%s %v", r, r.Differences)
		}
	})
}

func TestMissingRowIsFound(t *testing.T) {
	modes(t, func(t *testing.T, w *world) {
		w.plant(log(), [2]record.Offset{0, 5}, [2]record.Offset{6, 13})
		first(t, w.verify(log()), Missing, 5, "not in the table")
	})
}

func TestDoubledRowIsFound(t *testing.T) {
	modes(t, func(t *testing.T, w *world) {
		w.plant(log(), [2]record.Offset{0, 8}, [2]record.Offset{7, 13})
		first(t, w.verify(log()), Doubled, 7, "2 rows")
	})
}

func TestReorderedRowIsFound(t *testing.T) {
	modes(t, func(t *testing.T, w *world) {
		w.plant(log(), [2]record.Offset{4, 13}, [2]record.Offset{0, 4})
		r := w.verify(log())
		first(t, r, Reordered, 0, "after offset 12")
	})
}

func TestExtraRowIsFound(t *testing.T) {
	modes(t, func(t *testing.T, w *world) {
		// The log that was translated has a record where the true one has the
		// aborted one.
		lie := log()
		lie.Cut(10)
		lie.Append(icebergtest.Rec{Time: 1, Value: []byte(value(10))})
		lie.EndTxn(6, true)
		lie.Append(icebergtest.Rec{Time: 5000, Key: []byte("tombstone")})
		w.plant(lie, [2]record.Offset{0, 13})
		first(t, w.verify(log()), Extra, 10, "without a record")
	})
	modes(t, func(t *testing.T, w *world) {
		// A row past what the table claims.
		long := log()
		long.Append(icebergtest.Rec{Value: []byte(value(1))})
		w.plant(long, [2]record.Offset{0, 14})
		first(t, w.verify(long), Extra, 13, "outside the offsets")
	})
}

// Each column, altered alone, is named.
func TestAlteredRowIsFound(t *testing.T) {
	alter := map[string]icebergtest.Rec{
		"kafka_timestamp": {Time: 1, Key: []byte("k"), Value: []byte(value(3)), Headers: []record.Header{{Key: "h", Value: []byte("v")}}},
		"kafka_key":       {Time: 2, Key: []byte("x"), Value: []byte(value(3)), Headers: []record.Header{{Key: "h", Value: []byte("v")}}},
		"kafka_headers":   {Time: 2, Key: []byte("k"), Value: []byte(value(3)), Headers: []record.Header{{Key: "h"}}},
		"kafka_value":     {Time: 2, Key: []byte("k"), Value: []byte(value(4)), Headers: []record.Header{{Key: "h", Value: []byte("v")}}},
	}
	for _, column := range []string{"id", "name", "ratio", "ok", "at", "day", "hour", "tags", "place", "by"} {
		v := map[string]string{"id": `"id": 3`, "name": `"n3"`, "ratio": `3.25`, "ok": `true`, "at": `:03Z`, "day": `-04"`,
			"hour": `10:00:00.5`, "tags": `null, "b"`, "place": `{}, `, "by": `[], `}[column]
		to := map[string]string{"id": `"id": 4`, "name": `"n4"`, "ratio": `3.5`, "ok": `false`, "at": `:04Z`, "day": `-05"`,
			"hour": `10:00:00.6`, "tags": `"null", "b"`, "place": `{"n": ""}, `, "by": `[0], `}[column]
		changed := strings.Replace(value(3), v, to, 1)
		if changed == value(3) {
			t.Fatalf("%s is not changed", column)
		}
		alter[column] = icebergtest.Rec{Time: 2, Key: []byte("k"), Value: []byte(changed), Headers: []record.Header{{Key: "h", Value: []byte("v")}}}
	}
	for column, rec := range alter {
		_, metadata := map[string]bool{"kafka_timestamp": true, "kafka_key": true, "kafka_headers": true}[column]
		for _, json := range []bool{false, true} {
			if !metadata && json == (column == "kafka_value") {
				continue
			}
			name := column
			if !json && !metadata {
				name = "kafka_value"
			}
			w := newWorld(t, json)
			truth, lie := icebergtest.NewPartition(topicID, 0), icebergtest.NewPartition(topicID, 0)
			for i := range 13 {
				r := icebergtest.Rec{Time: 2, Key: []byte("k"), Value: []byte(value(3)), Headers: []record.Header{{Key: "h", Value: []byte("v")}}}
				truth.Append(r)
				if i == 6 {
					r = rec
				}
				lie.Append(r)
			}
			w.plant(lie, [2]record.Offset{0, 13})
			first(t, w.verify(truth), Altered, 6, "column "+name)
		}
	}
}

// A committer's own tables, with dead letters and a schema that grew on the
// way, agree with the log.
func TestCommittedTableAgrees(t *testing.T) {
	w := newWorld(t, true)
	p := log()
	p.AppendValues("bad", value(1), `{"id": "x"}`, `{"id": 1, "new": "before the column"}`)
	topic := commit.Topic{Value: w.value, PartitionSpec: "(day(kafka_timestamp), bucket(4, id))"}
	clock := time.Unix(1_700_000_000, 0)
	c, err := commit.New(commit.Config{Catalog: w.catalog, FS: w.fs, Ident: ident(), Owner: commit.Owner{Topic: topicID, Incarnation: 1}, Topic: topic,
		Sources:   func() []translate.Source { return []translate.Source{p} },
		BucketEnd: func(record.PartitionID) record.Offset { return p.End() },
		Now:       func() time.Time { clock = clock.Add(time.Second); return clock }, Random: w.random})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.RunOnce(context.Background()); err != nil {
		t.Fatal(err)
	}
	if r := w.verify(p); !r.OK() || r.Partitions[0].Dead != 2 {
		t.Fatalf("%s %v", r, r.Differences)
	}
	if w.value, err = schema.Compile(strings.Replace(valueSchema, `"id":`, `"new": {"type": "string"}, "id":`, 1)); err != nil {
		t.Fatal(err)
	}
	c.Configure(commit.Topic{Value: w.value})
	p.AppendValues(`{"id": 1, "new": "after"}`, `{"id": 1, "new": 5}`)
	if _, err := c.RunOnce(context.Background()); err != nil {
		t.Fatal(err)
	}
	if r := w.verify(p); !r.OK() || r.Partitions[0].Dead != 3 || r.Partitions[0].Rows != 14 {
		t.Fatalf("%s %v", r, r.Differences)
	}
	// Retention moves the log's start: what is gone is not checked.
	p.Trim(4)
	if r := w.verify(p); !r.OK() || r.Partitions[0].Unchecked != 4 {
		t.Fatalf("%s %v", r, r.Differences)
	}
}
