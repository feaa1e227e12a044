package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
)

// Each codec's output comes back, appended to what was there, and the bound on
// the decompressed size holds to the byte.
func TestCompressAndBack(t *testing.T) {
	src := bytes.Repeat([]byte("tide "), 1000)
	for _, c := range codecs {
		z, err := Compress([]byte("before"), src, c)
		if err != nil || !bytes.HasPrefix(z, []byte("before")) {
			t.Fatalf("%s: %v", c, err)
		}
		z = z[len("before"):]
		got, err := Decompress([]byte("x"), z, c, len(src))
		if err != nil || string(got) != "x"+string(src) {
			t.Errorf("%s: %d bytes came back, %v", c, len(got), err)
		}
		if c == None {
			continue // its size is its input's
		}
		if _, err := Decompress(nil, z, c, len(src)-1); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s over its bound: %v", c, err)
		}
		if _, err := Decompress(nil, z[:len(z)/2], c, 0); !errors.Is(err, ErrCorrupt) {
			t.Errorf("half of %s: %v", c, err)
		}
	}
	if _, err := Compress(nil, src, 5); !errors.Is(err, ErrCodec) {
		t.Errorf("codec 5: %v", err)
	}
	if _, err := Decompress(nil, src, 5, 0); !errors.Is(err, ErrCodec) {
		t.Errorf("codec 5: %v", err)
	}
}

// Kafka's Java producers frame snappy blocks; each is bounded by what is left.
func TestXerialSnappy(t *testing.T) {
	framed := append(append([]byte{}, xerialMagic...), 0, 0, 0, 1, 0, 0, 0, 1)
	for _, part := range []string{"hello ", "", "world"} {
		z := snappy.Encode(nil, []byte(part))
		framed = binary.BigEndian.AppendUint32(framed, uint32(len(z)))
		framed = append(framed, z...)
	}
	if got, err := Decompress(nil, framed, Snappy, 11); err != nil || string(got) != "hello world" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := Decompress(nil, framed, Snappy, 10); !errors.Is(err, ErrCorrupt) {
		t.Errorf("over its bound: %v", err)
	}
	for n := len(xerialMagic); n < 16; n++ {
		if _, err := Decompress(nil, framed[:n], Snappy, 0); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut to %d: %v", n, err)
		}
	}
}

// Zstd streams of several frames and of unknown size come back; a few bytes
// that claim or hold far more than the bound cost little memory.
func TestZstdFrames(t *testing.T) {
	one, err := Compress(nil, []byte("one"), Zstd)
	if err != nil {
		t.Fatal(err)
	}
	big, err := Compress(nil, make([]byte, 64<<20), Zstd)
	if err != nil {
		t.Fatal(err)
	}
	var stream bytes.Buffer
	w, err := zstd.NewWriter(&stream)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("streamed")); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		in   []byte
		want string
	}{{append(bytes.Clone(one), one...), "oneone"}, {stream.Bytes(), "streamed"}} {
		if got, err := Decompress(nil, c.in, Zstd, 100); err != nil || string(got) != c.want {
			t.Errorf("%q, %v; want %q", got, err, c.want)
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := Decompress(nil, append(bytes.Clone(one), big...), Zstd, 1<<20); !errors.Is(err, ErrCorrupt) {
		t.Errorf("second frame over the bound: %v", err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 32<<20 {
		t.Errorf("%d bytes allocated for a bound of 1 MiB", used)
	}
}
