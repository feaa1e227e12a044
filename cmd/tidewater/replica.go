package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"tidewater/broker"
)

func replicaCommand() *cobra.Command {
	cfg := broker.Default()
	cfg.Replica = true
	cfg.DataDir = "tidewater-replica"
	cfg.KafkaAddr, cfg.AdminAddr, cfg.CatalogAddr = "127.0.0.1:9192", "127.0.0.1:9744", ""
	var file string
	c := &cobra.Command{
		Use:   "replica --bucket URL",
		Short: "Serve another cluster's topics read-only, from its bucket alone",
		Long: `Serve another cluster's topics read-only, from its bucket alone: the source is never asked,
and credentials that may only read are enough. Consumers, with groups of this cluster, work
as on the source, one to three seconds behind it; a produce is refused.`,
		Example: `  tidewater replica --bucket 's3://tidewater?endpoint=http://127.0.0.1:9000' \
      --bucket-access-key tidewater-readonly --bucket-secret-key tidewater`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := fillConfig(c, file); err != nil {
				return err
			}
			if err := needBucket(cfg); err != nil {
				return usageError{err}
			}
			return serve(c, cfg, func(w io.Writer, b *broker.Broker) {
				fmt.Fprintf(w, "read replica is ready: Kafka on %s, following %s\n", b.KafkaAddr(), cfg.Bucket)
			})
		},
	}
	brokerFlags(c.Flags(), &cfg)
	c.Flags().StringVar(&file, "config", "", "configuration file; "+configFile+" if there is one")
	hideFlags(c, "replica", "auto-create-topics", "default-partitions", "tail-every", "delete-grace")
	return c
}
