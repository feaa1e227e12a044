package group

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// The record formats of __consumer_offsets are Kafka's. A key begins with a
// version that says what it is: 0 and 1 an offset commit, 2 a group's
// metadata. A nil value is a tombstone.
const (
	offsetKeyVersion   = 1
	offsetValueVersion = 3
	groupKeyVersion    = 2
	groupValueVersion  = 3
	// The newest versions that are read: 4 is 3 with tagged fields.
	offsetValueVersionMax = 4
	groupValueVersionMax  = 4
)

// errRecord: a record of __consumer_offsets that cannot be read.
var errRecord = errors.New("record of __consumer_offsets is not readable")

// kv is one record to write; a nil value is a tombstone.
type kv struct{ key, value []byte }

// place is a partition of a topic.
type place struct {
	topic     string
	partition int32
}

// offset is one committed offset.
type offset struct {
	offset    int64
	epoch     int32 // -1 for unknown
	metadata  string
	committed int64 // milliseconds since the Unix epoch
	// expires is set by clients that name a retention (OffsetCommit up to v4),
	// else -1.
	expires int64
}

func offsetKey(group string, p place) []byte {
	k := kmsg.OffsetCommitKey{Version: offsetKeyVersion, Group: group, Topic: p.topic, Partition: p.partition}
	return k.AppendTo(nil)
}

func offsetRecord(group string, p place, o offset) kv {
	v := kmsg.OffsetCommitValue{Version: offsetValueVersion, Offset: o.offset, LeaderEpoch: o.epoch,
		Metadata: o.metadata, CommitTimestamp: o.committed}
	if o.expires >= 0 { // only version 1 has a place for it, as in Kafka
		v.Version, v.ExpireTimestamp = 1, o.expires
	}
	return kv{offsetKey(group, p), v.AppendTo(nil)}
}

func groupKey(group string) []byte {
	k := kmsg.GroupMetadataKey{Version: groupKeyVersion, Group: group}
	return k.AppendTo(nil)
}

// groupRecord is the group as it will be with the given assignments, by member.
func groupRecord(g *group, now time.Time, assignments map[string][]byte) kv {
	v := kmsg.GroupMetadataValue{Version: groupValueVersion, ProtocolType: g.protocolType, Generation: g.generation,
		Protocol: g.protocolOrNil(), Leader: g.leaderOrNil(), CurrentStateTimestamp: now.UnixMilli()}
	for _, m := range g.members {
		v.Members = append(v.Members, kmsg.GroupMetadataValueMember{MemberID: m.id, InstanceID: m.instance,
			ClientID: m.client.ID, ClientHost: m.client.Host,
			RebalanceTimeoutMillis: int32(m.rebalance.Milliseconds()), SessionTimeoutMillis: int32(m.session.Milliseconds()),
			Subscription: notNil(m.metadata(g.protocol)), Assignment: notNil(assignments[m.id])})
	}
	return kv{groupKey(g.id), v.AppendTo(nil)}
}

// notNil: Kafka's byte fields of a group's metadata cannot be null.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// decoded is what a record says. Exactly one of offset and meta is set, none
// for a tombstone.
type decoded struct {
	group  string
	isMeta bool
	place  place
	offset *offset
	meta   *kmsg.GroupMetadataValue
}

// decodeRecord reads a record; known is false for keys of versions that this
// build does not serve (Kafka's newer group types), which are left alone.
func decodeRecord(key, value []byte) (d decoded, known bool, err error) {
	if len(key) < 2 {
		return d, false, fmt.Errorf("%w: key of %d bytes", errRecord, len(key))
	}
	switch version := binary.BigEndian.Uint16(key); version {
	case 0, 1:
		d, err = decodeOffset(key, value)
		return d, true, err
	case 2:
		d, err = decodeGroup(key, value)
		return d, true, err
	}
	return d, false, nil
}

func decodeOffset(key, value []byte) (d decoded, err error) {
	var k kmsg.OffsetCommitKey
	if err := k.ReadFrom(key); err != nil {
		return d, fmt.Errorf("%w: offset key: %w", errRecord, err)
	}
	d.group, d.place = k.Group, place{k.Topic, k.Partition}
	if value == nil {
		return d, nil
	}
	if err := valueVersion("offset", value, offsetValueVersionMax); err != nil {
		return d, err
	}
	var v kmsg.OffsetCommitValue
	if err := v.ReadFrom(value); err != nil {
		return d, fmt.Errorf("%w: offset value of group %q: %w", errRecord, d.group, err)
	}
	d.offset = &offset{offset: v.Offset, epoch: -1, metadata: v.Metadata, committed: v.CommitTimestamp, expires: -1}
	if v.Version >= 3 {
		d.offset.epoch = v.LeaderEpoch
	}
	if v.Version == 1 {
		d.offset.expires = v.ExpireTimestamp
	}
	return d, nil
}

func decodeGroup(key, value []byte) (d decoded, err error) {
	var k kmsg.GroupMetadataKey
	if err := k.ReadFrom(key); err != nil {
		return d, fmt.Errorf("%w: group key: %w", errRecord, err)
	}
	d.group, d.isMeta = k.Group, true
	if value == nil {
		return d, nil
	}
	if err := valueVersion("group metadata", value, groupValueVersionMax); err != nil {
		return d, err
	}
	var v kmsg.GroupMetadataValue
	if err := v.ReadFrom(value); err != nil {
		return d, fmt.Errorf("%w: metadata of group %q: %w", errRecord, d.group, err)
	}
	d.meta = &v
	return d, nil
}

func valueVersion(what string, value []byte, newest uint16) error {
	if len(value) < 2 {
		return fmt.Errorf("%w: %s value of %d bytes", errRecord, what, len(value))
	}
	if v := binary.BigEndian.Uint16(value); v > newest {
		return fmt.Errorf("%w: %s value has version %d, this build reads up to %d", errRecord, what, v, newest)
	}
	return nil
}
