package broker

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"tidewater/broker/cluster"
	"tidewater/internal/record"
)

// identityFile says which cluster a data directory belongs to and in which of
// its lives.
const identityFile = "identity.json"

// identity is what identityFile holds. It must be known before anything is
// opened: it stands in the header of every file.
type identity struct {
	Version     int      `json:"version"`
	ClusterID   [16]byte `json:"-"`
	Cluster     string   `json:"cluster_id"` // as clients see it
	Incarnation uint64   `json:"incarnation"`
	NodeID      int32    `json:"node_id"`
	// Boot is how often this directory was opened. It counts up before the
	// bucket is touched, so that no tail series of an earlier life is claimed
	// again, even after the bucket has forgotten it.
	Boot uint32 `json:"boot"`
	// InBucket: the cluster has begun to use a bucket. Without it, or with one
	// that does not know the cluster, archived records would be out of reach
	// while everything else seemed well.
	InBucket bool `json:"in_bucket"`
}

const identityVersion = 1

func (i identity) cluster() cluster.Identity {
	return cluster.Identity{ClusterID: i.ClusterID, Incarnation: i.Incarnation}
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
	if i.Version != identityVersion {
		return identity{}, false, fmt.Errorf("%s has version %d, this build reads %d: use the build that wrote it", path, i.Version, identityVersion)
	}
	if i.ClusterID, err = parseClusterID(i.Cluster); err != nil {
		return identity{}, false, fmt.Errorf("read %s: %w", path, err)
	}
	return i, true, nil
}

// newIdentity makes the identity of a new cluster.
func newIdentity(node int32) (identity, error) {
	i := identity{Version: identityVersion, Incarnation: 1, NodeID: node}
	// A leading '-' would read as a flag wherever the id is typed.
	for i.Cluster == "" || i.Cluster[0] == '-' {
		if _, err := rand.Read(i.ClusterID[:]); err != nil {
			return i, fmt.Errorf("choose a cluster id: %w", err)
		}
		i.Cluster = clusterName(i.ClusterID)
	}
	return i, nil
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
