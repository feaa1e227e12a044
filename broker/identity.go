package broker

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"tidewater/broker/cluster"
	"tidewater/internal/record"
)

// identityFile says which cluster a data directory belongs to and in which of
// its lives.
const identityFile = "identity.json"

// identity is what identityFile holds. It must be known before anything is
// opened: it stands in the header of every file. A directory whose broker has
// not found its cluster yet has one without a cluster.
type identity struct {
	Version     int      `json:"version"`
	ClusterID   [16]byte `json:"-"`
	Cluster     string   `json:"cluster_id,omitempty"` // as clients see it
	Incarnation uint64   `json:"incarnation,omitempty"`
	NodeID      int32    `json:"node_id"`
	// Disk names this directory, once and for all: what was promised by a
	// broker with another disk was not promised by this one.
	Disk diskID `json:"disk_id"`
	// Disks are all data directories of the broker, the first of them first; nil
	// where there is one.
	Disks []diskPlace `json:"disks,omitempty"`
	// Boot is how often this directory was opened. It counts up before the
	// bucket is touched, so that no tail series of an earlier life is claimed
	// again, even after the bucket has forgotten it.
	Boot uint32 `json:"boot"`
	// Session tells this start of the broker from every other one, of this
	// directory or one that was lost: it rises, by the clock where that is
	// ahead.
	Session uint64 `json:"session"`
	// InBucket: the cluster has begun to use a bucket. Without it, or with one
	// that does not know the cluster, archived records would be out of reach
	// while everything else seemed well.
	InBucket bool `json:"in_bucket"`
	// Controller is the broker's place in the controller's group, nil until it
	// has one. Only a recovery from a lost majority changes it.
	Controller *membership `json:"controller,omitempty"`
}

// diskPlace is one of several data directories.
type diskPlace struct {
	ID  diskID `json:"disk_id"`
	Dir string `json:"dir"` // where it was last
	// Session is of the start at which its journal was opened last, 0 before.
	Session uint64 `json:"session"`
}

// membership is cluster.Membership without what the identity says already.
type membership struct {
	Replica   uint64   `json:"replica"`
	Founder   bool     `json:"founder"`
	Restoring bool     `json:"restoring,omitempty"`
	Members   []member `json:"members"`
}

type member struct {
	Node    int32  `json:"node"`
	Replica uint64 `json:"replica"`
	Disk    diskID `json:"disk_id"`
	Addr    string `json:"rpc_addr,omitempty"`
}

// diskID is a data directory's name, in hexadecimal digits.
type diskID [16]byte

// MarshalText implements encoding.TextMarshaler.
func (d diskID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, d[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *diskID) UnmarshalText(text []byte) error {
	if hex.DecodedLen(len(text)) != len(d) {
		return fmt.Errorf("%q is no disk id", text)
	}
	_, err := hex.Decode(d[:], text)
	return err
}

// identityVersion 2 has disk, session and the controller's group; 1 is that of
// a cluster of one. Where there are several directories it is 3: a build that
// does not know of them must not begin their replicas anew.
const (
	identityVersion      = 2
	identityVersionDisks = 3
)

// known reports whether the directory belongs to a cluster.
func (i *identity) known() bool { return i.Cluster != "" }

func (i *identity) cluster() cluster.Identity {
	return cluster.Identity{ClusterID: i.ClusterID, Incarnation: i.Incarnation}
}

// membership is the broker's place in the controller's group, nil for none yet.
func (i *identity) membership() *cluster.Membership {
	if i.Controller == nil {
		return nil
	}
	m := &cluster.Membership{Identity: i.cluster(), Node: i.NodeID, Disk: i.Disk, Replica: i.Controller.Replica,
		Founder: i.Controller.Founder, Restoring: i.Controller.Restoring}
	for _, o := range i.Controller.Members {
		m.Members = append(m.Members, cluster.Member{Node: o.Node, Replica: o.Replica, Disk: o.Disk, Addr: o.Addr})
	}
	return m
}

// join takes a membership, which lasts once the identity is saved.
func (i *identity) join(m *cluster.Membership) {
	i.ClusterID, i.Cluster, i.Incarnation = m.ClusterID, clusterName(m.ClusterID), m.Incarnation
	i.Controller = &membership{Replica: m.Replica, Founder: m.Founder, Restoring: m.Restoring}
	for _, o := range m.Members {
		i.Controller.Members = append(i.Controller.Members, member{Node: o.Node, Replica: o.Replica, Disk: o.Disk, Addr: o.Addr})
	}
}

// loadIdentity reads a data directory's identity, false if it has none.
func loadIdentity(dir string) (identity, bool, error) {
	path := filepath.Join(dir, identityFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return identity{}, false, nil
	}
	if err != nil {
		return identity{}, false, fmt.Errorf("read %s: %w", path, err)
	}
	var i identity
	if err := json.Unmarshal(text, &i); err != nil {
		return identity{}, false, fmt.Errorf("read %s: %w", path, err)
	}
	if i.Version < 1 || i.Version > identityVersionDisks {
		return identity{}, false, fmt.Errorf("%s has version %d, this build reads 1 to %d: use the build that wrote it", path, i.Version, identityVersionDisks)
	}
	if !i.known() && i.Version > 1 {
		return i, true, nil
	}
	if i.ClusterID, err = parseClusterID(i.Cluster); err != nil {
		return identity{}, false, fmt.Errorf("read %s: %w", path, err)
	}
	return i, true, nil
}

// newIdentity is of a directory that belongs to no cluster yet.
func newIdentity(node int32) identity {
	i := identity{NodeID: node}
	_, _ = rand.Read(i.Disk[:]) // never fails
	return i
}

// upgrade gives an identity of an older version what it lacks: such a broker
// was alone.
func (i *identity) upgrade() {
	if i.Version == 1 {
		_, _ = rand.Read(i.Disk[:]) // never fails
		m := cluster.Alone(i.cluster(), i.NodeID, i.Disk)
		i.join(&m)
	}
	i.Version = identityVersion
	if len(i.Disks) > 0 {
		i.Version = identityVersionDisks
	}
}

// begin counts a start of the broker.
func (i *identity) begin(now time.Time) {
	i.Boot++
	i.Session = max(i.Session+1, uint64(max(now.UnixMilli(), 0)))
}

// newCluster makes the identity of a new cluster.
func newCluster() cluster.Identity {
	id := cluster.Identity{Incarnation: 1}
	// A leading '-' would read as a flag wherever the id is typed.
	for id.ClusterID == [16]byte{} || clusterName(id.ClusterID)[0] == '-' {
		_, _ = rand.Read(id.ClusterID[:]) // never fails
	}
	return id
}

// save writes the identity so that it lasts.
func (i identity) save(dir string) error {
	text, err := json.MarshalIndent(i, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, identityFile), append(text, '\n'))
}

// writeFile replaces a small file so that after a crash the old or the new one
// is there, whole.
func writeFile(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// clusterName is a cluster id as clients and people see it.
func clusterName(id [16]byte) string { return record.TopicID(id).String() }

func parseClusterID(s string) ([16]byte, error) {
	id, err := record.ParseTopicID(s)
	return id, err
}
