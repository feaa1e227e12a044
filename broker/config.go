package broker

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"time"

	"tidewater/internal/disk"
)

// Config is everything a broker is told at its start. Each field is a key of
// tidewater.yaml, a flag and an environment variable (cmd/tidewater binds them).
type Config struct {
	// DataDir holds the journal, segments, controller state and chunk cache.
	// MoreDataDirs are further ones, each on a disk of its own: each has its
	// journal and its part of the partitions. One may be added at any start.
	DataDir      string
	MoreDataDirs []string
	// NodeID is this broker's id in the cluster, from 0 on; Rack is where it
	// stands, for placing replicas and for consumers that read nearby.
	NodeID int32
	Rack   string

	// RPCAddr is where other brokers reach this one, RPCAdvertised the
	// host:port they are told, RPCAddr if empty; empty is a cluster of one. A
	// port may be left out of these and of Seeds.
	RPCAddr       string
	RPCAdvertised string
	// Seeds are the RPC addresses of the brokers that found the cluster, this
	// one's among them, the same list on each. One that joins later may name
	// any. Without seeds a broker founds a cluster of its own.
	Seeds []string
	// RPCCert, RPCKey and RPCCA are PEM files for TLS between brokers: this
	// one's certificate for both sides, its key, and whom it trusts; all or none.
	RPCCert string
	RPCKey  string
	RPCCA   string

	// KafkaAddr is where Kafka clients are served; KafkaAdvertised is the
	// host:port they are told to use, KafkaAddr if empty.
	KafkaAddr       string
	KafkaAdvertised string
	// AdminAddr serves /health/live, /health/ready and /metrics, and the cluster
	// to who operates it; CatalogAddr the Iceberg REST catalog (empty: none, and
	// no tables by our own catalog).
	AdminAddr   string
	CatalogAddr string
	// AdminTokenFile holds the bearer token for all of AdminAddr but health and
	// metrics. Without it nothing is changed through an address that is not
	// loopback. AdminCert and AdminKey are PEM files for TLS there; both or none.
	AdminTokenFile string
	AdminCert      string
	AdminKey       string

	// Bucket is the object store, s3://name?endpoint=http://host:port&region=…;
	// empty keeps everything on the local disk, without tiering or tables.
	Bucket string
	// BucketAccessKey and BucketSecretKey are its credentials.
	BucketAccessKey string
	BucketSecretKey string
	// CatalogAccessKey and CatalogSecretKey are what the catalog hands to
	// engines so that they reach the files; empty leaves engines to their own.
	CatalogAccessKey string
	CatalogSecretKey string
	// CatalogS3Endpoint is where engines reach the bucket, http://host:port;
	// empty is as the broker does. They differ where engines stand outside the
	// network of brokers and store.
	CatalogS3Endpoint string
	// Replica makes this broker serve a cluster of the bucket read-only;
	// ReplicaOf is its id, and may be empty when the bucket holds one cluster.
	Replica   bool
	ReplicaOf string

	AutoCreateTopics bool
	// GroupInitialDelay is how long a new group waits for more members
	// (group.initial.rebalance.delay.ms).
	GroupInitialDelay time.Duration
	// DefaultPartitions and DefaultReplicationFactor are of topics that are
	// created without; 0 replicas is 3, or as many as there are seeds.
	DefaultPartitions        int32
	DefaultReplicationFactor int16
	// Memory is the budget in bytes for requests, tail and translation.
	Memory int64
	// CacheBytes bounds the disk cache of bucket chunks.
	CacheBytes int64
	// ScrubBytesPerSecond is how fast local segments are read in the background,
	// once a day, to find bits that flipped; 0 does not.
	ScrubBytesPerSecond int64
	// TailEvery is the time between tail objects; at least 100 ms.
	TailEvery time.Duration
	// DeleteGrace is how long objects stay in the bucket after nothing refers
	// to them, by the store's clock.
	DeleteGrace time.Duration

	// Build is what this program calls its version; the cluster's brokers know
	// each other's.
	Build string

	// disk stands between the broker and each of its data directories, in tests of what
	// a bad disk does; nil is nothing.
	disk func(disk.FS) disk.FS
	// tickEvery and heartbeatEvery are the clocks of Raft groups and between
	// brokers; 0 are the defaults. Tests with several brokers change them.
	tickEvery, heartbeatEvery time.Duration
}

