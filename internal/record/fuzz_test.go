package record

import (
	"bytes"
	"testing"
)

func addBatches(f *testing.F) {
	for _, c := range codecs {
		f.Add([]byte(build(f, c)))
		f.Add([]byte(franzBatch(f, c)))
	}
	f.Add([]byte{})
}

// Next never gives more or less than it was given, and what it gives splits
// the same way alone; Check does not panic.
func FuzzNext(f *testing.F) {
	addBatches(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		b, rest, err := Next(data)
		if err != nil {
			if len(rest) != len(data) {
				t.Fatal("bytes were taken with an error")
			}
			return
		}
		if !bytes.Equal(append(bytes.Clone(b), rest...), data) {
			t.Fatal("batch and rest are not what was given")
		}
		if again, none, err := Next(b); err != nil || len(none) != 0 || len(again) != len(b) {
			t.Fatalf("the batch alone: %v", err)
		}
		if b.Check() == nil && b.NextOffset()-b.BaseOffset() != Offset(b.LastOffsetDelta())+1 {
			t.Fatal("offsets do not add up")
		}
	})
}

// Reader never gives more records than the header counts, nor a record outside
// its offsets, and what it reads without error a Builder can write again.
func FuzzReader(f *testing.F) {
	addBatches(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		b, _, err := Next(data)
		if err != nil {
			return
		}
		b = bytes.Clone(b)
		Batch(b).SetCRC() // so that mutations get past it
		var r Reader
		if Batch(b).Check() != nil || r.Reset(b, 1<<20) != nil {
			return
		}
		var again Builder
		n := int32(0)
		for r.Next() {
			one := r.Record()
			if n++; n > b.RecordCount() || one.Offset < b.BaseOffset() || one.Offset > b.LastOffset() {
				t.Fatalf("record %d at %d of batch [%d, %d] with %d", n, one.Offset, b.BaseOffset(), b.LastOffset(), b.RecordCount())
			}
			again.Add(one.Timestamp, one.Key, one.Value, one.Headers...)
		}
		if r.Err() != nil || n == 0 {
			return
		}
		out, err := again.Build(b.BaseOffset())
		if err != nil || out.Check() != nil {
			t.Fatalf("built again: %v, %v", err, out.Check())
		}
		if r.Reset(out, 0) != nil {
			t.Fatal("built again, it does not open")
		}
		for range n {
			if !r.Next() {
				t.Fatalf("built again, it lacks records: %v", r.Err())
			}
		}
	})
}

// Decompress stays within its bound and never panics.
func FuzzDecompress(f *testing.F) {
	for _, c := range codecs {
		f.Add(int8(c), []byte(build(f, c)[HeaderBytes:]))
		f.Add(int8(c), []byte(franzBatch(f, c)[HeaderBytes:]))
	}
	f.Fuzz(func(t *testing.T, codec int8, src []byte) {
		const bound = 64 << 10
		out, err := Decompress(nil, src, Codec(codec), bound)
		if err == nil && Codec(codec) != None && len(out) > bound {
			t.Fatalf("%d bytes over a bound of %d", len(out), bound)
		}
	})
}
