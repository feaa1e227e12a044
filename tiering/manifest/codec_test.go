package manifest_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"tidewater/internal/logio"
	"tidewater/internal/record"
	"tidewater/tiering/manifest"
)

var rewrite = flag.Bool("rewrite", false, "write golden files anew")

// format is one object format: a sample of every field, and its decoder as a
// function that gives back the encoding of what it read.
type format struct {
	name   string
	sample []byte
	redo   func([]byte) ([]byte, error)
}

func sampleBatch() record.Batch {
	b := record.Builder{Producer: &record.Producer{ID: 42, Epoch: 1, Sequence: 0}}
	b.Add(1_700_000_000_000, []byte("key"), []byte("value"))
	b.Add(1_700_000_000_500, nil, []byte("value 2"))
	batch, err := b.Build(100)
	if err != nil {
		panic(err)
	}
	batch.SetEpoch(5)
	return batch
}

func formats() []format {
	d := testDir()
	h := d.Layout.Header()
	entry := manifest.Entry{
		Kind: manifest.KindSegment, Key: "a/segment", Index: "an/index", Aborted: "aborted", Position: 120, Length: 999,
		Base: 10, Last: 19, FirstEpoch: 4, LastEpoch: 5, Generation: 1, CRC: 0xDEADBEEF, MaxTimestamp: 1_700_000_000_000, MaxProducerID: 42,
	}
	m := &manifest.Manifest{
		Header: h, Topic: d.Topic, Partition: d.ID, Number: 12, Writer: "1-3.e5.1.7", Epoch: 5, Created: 1_700_000_000_000,
		LogStart: 3, End: 20, StableTo: 18, MaxProducerID: 42,
		Epochs:  []logio.EpochStart{{Epoch: 1, Start: 0}, {Epoch: 5, Start: 12}},
		Pages:   []manifest.Page{{Key: "a/page", Base: 0, Last: 9, Entries: 3, Bytes: 3000, MaxTimestamp: 7, MaxProducerID: 41}},
		Entries: []manifest.Entry{entry}, Retired: []manifest.Retired{{Key: "old", Since: 99}},
	}
	batch := sampleBatch()
	b := manifest.SegmentBuilder{Base: 100, Limit: 102}
	if err := b.Add(batch); err != nil {
		panic(err)
	}
	segment, index, _ := b.Finish(d, "1-3.e5.1.8", manifest.Index{
		Epochs: []logio.EpochStart{{Epoch: 5, Start: 100}}, ProducersAtBase: []byte("state"), ProducersAtEnd: []byte("later"),
	})
	tail := &manifest.Tail{
		Header: h, Series: manifest.Series{Node: 1, Boot: 3}, Number: 44, Created: 1_700_000_001_000, Data: batch,
		Extents: []manifest.Extent{{
			Topic: d.Topic, Partition: d.ID, Epoch: 5, Base: 100, Next: 102, HighWatermark: 102, LastStable: 101, LogStart: 3, Manifest: 12,
			Archived: 20, MaxTimestamp: 1_700_000_000_500, Open: []logio.AbortedTxn{{ProducerID: 42, FirstOffset: 101}},
			Length: int64(len(batch)), CRC: manifest.CRC(batch),
		}},
	}
	tm := &manifest.TailManifest{Header: h, Series: tail.Series, Number: 2, First: 30, End: 45, RetiredFrom: 10, RetiredSince: 5, Closed: true}
	root := &manifest.Root{Header: h, Parent: 2, Reason: manifest.ReasonRestore, Writer: "host", Created: 9}
	meta := &manifest.Metadata{Header: h, Number: 7, Epoch: 2, Created: 8, Series: []manifest.Series{tail.Series}, NextProducerID: 1000, NextSchemaID: 5, Blob: []byte("blob")}
	cut := &manifest.Cut{Header: h, Number: 31, Epoch: 2, Created: 8, Metadata: 7, Ends: []manifest.CutEnd{{Topic: d.Topic, Partition: d.ID, End: 102}}}
	return []format{
		{"manifest", m.AppendTo(nil), func(p []byte) ([]byte, error) { return again(manifest.Decode(p)) }},
		{"page", manifest.AppendPage(nil, h, d.ID, d.Topic, m.Entries), func(p []byte) ([]byte, error) {
			list, err := manifest.DecodePage(p)
			if err != nil {
				return nil, err
			}
			return manifest.AppendPage(nil, h, d.ID, d.Topic, list), nil
		}},
		{"segment", segment, func(p []byte) ([]byte, error) {
			x, n, err := manifest.DecodeSegmentHeader(p)
			if err != nil {
				return nil, err
			}
			return append(x.AppendTo(nil), p[n:]...), nil
		}},
		{"index", index, func(p []byte) ([]byte, error) { return again(manifest.DecodeIndex(p)) }},
		{"tail", tail.AppendTo(nil), func(p []byte) ([]byte, error) { return again(manifest.DecodeTail(p)) }},
		{"tailmanifest", tm.AppendTo(nil), func(p []byte) ([]byte, error) { return again(manifest.DecodeTailManifest(p)) }},
		{"root", root.AppendTo(nil), func(p []byte) ([]byte, error) { return again(manifest.DecodeRoot(p)) }},
		{"metadata", meta.AppendTo(nil), func(p []byte) ([]byte, error) { return again(manifest.DecodeMetadata(p)) }},
		{"cut", cut.AppendTo(nil), func(p []byte) ([]byte, error) { return again(manifest.DecodeCut(p)) }},
	}
}

