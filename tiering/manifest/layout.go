package manifest

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"tidewater/internal/record"
)

// DefaultTenant is the tenant of clusters that name none.
const DefaultTenant = "default"

// Layout makes the keys of one incarnation of one cluster.
type Layout struct {
	Tenant      string
	ClusterID   [16]byte
	Incarnation uint32
}

// ClusterName is a cluster id as it stands in keys and as Kafka clients see it:
// unpadded URL-safe base64.
func ClusterName(id [16]byte) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// ParseClusterName reads what ClusterName gives.
func ParseClusterName(s string) ([16]byte, error) {
	t, err := record.ParseTopicID(s)
	if err != nil {
		return [16]byte{}, fmt.Errorf("parse cluster id %q: want 22 characters of URL-safe base64", s)
	}
	return t, nil
}

// Header is the header of this incarnation's objects.
func (l Layout) Header() Header {
	return Header{ClusterID: l.ClusterID, Incarnation: l.Incarnation, Tenant: l.tenant()}
}

// At is the same cluster in another incarnation.
func (l Layout) At(incarnation uint32) Layout {
	l.Incarnation = incarnation
	return l
}

func (l Layout) tenant() string {
	if l.Tenant == "" {
		return DefaultTenant
	}
	return l.Tenant
}

func (l Layout) cluster() string { return l.tenant() + "/" + ClusterName(l.ClusterID) + "/" }

// Prefix is what every key of the incarnation begins with.
func (l Layout) Prefix() string { return fmt.Sprintf("%s%08d/", l.cluster(), l.Incarnation) }

// RootPrefix and Root name the objects by which incarnations are taken.
func (l Layout) RootPrefix() string { return l.cluster() + "root/" }
func (l Layout) Root(incarnation uint32) string {
	return fmt.Sprintf("%s%08d", l.RootPrefix(), incarnation)
}

// number is how a count stands in a key: sorted as text, as by value.
func number(n uint64) string { return fmt.Sprintf("%016d", n) }

// parseNumber reads the last part of a key; false if it is no number.
func parseNumber(key string) (uint64, bool) {
	s := key[strings.LastIndexByte(key, '/')+1:]
	if len(s) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}

// MetadataPrefix and CutPrefix hold numbered objects of the cluster.
func (l Layout) MetadataPrefix() string { return l.Prefix() + "meta/" }
func (l Layout) CutPrefix() string      { return l.Prefix() + "cut/" }

// Metadata and Cut are the keys of one of them.
func (l Layout) Metadata(n uint64) string { return l.MetadataPrefix() + number(n) }
func (l Layout) Cut(n uint64) string      { return l.CutPrefix() + number(n) }

// Series is one life of one broker: the numbers of its tail objects run from 1
// and no other process ever uses them.
type Series struct {
	Node int32
	Boot uint32
}

func (s Series) String() string { return fmt.Sprintf("%d-%d", s.Node, s.Boot) }

// ParseSeries reads what String gives.
func ParseSeries(text string) (Series, error) {
	node, boot, ok := strings.Cut(text, "-")
	n, err := strconv.ParseInt(node, 10, 32)
	b, err2 := strconv.ParseUint(boot, 10, 32)
	if !ok || err != nil || err2 != nil {
		return Series{}, fmt.Errorf("parse series %q: want node-boot", text)
	}
	return Series{Node: int32(n), Boot: uint32(b)}, nil
}

// SeriesPrefix and SeriesKey name the objects by which a series is claimed.
func (l Layout) SeriesPrefix() string       { return l.Prefix() + "series/" }
func (l Layout) SeriesKey(s Series) string  { return l.SeriesPrefix() + s.String() }
func (l Layout) TailPrefix(s Series) string { return l.Prefix() + "tail/" + s.String() + "/" }

// Tail is the key of one tail object, TailManifest that of a list of them. A
// list sorts after all tails, so that one listing shows both.
func (l Layout) Tail(s Series, n uint64) string { return l.TailPrefix(s) + number(n) }
func (l Layout) TailManifestPrefix(s Series) string {
	return l.TailPrefix(s) + "manifest/"
}
func (l Layout) TailManifest(s Series, n uint64) string {
	return l.TailManifestPrefix(s) + number(n)
}

// Dir makes the keys of one partition.
type Dir struct {
	Layout Layout
	Topic  string
	ID     record.PartitionID
}

// Prefix is what every key of the partition begins with.
func (d Dir) Prefix() string {
	return fmt.Sprintf("%s%s~%s/%d/", d.Layout.Prefix(), d.Topic, d.ID.Topic, d.ID.Partition)
}

// TopicPrefix is what every key of a topic begins with.
func (l Layout) TopicPrefix(topic string, id record.TopicID) string {
	return fmt.Sprintf("%s%s~%s/", l.Prefix(), topic, id)
}

// ManifestPrefix holds the manifests and, sorted after them, the boundaries.
func (d Dir) ManifestPrefix() string { return d.Prefix() + "manifest/" }

// Manifest and Boundary are the keys of one of them.
func (d Dir) Manifest(n uint64) string { return d.ManifestPrefix() + number(n) }
func (d Dir) Boundary(n uint64) string { return d.ManifestPrefix() + boundaryWord + number(n) }

const boundaryWord = "boundary-"

// parseBoundary reads the number of a boundary's key.
func parseBoundary(key string) (uint64, bool) {
	_, s, ok := strings.Cut(key[strings.LastIndexByte(key, '/')+1:], boundaryWord)
	if !ok {
		return 0, false
	}
	return parseNumber(s)
}

// Range says what an object of a partition holds, for its name. Last is
// inclusive.
type Range struct {
	Base, Last record.Offset
	Epoch      record.LeaderEpoch
	// Writer is unique to one write of one process: series and count.
	Writer string
}

func (d Dir) object(r Range, kind string) string {
	return fmt.Sprintf("%s%020d-%020d-%010d-%s.%s", d.Prefix(), r.Base, r.Last, r.Epoch, r.Writer, kind)
}

// Segment, Index and Page are keys of data objects.
func (d Dir) Segment(r Range) string { return d.object(r, "segment") }
func (d Dir) Index(r Range) string   { return d.object(r, "index") }
func (d Dir) Page(r Range) string    { return d.object(r, "page") }

// Warehouse is the folder of the cluster's tables. It is of no incarnation: a
// table's pointers and files go on through restores.
func (l Layout) Warehouse() string { return l.cluster() + "warehouse" }
