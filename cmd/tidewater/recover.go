package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"tidewater/broker"
)

func partitionRecover() *cobra.Command {
	cfg := broker.Default()
	var file string
	var lost []int32
	var accept, cancel bool
	c := &cobra.Command{
		Use:   "unsafe-recover --config FILE --lost BROKER,BROKER",
		Short: "After a majority is lost for good: go on with what this broker has, and lose the rest",
		Long: `Go on with what one broker has, after a majority of the replicas is lost for good: machines or
disks that will never come back. Records that were acked and had not reached this broker are
lost, silently for those who produced them. As long as one lost broker can be brought
back, bring it back instead; of tiered topics 'tidewater restore' may bring back more.

Run it where the broker ran, with its configuration, while its process is ended. It refuses
while one of the brokers named answers. Without --accept-data-loss it changes nothing and
tells what would be done. With it the decision is written down, and the broker carries it
out at its next start: every group that cannot elect a leader without the lost brokers,
the controller among them, goes on with this broker's replica alone, in a leader epoch far
above the old ones. The lost brokers are out of the cluster: should one come back with its
old disk, it is refused and ends. Afterwards start new brokers with empty directories,
and give the topics their replicas back with 'tidewater partition replicas'.`,
		Example: `  tidewater partition unsafe-recover --config /etc/tidewater.yaml --lost 2,3
  tidewater partition unsafe-recover --config /etc/tidewater.yaml --lost 2,3 --accept-data-loss`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := fillConfig(c, file); err != nil {
				return err
			}
			if cancel {
				return broker.CancelRecovery(cfg)
			}
			if len(lost) == 0 {
				return usageError{errors.New("--lost: name the brokers that are gone for good, such as --lost 2,3")}
			}
			r, err := broker.PlanRecovery(c.Context(), cfg, lost, slog.New(slog.NewTextHandler(io.Discard, nil)))
			if err != nil {
				return fmt.Errorf("plan a recovery: %w", err)
			}
			defer r.Close()
			if err := printRecovery(c, &r.Report); err != nil {
				return err
			}
			if !accept {
				fmt.Fprintln(c.ErrOrStderr(), "nothing was changed: with --accept-data-loss this is decided, and done at the broker's next start")
				return nil
			}
			if err := r.Commit(); err != nil {
				return err
			}
			fmt.Fprintln(c.ErrOrStderr(), "decided: start this broker now. Until then --cancel takes it back")
			return nil
		},
	}
	brokerFlags(c.Flags(), &cfg)
	f := c.Flags()
	f.StringVar(&file, "config", "", "the broker's configuration file; "+configFile+" if there is one")
	f.Int32SliceVar(&lost, "lost", nil, "ids of the brokers that are gone for good, with their disks")
	f.BoolVar(&accept, "accept-data-loss", false, "do it: acked records that this broker has not got are given up")
	f.BoolVar(&cancel, "cancel", false, "take back a recovery that was decided and not yet carried out")
	hideFlags(c, "kafka-addr", "kafka-advertised", "admin-addr", "admin-token-file", "admin-cert", "admin-key", "catalog-addr", "catalog-access-key", "catalog-secret-key", "auto-create-topics",
		"default-partitions", "default-replication-factor", "group-initial-delay", "memory", "cache-bytes", "tail-every", "delete-grace", "replica", "replica-of", "rack")
	return c
}

// printRecovery tells what may be lost.
func printRecovery(c *cobra.Command, report *broker.RecoverReport) error {
	if done, err := printJSON(c, report); done {
		return err
	}
	w := c.OutOrStdout()
	fmt.Fprintf(w, "Broker %d of cluster %s goes on without brokers %v, which may never come back.\n", report.Node, report.Cluster, report.Lost)
	if report.Controller {
		fmt.Fprintln(w, "The controller makes a new start here: topics, properties and producer ids of its last moments may be lost.")
	} else {
		fmt.Fprintln(w, "The controller has a majority, and is left alone.")
	}
	fmt.Fprintf(w, "%d partitions go on with this broker's replica alone. Records acked from \"Committed to\" on may be lost, or others:\n\n", len(report.Partitions))
	r, err := newRows(c, "Topic", "Partition", "Committed to", "Log end", "Leader epoch", "New epoch from")
	if err != nil {
		return err
	}
	for _, p := range report.Partitions {
		if err := r.add(p.Topic, p.Partition, p.Committed, p.End, p.Epoch, p.NewEpoch); err != nil {
			return err
		}
	}
	if err := r.flush(); err != nil {
		return err
	}
	if len(report.Gone) > 0 {
		fmt.Fprintf(w, "\nNot here, and without a leader from then on, too: %v\nRecover them on another broker that has a replica, or delete their topics.\n", report.Gone)
	}
	return nil
}
