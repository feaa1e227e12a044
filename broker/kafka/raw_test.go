package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// rawConn speaks bytes.
type rawConn struct {
	t *testing.T
	net.Conn
}

func (w *world) dial(t *testing.T) rawConn {
	t.Helper()
	c, err := net.Dial("tcp", w.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return rawConn{t, c}
}

func (c rawConn) send(b []byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// frameOf makes a whole framed request.
func frameOf(correlation int32, req kmsg.Request) []byte {
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("raw")).AppendRequest(nil, req, correlation)
}

// answer reads a frame and decodes it as the answer to req.
func (c rawConn) answer(correlation int32, req kmsg.Request) kmsg.Response {
	c.t.Helper()
	body := c.frame()
	if got := int32(binary.BigEndian.Uint32(body)); got != correlation {
		c.t.Fatalf("answer to request %d, want %d", got, correlation)
	}
	body = body[4:]
	resp := req.ResponseKind()
	if resp.IsFlexible() && resp.Key() != int16(kmsg.ApiVersions) {
		body = body[1:]
	}
	if err := resp.ReadFrom(body); err != nil {
		c.t.Fatalf("decode answer to %T v%d: %v", req, req.GetVersion(), err)
	}
	if again := resp.AppendTo(nil); !bytes.Equal(again, body) {
		c.t.Fatalf("answer to %T v%d has other bytes than kmsg's:\n%x\n%x", req, req.GetVersion(), body, again)
	}
	return resp
}

func (c rawConn) frame() []byte {
	c.t.Helper()
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		c.t.Fatalf("read answer: %v", err)
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c, body); err != nil {
		c.t.Fatalf("read answer: %v", err)
	}
	return body
}

// closed says that the server ends the connection without an answer.
func (c rawConn) closed() {
	c.t.Helper()
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, errTimeout(err)) {
		c.t.Fatalf("connection is not closed: %d bytes, %v", n, err)
	}
}

// errTimeout gives err back if it is a timeout.
func errTimeout(err error) error {
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return err
	}
	return errors.New("no timeout")
}

func batchOf(t testing.TB, n int, codec record.Codec) record.Batch {
	t.Helper()
	b := record.Builder{Codec: codec}
	for i := range n {
		b.Add(1000+int64(i), nil, fmt.Appendf(nil, "value %d", i))
	}
	out, err := b.Build(0)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func produceOf(version int16, topic string, id record.TopicID, partition int32, acks int16, records []byte) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = version, acks, 5000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = topic, id
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = partition, records
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	return req
}

func fetchOf(version int16, topic string, id record.TopicID, offset int64) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.ReplicaID = version, 0, 1, 1<<20, -1
	req.SessionEpoch = -1
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID = topic, id
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.FetchOffset, rp.PartitionMaxBytes = offset, 1<<20
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	return req
}

// Shows Produce and Fetch in every version, byte for byte as kmsg encodes them,
// and that the batch fetched is the batch produced but for its stamps.
func TestProduceAndFetchInEveryVersion(t *testing.T) {
	w := open(t, nil)
	topic := w.topic(t, "t", 1)
	w.cluster.log("t", 0).with(func(l *fakeLog) { l.aborted = []logio.AbortedTxn{{ProducerID: 9, FirstOffset: 3, LastOffset: 5}} })
	c := w.dial(t)
	sent := batchOf(t, 5, record.Snappy)
	for v := int16(3); v <= 13; v++ {
		req := produceOf(v, "t", topic.ID, 0, -1, sent)
		c.send(frameOf(int32(v), req))
		p := c.answer(int32(v), req).(*kmsg.ProduceResponse).Topics[0].Partitions[0]
		if p.ErrorCode != 0 || p.BaseOffset != int64(v-3)*5 {
			t.Errorf("Produce v%d: %+v", v, p)
		}
	}
	for v := int16(4); v <= 18; v++ {
		for _, committed := range []int8{0, 1} {
			req := fetchOf(v, "t", topic.ID, 7)
			req.IsolationLevel = committed
			c.send(frameOf(int32(v), req))
			p := c.answer(int32(v), req).(*kmsg.FetchResponse).Topics[0].Partitions[0]
			b, _, err := record.Next(p.RecordBatches)
			if err != nil || b.BaseOffset() != 5 || b.Epoch() != 7 || !bytes.Equal(b[16:], sent[16:]) {
				t.Errorf("Fetch v%d: %v, batch at %d", v, err, b.BaseOffset())
			}
			if len(p.AbortedTransactions) != int(committed) || p.HighWatermark != 55 || p.PreferredReadReplica != -1 {
				t.Errorf("Fetch v%d isolation %d: %+v", v, committed, p)
			}
		}
	}
}

