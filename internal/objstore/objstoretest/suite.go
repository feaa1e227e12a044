// Package objstoretest is the one suite that every objstore.Store passes: Mem,
// Fault without faults, S3 on the development store, and any real store that
// is tried.
package objstoretest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"tidewater/internal/objstore"
)

// Run tests the store that open gives; each subtest works under a prefix of
// its own, so one bucket serves all.
func Run(t *testing.T, open func(t *testing.T) objstore.Store) {
	t.Helper()
	tests := []struct {
		name string
		run  func(*testing.T, objstore.Store, string)
	}{
		{"WhatIsPutIsRead", putGet},
		{"PutReplaces", putReplaces},
		{"RangesAreCutAtTheEnd", ranges},
		{"MissingObjectsAreNotFound", missing},
		{"OnlyTheFirstConditionalPutWins", putIfAbsent},
		{"OneOfManyRacersWins", race},
		{"ListsAreSortedAndPaged", list},
		{"DeletesAreIdempotent", deletes},
		{"ClockAgreesWithLastModified", clock},
		{"ProbeAccepts", probe},
		{"CancelledCallsFail", cancelled},
		{"LargeObjectsSurvive", large},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, open(t), "objstoretest/"+tt.name+"/") })
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

func wantBody(t *testing.T, s objstore.Store, key string, want []byte) {
	t.Helper()
	got, err := s.Get(t.Context(), key, 0, -1)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Fatalf("%s holds %d bytes that differ from the %d written", key, len(got), len(want))
	}
}

func putGet(t *testing.T, s objstore.Store, p string) {
	for _, key := range []string{"a", "deep/er/one", "with space+plus", "topic~id/0/00000000000000000010.seg"} {
		body := []byte("body of " + key)
		must(t, s.Put(t.Context(), p+key, body))
		wantBody(t, s, p+key, body)
		info, err := s.Head(t.Context(), p+key)
		must(t, err)
		if info.Key != p+key || info.Size != int64(len(body)) {
			t.Fatalf("head gives %+v", info)
		}
	}
	must(t, s.Put(t.Context(), p+"empty", nil))
	wantBody(t, s, p+"empty", nil)
}

func putReplaces(t *testing.T, s objstore.Store, p string) {
	must(t, s.Put(t.Context(), p+"k", []byte("long first body")))
	must(t, s.Put(t.Context(), p+"k", []byte("second")))
	wantBody(t, s, p+"k", []byte("second"))
}

func ranges(t *testing.T, s objstore.Store, p string) {
	must(t, s.Put(t.Context(), p+"k", []byte("0123456789")))
	for _, tt := range []struct {
		offset, length int64
		want           string
	}{
		{0, -1, "0123456789"}, {0, 3, "012"}, {4, 3, "456"}, {8, 10, "89"}, {9, 1, "9"},
		{4, -1, "456789"}, {10, 5, ""}, {10, -1, ""}, {99, 1, ""}, {99, -1, ""}, {3, 0, ""},
	} {
		got, err := s.Get(t.Context(), p+"k", tt.offset, tt.length)
		must(t, err)
		if string(got) != tt.want {
			t.Errorf("bytes from %d, length %d: %q, want %q", tt.offset, tt.length, got, tt.want)
		}
	}
}

func missing(t *testing.T, s objstore.Store, p string) {
	for _, length := range []int64{-1, 0, 5} {
		_, err := s.Get(t.Context(), p+"nothing", 0, length)
		wantErr(t, err, objstore.ErrNotFound)
	}
	_, err := s.Get(t.Context(), p+"nothing", 7, 5)
	wantErr(t, err, objstore.ErrNotFound)
	_, err = s.Head(t.Context(), p+"nothing")
	wantErr(t, err, objstore.ErrNotFound)
}

func putIfAbsent(t *testing.T, s objstore.Store, p string) {
	must(t, s.PutIfAbsent(t.Context(), p+"k", []byte("one")))
	wantErr(t, s.PutIfAbsent(t.Context(), p+"k", []byte("two")), objstore.ErrExists)
	wantErr(t, s.PutIfAbsent(t.Context(), p+"k", []byte("one")), objstore.ErrExists)
	wantBody(t, s, p+"k", []byte("one"))
	must(t, s.Delete(t.Context(), p+"k"))
	must(t, s.PutIfAbsent(t.Context(), p+"k", []byte("three")))
	wantBody(t, s, p+"k", []byte("three"))
}

