package cluster

import (
	"encoding/binary"
	"fmt"

	"tidewater/internal/record"
)

// The values of the controller's store and of the metadata snapshot, one per
// key; docs/formats/controller.md. Each value begins with its version, the
// lowest that holds it, so that all replicas store the same bytes; versions from
// 1 to entityVersion are read.
const entityVersionLeast = 2

// Keys are a letter and an id in big-endian bytes, so that the store's order
// is the order of ids.
const (
	keyMeta         = 'm'
	keyBroker       = 'b'
	keyTopic        = 't'
	keyDeletion     = 'd'
	keyKeptTable    = 'k'
	keyBrokerConfig = 'c'
	keySession      = 's'
)

// entity reads the version that a value begins with.
func (c *cursor) entity() {
	if c.version = c.byte(); c.err == nil && (c.version < 1 || c.version > entityVersion) {
		c.fail(fmt.Sprintf("value has version %d, this build reads %d", c.version, entityVersion))
	}
}

func nodeKey(kind byte, node int32) string {
	return string(binary.BigEndian.AppendUint32([]byte{kind}, uint32(node)))
}

func topicKey(kind byte, id record.TopicID) string {
	return string(append([]byte{kind}, id[:]...))
}

func appendMeta(b []byte, v *View) []byte {
	b = append(b, entityVersionLeast)
	b = append(b, v.identity.ClusterID[:]...)
	b = binary.AppendUvarint(b, v.identity.Incarnation)
	b = binary.AppendUvarint(b, uint64(v.applied))
	b = binary.AppendUvarint(b, v.term)
	b = binary.AppendUvarint(b, uint64(v.featureLevel))
	b = binary.AppendVarint(b, v.nextProducerID)
	b = binary.AppendUvarint(b, v.nextReplicaID)
	b = appendBool(b, v.restoring)
	return binary.AppendUvarint(b, v.nextControllerID)
}

func (v *View) decodeMeta(c *cursor) {
	v.identity.ClusterID = c.id()
	v.identity.Incarnation = c.uvarint()
	v.applied = record.Index(c.uvarint())
	v.term = c.uvarint()
	level := c.uvarint()
	if v.featureLevel = uint32(level); uint64(v.featureLevel) != level {
		c.fail("feature level is over 32 bits")
	}
	v.nextProducerID = c.varint()
	v.nextReplicaID = c.uvarint()
	v.restoring = c.bool()
	if v.nextControllerID = 2; c.version >= 2 { // before, there were clusters of one
		v.nextControllerID = c.uvarint()
	}
	if v.nextProducerID < 0 {
		c.fail("next producer id is negative")
	}
}

func appendBroker(b []byte, r *Broker) []byte {
	version := byte(entityVersionLeast)
	if r.Build != "" {
		version = 3
	}
	b = append(b, version)
	b = binary.AppendVarint(b, int64(r.ID))
	b = append(b, r.Boot[:]...)
	b = binary.AppendUvarint(b, r.BootCount)
	b = appendString(b, r.Rack)
	b = appendList(b, r.Listeners, appendListener)
	b = append(b, r.Disk[:]...)
	b = appendString(b, r.RPCAddr)
	for _, n := range []uint64{r.Session, r.Controller, r.ReplicaFloor, uint64(r.FeatureMin), uint64(r.FeatureMax)} {
		b = binary.AppendUvarint(b, n)
	}
	b = binary.AppendVarint(b, r.OfflineSinceMs)
	if b = appendBool(appendBool(appendBool(b, r.Offline), r.Maintenance), r.Draining); version >= 3 {
		b = appendString(b, r.Build)
	}
	return b
}

