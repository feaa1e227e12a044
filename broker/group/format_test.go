package group

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/internal/record"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The records are Kafka's bytes, put together by hand from the fields of
// OffsetCommitKey 1, OffsetCommitValue 3 and 1, GroupMetadataKey 2 and
// GroupMetadataValue 3.
func TestRecordsAreKafkas(t *testing.T) {
	instance := "i"
	g := newGroup("g", time.UnixMilli(0))
	g.protocolType, g.protocol, g.generation = "consumer", "range", 5
	m := &member{id: "m", instance: &instance, client: Client{"c", "/h"}, session: 10 * time.Second, rebalance: time.Minute,
		protocols: []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte{1, 2}}}}
	g.add(m)
	gone := newGroup("g", time.UnixMilli(0))
	gone.protocolType, gone.generation = "consumer", 6
	p := place{"t", 3}
	now := time.UnixMilli(0x0102)
	for name, c := range map[string]struct {
		got        kv
		key, value string
	}{
		"offset": {offsetRecord("g", p, offset{offset: 7, epoch: 4, metadata: "md", committed: 258, expires: -1}),
			"0001 0001 67 0001 74 00000003",
			"0003 0000000000000007 00000004 0002 6d64 0000000000000102"},
		"offset that expires": {offsetRecord("g", p, offset{offset: 7, epoch: 4, metadata: "", committed: 258, expires: 259}),
			"0001 0001 67 0001 74 00000003",
			"0001 0000000000000007 0000 0000000000000102 0000000000000103"},
		"group": {groupRecord(g, now, map[string][]byte{"m": {9}}),
			"0002 0001 67",
			"0003 0008 636f6e73756d6572 00000005 0005 72616e6765 0001 6d 0000000000000102 00000001" +
				"0001 6d 0001 69 0001 63 0002 2f68 0000ea60 00002710 00000002 0102 00000001 09"},
		"empty group": {groupRecord(gone, now, nil),
			"0002 0001 67",
			"0003 0008 636f6e73756d6572 00000006 ffff ffff 0000000000000102 00000000"},
	} {
		if !bytes.Equal(c.got.key, unhex(t, c.key)) || !bytes.Equal(c.got.value, unhex(t, c.value)) {
			t.Errorf("%s:\n%x\n%x", name, c.got.key, c.got.value)
		}
		if d, known, err := decodeRecord(c.got.key, c.got.value); err != nil || !known || d.group != "g" {
			t.Errorf("%s: decode: %+v %v %v", name, d, known, err)
		}
		if d, _, err := decodeRecord(c.got.key, nil); err != nil || d.meta != nil || d.offset != nil {
			t.Errorf("%s: tombstone: %+v %v", name, d, err)
		}
	}
}

// Values of newer versions are refused, not guessed; keys of other kinds of
// groups are left alone; version 4 is read.
func TestOtherVersions(t *testing.T) {
	key := offsetKey("g", place{"t", 0})
	for _, k := range [][]byte{key, groupKey("g")} {
		if _, _, err := decodeRecord(k, []byte{0, 5, 0, 0, 0, 0}); !errors.Is(err, errRecord) {
			t.Errorf("value version 5: %v", err)
		}
		if _, _, err := decodeRecord(k, []byte{0}); !errors.Is(err, errRecord) {
			t.Errorf("value of one byte: %v", err)
		}
	}
	if _, known, err := decodeRecord([]byte{0, 3, 0, 1, 'g'}, nil); known || err != nil {
		t.Errorf("key version 3: %v %v", known, err)
	}
	v := kmsg.NewOffsetCommitValue()
	v.Version, v.Offset, v.LeaderEpoch, v.TopicID = 4, 9, 2, [16]byte{1}
	d, _, err := decodeRecord(key, v.AppendTo(nil))
	if err != nil || d.offset.offset != 9 || d.offset.epoch != 2 {
		t.Errorf("value version 4: %+v %v", d.offset, err)
	}
}

// Known values of Java's String.hashCode: one whose absolute value does not
// exist, negative ones, and text outside ASCII and the basic plane.
func TestPartition(t *testing.T) {
	for group, want := range map[string]int32{
		"hello":              99162322 % 50,
		"polygenelubricants": 0, // hash -2147483648
		"":                   0, // hash 0
		"consumer-group":     partitionOf(t, "consumer-group"),
		"\u00e4\U0001f600":   partitionOf(t, "\u00e4\U0001f600"),
	} {
		if got := Partition(group, 50); got != want {
			t.Errorf("%q: %d, want %d", group, got, want)
		}
	}
}

// partitionOf reckons with wide numbers over UTF-16 units given by hand.
func partitionOf(t *testing.T, s string) int32 {
	units := map[string][]int64{"\u00e4\U0001f600": {0xe4, 0xd83d, 0xde00}}[s]
	if units == nil {
		for _, c := range []byte(s) {
			units = append(units, int64(c))
		}
	}
	var h int64
	for _, u := range units {
		h = (31*h + u) & 0xffffffff
	}
	if h >= 1<<31 {
		h = 1<<32 - h
	}
	return int32(h % 50)
}

func FuzzDecodeRecord(f *testing.F) {
	o := offsetRecord("g", place{"t", 1}, offset{offset: 7, epoch: 1, metadata: "m", committed: 5, expires: -1})
	f.Add(o.key, o.value)
	g := newGroup("g", time.UnixMilli(0))
	g.add(&member{id: "m"})
	m := groupRecord(g, time.UnixMilli(5), nil)
	f.Add(m.key, m.value)
	f.Add(m.key, []byte(nil))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		d, known, err := decodeRecord(key, value)
		if err != nil && !errors.Is(err, errRecord) {
			t.Fatalf("error is not errRecord: %v", err)
		}
		if err != nil || !known {
			return
		}
		// What can be read can be loaded: no member list, however odd, panics.
		var l loader
		var b record.Builder
		b.Add(0, key, value)
		batch, err := b.Build(0)
		if err != nil {
			t.Fatal(err)
		}
		var r record.Reader
		if err := l.take(&r, batch); err != nil {
			t.Fatal(err)
		}
		c := &core{cfg: &Config{}, groups: map[string]*group{}, loading: true, load: l}
		c.cfg.fill()
		c.loaded(time.UnixMilli(0))
		c.step(time.UnixMilli(1 << 40))
		if d.offset != nil && c.groups[d.group] != nil && len(c.groups[d.group].members) > 0 {
			t.Fatal("an offset made a member")
		}
	})
}