func race(t *testing.T, s objstore.Store, p string) {
	const racers, rounds = 8, 5
	for round := range rounds {
		key := fmt.Sprintf("%s%d", p, round)
		errs := make([]error, racers)
		var wg sync.WaitGroup
		for i := range racers {
			wg.Go(func() {
				for errs[i] = objstore.ErrUnavailable; errors.Is(errs[i], objstore.ErrUnavailable); {
					errs[i] = s.PutIfAbsent(t.Context(), key, fmt.Appendf(nil, "racer %d", i))
				}
			})
		}
		wg.Wait()
		won := -1
		for i, err := range errs {
			switch {
			case err == nil && won >= 0:
				t.Fatalf("racers %d and %d both won %s", won, i, key)
			case err == nil:
				won = i
			default:
				wantErr(t, err, objstore.ErrExists)
			}
		}
		if won < 0 {
			t.Fatalf("nobody won %s", key)
		}
		wantBody(t, s, key, fmt.Appendf(nil, "racer %d", won))
	}
}

func list(t *testing.T, s objstore.Store, p string) {
	var want []string
	for i := range 23 {
		k := fmt.Sprintf("%sdir%d/%04d", p, i%2, i)
		want = append(want, k)
		must(t, s.Put(t.Context(), k, make([]byte, i)))
	}
	must(t, s.Put(t.Context(), p+"other", nil))
	slices.Sort(want)
	var got []string
	after := ""
	for range 10 {
		page, err := s.List(t.Context(), p+"dir", after, 5)
		must(t, err)
		if len(page.Objects) > 5 {
			t.Fatalf("page of %d objects, at most 5 were asked for", len(page.Objects))
		}
		for _, o := range page.Objects {
			got = append(got, o.Key)
			after = o.Key
		}
		if !page.More {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("listed %d keys: %v\nwant %d: %v", len(got), got, len(want), want)
	}
	page, err := s.List(t.Context(), p+"dir0", p+"dir0/0010", 100)
	must(t, err)
	if len(page.Objects) != 6 || page.More || page.Objects[0].Key != p+"dir0/0012" || page.Objects[0].Size != 12 {
		t.Fatalf("list after a key gives %+v", page)
	}
	page, err = s.List(t.Context(), p+"none", "", 100)
	must(t, err)
	if len(page.Objects) != 0 || page.More {
		t.Fatalf("list of an unused prefix gives %+v", page)
	}
}

func deletes(t *testing.T, s objstore.Store, p string) {
	must(t, s.Put(t.Context(), p+"a", []byte("a")))
	must(t, s.Put(t.Context(), p+"b", []byte("b")))
	must(t, s.Put(t.Context(), p+"c", []byte("c")))
	must(t, s.Delete(t.Context(), p+"a", p+"missing", p+"b"))
	must(t, s.Delete(t.Context(), p+"a"))
	must(t, s.Delete(t.Context()))
	_, err := s.Head(t.Context(), p+"a")
	wantErr(t, err, objstore.ErrNotFound)
	wantBody(t, s, p+"c", []byte("c"))
}

func clock(t *testing.T, s objstore.Store, p string) {
	before, err := s.Now(t.Context())
	must(t, err)
	must(t, s.Put(t.Context(), p+"k", []byte("x")))
	after, err := s.Now(t.Context())
	must(t, err)
	info, err := s.Head(t.Context(), p+"k")
	must(t, err)
	// Whole seconds: a write may seem up to one second older than it is.
	if info.LastModified.Before(before.Add(-time.Second)) || info.LastModified.After(after.Add(time.Second)) {
		t.Fatalf("object written between %s and %s says %s", before, after, info.LastModified)
	}
}

func probe(t *testing.T, s objstore.Store, _ string) {
	must(t, objstore.Probe(t.Context(), s, "objstoretest"))
}

func cancelled(t *testing.T, s objstore.Store, p string) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantErr(t, s.Put(ctx, p+"k", nil), objstore.ErrUnavailable)
	_, err := s.Get(ctx, p+"k", 0, -1)
	wantErr(t, err, objstore.ErrUnavailable)
	_, err = s.List(ctx, p, "", 1)
	wantErr(t, err, objstore.ErrUnavailable)
}

func large(t *testing.T, s objstore.Store, p string) {
	body := make([]byte, 9<<20)
	for i := range body {
		body[i] = byte(i * 7 >> 3)
	}
	must(t, s.PutIfAbsent(t.Context(), p+"k", body))
	wantBody(t, s, p+"k", body)
	got, err := s.Get(t.Context(), p+"k", 5<<20, 1<<20)
	must(t, err)
	if !bytes.Equal(got, body[5<<20:6<<20]) {
		t.Fatal("a range of a large object differs")
	}
}
