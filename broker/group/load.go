package group

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/internal/record"
)

// loader rebuilds a core from the records of its partition, oldest first. The
// newest record of a key wins.
type loader struct {
	offsets map[string]map[place]offset
	meta    map[string]*kmsg.GroupMetadataValue
	// open are the offsets of transactions without a marker yet, by producer.
	open map[int64][]decoded
}

// take reads one batch of the log.
func (l *loader) take(r *record.Reader, b record.Batch) error {
	if l.offsets == nil {
		l.offsets, l.meta, l.open = map[string]map[place]offset{}, map[string]*kmsg.GroupMetadataValue{}, map[int64][]decoded{}
	}
	if err := r.Reset(b, 0); err != nil {
		return err
	}
	for r.Next() {
		rec := r.Record()
		if b.Control() {
			l.marker(b.ProducerID(), rec.Key)
			continue
		}
		d, known, err := decodeRecord(rec.Key, rec.Value)
		if err != nil {
			return fmt.Errorf("offset %d: %w", rec.Offset, err)
		}
		switch {
		case !known:
		case b.Transactional():
			l.open[b.ProducerID()] = append(l.open[b.ProducerID()], d)
		default:
			l.put(d)
		}
	}
	return r.Err()
}

// marker ends a transaction: its offsets count from here if it committed.
func (l *loader) marker(producer int64, key []byte) {
	const commit = 1 // a control record's key is version and type, 16 bits each
	if len(key) >= 4 && binary.BigEndian.Uint16(key[2:]) == commit {
		for _, d := range l.open[producer] {
			l.put(d)
		}
	}
	delete(l.open, producer)
}

func (l *loader) put(d decoded) {
	switch {
	case d.isMeta && d.meta == nil:
		delete(l.meta, d.group)
	case d.isMeta:
		l.meta[d.group] = d.meta
	case d.offset == nil:
		delete(l.offsets[d.group], d.place)
	default:
		if l.offsets[d.group] == nil {
			l.offsets[d.group] = map[place]offset{}
		}
		l.offsets[d.group][d.place] = *d.offset
	}
}

// loaded makes the groups of what was read and begins to serve. Members get a
// whole session to show themselves.
func (c *core) loaded(now time.Time) {
	l := c.load
	c.load, c.loading = loader{}, false
	for id, offsets := range l.offsets { // each group by itself: the order shows nowhere
		if len(offsets) > 0 {
			g := newGroup(id, now)
			g.offsets = offsets
			c.groups[id] = g
		}
	}
	for _, id := range slices.Sorted(maps.Keys(l.meta)) {
		g := c.groups[id]
		if g == nil {
			g = newGroup(id, now)
			c.groups[id] = g
		}
		c.restore(g, now, l.meta[id])
	}
}

func (c *core) restore(g *group, now time.Time, v *kmsg.GroupMetadataValue) {
	g.protocolType, g.generation = v.ProtocolType, v.Generation
	if v.Version >= 2 && v.CurrentStateTimestamp >= 0 {
		g.since = time.UnixMilli(v.CurrentStateTimestamp)
	}
	if len(v.Members) == 0 {
		return
	}
	g.state = stable
	if v.Protocol != nil {
		g.protocol = *v.Protocol
	}
	for _, m := range v.Members {
		session := time.Duration(m.SessionTimeoutMillis) * time.Millisecond
		n := &member{id: m.MemberID, instance: m.InstanceID, client: Client{ID: m.ClientID, Host: m.ClientHost},
			session: session, rebalance: time.Duration(m.RebalanceTimeoutMillis) * time.Millisecond,
			protocols:  []kmsg.JoinGroupRequestProtocol{{Name: g.protocol, Metadata: m.Subscription}},
			assignment: m.Assignment}
		if n.rebalance <= 0 {
			n.rebalance = session
		}
		g.add(n)
		c.alive(g, n, now)
	}
	if v.Leader != nil && g.member(*v.Leader) != nil {
		g.leader = *v.Leader
	}
}

// resign ends the core: whoever waits is sent to the new coordinator.
func (c *core) resign(code int16) {
	c.dropped = true
	for _, id := range slices.Sorted(maps.Keys(c.groups)) {
		for _, m := range c.groups[id].members {
			if m.join != nil {
				c.refuseJoin(m.join, m.id, code)
			}
			if m.sync != nil {
				c.refuseSync(m.sync, code)
			}
			m.join, m.sync = nil, nil
		}
	}
}
