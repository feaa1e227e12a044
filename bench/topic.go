package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"tidewater/internal/fetch"
	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// The development store's bucket and its two credentials.
const (
	bucketName        = "tidewater"
	bucketRegion      = "us-east-1"
	accessKey         = "tidewater"
	secretKey         = "tidewater"
	readOnlyAccessKey = "tidewater-readonly"
	readOnlySecretKey = "tidewater"
)

// createTopic makes a topic with properties given as name, value, name, value.
func createTopic(ctx context.Context, k *kgo.Client, topic string, partitions int32, props ...string) error {
	configs := map[string]*string{}
	for i := 0; i < len(props); i += 2 {
		configs[props[i]] = &props[i+1]
	}
	answer, err := kadm.NewClient(k).CreateTopic(ctx, partitions, 1, configs, topic)
	if err = errors.Join(err, answer.Err); err != nil {
		return fmt.Errorf("create topic %s: %s: %w", topic, answer.ErrMessage, err)
	}
	return nil
}

// alterTopic sets properties of a topic, given as name, value, name, value.
func alterTopic(ctx context.Context, k *kgo.Client, topic string, props ...string) error {
	var changes []kadm.AlterConfig
	for i := 0; i < len(props); i += 2 {
		changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: props[i], Value: &props[i+1]})
	}
	answers, err := kadm.NewClient(k).AlterTopicConfigs(ctx, changes, topic)
	if err != nil {
		return fmt.Errorf("alter topic %s: %w", topic, err)
	}
	for _, a := range answers {
		if a.Err != nil {
			return fmt.Errorf("alter topic %s: %s: %w", topic, a.ErrMessage, a.Err)
		}
	}
	return nil
}

// records is the sum of a topic's high watermarks: what a consumer can read.
func records(ctx context.Context, k *kgo.Client, topic string) (int64, error) {
	ends, err := kadm.NewClient(k).ListEndOffsets(ctx, topic)
	if err = errors.Join(err, ends.Error()); err != nil {
		return 0, fmt.Errorf("list end offsets of %s: %w", topic, err)
	}
	var sum int64
	ends.Each(func(o kadm.ListedOffset) { sum += o.Offset })
	return sum, nil
}

// waitSegments waits until no byte of any log is outside a segment, and says how long.
func (w *world) waitSegments(ctx context.Context) (time.Duration, error) {
	at := time.Now()
	err := wait(ctx, time.Minute, "all bytes to be in segments", func() (bool, error) {
		m, err := metrics(ctx, w.ports.admin)
		if err != nil {
			return false, err
		}
		pending, ok := m["tidewater_log_pending_bytes"]
		if !ok {
			return false, errors.New("the broker has no metric tidewater_log_pending_bytes")
		}
		return pending == 0, nil
	})
	return time.Since(at), err
}

// waitTiered waits until the last record of each partition is in the bucket, in
// a segment that a manifest names.
func waitTiered(ctx context.Context, k *kgo.Client, topic string, limit time.Duration) error {
	var have int64
	want, err := records(ctx, k, topic)
	if err != nil {
		return err
	}
	err = wait(ctx, limit, "the log to be in the bucket", func() (bool, error) {
		offsets, err := kadm.NewClient(k).ListOffsetsAfterMilli(ctx, logio.TimeLatestTiered, topic)
		if err = errors.Join(err, offsets.Error()); err != nil {
			return false, fmt.Errorf("list offsets of %s: %w", topic, err)
		}
		have = 0
		offsets.Each(func(o kadm.ListedOffset) { have += o.Offset + 1 }) // it is the offset of a record, -1 for none
		return have == want, nil
	})
	if err != nil {
		err = fmt.Errorf("%w: %d of %d offsets", err, have, want)
	}
	return err
}

// waitTrimmed waits until the hot tier of each partition is empty.
func waitTrimmed(ctx context.Context, k *kgo.Client, topic string, limit time.Duration) error {
	t, err := fetch.Open(ctx, k, topic)
	if err != nil {
		return err
	}
	return wait(ctx, limit, "the hot tier to be trimmed", func() (bool, error) {
		for _, p := range t.Partitions {
			o, err := p.Offsets(ctx)
			if err != nil || o.LocalLogStart != o.HighWatermark {
				return false, err
			}
		}
		return true, nil
	})
}

// readFirst reads the first batch of a topic, as a fetch of one partition.
func readFirst(ctx context.Context, k *kgo.Client, topic string) error {
	t, err := fetch.Open(ctx, k, topic)
	if err != nil {
		return err
	}
	r, err := t.Partitions[0].Read(ctx, logio.ReadRequest{Offset: record.Offset(0), BytesMax: 1 << 20, MinOne: true})
	if err != nil {
		return err
	}
	if len(r.Batches) == 0 {
		return fmt.Errorf("topic %s: nothing at offset 0", topic)
	}
	return nil
}
