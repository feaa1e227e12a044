package server

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"tidewater/catalog"
	"tidewater/internal/objstore"
)

var rewrite = flag.Bool("rewrite", false, "write golden files anew")

func example() record {
	return record{Format: tableFormat, Version: 1, MinReader: 1, Cluster: "c", Incarnation: 2, Tenant: "default", Number: 7,
		Commit: "6b0f9c1e-0000-4000-8000-000000000001", Metadata: "s3://b/w/n/t-6b0f9c1e/metadata/00006-x.metadata.json",
		Table: "6b0f9c1e-0000-4000-8000-000000000002"}
}

// A write that continues a cleaned part of a series does not count, and what it
// left is not read.
func TestWriteBehindTheCleanedPartDoesNotCount(t *testing.T) {
	s := series{store: objstore.NewMem(time.Now), dir: "w/t.table/", format: tableFormat}
	for n := uint64(50); n <= 52; n++ {
		r := example()
		r.Number = n
		body, err := r.encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.store.Put(t.Context(), s.key(n), body); err != nil {
			t.Fatal(err)
		}
	}
	late := example()
	late.Number = 11 // its writer last saw 10, which is gone
	if err := s.put(t.Context(), late); !errors.Is(err, catalog.ErrConflict) {
		t.Fatalf("want a conflict, got %v", err)
	}
	// Even if it dies before it takes its object back, nobody follows it.
	body, _ := late.encode()
	if err := s.store.Put(t.Context(), s.key(11), body); err != nil {
		t.Fatal(err)
	}
	known := example()
	known.Number = 10
	for _, from := range []record{{}, known} {
		if got, err := s.latest(t.Context(), from); err != nil || got.Number != 52 {
			t.Fatalf("latest from %d is %d, %v", from.Number, got.Number, err)
		}
	}
}

// A list that is late does not hide the newest object.
func TestLatestGoesOnBehindALateList(t *testing.T) {
	store := &objstore.Fault{Store: objstore.NewMem(time.Now), Rule: func(c objstore.Call) objstore.Effect {
		return objstore.Effect{StaleBy: 2}
	}}
	s := series{store: store, dir: "w/t.table/", format: tableFormat}
	for n := uint64(1); n <= 5; n++ {
		r := example()
		r.Number = n
		if err := s.put(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.latest(t.Context(), record{}); err != nil || got.Number != 5 {
		t.Fatalf("latest is %d, %v", got.Number, err)
	}
}

// The bytes of an object do not change unnoticed, and what this reader does not
// know is refused by name.
func TestRecordFormat(t *testing.T) {
	body, err := example().encode()
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/pointer"
	if *rewrite {
		if err := os.WriteFile(golden, body, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || !bytes.Equal(body, want) {
		t.Fatalf("encoded %s, golden %s, %v", body, want, err)
	}
	newer := example()
	newer.Version, newer.MinReader = 3, 2
	encrypted := example()
	encrypted.Key = 4
	for _, tt := range []struct {
		change func() []byte
		want   string
	}{
		{func() []byte { return bytes.Replace(want, []byte(`"number":7`), []byte(`"number":8`), 1) }, "checksum"},
		{func() []byte { return want[:len(want)-12] }, "corrupt"},
		{func() []byte { b, _ := newer.encode(); return b }, "needs a reader of version 2"},
		{func() []byte { b, _ := encrypted.encode(); return b }, "encrypted with key 4"},
	} {
		if _, err := decodeRecord(tt.change(), tableFormat); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
	if _, err := decodeRecord(want, namespaceFormat); err == nil {
		t.Error("a table's object was taken for a namespace's")
	}
}

// Decoding never panics, and what it accepts encodes to what decodes the same.
func FuzzDecodeRecord(f *testing.F) {
	body, err := example().encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Add([]byte("{}\ncrc32c 00000000\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRecord(b, tableFormat)
		if err != nil {
			return
		}
		again, err := r.encode()
		if err != nil {
			t.Fatal(err)
		}
		if second, err := decodeRecord(again, tableFormat); err != nil || second.Number != r.Number || second.Metadata != r.Metadata {
			t.Fatalf("%v became %v, %v", r, second, err)
		}
	})
}

// Names survive their escaping, and no two share a folder.
func FuzzEscape(f *testing.F) {
	f.Add("a.b")
	f.Add("a/ü %2F")
	f.Fuzz(func(t *testing.T, name string) {
		e := escape(name)
		if strings.ContainsAny(e, "./") {
			t.Fatalf("%q holds a separator", e)
		}
		if back, ok := unescape(e); !ok || back != name {
			t.Fatalf("%q became %q", name, back)
		}
	})
}
