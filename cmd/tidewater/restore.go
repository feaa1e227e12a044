package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"tidewater/broker"
)

func restoreCommand() *cobra.Command {
	cfg := broker.Default()
	var file string
	c := &cobra.Command{
		Use:   "restore --data-dir DIR --bucket URL",
		Short: "Make an empty data directory continue the cluster that a bucket holds",
		Long: `Make an empty data directory continue the cluster that a bucket holds. Topics, their
properties and data, group offsets and producers come back as they were at the newest cut;
no segment is copied, reads go to the bucket. The restore takes a new incarnation: from then on
the old cluster, should it still run, can do nothing that lasts, and stops acking.
Start it afterwards with 'tidewater broker' or 'tidewater dev' on the same directory and bucket.`,
		Example: `  tidewater restore --data-dir /var/lib/tidewater --bucket 's3://logs?region=eu-west-1'

  The cluster of a 'tidewater dev', onto a new directory beside its bucket:
  tidewater s3 --data-dir tidewater-data/bucket &
  export TIDEWATER_BUCKET='s3://tidewater?endpoint=http://127.0.0.1:9000'
  export TIDEWATER_BUCKET_ACCESS_KEY=tidewater TIDEWATER_BUCKET_SECRET_KEY=tidewater
  tidewater restore --data-dir restored && tidewater dev --data-dir restored`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := fillConfig(c, file); err != nil {
				return err
			}
			if err := errors.Join(needBucket(cfg), cfg.Validate()); err != nil {
				return usageError{err}
			}
			begin := time.Now()
			report, err := broker.Restore(c.Context(), cfg, nil)
			if err != nil {
				return err
			}
			return printRestore(c, report, time.Since(begin))
		},
	}
	brokerFlags(c.Flags(), &cfg)
	c.Flags().StringVar(&file, "config", "", "configuration file; "+configFile+" if there is one")
	hideFlags(c, "kafka-addr", "kafka-advertised", "admin-addr", "admin-token-file", "admin-cert", "admin-key", "catalog-addr", "catalog-access-key", "catalog-secret-key", "catalog-s3-endpoint",
		"auto-create-topics", "default-partitions", "group-initial-delay", "memory", "tail-every", "delete-grace", "replica")
	return c
}

// needBucket refuses what works from a bucket alone without one.
func needBucket(cfg broker.Config) error {
	if cfg.Bucket == "" {
		return errors.New("--bucket is missing: name the bucket to read, s3://NAME?endpoint=http://HOST:PORT&region=R")
	}
	return nil
}

// hideFlags leaves keys that a command does not use out of its help; a
// configuration file that other commands share may still hold them.
func hideFlags(c *cobra.Command, names ...string) {
	for _, name := range names {
		_ = c.Flags().MarkHidden(name)
	}
}

func printRestore(c *cobra.Command, report *broker.RestoreReport, took time.Duration) error {
	r, err := newRows(c, "Cluster", "Incarnation", "Topics", "Partitions", "Records", "From tail objects", "Source wrote last", "Took ms")
	if err != nil {
		return err
	}
	last := "never"
	if !report.NewestTail.IsZero() {
		last = report.NewestTail.UTC().Format(time.RFC3339Nano)
	}
	if err := r.add(report.ClusterID, report.Incarnation, report.Topics, report.Partitions, report.Records, report.TailRecords, last, took.Milliseconds()); err != nil {
		return err
	}
	for _, id := range report.Unlisted {
		fmt.Fprintf(c.ErrOrStderr(), "partition %s has records in the bucket, but its topic is not in the newest metadata: it was made in the last second, or deleted\n", id)
	}
	return r.flush()
}
