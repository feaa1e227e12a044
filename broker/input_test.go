package broker

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"tidewater/internal/record"
)

// Shows what clients get for topics that cannot be: each refused by Kafka's
// code, and the broker goes on.
func TestTopicsThatCannotBe(t *testing.T) {
	t.Parallel()
	n := openNode(t, testConfig(t.TempDir()))
	for name, k := range map[string]struct {
		topic    string
		replicas int16
		want     *kerr.Error
	}{
		"bad name":          {"no spaces", 1, kerr.InvalidTopicException},
		"dots only":         {"..", 1, kerr.InvalidTopicException},
		"too many replicas": {"three", 3, kerr.InvalidReplicationFactor},
	} {
		_, err := n.admin.CreateTopic(t.Context(), 1, k.replicas, nil, k.topic)
		if !errors.Is(err, k.want) {
			t.Errorf("%s: %v, want %v", name, err, k.want)
		}
	}
	wantCode(t, "produce to an unknown topic", n.produce("absent", 0, batchOf(t, nil, []byte("v"))).ErrorCode, kerr.UnknownTopicID)
	if _, err := n.read("absent", 0, 0); !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Errorf("read of an unknown topic: %v", err)
	}
	n.topic("t", 1, nil)
	wantCode(t, "produce to an unknown partition", n.produce("t", 5, batchOf(t, nil, []byte("v"))).ErrorCode, kerr.UnknownTopicOrPartition)
	n.fill("t", 0, 0, 1)
}

// Shows that batches which must not be stored are refused by Kafka's codes and
// leave no trace in the log.
func TestBatchesThatAreNotStored(t *testing.T) {
	t.Parallel()
	n := openNode(t, testConfig(t.TempDir()))
	n.topic("t", 1, map[string]string{"max.message.bytes": "1000"})
	corrupt := batchOf(t, nil, []byte("value"))
	corrupt[len(corrupt)-1] ^= 1
	codec := batchOf(t, nil, []byte("value"))
	codec[22] = 7
	codec.SetCRC()
	for name, k := range map[string]struct {
		batch record.Batch
		want  *kerr.Error
	}{
		"a corrupt CRC":      {corrupt, kerr.CorruptMessage},
		"an unknown codec":   {codec, kerr.UnsupportedCompressionType},
		"an oversized batch": {batchOf(t, nil, make([]byte, 2000)), kerr.MessageTooLarge},
	} {
		wantCode(t, name, n.produce("t", 0, k.batch).ErrorCode, k.want)
	}
	n.mustHold("t", 0, 0)
	n.fill("t", 0, 0, 2)
	n.mustHold("t", 0, 2)
}

// Shows that bytes that are no request end their own connection only: an
// unsupported version, half a request, 100 MiB claimed. The wire's own tests
// go through more of them.
func TestBytesThatAreNoRequestDisturbNobody(t *testing.T) {
	t.Parallel()
	n := openNode(t, testConfig(t.TempDir()))
	n.topic("t", 1, nil)
	size := func(n uint32, more ...byte) []byte { return append(binary.BigEndian.AppendUint32(nil, n), more...) }
	open := func() net.Conn {
		c, err := net.Dial("tcp", n.KafkaAddr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	// These wait for more, and are in nobody's way while they do.
	half, claim := open(), open()
	for c, b := range map[net.Conn][]byte{half: size(20, 0, 3, 0, 1, 0, 0, 0, 1), claim: size(100<<20, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0)} {
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	version := open()
	if _, err := version.Write(size(8, 0, 3, 0x7f, 0xff, 0, 0, 0, 1)); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(version); len(got) > 0 || errors.Is(err, net.ErrClosed) {
		t.Errorf("unsupported version is answered with %x, %v", got, err)
	}
	n.fill("t", 0, 0, 5)
	n.mustHold("t", 0, 5)
}