type appender interface{ AppendTo([]byte) []byte }

func again(x appender, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return x.AppendTo(nil), nil
}

// Bytes written by this version stay readable for ever: each format's sample
// equals its golden file and decodes to what was encoded.
func TestFormatsAreGolden(t *testing.T) {
	for _, f := range formats() {
		path := filepath.Join("testdata", f.name+".hex")
		if *rewrite {
			must(t, os.MkdirAll("testdata", 0o755))
			must(t, os.WriteFile(path, []byte(hex.Dump(f.sample)), 0o644))
		}
		golden, err := os.ReadFile(path)
		must(t, err)
		if string(golden) != hex.Dump(f.sample) {
			t.Errorf("%s: encoding differs from %s", f.name, path)
		}
		got, err := f.redo(f.sample)
		must(t, err)
		if !bytes.Equal(got, f.sample) {
			t.Errorf("%s: decoded and encoded again it differs", f.name)
		}
	}
}

// Every flipped byte and every cut is noticed; a newer version is refused by
// name.
func TestDamageIsNoticed(t *testing.T) {
	for _, f := range formats() {
		_, head, err := manifest.DecodeSegmentHeader(f.sample)
		end := len(f.sample)
		switch {
		case f.name == "segment":
			must(t, err)
			end = head // what follows is checked by the index's blocks
		case f.name == "tail":
			end -= len(sampleBatch()) // what follows is checked by the extent
		}
		for i := range end {
			bad := bytes.Clone(f.sample)
			bad[i] ^= 0x40
			if _, err := f.redo(bad); err == nil {
				t.Errorf("%s: a flipped bit at %d goes unnoticed", f.name, i)
			}
			if _, err := f.redo(f.sample[:i]); err == nil {
				t.Errorf("%s: a cut at %d goes unnoticed", f.name, i)
			}
		}
	}
	newer := bytes.Clone(formats()[4].sample)
	newer[7] = 9 // minimum reader version
	if _, err := manifest.DecodeTail(newer); err == nil || !strings.Contains(err.Error(), "version 9") {
		t.Errorf("a newer version is answered with %v", err)
	}
}

// FuzzDecode: no decoder panics or hands back what it would not write.
func FuzzDecode(f *testing.F) {
	list := formats()
	for i, x := range list {
		f.Add(uint8(i), x.sample)
	}
	f.Fuzz(func(t *testing.T, kind uint8, p []byte) {
		x := list[int(kind)%len(list)]
		// Give random bytes a right checksum now and then, to get past it.
		for _, in := range [][]byte{p, resum(p)} {
			out, err := x.redo(in)
			if err != nil || x.name == "page" {
				continue
			}
			twice, err := x.redo(out)
			if err != nil || !bytes.Equal(out, twice) {
				t.Fatalf("%s: what it decodes does not survive: %v", x.name, err)
			}
		}
	})
}

func resum(p []byte) []byte {
	if len(p) < 4 {
		return p
	}
	body := bytes.Clone(p[:len(p)-4])
	c := manifest.CRC(body)
	return append(body, byte(c>>24), byte(c>>16), byte(c>>8), byte(c))
}

// Keys sort as what they name does, and read back.
func TestKeysAreReadable(t *testing.T) {
	d := testDir()
	want := "acme/AQIDBAAAAAAAAAAAAAAAAA/00000003/flights~qrsAAAAAAAAAAAAAAAAAAA/7/00000000000000000100-00000000000000000101-0000000005-1-3.e5.1.8.segment"
	if got := d.Segment(manifest.Range{Base: 100, Last: 101, Epoch: 5, Writer: "1-3.e5.1.8"}); got != want {
		t.Errorf("segment key\n%s, want\n%s", got, want)
	}
	if !(d.Manifest(9) < d.Manifest(10) && d.Manifest(1<<40) < d.Boundary(1)) {
		t.Error("manifests do not sort by number, or boundaries not after them")
	}
	id, err := manifest.ParseClusterName(manifest.ClusterName(d.Layout.ClusterID))
	must(t, err)
	s, err := manifest.ParseSeries("12-34")
	must(t, err)
	if !reflect.DeepEqual([]any{id, s}, []any{d.Layout.ClusterID, manifest.Series{Node: 12, Boot: 34}}) {
		t.Errorf("read back %v, %v", id, s)
	}
}
