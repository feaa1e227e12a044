package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// lineBytesMax bounds one input line of produce: a record cannot be larger
// than the broker's default max.message.bytes by much anyway.
const lineBytesMax = 32 << 20

func produceCommand() *cobra.Command {
	var key, separator, file, compression string
	var timeout time.Duration
	var partition int32
	c := &cobra.Command{
		Use:               "produce TOPIC",
		ValidArgsFunction: completeTopics,
		Short:             "Produce lines of standard input (or a file), one record each, acked by a majority on disk",
		Example: `  echo hello | tidewater produce orders
  tidewater produce orders --key-separator : < pairs.txt
  tidewater produce flights --file flights.jsonl --compression zstd`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			codec, err := codec(compression)
			if err != nil {
				return err
			}
			in := c.InOrStdin()
			if file != "" {
				f, err := os.Open(file)
				if err != nil {
					return fmt.Errorf("open --file: %w", err)
				}
				defer f.Close()
				in = f
			}
			opts := []kgo.Opt{kgo.ProducerBatchCompression(codec), kgo.DefaultProduceTopic(args[0]), kgo.AllowAutoTopicCreation(), kgo.RecordDeliveryTimeout(timeout)}
			if partition >= 0 {
				opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
			}
			k, err := client(c, opts...)
			if err != nil {
				return err
			}
			defer k.Close()
			template := kgo.Record{Partition: max(partition, 0)}
			if key != "" {
				template.Key = []byte(key)
			}
			n, err := produceLines(c, k, in, template, []byte(separator))
			fmt.Fprintf(c.ErrOrStderr(), "%d records acked\n", n)
			return err
		},
	}
	addBrokers(c)
	f := c.Flags()
	f.StringVarP(&key, "key", "k", "", "key of every record")
	f.StringVar(&separator, "key-separator", "", "text between key and value in each line")
	f.StringVarP(&file, "file", "f", "", "read lines from this file instead of standard input")
	f.StringVarP(&compression, "compression", "z", "none", "none, gzip, snappy, lz4 or zstd")
	f.DurationVar(&timeout, "timeout", 30*time.Second, "give up on a record that no broker acks within this time")
	f.Int32VarP(&partition, "partition", "p", -1, "partition to write to; -1 chooses by key")
	return c
}

// produceLines sends each line and waits for all acks; it returns how many
// records were acked, and the first error.
func produceLines(c *cobra.Command, k *kgo.Client, in io.Reader, template kgo.Record, separator []byte) (int64, error) {
	var acked, sent int64
	var failed error
	done := func(_ *kgo.Record, err error) { // promises run one after the other
		if err == nil {
			acked++
		} else if failed == nil {
			failed = err
		}
	}
	var bad error // what ends the input early; what came before it is sent
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, lineBytesMax)
	for bad == nil && lines.Scan() {
		r := template
		r.Value = bytes.Clone(lines.Bytes())
		if len(separator) > 0 {
			before, after, found := bytes.Cut(r.Value, separator)
			if !found {
				bad = fmt.Errorf("line %d has no %q between key and value", sent+1, separator)
				break
			}
			r.Key, r.Value = before, after
		}
		k.Produce(c.Context(), &r, done)
		sent++
	}
	if err := k.Flush(c.Context()); err != nil {
		return acked, fmt.Errorf("wait for acks: %w", err)
	}
	if errors.Is(failed, kerr.PolicyViolation) {
		return acked, fmt.Errorf("produce: %w (a read replica takes no records: produce to the cluster that it follows)", failed)
	}
	if failed != nil {
		return acked, fmt.Errorf("produce: %w", failed)
	}
	if bad != nil {
		return acked, bad
	}
	if err := lines.Err(); err != nil {
		return acked, fmt.Errorf("read line %d: %w", sent+1, err)
	}
	return acked, nil
}

func codec(name string) (kgo.CompressionCodec, error) {
	switch name {
	case "none":
		return kgo.NoCompression(), nil
	case "gzip":
		return kgo.GzipCompression(), nil
	case "snappy":
		return kgo.SnappyCompression(), nil
	case "lz4":
		return kgo.Lz4Compression(), nil
	case "zstd":
		return kgo.ZstdCompression(), nil
	}
	return kgo.CompressionCodec{}, usageError{fmt.Errorf("--compression %q: want none, gzip, snappy, lz4 or zstd", name)}
}