func decodeBroker(c *cursor) *Broker {
	b := &Broker{ID: c.int32(), Boot: c.id(), BootCount: c.uvarint(), Rack: c.string(), Listeners: list(c, decodeListener)}
	if c.version < 2 {
		// It was a cluster of one, whose controller has replica 1.
		b.Controller, b.FeatureMin, b.FeatureMax = 1, 1, 1
		return b
	}
	b.Disk, b.RPCAddr = c.id(), c.string()
	b.Session, b.Controller, b.ReplicaFloor = c.uvarint(), c.uvarint(), c.uvarint()
	b.FeatureMin, b.FeatureMax = c.featureLevel(), c.featureLevel()
	b.OfflineSinceMs = c.varint()
	b.Offline, b.Maintenance, b.Draining = c.bool(), c.bool(), c.bool()
	if c.version >= 3 {
		b.Build = c.string()
	}
	return b
}

func appendListener(b []byte, l Listener) []byte {
	b = appendString(appendString(b, l.Name), l.Host)
	return binary.AppendVarint(b, int64(l.Port))
}

func decodeListener(c *cursor) Listener {
	return Listener{Name: c.string(), Host: c.string(), Port: c.int32()}
}

func appendTopic(b []byte, t *Topic) []byte {
	b = append(b, entityVersionLeast)
	b = append(b, t.ID[:]...)
	b = appendString(b, t.Name)
	b = appendBool(b, t.Internal)
	b = binary.AppendVarint(b, t.CreatedMs)
	b = binary.AppendUvarint(b, t.ConfigVersion)
	b = appendProps(b, t.Configs)
	return appendList(b, t.Partitions, appendPartition)
}

func decodeTopic(c *cursor) *Topic {
	return &Topic{ID: c.id(), Name: c.string(), Internal: c.bool(), CreatedMs: c.varint(),
		ConfigVersion: c.uvarint(), Configs: c.props(), Partitions: list(c, decodePartition)}
}

func appendPartition(b []byte, p Partition) []byte {
	b = binary.AppendVarint(b, int64(p.Leader))
	b = binary.AppendVarint(b, int64(p.LeaderEpoch))
	b = appendList(b, p.Replicas, func(b []byte, r Replica) []byte {
		return binary.AppendUvarint(binary.AppendVarint(b, int64(r.Node)), r.ID)
	})
	b = appendBool(b, p.Moved)
	if b = appendBool(b, p.Move != nil); p.Move == nil {
		return b
	}
	b = appendList(b, p.Move.Adding, binary.AppendUvarint)
	b = appendList(b, p.Move.Removing, binary.AppendUvarint)
	b = appendList(b, p.Move.Before, binary.AppendUvarint)
	return binary.AppendVarint(appendBool(b, p.Move.Joining), p.Move.StartedMs)
}

func decodePartition(c *cursor) Partition {
	p := Partition{Leader: c.int32(), LeaderEpoch: record.LeaderEpoch(c.int32()),
		Replicas: list(c, func(c *cursor) Replica { return Replica{Node: c.int32(), ID: c.uvarint()} })}
	if c.version < 2 {
		return p
	}
	if p.Moved = c.bool(); c.bool() {
		p.Move = &Move{Adding: list(c, (*cursor).uvarint), Removing: list(c, (*cursor).uvarint),
			Before: list(c, (*cursor).uvarint), Joining: c.bool(), StartedMs: c.varint()}
	}
	return p
}

func appendDeletion(b []byte, d *Deletion) []byte {
	b = append(b, entityVersionLeast)
	b = append(b, d.Topic[:]...)
	b = appendString(b, d.Name)
	b = binary.AppendVarint(b, d.DeletedMs)
	b = binary.AppendVarint(b, int64(d.Partitions))
	b = appendBool(appendBool(appendBool(b, d.KeepObjects), d.KeepTable), d.Tiered)
	return appendString(b, d.Namespace)
}

func decodeDeletion(c *cursor) *Deletion {
	return &Deletion{Topic: c.id(), Name: c.string(), DeletedMs: c.varint(), Partitions: c.int32(),
		KeepObjects: c.bool(), KeepTable: c.bool(), Tiered: c.bool(), Namespace: c.string()}
}

