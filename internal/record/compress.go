package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// DecompressedBytesMax bounds a batch's body when the caller names no bound:
// twice Kafka's largest request (100 MiB), so that a small batch cannot ask
// for all memory.
const DecompressedBytesMax = 200 << 20

// xerialMagic begins the framing that Kafka's Java snappy producers use.
var xerialMagic = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

var (
	zstdEncoder = sync.OnceValues(func() (*zstd.Encoder, error) {
		return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	})
	zstdDecoder = sync.OnceValues(func() (*zstd.Decoder, error) {
		return zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecodeAllCapLimit(true))
	})
)

// Compress appends src, compressed, to dst. An unknown codec is ErrCodec.
func Compress(dst, src []byte, c Codec) ([]byte, error) {
	switch c {
	case None:
		return append(dst, src...), nil
	case Snappy:
		return append(dst, snappy.Encode(nil, src)...), nil
	case Zstd:
		e, err := zstdEncoder()
		if err != nil {
			return nil, fmt.Errorf("make zstd encoder: %w", err)
		}
		return e.EncodeAll(src, dst), nil
	}
	out := bytes.NewBuffer(dst)
	var w io.WriteCloser
	switch c {
	case Gzip:
		w = gzip.NewWriter(out)
	case LZ4:
		w = lz4.NewWriter(out)
	default:
		return nil, fmt.Errorf("%w: %d", ErrCodec, int8(c))
	}
	if _, err := w.Write(src); err != nil {
		return nil, fmt.Errorf("compress %s: %w", c, err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("compress %s: %w", c, err)
	}
	return out.Bytes(), nil
}

// Decompress appends the decompressed src to dst. More than bytesMax (0 is
// DecompressedBytesMax) or a bad stream is ErrCorrupt, an unknown codec ErrCodec.
func Decompress(dst, src []byte, c Codec, bytesMax int) ([]byte, error) {
	if bytesMax == 0 {
		bytesMax = DecompressedBytesMax
	}
	var r io.Reader
	switch c {
	case None:
		return append(dst, src...), nil
	case Snappy:
		return unsnappy(dst, src, bytesMax)
	case Zstd:
		return unzstd(dst, src, bytesMax)
	case Gzip:
		g, err := gzip.NewReader(bytes.NewReader(src))
		if err != nil {
			return dst, fmt.Errorf("%w: gzip: %v", ErrCorrupt, err)
		}
		r = g
	case LZ4:
		r = lz4.NewReader(bytes.NewReader(src))
	default:
		return dst, fmt.Errorf("%w: %d", ErrCodec, int8(c))
	}
	return readBounded(dst, r, c, bytesMax)
}

func readBounded(dst []byte, r io.Reader, c Codec, bytesMax int) ([]byte, error) {
	out := bytes.NewBuffer(dst)
	n, err := io.Copy(out, io.LimitReader(r, int64(bytesMax)+1))
	if err != nil {
		return dst, fmt.Errorf("%w: %s: %v", ErrCorrupt, c, err)
	}
	if n > int64(bytesMax) {
		return dst, tooLarge(c, bytesMax)
	}
	return out.Bytes(), nil
}

// zstdClaimFactor is how much larger than its input a body may claim to be and
// have that room at once; a larger one grows as it is decoded, so that a few
// bytes cannot ask for all memory by their header alone.
const zstdClaimFactor = 64

func unzstd(dst, src []byte, bytesMax int) ([]byte, error) {
	var h zstd.Header
	if err := h.Decode(src); err != nil {
		return dst, fmt.Errorf("%w: zstd: %v", ErrCorrupt, err)
	}
	if h.HasFCS && h.FrameContentSize > uint64(bytesMax) {
		return dst, tooLarge(Zstd, bytesMax)
	}
	if !h.HasFCS || h.FrameContentSize > zstdClaimFactor*uint64(len(src)) {
		return unzstdStream(dst, src, bytesMax)
	}
	d, err := zstdDecoder()
	if err != nil {
		return dst, fmt.Errorf("make zstd decoder: %w", err)
	}
	// The decoder fills the room there is and no more.
	start := len(dst)
	dst = slices.Grow(dst, int(h.FrameContentSize))
	out, err := d.DecodeAll(src, dst[:start:start+int(h.FrameContentSize)])
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) { // more frames follow the first
		return unzstdStream(dst[:start], src, bytesMax)
	}
	if err != nil {
		return dst, fmt.Errorf("%w: zstd: %v", ErrCorrupt, err)
	}
	return out, nil
}

func unzstdStream(dst, src []byte, bytesMax int) ([]byte, error) {
	z, err := zstd.NewReader(bytes.NewReader(src), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(1<<30))
	if err != nil {
		return dst, fmt.Errorf("%w: zstd: %v", ErrCorrupt, err)
	}
	defer z.Close()
	return readBounded(dst, z, Zstd, bytesMax)
}

func unsnappy(dst, src []byte, bytesMax int) ([]byte, error) {
	if !bytes.HasPrefix(src, xerialMagic) {
		return unsnappyBlock(dst, src, bytesMax)
	}
	const header = 16 // magic, version, compatible version
	if len(src) < header {
		return dst, fmt.Errorf("%w: snappy: short framing header", ErrCorrupt)
	}
	start := len(dst)
	for src = src[header:]; len(src) > 0; {
		if len(src) < 4 {
			return dst, fmt.Errorf("%w: snappy: short block length", ErrCorrupt)
		}
		n := int64(binary.BigEndian.Uint32(src))
		if n > int64(len(src)-4) {
			return dst, fmt.Errorf("%w: snappy: block of %d bytes in %d", ErrCorrupt, n, len(src)-4)
		}
		var err error
		if dst, err = unsnappyBlock(dst, src[4:4+n], bytesMax-(len(dst)-start)); err != nil {
			return dst, err
		}
		src = src[4+n:]
	}
	return dst, nil
}

func unsnappyBlock(dst, src []byte, bytesMax int) ([]byte, error) {
	n, err := snappy.DecodedLen(src)
	if err != nil {
		return dst, fmt.Errorf("%w: snappy: %v", ErrCorrupt, err)
	}
	if n > bytesMax {
		return dst, tooLarge(Snappy, bytesMax)
	}
	out, err := snappy.Decode(nil, src)
	if err != nil {
		return dst, fmt.Errorf("%w: snappy: %v", ErrCorrupt, err)
	}
	return append(dst, out...), nil
}

func tooLarge(c Codec, bytesMax int) error {
	return fmt.Errorf("%w: %s body is over %d bytes decompressed", ErrCorrupt, c, bytesMax)
}

// Recompress gives the batch with its records compressed by c, everything else
// as it was. It is done once, on the leader, before the append (topic property
// compression.type).
func (b Batch) Recompress(c Codec) (Batch, error) {
	body := []byte(b[HeaderBytes:])
	if b.Codec() != None {
		var err error
		if body, err = Decompress(nil, body, b.Codec(), 0); err != nil {
			return nil, err
		}
	}
	out := make(Batch, HeaderBytes, HeaderBytes+len(body))
	copy(out, b[:HeaderBytes])
	compressed, err := Compress(out, body, c)
	if err != nil {
		return nil, err
	}
	out = compressed
	binary.BigEndian.PutUint32(out[8:], uint32(len(out)-lengthEnd))
	binary.BigEndian.PutUint16(out[21:], b.attributes()&^attrCodec|uint16(c))
	out.SetCRC()
	return out, nil
}
