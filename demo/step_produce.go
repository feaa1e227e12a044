package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"tidewater/demo/flights"
)

const (
	topic      = "flights"
	partitions = 3
)

func listens(addr string) bool {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

func (d *demo) client(opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(d.ports.kafka), kgo.ClientID("demo")}, opts...)...)
}

// produce creates the topic, tiered and as a table, and sends every flight.
func produce(ctx context.Context, d *demo) error {
	all, err := flights.Sample()
	if err != nil {
		return err
	}
	k, err := d.client(kgo.ProducerLinger(5 * time.Millisecond))
	if err != nil {
		return err
	}
	defer k.Close()
	if err := createTopic(ctx, k); err != nil {
		return err
	}
	say("topic flights: %d partitions, kept for ever (retention.ms=-1), tiered, table with the fields as columns", partitions)
	b := newBar("produce", int64(len(all)))
	var acked atomic.Int64
	var bytes int64
	failed := make(chan error, 1)
	at := time.Now()
	for _, f := range all {
		bytes += int64(len(f.Key) + len(f.Value))
		k.Produce(ctx, &kgo.Record{Topic: topic, Key: []byte(f.Key), Value: f.Value}, func(_ *kgo.Record, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
				return
			}
			b.at(acked.Add(1))
		})
	}
	if err := k.Flush(ctx); err != nil {
		return err
	}
	took := time.Since(at)
	b.end(acked.Load())
	select {
	case err := <-failed:
		return fmt.Errorf("produce: %w", err)
	default:
	}
	say("%d records, %.1f MB, each batch fsynced before its ack, in %s (%.0f MB/s)", len(all), float64(bytes)/1e6, round(took), float64(bytes)/1e6/took.Seconds())
	d.log, err = readLog(ctx, k)
	return err
}

func createTopic(ctx context.Context, k *kgo.Client) error {
	value := func(s string) *string { return &s }
	answers, err := kadm.NewClient(k).CreateTopics(ctx, partitions, 1, map[string]*string{
		"retention.ms":                  value("-1"),
		"remote.storage.enable":         value("true"),
		"segment.ms":                    value("2000"),
		"tidewater.iceberg.mode":        value("json"),
		"tidewater.iceberg.json.schema": &flights.Schema,
	}, topic)
	if err == nil {
		var errs []error
		for _, a := range answers {
			errs = append(errs, a.Err)
		}
		err = errors.Join(errs...)
	}
	if err != nil {
		return fmt.Errorf("create topic %s: %w", topic, err)
	}
	return nil
}
