package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
)

func topicCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "topic",
		Short: "Create, list, describe, change and delete topics",
	}
	addBrokers(c)
	c.AddCommand(topicCreate(), topicList(), topicDescribe(), topicAlter(), topicAddPartitions(), topicTrim(), topicDelete())
	return c
}

func topicCreate() *cobra.Command {
	var partitions int32
	var replicas int16
	var configs []string
	var tiered, ifMissing bool
	var jsonSchema string
	c := &cobra.Command{
		Use:   "create NAME...",
		Short: "Create topics",
		Example: `  tidewater topic create orders -p 3
  tidewater topic create audit --tiered                       keeps for ever, in the bucket
  tidewater topic create flights --tiered --json-schema flight.schema.json
                                                              and is a table with typed columns
  tidewater topic create raw -c tidewater.iceberg.mode=key_value -c remote.storage.enable=true`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, names []string) error {
			props, err := properties(configs)
			if err != nil {
				return err
			}
			if tiered {
				setDefault(props, "remote.storage.enable", "true")
				setDefault(props, "retention.ms", "-1")
			}
			if jsonSchema != "" {
				text, err := os.ReadFile(jsonSchema)
				if err != nil {
					return fmt.Errorf("read --json-schema: %w", err)
				}
				setDefault(props, "tidewater.iceberg.mode", "json")
				setDefault(props, "tidewater.iceberg.json.schema", string(text))
			}
			return createTopics(c, names, partitions, replicas, props, ifMissing)
		},
	}
	f := c.Flags()
	f.Int32VarP(&partitions, "partitions", "p", -1, "number of partitions; -1 takes the broker's default")
	f.Int16VarP(&replicas, "replicas", "r", -1, "replicas of each partition; -1 takes the broker's default")
	f.StringArrayVarP(&configs, "config", "c", nil, "topic property as name=value; may be given many times")
	f.BoolVar(&tiered, "tiered", false, "keep for ever in the bucket: remote.storage.enable=true, retention.ms=-1")
	f.StringVar(&jsonSchema, "json-schema", "", "file with a JSON Schema: the topic is a table with its fields as columns")
	f.BoolVar(&ifMissing, "if-missing", false, "a topic that exists already is no error")
	return c
}

func createTopics(c *cobra.Command, names []string, partitions int32, replicas int16, props map[string]*string, ifMissing bool) error {
	k, err := client(c)
	if err != nil {
		return err
	}
	defer k.Close()
	answers, err := kadm.NewClient(k).CreateTopics(c.Context(), partitions, replicas, props, names...)
	if err != nil {
		return fmt.Errorf("create topics: %w", err)
	}
	r, err := newRows(c, "Topic", "Partitions", "Replicas", "ID")
	if err != nil {
		return err
	}
	for _, a := range answers.Sorted() {
		if ifMissing && strings.HasPrefix(fmt.Sprint(a.Err), "TOPIC_ALREADY_EXISTS") {
			continue
		}
		if a.Err != nil {
			return answerError("create topic "+a.Topic, a.Err, a.ErrMessage)
		}
		if err := r.add(a.Topic, a.NumPartitions, a.ReplicationFactor, base64.RawURLEncoding.EncodeToString(a.ID[:])); err != nil {
			return err
		}
	}
	return r.flush()
}

func topicList() *cobra.Command {
	var internal bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List topics with their partitions and replicas",
		Args:  cobra.NoArgs,
		RunE: onCluster(func(c *cobra.Command, adm *kadm.Client, _ []string) error {
			list := adm.ListTopics
			if internal {
				list = adm.ListTopicsWithInternal
			}
			topics, err := list(c.Context())
			if err != nil {
				return fmt.Errorf("list topics: %w", err)
			}
			r, err := newRows(c, "Topic", "Partitions", "Replicas", "Internal")
			if err != nil {
				return err
			}
			for _, t := range topics.Sorted() {
				if err := r.add(t.Topic, len(t.Partitions), t.Partitions.NumReplicas(), t.IsInternal); err != nil {
					return err
				}
			}
			return r.flush()
		}),
	}
	c.Flags().BoolVar(&internal, "internal", false, "also the cluster's own topics")
	return c
}

