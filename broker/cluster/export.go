package cluster

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
)

// The header of the metadata snapshot; docs/formats/cluster-metadata.md.
const (
	metadataMagic         = "TWCM"
	metadataVersion       = 1
	metadataReaderVersion = 1
	metadataTenant        = "default"
)

// Export gives the whole metadata as one blob for the bucket.
func (v *View) Export() []byte {
	b := append([]byte(nil), metadataMagic...)
	b = binary.BigEndian.AppendUint16(b, metadataVersion)
	b = binary.BigEndian.AppendUint16(b, metadataReaderVersion)
	b = append(b, v.identity.ClusterID[:]...)
	b = binary.BigEndian.AppendUint64(b, v.identity.Incarnation)
	b = appendString(b, metadataTenant)
	b = binary.BigEndian.AppendUint64(b, 0) // key id: clear
	b = binary.BigEndian.AppendUint32(b, 0) // flags
	keys := v.keys()
	b = binary.AppendUvarint(b, uint64(len(keys)))
	for _, k := range keys {
		b = appendString(b, k)
		b = appendString(b, string(v.stored(k)))
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// keys lists every key that has a value, sorted.
func (v *View) keys() []string {
	keys := []string{string(byte(keyMeta))}
	for id := range maps.Keys(v.brokers) {
		keys = append(keys, nodeKey(keyBroker, id))
	}
	for id := range maps.Keys(v.topics) {
		keys = append(keys, topicKey(keyTopic, id))
	}
	for id := range maps.Keys(v.deletions) {
		keys = append(keys, topicKey(keyDeletion, id))
	}
	for id := range maps.Keys(v.keptTables) {
		keys = append(keys, topicKey(keyKeptTable, id))
	}
	for node := range maps.Keys(v.brokerConfigs) {
		keys = append(keys, nodeKey(keyBrokerConfig, node))
	}
	for node := range maps.Keys(v.sessions) {
		keys = append(keys, nodeKey(keySession, node))
	}
	slices.Sort(keys)
	return keys
}

// DecodeView reads what Export wrote. The error is ErrFormat.
func DecodeView(b []byte) (*View, error) {
	const fixed = 4 + 2 + 2 + 16 + 8
	if len(b) < fixed+4 || string(b[:4]) != metadataMagic {
		return nil, fmt.Errorf("%w: not a cluster metadata snapshot", ErrFormat)
	}
	if version, reader := binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:]); version < 1 || reader > metadataVersion {
		return nil, fmt.Errorf("%w: cluster metadata snapshot has version %d for readers from %d on, this build reads %d",
			ErrFormat, version, reader, metadataVersion)
	}
	body, sum := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if got := crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)); got != sum {
		return nil, fmt.Errorf("%w: cluster metadata snapshot: CRC-32C is %08x, trailer says %08x", ErrFormat, got, sum)
	}
	header := Identity{ClusterID: [16]byte(b[8:24]), Incarnation: binary.BigEndian.Uint64(b[24:])}
	c := &cursor{b: body[fixed:]}
	tenant := c.string()
	var rest [12]byte
	if len(c.b) < len(rest) {
		return nil, fmt.Errorf("%w: cluster metadata snapshot: header is cut short", ErrFormat)
	}
	copy(rest[:], c.b)
	c.b = c.b[len(rest):]
	if tenant != metadataTenant || rest != [12]byte{} {
		return nil, fmt.Errorf("%w: cluster metadata snapshot: tenant %q, key id and flags %x are not known to this build", ErrFormat, tenant, rest)
	}
	v, err := decodePairs(c)
	if err != nil {
		return nil, fmt.Errorf("decode cluster metadata snapshot: %w", err)
	}
	if v.identity != header {
		return nil, fmt.Errorf("%w: cluster metadata snapshot: header and body name different clusters", ErrFormat)
	}
	return v, nil
}

func decodePairs(c *cursor) (*View, error) {
	v := emptyView()
	last, counters := "", false
	for range c.count() {
		key, value := c.string(), c.bytes()
		if c.err != nil {
			return nil, c.err
		}
		if key <= last {
			return nil, fmt.Errorf("%w: keys are not sorted", ErrFormat)
		}
		if err := v.load(key, value); err != nil {
			return nil, err
		}
		last, counters = key, counters || key[0] == keyMeta
	}
	if !counters {
		return nil, fmt.Errorf("%w: identity and counters are missing", ErrFormat)
	}
	return &v, c.end()
}