func appendKeptTable(b []byte, k *KeptTable) []byte {
	b = append(b, entityVersionLeast)
	b = append(b, k.Topic[:]...)
	b = appendString(appendString(b, k.Name), k.Namespace)
	return binary.AppendVarint(b, k.DeletedMs)
}

func decodeKeptTable(c *cursor) *KeptTable {
	return &KeptTable{Topic: c.id(), Name: c.string(), Namespace: c.string(), DeletedMs: c.varint()}
}

func appendBrokerConfig(b []byte, node int32, k *brokerConfig) []byte {
	b = append(b, entityVersionLeast)
	b = binary.AppendVarint(b, int64(node))
	b = binary.AppendUvarint(b, k.version)
	return appendProps(b, k.props)
}

func decodeBrokerConfig(c *cursor) (int32, *brokerConfig) {
	node := c.int32()
	return node, &brokerConfig{version: c.uvarint(), props: c.props()}
}

// load puts one stored key and value into an empty or growing view.
func (v *View) load(key string, value []byte) error {
	c := &cursor{b: value}
	if len(key) == 0 {
		return fmt.Errorf("%w: empty key", ErrFormat)
	}
	if c.entity(); c.err != nil {
		return fmt.Errorf("read value of key %q: %w", key, c.err)
	}
	want := ""
	switch key[0] {
	case keyMeta:
		v.decodeMeta(c)
		want = string(byte(keyMeta))
	case keyBroker:
		b := decodeBroker(c)
		v.brokers[b.ID], want = b, nodeKey(keyBroker, b.ID)
	case keyTopic:
		t := decodeTopic(c)
		if v.names[t.Name] != nil {
			c.fail("two topics of one name")
		}
		v.topics[t.ID], v.names[t.Name], want = t, t, topicKey(keyTopic, t.ID)
	case keyDeletion:
		d := decodeDeletion(c)
		v.deletions[d.Topic], want = d, topicKey(keyDeletion, d.Topic)
	case keyKeptTable:
		k := decodeKeptTable(c)
		v.keptTables[k.Topic], want = k, topicKey(keyKeptTable, k.Topic)
	case keyBrokerConfig:
		node, k := decodeBrokerConfig(c)
		v.brokerConfigs[node], want = k, nodeKey(keyBrokerConfig, node)
	case keySession:
		node, k := decodeSession(c)
		v.sessions[node], want = k, nodeKey(keySession, node)
	default:
		return fmt.Errorf("%w: unknown key %q", ErrFormat, key)
	}
	if err := c.end(); err != nil {
		return fmt.Errorf("decode value of key %q: %w", key, err)
	}
	if key != want {
		return fmt.Errorf("%w: value of key %q belongs under %q", ErrFormat, key, want)
	}
	return nil
}

// stored gives the value of a key as it is now, nil if there is none.
func (v *View) stored(key string) []byte {
	rest := key[1:]
	switch key[0] {
	case keyMeta:
		return appendMeta(nil, v)
	case keyBroker, keyBrokerConfig, keySession:
		node := int32(binary.BigEndian.Uint32([]byte(rest)))
		if b := v.brokers[node]; key[0] == keyBroker && b != nil {
			return appendBroker(nil, b)
		}
		if k := v.brokerConfigs[node]; key[0] == keyBrokerConfig && k != nil {
			return appendBrokerConfig(nil, node, k)
		}
		if k := v.sessions[node]; key[0] == keySession && k != nil {
			return appendSession(nil, node, k)
		}
		return nil
	}
	id := record.TopicID([]byte(rest))
	switch key[0] {
	case keyTopic:
		if t := v.topics[id]; t != nil {
			return appendTopic(nil, t)
		}
	case keyDeletion:
		if d := v.deletions[id]; d != nil {
			return appendDeletion(nil, d)
		}
	case keyKeptTable:
		if k := v.keptTables[id]; k != nil {
			return appendKeptTable(nil, k)
		}
	}
	return nil
}