func topicDescribe() *cobra.Command {
	return &cobra.Command{
		Use:               "describe NAME",
		ValidArgsFunction: completeTopics,
		Short:             "Show a topic's partitions with their offsets, and the properties set on it",
		Args:              cobra.ExactArgs(1),
		RunE: onCluster(func(c *cobra.Command, adm *kadm.Client, args []string) error {
			if err := describePartitions(c, adm, args[0]); err != nil {
				return err
			}
			return describeProperties(c, adm, args[0])
		}),
	}
}

func describePartitions(c *cobra.Command, adm *kadm.Client, name string) error {
	topics, err := adm.ListTopicsWithInternal(c.Context(), name)
	if err != nil {
		return fmt.Errorf("describe topic %s: %w", name, err)
	}
	if err := topics[name].Err; err != nil {
		return fmt.Errorf("describe topic %s: %w", name, err)
	}
	starts, err := adm.ListStartOffsets(c.Context(), name)
	if err != nil {
		return fmt.Errorf("list start offsets of %s: %w", name, err)
	}
	ends, err := adm.ListEndOffsets(c.Context(), name)
	if err != nil {
		return fmt.Errorf("list end offsets of %s: %w", name, err)
	}
	r, err := newRows(c, "Partition", "Leader", "Epoch", "Replicas", "Log start", "High watermark")
	if err != nil {
		return err
	}
	for _, p := range topics[name].Partitions.Sorted() {
		start, _ := starts.Lookup(name, p.Partition)
		end, _ := ends.Lookup(name, p.Partition)
		if err := r.add(p.Partition, p.Leader, p.LeaderEpoch, p.Replicas, start.Offset, end.Offset); err != nil {
			return err
		}
	}
	return r.then(c)
}

func describeProperties(c *cobra.Command, adm *kadm.Client, name string) error {
	all, err := adm.DescribeTopicConfigs(c.Context(), name)
	if err != nil {
		return fmt.Errorf("describe properties of %s: %w", name, err)
	}
	r, err := newRows(c, "Property", "Value")
	if err != nil {
		return err
	}
	for _, t := range all {
		for _, p := range t.Configs {
			if p.Source.String() != "DYNAMIC_TOPIC_CONFIG" || p.Value == nil {
				continue
			}
			if err := r.add(p.Key, r.cell(*p.Value)); err != nil {
				return err
			}
		}
	}
	return r.flush()
}

func topicAlter() *cobra.Command {
	var set, unset []string
	c := &cobra.Command{
		Use:               "alter NAME",
		ValidArgsFunction: completeTopics,
		Short:             "Set or unset properties of a topic",
		Example:           "  tidewater topic alter orders --set retention.ms=86400000 --unset max.message.bytes",
		Args:              cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			props, err := properties(set)
			if err != nil {
				return err
			}
			var changes []kadm.AlterConfig
			for _, name := range slices.Sorted(maps.Keys(props)) {
				changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: props[name]})
			}
			for _, name := range unset {
				changes = append(changes, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: name})
			}
			if len(changes) == 0 {
				return usageError{fmt.Errorf("nothing to change: give --set name=value or --unset name")}
			}
			k, err := client(c)
			if err != nil {
				return err
			}
			defer k.Close()
			answers, err := kadm.NewClient(k).AlterTopicConfigs(c.Context(), changes, args[0])
			if err != nil {
				return fmt.Errorf("alter topic %s: %w", args[0], err)
			}
			for _, a := range answers {
				if a.Err != nil {
					return answerError("alter topic "+args[0], a.Err, a.ErrMessage)
				}
			}
			return nil
		},
	}
	c.Flags().StringArrayVar(&set, "set", nil, "property as name=value; may be given many times")
	c.Flags().StringArrayVar(&unset, "unset", nil, "property to take back to its default; may be given many times")
	return c
}

