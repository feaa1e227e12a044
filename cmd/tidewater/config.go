package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"tidewater/broker"
)

// configFile is read when --config names none and it exists.
const configFile = "tidewater.yaml"

// brokerFlags declares one flag per key of the broker's configuration. The
// same names are the keys of tidewater.yaml, and with TIDEWATER_ in front, in
// upper case and with underscores, the environment's.
func brokerFlags(f *pflag.FlagSet, c *broker.Config) {
	f.StringVar(&c.DataDir, "data-dir", c.DataDir, "directory for journal, segments and cache; the first one of several")
	f.StringSliceVar(&c.MoreDataDirs, "more-data-dirs", c.MoreDataDirs, "further data directories, each on a disk of its own, which take their part of the partitions; a list")
	f.Int32Var(&c.NodeID, "node-id", c.NodeID, "this broker's id in the cluster")
	f.StringVar(&c.Rack, "rack", c.Rack, "where this broker stands: replicas are spread over racks, consumers read in theirs")
	f.StringVar(&c.RPCAddr, "rpc-addr", c.RPCAddr, "where other brokers reach this one, host or host:port (33145); empty is a cluster of one")
	f.StringVar(&c.RPCAdvertised, "rpc-advertised", c.RPCAdvertised, "host:port that other brokers are told to use; rpc-addr if empty")
	f.StringSliceVar(&c.Seeds, "seeds", c.Seeds, "rpc addresses of the brokers that found the cluster, this one's among them; a list, the same on each")
	f.StringVar(&c.RPCCert, "rpc-cert", c.RPCCert, "PEM file: this broker's certificate towards other brokers")
	f.StringVar(&c.RPCKey, "rpc-key", c.RPCKey, "PEM file: its key")
	f.StringVar(&c.RPCCA, "rpc-ca", c.RPCCA, "PEM file: who may sign other brokers' certificates")
	f.StringVar(&c.KafkaAddr, "kafka-addr", c.KafkaAddr, "where Kafka clients are served, host:port")
	f.StringVar(&c.KafkaAdvertised, "kafka-advertised", c.KafkaAdvertised, "host:port that clients are told to use; kafka-addr if empty")
	f.StringVar(&c.AdminAddr, "admin-addr", c.AdminAddr, "where health, metrics and the cluster's operation are served; empty for none")
	f.StringVar(&c.AdminTokenFile, "admin-token-file", c.AdminTokenFile, "file with the bearer token that admin-addr asks for, but for health and metrics; read again at each request")
	f.StringVar(&c.AdminCert, "admin-cert", c.AdminCert, "PEM file: certificate for TLS at admin-addr")
	f.StringVar(&c.AdminKey, "admin-key", c.AdminKey, "PEM file: its key")
	f.StringVar(&c.CatalogAddr, "catalog-addr", c.CatalogAddr, "where the Iceberg REST catalog is served; empty for none")
	f.StringVar(&c.Bucket, "bucket", c.Bucket, "object store, s3://NAME?endpoint=http://HOST:PORT&region=R; empty keeps all on the local disk")
	f.StringVar(&c.BucketAccessKey, "bucket-access-key", c.BucketAccessKey, "access key of the bucket")
	f.StringVar(&c.BucketSecretKey, "bucket-secret-key", c.BucketSecretKey, "secret key of the bucket")
	f.StringVar(&c.CatalogAccessKey, "catalog-access-key", c.CatalogAccessKey, "access key of the bucket that the catalog hands to engines")
	f.StringVar(&c.CatalogSecretKey, "catalog-secret-key", c.CatalogSecretKey, "secret key of the bucket that the catalog hands to engines")
	f.StringVar(&c.CatalogS3Endpoint, "catalog-s3-endpoint", c.CatalogS3Endpoint, "where engines reach the bucket, http://HOST:PORT; empty is the bucket's own endpoint")
	f.BoolVar(&c.Replica, "replica", c.Replica, "serve a cluster of the bucket read-only")
	f.StringVar(&c.ReplicaOf, "replica-of", c.ReplicaOf, "id of that cluster; may be left out when the bucket holds one")
	f.BoolVar(&c.AutoCreateTopics, "auto-create-topics", c.AutoCreateTopics, "create a topic at its first use")
	f.DurationVar(&c.GroupInitialDelay, "group-initial-delay", c.GroupInitialDelay, "how long a new consumer group waits for more members")
	f.Int32Var(&c.DefaultPartitions, "default-partitions", c.DefaultPartitions, "partitions of a topic created without a number")
	f.Int16Var(&c.DefaultReplicationFactor, "default-replication-factor", c.DefaultReplicationFactor, "replicas of a topic created without a number; 0 is 3, or as many as there are seeds")
	f.Int64Var(&c.Memory, "memory", c.Memory, "budget in bytes for requests, tail and translation")
	f.Int64Var(&c.CacheBytes, "cache-bytes", c.CacheBytes, "bound of the disk cache of bucket chunks")
	f.Int64Var(&c.ScrubBytesPerSecond, "scrub-bytes-per-second", c.ScrubBytesPerSecond, "how fast segments are read in the background, once a day, to find and mend damage; 0 does not")
	f.DurationVar(&c.TailEvery, "tail-every", c.TailEvery, "time between tail objects: what a restore may lose")
	f.DurationVar(&c.DeleteGrace, "delete-grace", c.DeleteGrace, "how long unreferenced objects stay in the bucket")
}

// fillConfig gives every flag that the command line did not set its value from
// the environment, else from the configuration file.
func fillConfig(c *cobra.Command, path string) error {
	file, err := readConfigFile(path)
	if err != nil {
		return err
	}
	var faults []error
	c.Flags().VisitAll(func(f *pflag.Flag) {
		value, source, ok := file[f.Name], path, false
		if _, ok = file[f.Name]; ok {
			delete(file, f.Name)
		}
		name := "TIDEWATER_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if v, set := os.LookupEnv(name); set {
			value, source, ok = v, name, true
		}
		if f.Changed || !ok {
			return
		}
		if err := f.Value.Set(value); err != nil {
			faults = append(faults, fmt.Errorf("%s: %s: %w", source, f.Name, err))
		}
	})
	for key := range file {
		faults = append(faults, fmt.Errorf("%s: unknown key %q (see '%s --help')", path, key, c.CommandPath()))
	}
	if len(faults) > 0 {
		return usageError{errors.Join(faults...)}
	}
	return nil
}

func readConfigFile(path string) (map[string]string, error) {
	explicit := path != ""
	if !explicit {
		path = configFile
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && !explicit {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	var raw map[string]any
	if err := yaml.Unmarshal(text, &raw); err != nil {
		return nil, usageError{fmt.Errorf("read configuration %s: %w", path, err)}
	}
	keys := make(map[string]string, len(raw))
	for k, v := range raw {
		keys[k] = configText(v)
	}
	return keys, nil
}

// configText is a value of the file as a flag takes it: a list with commas.
func configText(v any) string {
	list, ok := v.([]any)
	if !ok {
		return fmt.Sprint(v)
	}
	items := make([]string, len(list))
	for i, one := range list {
		items[i] = fmt.Sprint(one)
	}
	return strings.Join(items, ",")
}
