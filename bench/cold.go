package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"tidewater/internal/objstore"
)

const (
	coldTopic = "cold"
	// coldBytesPerSecond times -seconds is the data set, 2 GiB in a full run.
	coldBytesPerSecond = 2 << 30 / 60
	// coldSegmentMs seals what is left of a segment soon after the load.
	coldSegmentMs = "2000"
	tierTimeout   = 3 * time.Minute
	// The sizes of the raw loop's GETs. The remote reader asks for 1 MiB at
	// first and for up to four times as much beside a reader that goes on.
	chunkBytes, aheadBytes = 1 << 20, 8 << 20
)

// coldAndRestore answers figures cold and restore on one data set that is only
// in the bucket: raw GETs, Fetch, raw GETs again, then a lost disk.
func coldAndRestore(ctx context.Context, b *bench) (err error) {
	w, err := b.newWorld()
	if err != nil {
		return err
	}
	defer w.close(&err)
	store, err := w.store(ctx)
	if err != nil {
		return err
	}
	p, err := w.broker(ctx, "node")
	if err != nil {
		return err
	}
	k, err := w.client()
	if err != nil {
		return err
	}
	defer k.Close()
	if err := w.fillBucket(ctx, k); err != nil {
		return err
	}
	if b.wants("cold") {
		if err := w.coldCases(ctx, p, store); err != nil {
			return err
		}
	}
	if b.wants("restore") {
		return w.restore(ctx, p)
	}
	return nil
}

// fillBucket produces the data set and waits until the bucket alone has it.
func (w *world) fillBucket(ctx context.Context, k *kgo.Client) error {
	if err := createTopic(ctx, k, coldTopic, 1, "retention.ms", "-1", "remote.storage.enable", "true", "segment.bytes", "134217728", "segment.ms", coldSegmentMs); err != nil {
		return err
	}
	bytes := int64(min(w.b.seconds, 60)) * coldBytesPerSecond
	l, err := w.produce(ctx, load{topic: coldTopic, batchBytes: 128 << 10, limit: 2 * time.Minute, bytesMax: bytes})
	if err != nil {
		return err
	}
	at := time.Now()
	if err := waitTiered(ctx, k, coldTopic, tierTimeout); err != nil {
		return err
	}
	say("cold: %.0f MB produced in %.1f s, in the bucket %.1f s later", l.mb(), l.took.Seconds(), time.Since(at).Seconds())
	if err := alterTopic(ctx, k, coldTopic, "local.retention.ms", "1"); err != nil {
		return err
	}
	return waitTrimmed(ctx, k, coldTopic, tierTimeout)
}

// rawSizes are what a reader is compared with.
func rawSizes() []int64 { return []int64{chunkBytes, aheadBytes} }

// coldCases reads the same bytes in turn by raw GETs, by Fetch, and by raw GETs
// again, so that a machine that changes its mind shows.
func (w *world) coldCases(ctx context.Context, p, store *process) error {
	raw := map[int64][]float64{} // MB/s by size of the GETs
	if err := w.rawLoops(ctx, store, raw); err != nil {
		return err
	}
	r, u, before, after, err := w.readAll(ctx, coldTopic, p, store)
	if err != nil {
		return err
	}
	if err := w.rawLoops(ctx, store, raw); err != nil {
		return err
	}
	mb := float64(r.Bytes()) / 1e6
	mbps := mb / u.took.Seconds()
	out := newResult("cold", "1 partition, %.0f MB by Fetch, nothing of it on the broker's disk", mb)
	out.add("", "MB/s", mbps)
	for _, size := range rawSizes() {
		out.add(fmt.Sprintf("of the raw loop of %d MiB GETs", size>>20), "%", 100*mbps/mean(raw[size]))
	}
	out.add("broker", "CPU-s per GB", 1000*u.cpu[0]/mb)
	out.add("store", "CPU-s per GB", 1000*u.cpu[1]/mb)
	out.add("reader", "CPU-s per GB", 1000*u.own/mb)
	addSources(out, before, after)
	return w.b.results.add(u.addOther(out))
}

// rawLoops gets every segment object of the topic, in order, one GET after the
// other, once with each size.
func (w *world) rawLoops(ctx context.Context, store *process, mbps map[int64][]float64) error {
	s, err := objstore.OpenS3(objstore.Config{Endpoint: "http://" + w.ports.s3, Region: bucketRegion, Bucket: bucketName, AccessKey: readOnlyAccessKey, SecretKey: readOnlySecretKey})
	if err != nil {
		return err
	}
	objects, err := segmentObjects(ctx, s)
	if err != nil {
		return err
	}
	for _, size := range rawSizes() {
		m := startMeter(store)
		var bytes int64
		for _, o := range objects {
			n, err := getAll(ctx, s, o, size)
			if err != nil {
				return err
			}
			bytes += n
		}
		u := m.stop()
		mb := float64(bytes) / 1e6
		mbps[size] = append(mbps[size], mb/u.took.Seconds())
		r := newResult("cold", "raw loop of %d MiB GETs, %.0f MB in %d objects", size>>20, mb, len(objects))
		r.add("", "MB/s", mb/u.took.Seconds()).add("store", "CPU-s per GB", 1000*u.cpu[0]/mb).add("reader", "CPU-s per GB", 1000*u.own/mb)
		if err := w.b.results.add(u.addOther(r)); err != nil {
			return err
		}
	}
	return nil
}

func getAll(ctx context.Context, s objstore.Store, o objstore.Info, size int64) (int64, error) {
	var bytes int64
	for at := int64(0); at < o.Size; at += size {
		body, err := s.Get(ctx, o.Key, at, min(size, o.Size-at))
		if err != nil {
			return 0, err
		}
		bytes += int64(len(body))
	}
	return bytes, nil
}

// segmentObjects lists the topic's segments in the order of their keys, which
// is the order of their offsets.
func segmentObjects(ctx context.Context, s objstore.Store) ([]objstore.Info, error) {
	var out []objstore.Info
	for after := ""; ; {
		page, err := s.List(ctx, "", after, 1000)
		if err != nil {
			return nil, err
		}
		for _, o := range page.Objects {
			after = o.Key
			if strings.HasSuffix(o.Key, ".segment") && strings.Contains(o.Key, "/"+coldTopic+"~") {
				out = append(out, o)
			}
		}
		if !page.More {
			return out, nil
		}
	}
}

func mean(numbers []float64) float64 {
	var sum float64
	for _, n := range numbers {
		sum += n
	}
	return sum / float64(len(numbers))
}
