package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
)

// consumeFlags is what consume was asked for.
type consumeFlags struct {
	from, group, format string
	offset              int64
	time                string
	at                  time.Time // time, parsed
	partition           int32
	count               int64
	follow, committed   bool
}

func consumeCommand() *cobra.Command {
	var f consumeFlags
	c := &cobra.Command{
		Use:               "consume TOPIC",
		ValidArgsFunction: completeTopics,
		Short:             "Print a topic's records, from any offset or time, hot or cold",
		Example: `  tidewater consume orders --from earliest
  tidewater consume orders --offset 1200 --partition 0 --count 10
  tidewater consume orders --time 2026-01-31T06:00:00Z --format json
  tidewater consume orders --group billing --follow`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var err error
			if f.format, err = c.Flags().GetString("format"); err != nil {
				return err
			}
			start, err := f.start(c)
			if err != nil {
				return err
			}
			return consume(c, args[0], f, start)
		},
	}
	addBrokers(c)
	fl := c.Flags()
	fl.StringVar(&f.from, "from", "latest", "earliest or latest (latest follows by itself)")
	fl.Int64VarP(&f.offset, "offset", "o", -1, "first offset to print, in every partition chosen")
	fl.StringVarP(&f.time, "time", "t", "", "print records from this time on (RFC 3339)")
	fl.Int32VarP(&f.partition, "partition", "p", -1, "only this partition")
	fl.Int64VarP(&f.count, "count", "n", -1, "stop after this many records")
	fl.StringVarP(&f.group, "group", "g", "", "consume as a member of this group, follow, and commit what was printed")
	fl.BoolVarP(&f.follow, "follow", "F", false, "wait for new records at the end instead of stopping")
	fl.BoolVar(&f.committed, "committed", true, "skip records of open and aborted transactions")
	c.MarkFlagsMutuallyExclusive("from", "offset", "time")
	c.MarkFlagsMutuallyExclusive("group", "partition")
	c.MarkFlagsMutuallyExclusive("group", "offset")
	c.MarkFlagsMutuallyExclusive("group", "time")
	return c
}

func (f *consumeFlags) start(c *cobra.Command) (kgo.Offset, error) {
	switch {
	case f.time != "":
		at, err := time.Parse(time.RFC3339, f.time)
		if err != nil {
			return kgo.Offset{}, usageError{fmt.Errorf("--time %q: want a time such as 2026-01-31T06:00:00Z", f.time)}
		}
		f.at = at
		return kgo.NewOffset().AfterMilli(at.UnixMilli()), nil
	case c.Flags().Changed("offset") && f.offset < 0:
		return kgo.Offset{}, usageError{fmt.Errorf("--offset %d: want 0 or more", f.offset)}
	case f.offset >= 0:
		return kgo.NewOffset().At(f.offset), nil
	case f.from == "earliest":
		return kgo.NewOffset().AtStart(), nil
	case f.from == "latest":
		f.follow = true
		return kgo.NewOffset().AtEnd(), nil
	}
	return kgo.Offset{}, usageError{fmt.Errorf("--from %q: want earliest or latest", f.from)}
}

func consume(c *cobra.Command, topic string, f consumeFlags, start kgo.Offset) error {
	// Control records are asked for and not printed: the end of a partition may be one.
	opts := []kgo.Opt{kgo.ConsumeResetOffset(start), kgo.KeepControlRecords()}
	if f.committed {
		opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	switch {
	case f.group != "":
		opts = append(opts, kgo.ConsumerGroup(f.group), kgo.ConsumeTopics(topic), kgo.AutoCommitMarks(), kgo.BlockRebalanceOnPoll())
	case f.partition >= 0:
		opts = append(opts, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {f.partition: start}}))
	default:
		opts = append(opts, kgo.ConsumeTopics(topic))
	}
	k, err := client(c, opts...)
	if err != nil {
		return err
	}
	defer k.Close()
	end, err := endsOf(c.Context(), k, topic, f)
	if err != nil {
		return err
	}
	if end.done() && f.offset > 0 {
		fmt.Fprintf(c.ErrOrStderr(), "offset %d is at or past the end: nothing to print\n", f.offset)
	}
	err = poll(c, k, f, end)
	if f.group != "" {
		err = errors.Join(err, k.CommitMarkedOffsets(context.WithoutCancel(c.Context())))
		k.AllowRebalance()
	}
	return err
}

func poll(c *cobra.Command, k *kgo.Client, f consumeFlags, end *remaining) error {
	left := f.count
	for left != 0 && !end.done() {
		fetches := k.PollFetches(c.Context())
		if c.Context().Err() != nil {
			return nil // interrupted: what was printed stands
		}
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("consume: %w", err)
		}
		for it := fetches.RecordIter(); !it.Done() && left != 0; {
			r := it.Next()
			if end.past(r) || r.Attrs.IsControl() {
				continue
			}
			if err := printRecord(c.OutOrStdout(), r, f.format); err != nil {
				return err
			}
			if f.group != "" {
				k.MarkCommitRecords(r)
			}
			left--
		}
		fetches.EachPartition(end.saw)
		k.AllowRebalance()
	}
	return nil
}

// printed is a record as --format json shows it; binary fields are base64 under
// names of their own.
type printed struct {
	Topic     string            `json:"topic"`
	Partition int32             `json:"partition"`
	Offset    int64             `json:"offset"`
	Timestamp time.Time         `json:"timestamp"`
	Key       *string           `json:"key,omitempty"`
	KeyBytes  []byte            `json:"key_base64,omitempty"`
	Value     *string           `json:"value,omitempty"`
	ValBytes  []byte            `json:"value_base64,omitempty"`
	Headers   map[string]string `json:"headers,omitempty"`
}

func printRecord(w io.Writer, r *kgo.Record, format string) error {
	switch format {
	case "table":
		if len(r.Key) > 0 {
			_, err := fmt.Fprintf(w, "%d:%d\t%s\t%s\n", r.Partition, r.Offset, r.Key, r.Value)
			return err
		}
		_, err := fmt.Fprintf(w, "%d:%d\t%s\n", r.Partition, r.Offset, r.Value)
		return err
	default:
		p := printed{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp.UTC()}
		p.Key, p.KeyBytes = textOrBytes(r.Key)
		p.Value, p.ValBytes = textOrBytes(r.Value)
		for _, h := range r.Headers {
			if p.Headers == nil {
				p.Headers = map[string]string{}
			}
			p.Headers[h.Key] = string(h.Value)
		}
		return json.NewEncoder(w).Encode(p)
	}
}

func textOrBytes(b []byte) (*string, []byte) {
	if b == nil {
		return nil, nil
	}
	if !utf8.Valid(b) {
		return nil, b
	}
	s := string(b)
	return &s, nil
}