func topicAddPartitions() *cobra.Command {
	return &cobra.Command{
		Use:               "add-partitions NAME COUNT",
		ValidArgsFunction: completeTopics,
		Short:             "Add COUNT partitions to a topic",
		Args:              cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			var add int
			if _, err := fmt.Sscanf(args[1], "%d", &add); err != nil || add < 1 {
				return usageError{fmt.Errorf("COUNT %q: want a number above 0", args[1])}
			}
			k, err := client(c)
			if err != nil {
				return err
			}
			defer k.Close()
			answers, err := kadm.NewClient(k).CreatePartitions(c.Context(), add, args[0])
			if err != nil {
				return fmt.Errorf("add partitions to %s: %w", args[0], err)
			}
			for _, a := range answers {
				if a.Err != nil {
					return answerError("add partitions to "+args[0], a.Err, a.ErrMessage)
				}
			}
			return nil
		},
	}
}

func topicTrim() *cobra.Command {
	var partition int32
	var before int64
	c := &cobra.Command{
		Use:               "trim NAME --partition P --before OFFSET",
		ValidArgsFunction: completeTopics,
		Short:             "Delete a partition's records below an offset, for good, from hot tier and bucket",
		Args:              cobra.ExactArgs(1),
		RunE: onCluster(func(c *cobra.Command, adm *kadm.Client, args []string) error {
			var offsets kadm.Offsets
			offsets.Add(kadm.Offset{Topic: args[0], Partition: partition, At: before})
			answers, err := adm.DeleteRecords(c.Context(), offsets)
			var shards *kadm.ShardErrors
			if errors.As(err, &shards) && len(shards.Errs) > 0 {
				err = shards.Errs[0].Err
			}
			if err != nil {
				return fmt.Errorf("trim %s partition %d: %w", args[0], partition, err)
			}
			a, ok := answers.Lookup(args[0], partition)
			if !ok {
				return fmt.Errorf("trim %s: no answer for partition %d", args[0], partition)
			}
			if a.Err != nil {
				return fmt.Errorf("trim %s partition %d: %w", args[0], partition, a.Err)
			}
			fmt.Fprintf(c.OutOrStdout(), "log start is %d\n", a.LowWatermark)
			return nil
		}),
	}
	c.Flags().Int32Var(&partition, "partition", 0, "partition to trim")
	c.Flags().Int64Var(&before, "before", 0, "first offset to keep; -1 is the high watermark")
	_ = c.MarkFlagRequired("before")
	return c
}

func topicDelete() *cobra.Command {
	return &cobra.Command{
		Use:               "delete NAME...",
		ValidArgsFunction: completeTopics,
		Short:             "Delete topics: files now, objects after a grace period, the table only with tidewater.iceberg.delete=true",
		Args:              cobra.MinimumNArgs(1),
		RunE: onCluster(func(c *cobra.Command, adm *kadm.Client, names []string) error {
			answers, err := adm.DeleteTopics(c.Context(), names...)
			if err != nil {
				return fmt.Errorf("delete topics: %w", err)
			}
			for _, a := range answers.Sorted() {
				if a.Err != nil {
					return answerError("delete topic "+a.Topic, a.Err, a.ErrMessage)
				}
			}
			return nil
		}),
	}
}

// properties parses name=value pairs.
func properties(pairs []string) (map[string]*string, error) {
	props := make(map[string]*string, len(pairs))
	for _, p := range pairs {
		name, value, ok := strings.Cut(p, "=")
		if !ok || name == "" {
			return nil, usageError{fmt.Errorf("property %q: want name=value", p)}
		}
		props[name] = &value
	}
	return props, nil
}

func setDefault(props map[string]*string, name, value string) {
	if _, ok := props[name]; !ok {
		props[name] = &value
	}
}

// answerError joins a broker's code with the message it gave along.
func answerError(what string, err error, message string) error {
	if message == "" {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %s: %w", what, message, err)
}