// Default gives the settings of a broker that was told nothing.
func Default() Config {
	return Config{
		DataDir:           "data",
		NodeID:            1,
		KafkaAddr:         "127.0.0.1:9092",
		AdminAddr:         "127.0.0.1:9644",
		CatalogAddr:       "127.0.0.1:8181",
		DefaultPartitions: 1,
		GroupInitialDelay: 3 * time.Second,
		Memory:            512 << 20,
		CacheBytes:        1 << 30,
		// 20 MB/s are 1.7 TB a day, and two in a hundred of a slow SSD.
		ScrubBytesPerSecond: 20 << 20,
		TailEvery:           time.Second,
		DeleteGrace:         time.Hour,
	}
}

// memoryMin is the least memory a broker works in.
const memoryMin = 64 << 20

// Validate reports every fault at once, each by its key.
func (c *Config) Validate() error {
	var faults []error
	fault := func(key, format string, args ...any) {
		faults = append(faults, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
	}
	if c.DataDir == "" {
		fault("data-dir", "name a directory")
	}
	if slices.Contains(c.MoreDataDirs, "") {
		fault("more-data-dirs", "one has no name")
	}
	if c.NodeID < 0 {
		fault("node-id", "%d: want 0 or more", c.NodeID)
	}
	faults = append(faults, c.validateRPC()...)
	faults = append(faults, c.validateAdmin()...)
	for key, addr := range map[string]string{"kafka-addr": c.KafkaAddr, "kafka-advertised": c.KafkaAdvertised, "admin-addr": c.AdminAddr, "catalog-addr": c.CatalogAddr} {
		if addr == "" && key != "kafka-addr" {
			continue
		}
		if _, _, err := net.SplitHostPort(addr); err != nil {
			fault(key, "%q: want host:port", addr)
		}
	}
	if u, err := url.Parse(c.Bucket); c.Bucket != "" && (err != nil || u.Scheme != "s3" || u.Host == "") {
		fault("bucket", "%q: want s3://NAME, with ?endpoint=http://HOST:PORT for stores other than AWS", c.Bucket)
	}
	if c.Replica && c.Bucket == "" {
		fault("bucket", "a read replica needs the bucket it reads")
	}
	if u, err := url.Parse(c.CatalogS3Endpoint); c.CatalogS3Endpoint != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		fault("catalog-s3-endpoint", "%q: want http://HOST:PORT or https://HOST", c.CatalogS3Endpoint)
	}
	if _, err := parseClusterID(c.ReplicaOf); c.ReplicaOf != "" && err != nil {
		fault("replica-of", "%q: want a cluster id of 22 characters, as 'tidewater replica' lists them", c.ReplicaOf)
	}
	if c.DefaultPartitions < 1 {
		fault("default-partitions", "%d: want 1 or more", c.DefaultPartitions)
	}
	if c.Memory < memoryMin {
		fault("memory", "%d bytes: want at least %d", c.Memory, memoryMin)
	}
	if c.ScrubBytesPerSecond < 0 {
		fault("scrub-bytes-per-second", "%d: want 0 or more", c.ScrubBytesPerSecond)
	}
	if c.TailEvery < 100*time.Millisecond {
		fault("tail-every", "%s: want at least 100ms (each is a PUT that the store bills)", c.TailEvery)
	}
	if c.DeleteGrace <= 0 {
		fault("delete-grace", "%s: want more than 0; readers of an object need it", c.DeleteGrace)
	}
	return errors.Join(faults...)
}
