package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/internal/fetch"
	"tidewater/internal/record"
)

// followTimeout bounds the wait for a replica to show what the source has.
const followTimeout = 90 * time.Second

// replica starts a second broker that knows only the bucket, and may not write it.
func replica(ctx context.Context, d *demo) error {
	p, err := d.spawn("replica", "replica", "--data-dir", filepath.Join(d.dir, "replica"), "--bucket", d.bucketURL(),
		"--bucket-access-key", readOnlyAccessKey, "--bucket-secret-key", readOnlySecretKey,
		"--kafka-addr", d.ports.replicaKafka, "--admin-addr", d.ports.replicaAdmin)
	if err != nil {
		return err
	}
	if err := p.ready(ctx, d.ports.replicaAdmin); err != nil {
		return err
	}
	if err := d.consumeReplica(ctx); err != nil {
		return err
	}
	k, err := kgo.NewClient(kgo.SeedBrokers(d.ports.replicaKafka))
	if err != nil {
		return err
	}
	defer k.Close()
	read, err := readUpTo(ctx, k, d.log)
	if err != nil {
		return err
	}
	if err := same("source and replica", d.log, read); err != nil {
		return err
	}
	if err := d.replicaLag(ctx); err != nil {
		return err
	}
	if err := refusedProduce(ctx, k); err != nil {
		return err
	}
	return d.replicaCannotWrite(ctx)
}

// refusedProduce shows what a producer is told, with the message that most
// clients keep to their logs.
func refusedProduce(ctx context.Context, k *kgo.Client) error {
	t, err := fetch.Open(ctx, k, topic)
	if err != nil {
		return err
	}
	b := record.Builder{}
	b.Add(time.Now().UnixMilli(), nil, []byte("{}"))
	batch, err := b.Build(0)
	if err != nil {
		return err
	}
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 5000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = topic, t.ID
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Records = batch
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(ctx, k)
	if err != nil {
		return err
	}
	answer := resp.Topics[0].Partitions[0]
	code := kerr.TypedErrorForCode(answer.ErrorCode)
	if code == nil || answer.ErrorMessage == nil {
		return fmt.Errorf("the replica took a record, or refused it without a word")
	}
	say("a produce to it is refused: %s: %s", code.Message, *answer.ErrorMessage)
	return nil
}

// consumeReplica reads the topic on the replica as a group.
func (d *demo) consumeReplica(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, followTimeout)
	defer cancel()
	k, err := kgo.NewClient(kgo.SeedBrokers(d.ports.replicaKafka), kgo.ConsumerGroup("demo"), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	if err != nil {
		return err
	}
	defer k.Close()
	b := newBar("group demo consumes", d.log.records())
	var got int64
	for got < d.log.records() {
		f := k.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%d of %d records consumed on the replica: %w", got, d.log.records(), err)
		}
		if err := f.Err(); err != nil {
			return fmt.Errorf("consume on the replica: %w", err)
		}
		got += int64(f.NumRecords())
		b.at(got)
	}
	b.end(got)
	if err := k.CommitUncommittedOffsets(ctx); err != nil {
		return fmt.Errorf("commit on the replica: %w", err)
	}
	return nil
}

// replicaLag produces a record to the source and measures when the replica shows it.
func (d *demo) replicaLag(ctx context.Context) error {
	source, err := d.client()
	if err != nil {
		return err
	}
	defer source.Close()
	follower, err := kgo.NewClient(kgo.SeedBrokers(d.ports.replicaKafka), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()))
	if err != nil {
		return err
	}
	defer follower.Close()
	ctx, cancel := context.WithTimeout(ctx, followTimeout)
	defer cancel()
	if err := follower.Ping(ctx); err != nil {
		return err
	}
	const value = `{"year":2013,"month":1,"day":31,"carrier":"TW","flight":1,"origin":"EWR","dest":"JFK","distance":21,"time_hour":"2013-01-31T23:00:00Z"}`
	var lags []time.Duration
	for range 5 {
		at := time.Now()
		if err := source.ProduceSync(ctx, &kgo.Record{Topic: topic, Key: []byte("TW1"), Value: []byte(value)}).FirstErr(); err != nil {
			return err
		}
		acked := time.Now()
		for seen := false; !seen; {
			f := follower.PollFetches(ctx)
			if err := f.Err0(); err != nil {
				return fmt.Errorf("wait for the replica: %w", err)
			}
			f.EachRecord(func(r *kgo.Record) { seen = seen || !r.Timestamp.Before(at.Truncate(time.Millisecond)) })
		}
		lags = append(lags, time.Since(acked))
	}
	say("its lag, from the ack here to a consumer there: %s", lagText(lags))
	d.log, err = readLog(ctx, source)
	return err
}

func lagText(lags []time.Duration) string {
	var text []string
	for _, l := range lags {
		text = append(text, fmt.Sprintf("%d ms", l.Milliseconds()))
	}
	return strings.Join(text, ", ")
}

// replicaCannotWrite shows that the store itself denies the replica's key every write.
func (d *demo) replicaCannotWrite(ctx context.Context) error {
	s, err := d.store()
	if err != nil {
		return err
	}
	err = s.RemoveObject(ctx, bucketName, "no/such/object", minio.RemoveObjectOptions{})
	if err == nil {
		return fmt.Errorf("the store let the read-only key delete")
	}
	say("its key cannot write: the store answers %q", err.Error())
	return nil
}
