package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// helloVersion begins every message of MethodHello and MethodRegister;
// docs/formats/controller.md.
const helloVersion = 1

// hello is a broker's answer to who it is.
type hello struct {
	Node  int32
	Disk  [16]byte
	Seeds [32]byte // seedsHash of its seed list
	// Brings: it has the identity of a cluster that is to be founded, from a
	// restore, so no other may found one.
	Brings bool
	// Member is its membership, nil if it has none.
	Member *Membership
}

// seedsHash tells whether two seed lists name the same addresses, in any
// order.
func seedsHash(seeds []string) [32]byte {
	sorted := slices.Compact(slices.Sorted(slices.Values(seeds)))
	return sha256.Sum256([]byte(strings.Join(sorted, "\n")))
}

func (h *hello) encode() []byte {
	b := binary.AppendVarint([]byte{helloVersion}, int64(h.Node))
	b = append(b, h.Disk[:]...)
	b = append(b, h.Seeds[:]...)
	b = appendBool(b, h.Brings)
	if b = appendBool(b, h.Member != nil); h.Member != nil {
		b = appendMembership(b, h.Member)
	}
	return b
}

func decodeHello(b []byte) (hello, error) {
	c := &cursor{b: b}
	c.hello()
	h := hello{Node: c.int32(), Disk: c.id()}
	if len(c.b) < len(h.Seeds) {
		c.fail("hash of the seeds is cut short")
	} else {
		copy(h.Seeds[:], c.b)
		c.b = c.b[len(h.Seeds):]
	}
	if h.Brings = c.bool(); c.bool() {
		m := decodeMembership(c)
		h.Member = &m
	}
	return h, c.end()
}

// Answers reports whether a broker answers at addr that has the disk named.
func Answers(ctx context.Context, peers Peers, addr string, b LostBroker) bool {
	answer, err := peers.Ask(ctx, addr, MethodHello, nil)
	if err != nil {
		return false
	}
	h, err := decodeHello(answer)
	return err == nil && h.Node == b.Node && h.Disk == b.Disk
}

// hello reads the version that a message begins with.
func (c *cursor) hello() {
	if v := c.byte(); c.err == nil && v != helloVersion {
		c.fail(fmt.Sprintf("message has version %d, this build reads %d", v, helloVersion))
	}
	c.version = 2 // what it holds came with command version 2
}

func appendMembership(b []byte, m *Membership) []byte {
	b = append(b, m.ClusterID[:]...)
	b = binary.AppendUvarint(b, m.Incarnation)
	b = binary.AppendVarint(b, int64(m.Node))
	b = append(b, m.Disk[:]...)
	b = binary.AppendUvarint(b, m.Replica)
	b = appendList(b, m.Members, appendMember)
	return appendBool(appendBool(b, m.Founder), m.Restoring)
}

func decodeMembership(c *cursor) Membership {
	return Membership{Identity: Identity{ClusterID: c.id(), Incarnation: c.uvarint()}, Node: c.int32(), Disk: c.id(),
		Replica: c.uvarint(), Members: list(c, decodeMember), Founder: c.bool(), Restoring: c.bool()}
}