// Shows that Produce before v3, which is advertised, is refused in its own form.
func TestProduceBeforeV3IsRefused(t *testing.T) {
	w := open(t, nil)
	w.topic(t, "t", 1)
	c := w.dial(t)
	for v := int16(0); v <= 2; v++ {
		req := produceOf(v, "t", record.TopicID{}, 0, 1, batchOf(t, 1, record.None))
		c.send(frameOf(1, req))
		if p := c.answer(1, req).(*kmsg.ProduceResponse).Topics[0].Partitions[0]; p.ErrorCode != kerr.UnsupportedVersion.Code {
			t.Errorf("v%d: %+v", v, p)
		}
	}
}

// Shows the code and the sentence for each kind of bad records.
func TestBadRecordsAreRefused(t *testing.T) {
	w := open(t, nil)
	w.topic(t, "t", 1)
	w.topic(t, "__consumer_offsets", 1)
	w.cluster.log("t", 0).with(func(l *fakeLog) { l.bytesMax = 500 })
	good := func() record.Batch { return batchOf(t, 2, record.None) }
	change := func(at int, to byte) []byte {
		b := good()
		b[at] = to
		b.SetCRC()
		return b
	}
	corrupt := good()
	corrupt[len(corrupt)-1] ^= 1
	control := record.Builder{Control: true}
	control.Add(1, nil, nil)
	controlBatch, _ := control.Build(0)
	txn := record.Builder{Transactional: true, Producer: &record.Producer{ID: 1}}
	txn.Add(1, nil, nil)
	txnBatch, _ := txn.Build(0)
	c := w.dial(t)
	for name, k := range map[string]struct {
		records []byte
		want    *kerr.Error
		version int16
		topic   string
	}{
		"CRC":             {corrupt, kerr.CorruptMessage, 9, "t"},
		"cut short":       {good()[:70], kerr.CorruptMessage, 9, "t"},
		"shorter":         {good()[:20], kerr.CorruptMessage, 9, "t"},
		"magic 1":         {change(16, 1), kerr.UnsupportedForMessageFormat, 9, "t"},
		"codec 7":         {change(22, 7), kerr.UnsupportedCompressionType, 9, "t"},
		"zstd before v7":  {batchOf(t, 1, record.Zstd), kerr.UnsupportedCompressionType, 6, "t"},
		"no batch":        {nil, kerr.InvalidRecord, 9, "t"},
		"two batches":     {append(good(), good()...), kerr.InvalidRecord, 9, "t"},
		"count":           {change(60, 1), kerr.InvalidRecord, 9, "t"},
		"control":         {controlBatch, kerr.InvalidRecord, 9, "t"},
		"transaction":     {txnBatch, kerr.InvalidTxnState, 9, "t"},
		"too large":       {batchOf(t, 100, record.None), kerr.MessageTooLarge, 9, "t"},
		"unknown topic":   {good(), kerr.UnknownTopicOrPartition, 9, "absent"},
		"unknown id":      {good(), kerr.UnknownTopicID, 13, ""},
		"internal topic":  {good(), kerr.InvalidTopicException, 9, "__consumer_offsets"},
		"acks of 2 nodes": {good(), kerr.InvalidRequiredAcks, 10, "t"},
	} {
		req := produceOf(k.version, k.topic, record.TopicID{99}, 0, -1, k.records)
		if k.want == kerr.InvalidRequiredAcks {
			req.Acks = 2
		}
		c.send(frameOf(1, req))
		p := c.answer(1, req).(*kmsg.ProduceResponse).Topics[0].Partitions[0]
		if p.ErrorCode != k.want.Code || k.version >= 8 && (p.ErrorMessage == nil || *p.ErrorMessage == "") {
			t.Errorf("%s: %v with message %v, want %v", name, kerr.ErrorForCode(p.ErrorCode), p.ErrorMessage, k.want)
		}
	}
	if o, _ := w.cluster.log("t", 0).Offsets(); o.LogEnd != 0 {
		t.Errorf("log end is %d after refusals only", o.LogEnd)
	}
}

// Shows that bytes that are no request close the connection, without an answer
// and without memory for what they claim, and that the log names the client
// once.
func TestBytesThatAreNoRequest(t *testing.T) {
	w := open(t, func(c *Config) { c.HalfTimeout = 50 * time.Millisecond })
	size := func(n uint32, more ...byte) []byte { return append(binary.BigEndian.AppendUint32(nil, n), more...) }
	for name, b := range map[string][]byte{
		"zero length":                 size(0),
		"negative length":             size(0xffffffff),
		"shorter than a header":       size(7, 0, 3, 0, 1),
		"over 100 MiB":                size(100<<20+1, 0, 0, 0, 3),
		"HTTP":                        []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"TLS":                         {0x16, 3, 1, 2, 0, 1, 0},
		"unknown API":                 size(100<<20, 0x03, 0xe7, 0, 0),
		"negative API":                size(16, 0xff, 0xff, 0, 0),
		"large claim of a small API":  size(100<<20, 0, 3, 0, 1),
		"unsupported version":         size(8, 0, 3, 0x7f, 0xff, 0, 0, 0, 1),
		"half a length":               {0, 0},
		"half a header":               size(20, 0, 3),
		"half a request":              size(20, 0, 3, 0, 1, 0, 0, 0, 1),
		"client id longer than frame": size(10, 0, 3, 0, 1, 0, 0, 0, 1, 0x10, 0),
		"produce of nothing":          size(10, 0, 0, 0, 9, 0, 0, 0, 1, 0xff, 0xff),
		"body cut short":              size(14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 1, 0),
	} {
		t.Run(name, func(t *testing.T) {
			c := w.dial(t)
			c.send(b)
			c.closed()
		})
	}
	if n := strings.Count(w.logged.String(), "closed connection"); n != 1 {
		t.Errorf("client is named %d times in the log:\n%s", n, w.logged)
	}
	until(t, "all are counted", func() bool { return w.Stats().Malformed >= 16 })
}

