package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"tidewater/broker"
	"tidewater/internal/devenv/s3"
)

const devSecret = "tidewater" // of both development keys; the store listens on loopback

func devCommand() *cobra.Command {
	cfg := broker.Default()
	cfg.DataDir = "tidewater-data"
	cfg.AutoCreateTopics = true
	cfg.BucketAccessKey, cfg.BucketSecretKey = devSecret, devSecret
	cfg.Build = buildName()
	cfg.CatalogAccessKey, cfg.CatalogSecretKey = devSecret, devSecret // engines may write their own tables
	cfg.GroupInitialDelay = 0
	var s3Addr, file string
	nodes := 1
	c := &cobra.Command{
		Use:   "dev",
		Short: "Run a broker, a bucket and a catalog on this machine, for development",
		Long: `Run everything a developer needs in one process, on loopback: a broker for any Kafka
client, an S3 store with a bucket, and an Iceberg REST catalog. Topics are created at
their first use. Data is kept in --data-dir; Ctrl-C ends it cleanly, and kill -9 loses
nothing that was acked.`,
		Example: `  tidewater dev
  tidewater dev --data-dir /tmp/tw --kafka-addr 127.0.0.1:19092
  tidewater dev --nodes 3
  tidewater dev --bucket 's3://tidewater?endpoint=http://127.0.0.1:9000&region=us-east-1'`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := fillConfig(c, file); err != nil {
				return err
			}
			if nodes != 1 && nodes != 3 && nodes != 5 {
				return usageError{fmt.Errorf("nodes: %d: want 1, 3 or 5", nodes)}
			}
			return runDev(c, cfg, s3Addr, nodes)
		},
	}
	brokerFlags(c.Flags(), &cfg)
	c.Flags().IntVar(&nodes, "nodes", nodes, "broker processes, 1, 3 or 5, on ports counted up from the first")
	c.Flags().StringVar(&s3Addr, "s3-addr", "127.0.0.1:9000", "where the development store listens; unused with --bucket")
	c.Flags().StringVar(&file, "config", "", "configuration file; "+configFile+" if there is one")
	return c
}

func runDev(c *cobra.Command, cfg broker.Config, s3Addr string, nodes int) error {
	if nodes == 1 {
		cfg.Seeds, cfg.RPCAddr = nil, "" // a cluster of one, whatever a file says
	}
	if err := cfg.Validate(); err != nil {
		return usageError{err}
	}
	begin := time.Now()
	nodeDir := cfg.DataDir
	if cfg.Bucket == "" {
		store, err := s3.Open(s3.Config{Dir: filepath.Join(cfg.DataDir, "bucket"), Addr: s3Addr, AccessKey: cfg.BucketAccessKey, SecretKey: cfg.BucketSecretKey})
		if err != nil {
			return storeHint(err, "--s3-addr")
		}
		defer store.Close()
		cfg.Bucket = fmt.Sprintf("s3://%s?endpoint=http://%s&region=%s", s3.Bucket, store.Addr(), s3.Region)
		nodeDir = filepath.Join(cfg.DataDir, "node")
	}
	if nodes > 1 {
		return runDevNodes(c, cfg, nodes)
	}
	cfg.DataDir = nodeDir
	return serve(c, cfg, func(w io.Writer, b *broker.Broker) { devBanner(w, b, cfg, time.Since(begin)) })
}

// serve runs a broker until it is told to end, or cannot go on.
func serve(c *cobra.Command, cfg broker.Config, banner func(io.Writer, *broker.Broker)) error {
	if err := cfg.Validate(); err != nil {
		return usageError{err}
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := coarseTimers(); err != nil {
		log.Info("timers could not be made coarse, which costs CPU time", "error", err)
	}
	b, err := broker.Open(c.Context(), cfg, log)
	if err != nil {
		return err
	}
	banner(c.OutOrStdout(), b)
	settle(cfg.Memory)
	select {
	case <-c.Context().Done():
		fmt.Fprintln(c.ErrOrStderr(), "closing")
	case <-b.Done():
		err = b.Err()
	}
	return errors.Join(err, ignoreCanceled(b.Close()))
}

func ignoreCanceled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// adminScheme is how the admin address is spoken to.
func adminScheme(cfg broker.Config) string {
	if cfg.AdminCert != "" {
		return "https"
	}
	return "http"
}

// devBanner says what listens where, and gives lines that work as they are in
// a shell that stands where this process was started.
func devBanner(w io.Writer, b *broker.Broker, cfg broker.Config, took time.Duration) {
	self := os.Args[0]
	fmt.Fprintf(w, `tidewater is ready after %d ms, cluster %s
  Kafka     %s
  bucket    %s
`, took.Milliseconds(), b.ClusterID(), b.KafkaAddr(), cfg.Bucket)
	if b.CatalogAddr() != "" {
		fmt.Fprintf(w, "  catalog   http://%s\n", b.CatalogAddr())
	}
	if b.AdminAddr() != "" {
		fmt.Fprintf(w, "  admin     %s://%s/metrics\n", adminScheme(cfg), b.AdminAddr())
	}
	fmt.Fprintf(w, `  data      %s (direct I/O: %v)

  %[3]s topic create orders --tiered -c tidewater.iceberg.mode=key_value -b %[4]s
  echo hello | kcat -b %[4]s -t orders -P       # or any Kafka client
  %[3]s consume orders --from earliest -b %[4]s
`, cfg.DataDir, b.DirectIO(), self, b.KafkaAddr())
	if b.CatalogAddr() != "" {
		fmt.Fprintf(w, `  %[1]s table rows topics.orders --catalog http://%[2]s

  DuckDB     INSTALL iceberg; LOAD iceberg;
             ATTACH '' AS tidewater (TYPE iceberg, ENDPOINT 'http://%[2]s', AUTHORIZATION_TYPE 'none');
             SELECT * FROM tidewater.topics.orders;
  PyIceberg  from pyiceberg.catalog import load_catalog
             load_catalog("tidewater", type="rest", uri="http://%[2]s").load_table("topics.orders").scan().to_arrow()
`, self, b.CatalogAddr())
	}
	fmt.Fprintln(w, "\nCtrl-C ends it.")
}

func brokerCommand() *cobra.Command {
	cfg := broker.Default()
	cfg.Build = buildName()
	var file string
	c := &cobra.Command{
		Use:   "broker",
		Short: "Run a broker by a configuration file, flags and TIDEWATER_ variables",
		Example: `  tidewater broker --config /etc/tidewater.yaml
  TIDEWATER_BUCKET_SECRET_KEY=… tidewater broker --data-dir /var/lib/tidewater --bucket s3://logs?region=eu-west-1`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := fillConfig(c, file); err != nil {
				return err
			}
			return serve(c, cfg, func(w io.Writer, b *broker.Broker) {
				fmt.Fprintf(w, "tidewater broker %d of cluster %s is ready: Kafka on %s\n", cfg.NodeID, b.ClusterID(), b.KafkaAddr())
			})
		},
	}
	brokerFlags(c.Flags(), &cfg)
	c.Flags().StringVar(&file, "config", "", "configuration file; "+configFile+" if there is one")
	return c
}
