package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"tidewater/broker"
	"tidewater/catalog"
	"tidewater/iceberg/translate"
	"tidewater/iceberg/verify"
	"tidewater/internal/fetch"
	"tidewater/internal/logio"
)

func verifyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:               "verify TOPIC",
		ValidArgsFunction: completeTopics,
		Short:             "Prove that a topic's table holds its log: every record once, with its values, and nothing else",
		Long: `Compare a topic's log, read through the Fetch API, with its Iceberg table, read through
the catalog, by offset and checksum, up to the offsets that the table claims. Every
committed record must be in exactly one of table and dead-letter table.

Exit code 0: they agree. 3: they differ, and the first differences are named.`,
		Example: "  tidewater verify flights",
		Args:    cobra.ExactArgs(1),
		RunE:    func(c *cobra.Command, args []string) error { return verifyTopic(c, args[0]) },
	}
	addBrokers(c)
	addCatalog(c)
	return c
}

func verifyTopic(c *cobra.Command, topic string) error {
	ctx := c.Context()
	k, err := client(c)
	if err != nil {
		return err
	}
	defer k.Close()
	props, err := topicProperties(ctx, kadm.NewClient(k), topic)
	if err != nil {
		return err
	}
	ident, want, err := broker.TableOf(topic, props)
	if err != nil {
		return err
	}
	log, err := fetch.Open(ctx, k, topic)
	if err != nil {
		return err
	}
	var sources []translate.Source
	for _, p := range log.Partitions {
		sources = append(sources, fetched{p, ctx})
	}
	rest, err := openCatalog(c)
	if err != nil {
		return err
	}
	loaded, err := rest.LoadTable(ctx, ident)
	if errors.Is(err, catalog.ErrNoTable) {
		return fmt.Errorf("topic %s has no table %s yet: %w", topic, ident, err)
	}
	if err != nil {
		return fmt.Errorf("load table %s: %w", ident, err)
	}
	files, err := tableFiles(loaded)
	if err != nil {
		return err
	}
	cfg, err := verify.Open(ctx, rest, files, ident, want, sources)
	if err != nil {
		return err
	}
	report, err := verify.Run(ctx, cfg)
	if err != nil {
		return fmt.Errorf("verify %s: %w", topic, err)
	}
	if err := printReport(c, report); err != nil {
		return err
	}
	if !report.OK() {
		return errDifference
	}
	return nil
}

// printReport shows a report as the --format flag asks.
func printReport(c *cobra.Command, report *verify.Report) error {
	format, err := c.Flags().GetString("format")
	if err != nil {
		return err
	}
	if format != "json" {
		_, err := fmt.Fprint(c.OutOrStdout(), report)
		return err
	}
	return json.NewEncoder(c.OutOrStdout()).Encode(struct {
		Agree bool `json:"agree"`
		*verify.Report
	}{report.OK(), report})
}

// topicProperties asks a broker for a topic's own properties.
func topicProperties(ctx context.Context, adm *kadm.Client, topic string) (map[string]string, error) {
	all, err := adm.DescribeTopicConfigs(ctx, topic)
	if err == nil && len(all) == 1 {
		err = all[0].Err
	}
	if err != nil {
		return nil, fmt.Errorf("describe topic %s: %w", topic, err)
	}
	props := map[string]string{}
	for _, r := range all {
		for _, p := range r.Configs {
			if p.Value != nil && p.Source.String() == "DYNAMIC_TOPIC_CONFIG" {
				props[p.Key] = *p.Value
			}
		}
	}
	return props, nil
}

// fetched is a partition read through the Fetch API, as verify wants it.
type fetched struct {
	*fetch.Partition
	ctx context.Context // verify asks for offsets within one call of the command
}

// Offsets implements translate.Source.
func (f fetched) Offsets() (logio.Offsets, error) { return f.Partition.Offsets(f.ctx) }
