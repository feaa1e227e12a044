package s3

import (
	"bufio"
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// chunkLineBytesMax bounds a chunk's header and a trailer's line.
const chunkLineBytesMax = 4 << 10

// crc64NVME is the polynomial of x-amz-checksum-crc64nvme, reversed.
const crc64NVME = 0x9a6c9329ac4bc9b5

// sum is a checksum the client gave or will give in a trailer.
type sum struct {
	hash hash.Hash
	want []byte // nil: not known yet
	code string // what is answered when it does not match
}

// verified reads a request's body and compares every checksum the client gave
// when it ends. A mismatch is an error instead of io.EOF.
type verified struct {
	r       io.Reader
	sums    map[string]*sum
	trailer http.Header // filled by r when it ends; nil without one
}

// newBody gives the bytes a request carries, decoded and to be verified.
func newBody(r *http.Request) (*verified, error) {
	v := &verified{r: r.Body, sums: map[string]*sum{}}
	payload := r.Header.Get("X-Amz-Content-Sha256")
	switch {
	case strings.HasPrefix(payload, "STREAMING-"):
		v.trailer = http.Header{}
		v.r = &chunks{r: bufio.NewReaderSize(r.Body, 64<<10), trailer: v.trailer}
		if name := r.Header.Get("X-Amz-Trailer"); name != "" {
			v.expect(strings.ToLower(strings.TrimSpace(name)), "")
		}
	case len(payload) == hex.EncodedLen(sha256.Size):
		want, err := hex.DecodeString(payload)
		if err != nil {
			return nil, invalid("InvalidDigest", "x-amz-content-sha256 is not a hex digest.")
		}
		v.sums["payload"] = &sum{sha256.New(), want, "XAmzContentSHA256Mismatch"}
	}
	for _, name := range []string{"content-md5", "x-amz-checksum-crc32", "x-amz-checksum-crc32c",
		"x-amz-checksum-crc64nvme", "x-amz-checksum-sha1", "x-amz-checksum-sha256"} {
		if value := r.Header.Get(name); value != "" {
			v.expect(name, value)
		}
	}
	return v, nil
}

// expect adds a checksum by its header's name; unknown kinds are let pass.
func (v *verified) expect(name, value string) {
	var h hash.Hash
	switch name {
	case "content-md5":
		h = md5.New()
	case "x-amz-checksum-crc32":
		h = crc32.NewIEEE()
	case "x-amz-checksum-crc32c":
		h = crc32.New(crc32.MakeTable(crc32.Castagnoli))
	case "x-amz-checksum-crc64nvme":
		h = crc64.New(crc64.MakeTable(crc64NVME))
	case "x-amz-checksum-sha1":
		h = sha1.New()
	case "x-amz-checksum-sha256":
		h = sha256.New()
	default:
		return
	}
	s := &sum{hash: h, code: "BadDigest"}
	if value != "" {
		s.want = decodeSum(value)
	}
	v.sums[name] = s
}

// decodeSum gives the bytes of a base64 checksum; one that cannot be read is
// empty and so matches nothing.
func decodeSum(value string) []byte {
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(value))
	if err != nil || b == nil {
		return []byte{}
	}
	return b
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	for _, s := range v.sums {
		s.hash.Write(p[:n])
	}
	if err != io.EOF {
		return n, err
	}
	for name, s := range v.sums {
		if s.want == nil {
			s.want = decodeSum(v.trailer.Get(name))
		}
		if !bytes.Equal(s.hash.Sum(nil), s.want) {
			return n, invalid(s.code, "The checksum "+name+" does not match the body.")
		}
	}
	return n, io.EOF
}

// chunks decodes aws-chunked: SIZE[;chunk-signature=…]CRLF DATA CRLF …, a
// chunk of size 0, trailer lines, an empty line.
type chunks struct {
	r       *bufio.Reader
	left    int64 // of the current chunk
	begun   bool
	done    bool
	trailer http.Header
}

func (c *chunks) Read(p []byte) (int, error) {
	if c.done {
		return 0, io.EOF
	}
	if c.left == 0 {
		if err := c.next(); err != nil {
			return 0, err
		}
		if c.done {
			return 0, io.EOF
		}
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (c *chunks) line() (string, error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil || len(line) > chunkLineBytesMax {
		return "", invalid("IncompleteBody", "The body is not whole, or not in chunks as announced.")
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}

// next reads a chunk's header, and behind the last chunk the trailer.
func (c *chunks) next() error {
	if c.begun { // the line break behind the data
		if line, err := c.line(); err != nil || line != "" {
			return invalid("IncompleteBody", "A chunk is longer than announced.")
		}
	}
	c.begun = true
	line, err := c.line()
	if err != nil {
		return err
	}
	digits, _, _ := strings.Cut(line, ";")
	size, err := strconv.ParseInt(digits, 16, 64)
	if err != nil || size < 0 {
		return invalid("IncompleteBody", "A chunk has no valid size.")
	}
	if c.left = size; size > 0 {
		return nil
	}
	c.done = true
	for {
		line, err := c.line()
		if err != nil || line == "" {
			return nil // some clients leave out the last empty line
		}
		if name, value, ok := strings.Cut(line, ":"); ok {
			c.trailer.Set(name, value)
		}
	}
}
