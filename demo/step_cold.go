package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"tidewater/internal/fetch"
)

// trimTimeout bounds the wait for the hot tier to be trimmed.
const trimTimeout = 90 * time.Second

// cold has the hot tier trimmed, as a topic's own settings would in time, and
// reads everything again from offset 0.
func cold(ctx context.Context, d *demo) error {
	k, err := d.client()
	if err != nil {
		return err
	}
	defer k.Close()
	if err := alter(ctx, k, "local.retention.ms", "1"); err != nil {
		return err
	}
	if err := d.waitTrimmed(ctx, k); err != nil {
		return err
	}
	before, err := metrics(ctx, d.ports.admin)
	if err != nil {
		return err
	}
	at := time.Now()
	read, err := readUpTo(ctx, k, d.log)
	if err != nil {
		return err
	}
	took := time.Since(at)
	after, err := metrics(ctx, d.ports.admin)
	if err != nil {
		return err
	}
	if err := same("hot read and cold read", d.log, read); err != nil {
		return err
	}
	say("%.0f MB/s; bytes came from:", float64(read.bytes)/1e6/took.Seconds())
	var bucket float64
	for _, source := range []string{"memory", "disk", "cache", "bucket"} {
		name := fmt.Sprintf("tidewater_fetch_bytes_total{source=%q}", source)
		n := after[name] - before[name]
		if source == "bucket" {
			bucket = n
		}
		say("  %-8s %12.0f", source, n)
	}
	if bucket == 0 {
		return fmt.Errorf("no byte came from the bucket: the hot tier was not trimmed")
	}
	say("direct I/O on the data directory: %s", yesNo(after["tidewater_disk_direct_io"] == 1))
	return alter(ctx, k, "local.retention.ms", "86400000")
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no (this file system refuses it)"
}

// waitTrimmed waits until the hot tier of each partition begins where the log
// was read to.
func (d *demo) waitTrimmed(ctx context.Context, k *kgo.Client) error {
	b := newBar("trim the hot tier", d.log.records())
	var trimmed int64
	err := wait(ctx, trimTimeout, "the hot tier to be trimmed", func() (bool, error) {
		t, err := fetch.Open(ctx, k, topic)
		if err != nil {
			return false, err
		}
		trimmed = 0
		for _, p := range t.Partitions {
			o, err := p.Offsets(ctx)
			if err != nil {
				return false, err
			}
			trimmed += int64(o.LocalLogStart)
		}
		b.at(trimmed)
		return trimmed == d.log.records(), nil
	})
	b.end(trimmed)
	return err
}

// alter sets properties of the topic, given as name, value, name, value.
func alter(ctx context.Context, k *kgo.Client, pairs ...string) error {
	var changes []kadm.AlterConfig
	for i := 0; i < len(pairs); i += 2 {
		changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: pairs[i], Value: &pairs[i+1]})
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
