package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
)

// Formats: docs/formats/catalog.md.
const (
	tableFormat     = "tidewater.catalog.table"
	namespaceFormat = "tidewater.catalog.namespace"
	recordVersion   = 1
	recordBytesMax  = 1 << 20
	crcMark         = "\ncrc32c "
)

// ErrCorrupt: an object of the catalog is not what was written.
var errCorrupt = errors.New("catalog object is corrupt")

// record is one numbered object: what holds of a name from this number on.
type record struct {
	Format      string `json:"format"`
	Version     int    `json:"version"`
	MinReader   int    `json:"min-reader"`
	Cluster     string `json:"cluster"`
	Incarnation uint64 `json:"incarnation"`
	Tenant      string `json:"tenant"`
	Key         int    `json:"key"`   // id of the encryption key; 0 is clear
	Flags       uint64 `json:"flags"` // none yet
	Number      uint64 `json:"number"`
	// Commit is unique to the write, so that a writer whose reply was lost
	// knows its own object.
	Commit string `json:"commit"`
	// Dropped: the name is free again. The series goes on when it is reused.
	Dropped bool `json:"dropped,omitempty"`

	// Of a table: where its metadata is, and its uuid.
	Metadata string `json:"metadata,omitempty"`
	Table    string `json:"table-uuid,omitempty"`
	// RenamedTo is set with Dropped when the table lives on under another
	// name: the levels of its namespace and the name.
	RenamedTo []string `json:"renamed-to,omitempty"`

	// Of a namespace.
	Properties map[string]string `json:"properties,omitempty"`
}

func (r record) encode() ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode catalog object: %w", err)
	}
	return append(b, fmt.Sprintf("%s%08x\n", crcMark, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))...), nil
}

// decodeRecord reads an object of the given format; others are refused by name.
func decodeRecord(b []byte, format string) (record, error) {
	if len(b) > recordBytesMax {
		return record{}, fmt.Errorf("%w: %d bytes", errCorrupt, len(b))
	}
	i := bytes.LastIndex(b, []byte(crcMark))
	if i < 0 {
		return record{}, fmt.Errorf("%w: no checksum", errCorrupt)
	}
	body, tail := b[:i], b[i+len(crcMark):]
	want, err := strconv.ParseUint(string(bytes.TrimSuffix(tail, []byte("\n"))), 16, 32)
	if got := crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)); err != nil || uint64(got) != want {
		return record{}, fmt.Errorf("%w: checksum is %q, computed %08x", errCorrupt, tail, got)
	}
	var r record
	if err := json.Unmarshal(body, &r); err != nil {
		return record{}, fmt.Errorf("%w: %w", errCorrupt, err)
	}
	switch {
	case r.Format != format:
		return record{}, fmt.Errorf("%w: format is %q, want %q", errCorrupt, r.Format, format)
	case r.MinReader > recordVersion:
		return record{}, fmt.Errorf("catalog object has version %d and needs a reader of version %d; this one reads up to %d", r.Version, r.MinReader, recordVersion)
	case r.Key != 0:
		return record{}, fmt.Errorf("catalog object is encrypted with key %d, which this reader does not have", r.Key)
	case r.Number == 0:
		return record{}, fmt.Errorf("%w: number is 0", errCorrupt)
	}
	return r, nil
}
