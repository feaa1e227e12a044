package verify

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"tidewater/iceberg/schema"
)

// appendArrow appends value i of a in the form of schema.Canonical.
func appendArrow(dst []byte, a arrow.Array, i int) ([]byte, error) {
	if a.IsNull(i) {
		return append(dst, 0), nil
	}
	dst = append(dst, 1)
	u32 := binary.BigEndian.AppendUint32
	u64 := binary.BigEndian.AppendUint64
	switch a := a.(type) {
	case *array.Boolean:
		return schema.AppendBool(dst, a.Value(i)), nil
	case *array.Int32:
		return u32(dst, uint32(a.Value(i))), nil
	case *array.Date32:
		return u32(dst, uint32(a.Value(i))), nil
	case *array.Int64:
		return u64(dst, uint64(a.Value(i))), nil
	case *array.Timestamp:
		return u64(dst, uint64(a.Value(i))), nil
	case *array.Time64:
		return u64(dst, uint64(a.Value(i))), nil
	case *array.Float64:
		return u64(dst, math.Float64bits(a.Value(i))), nil
	case *array.String:
		return schema.AppendBytes(dst, []byte(a.Value(i))), nil
	case *array.LargeString:
		return schema.AppendBytes(dst, []byte(a.Value(i))), nil
	case *array.Binary:
		return schema.AppendBytes(dst, a.Value(i)), nil
	case *array.LargeBinary:
		return schema.AppendBytes(dst, a.Value(i)), nil
	}
	return appendNested(dst, a, i)
}

func appendNested(dst []byte, a arrow.Array, i int) ([]byte, error) {
	var err error
	switch a := a.(type) {
	case *array.Struct:
		for f := range a.NumField() {
			if dst, err = appendArrow(dst, a.Field(f), i); err != nil {
				return dst, err
			}
		}
		return dst, nil
	case *array.Map: // before List: a Map is one
		from, to := a.ValueOffsets(i)
		for e := from; e < to; e++ {
			dst = append(dst, 1)
			if dst, err = appendArrow(dst, a.Keys(), int(e)); err != nil {
				return dst, err
			}
			if dst, err = appendArrow(dst, a.Items(), int(e)); err != nil {
				return dst, err
			}
		}
		return append(dst, 0), nil
	case array.ListLike:
		from, to := a.ValueOffsets(i)
		for e := from; e < to; e++ {
			dst = append(dst, 1)
			if dst, err = appendArrow(dst, a.ListValues(), int(e)); err != nil {
				return dst, err
			}
		}
		return append(dst, 0), nil
	}
	return dst, fmt.Errorf("columns of type %s are not compared", a.DataType())
}
