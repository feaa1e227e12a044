package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// fill sets every field of a message at random, strings and lists short.
func fill(rnd *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		if tags, ok := v.Addr().Interface().(*kmsg.Tags); ok {
			for range rnd.IntN(3) {
				tags.Set(uint32(50+rnd.IntN(1000)), make([]byte, rnd.IntN(200)))
			}
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).Name != "Version" {
				fill(rnd, v.Field(i))
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(make([]byte, rnd.IntN(300)))
			return
		}
		n := rnd.IntN(4)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(rnd, v.Index(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(rnd, v.Index(i))
		}
	case reflect.Pointer:
		if rnd.IntN(2) == 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(rnd, v.Elem())
		}
	case reflect.String:
		v.SetString(string(bytes.Repeat([]byte{'x'}, rnd.IntN(200))))
	case reflect.Bool:
		v.SetBool(rnd.IntN(2) == 0)
	case reflect.Uint8:
		v.SetUint(uint64(rnd.Uint32N(256)))
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(rnd.Uint64()) >> (64 - v.Type().Bits()))
	}
}

// Shows that the table of shapes is kmsg's: random messages of every API and
// version are walked to their last byte, and no part of one is taken for whole.
func TestShapesAreThoseOfMessages(t *testing.T) {
	w := newServer(newWorld(newFakeCluster()).config().withDefaults())
	rnd := rand.New(rand.NewPCG(3, 4))
	for key, a := range w.apis {
		if key == int16(kmsg.Produce) {
			continue
		}
		for v := a.min; v <= a.max; v++ {
			for range 30 {
				req := kmsg.RequestForKey(key)
				fill(rnd, reflect.ValueOf(req).Elem())
				req.SetVersion(v)
				body := req.AppendTo(nil)
				walk := shapeWalk{walker: walker{b: body}, version: v, flexible: a.flexible(v)}
				walk.fields(a.shape)
				walk.tagged(a.shape)
				if walk.bad || len(walk.b) != 0 {
					t.Fatalf("%s v%d: bad %v, %d of %d bytes left over", a.name, v, walk.bad, len(walk.b), len(body))
				}
				if cut := rnd.IntN(len(body) + 1); cut < len(body) && a.checkShape(v, body[:cut]) == nil {
					t.Fatalf("%s v%d: %d of %d bytes are taken for whole", a.name, v, cut, len(body))
				}
			}
		}
	}
}

// Shows that a count of tags that the bytes do not pay for is refused at once:
// kmsg alone would count to it.
func TestTagCountsAreNotTrusted(t *testing.T) {
	s := newServer(newWorld(newFakeCluster()).config().withDefaults())
	huge := binary.AppendUvarint(nil, 1<<32-1)
	for name, body := range map[string][]byte{
		"at the end":    append([]byte{0, 0, 0}, huge...),
		"in an element": append([]byte{2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, huge...),
	} {
		begun := time.Now()
		if _, err := s.decode(header{key: int16(kmsg.Metadata), version: 12}, body); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
	}
}