// Shows that 100 MiB claimed by many clients cost no memory before they come.
func TestClaimedLengthTakesNoMemory(t *testing.T) {
	w := open(t, nil)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 20 {
		c := w.dial(t)
		c.send(append(binary.BigEndian.AppendUint32(nil, 100<<20), 0, 0, 0, 9, 0, 0, 0, 1, 0, 0))
	}
	until(t, "all have begun", func() bool {
		return w.Stats().RequestBytes == 0 && w.Stats().BytesIn >= 0 && w.Stats().Connections == 20
	})
	runtime.ReadMemStats(&after)
	if grown := int64(after.TotalAlloc - before.TotalAlloc); grown > 20<<20 {
		t.Errorf("20 claims of 100 MiB took %d MiB", grown>>20)
	}
	w.cutAll()
}

// Shows that a request of many small pieces and one far larger than the first
// step arrive whole, and that memory is given back.
func TestRequestsArriveInPieces(t *testing.T) {
	w := open(t, nil)
	topic := w.topic(t, "t", 1)
	c := w.dial(t)
	small := produceOf(9, "t", topic.ID, 0, -1, batchOf(t, 3, record.None))
	for _, b := range frameOf(1, small) {
		c.send([]byte{b})
	}
	c.answer(1, small)
	b := record.Builder{}
	noise := make([]byte, 5<<20)
	for i := range noise {
		noise[i] = byte(i * i >> 8)
	}
	b.Add(1, nil, noise)
	large, _ := b.Build(0)
	req := produceOf(9, "t", topic.ID, 0, -1, large)
	c.send(frameOf(2, req))
	if p := c.answer(2, req).(*kmsg.ProduceResponse).Topics[0].Partitions[0]; p.ErrorCode != 0 {
		t.Fatal(p)
	}
	w.cluster.log("t", 0).with(func(l *fakeLog) {
		if !bytes.Equal(l.batches[1][16:], large[16:]) {
			t.Error("large batch has other bytes")
		}
	})
}

// Shows that ApiVersions is answered in v0 whatever is asked, that the same
// connection goes on, and that nothing is advertised that kmsg cannot read.
func TestApiVersions(t *testing.T) {
	w := open(t, nil)
	c := w.dial(t)
	high := kmsg.NewPtrApiVersionsRequest()
	high.Version = 5
	c.send(frameOf(1, high))
	v0 := kmsg.NewPtrApiVersionsRequest()
	resp := c.answer(1, v0).(*kmsg.ApiVersionsResponse)
	if resp.ErrorCode != kerr.UnsupportedVersion.Code || len(resp.ApiKeys) != 1 || resp.ApiKeys[0].MaxVersion != 4 {
		t.Errorf("too high a version: %+v", resp)
	}
	for v := int16(0); v <= 4; v++ {
		req := kmsg.NewPtrApiVersionsRequest()
		req.Version, req.ClientSoftwareName, req.ClientSoftwareVersion = v, "raw", "1.0"
		c.send(frameOf(2, req))
		resp := c.answer(2, req).(*kmsg.ApiVersionsResponse)
		if resp.ErrorCode != 0 || len(resp.ApiKeys) != len(w.apis) {
			t.Errorf("v%d: %+v", v, resp)
		}
	}
	for key, a := range w.apis {
		if m := kmsg.RequestForKey(key); m == nil || a.max > m.MaxVersion() || a.min > a.max {
			t.Errorf("%s v%d-v%d cannot be read", a.name, a.min, a.max)
		}
		if a.handle == nil && key != int16(kmsg.Produce) && key != int16(kmsg.Fetch) {
			t.Errorf("%s has no handler", a.name)
		}
	}
	bad := kmsg.NewPtrApiVersionsRequest()
	bad.Version, bad.ClientSoftwareName, bad.ClientSoftwareVersion = 3, "no spaces please", "-"
	c.send(frameOf(3, bad))
	if resp := c.answer(3, bad).(*kmsg.ApiVersionsResponse); resp.ErrorCode != kerr.InvalidRequest.Code {
		t.Errorf("bad software name: %+v", resp)
	}
}
