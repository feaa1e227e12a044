package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"regexp"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"tidewater/demo/flights"
)

const (
	flightsTopic      = "flights"
	flightsPartitions = 3
	// flightsRounds of the embedded month (27,004 flights) are the backlog.
	flightsRounds = 37
	tableTimeout  = 3 * time.Minute
	// tableEvery is how often the catalog is asked how far the table is: each
	// question makes the broker commit what it can, as an engine's would.
	tableEvery = 200 * time.Millisecond
)

// translate answers figure translate twice: end to end, where a backlog that is
// wholly in the bucket becomes a table when the topic's mode is switched on; and
// the translator alone on one core, by its own Go benchmark.
func translate(ctx context.Context, b *bench) error {
	for _, mode := range []string{"json", "key_value"} {
		if err := translateBacklog(ctx, b, mode); err != nil {
			return fmt.Errorf("mode %s: %w", mode, err)
		}
	}
	out, err := exec.CommandContext(ctx, "go", "test", "-run", "X", "-bench", "Translate", "-cpu", "1", "-benchtime", "5s", "./iceberg/translate").CombinedOutput()
	if err != nil {
		return fmt.Errorf("go test -bench Translate: %w: %s", err, out)
	}
	return errors.Join(b.results.keep("translate-benchmark.txt", out), addBenchmark(b, out))
}

// addBenchmark takes MB/s and krows/s off the lines of the Go benchmark.
func addBenchmark(b *bench, out []byte) error {
	line := regexp.MustCompile(`(?m)^BenchmarkTranslate/(\w+).*\s([\d.]+) MB/s.*\s([\d.]+) krows/s`)
	found := line.FindAllStringSubmatch(string(out), -1)
	if len(found) == 0 {
		return fmt.Errorf("go test -bench Translate: no figure in %q", out)
	}
	for _, m := range found {
		mbps, _ := strconv.ParseFloat(m[2], 64)
		krows, _ := strconv.ParseFloat(m[3], 64)
		r := newResult("translate", "mode %s, the translator alone (Go benchmark), one core", m[1])
		if err := b.results.add(r.add("", "records/s", 1000*krows).add("", "MB/s", mbps)); err != nil {
			return err
		}
	}
	return nil
}

func translateBacklog(ctx context.Context, b *bench, mode string) (err error) {
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
	if err := createTopic(ctx, k, flightsTopic, flightsPartitions, "retention.ms", "-1", "remote.storage.enable", "true", "segment.ms", "2000"); err != nil {
		return err
	}
	count, bytes, err := produceFlights(ctx, k)
	if err != nil {
		return err
	}
	if err := waitTiered(ctx, k, flightsTopic, tierTimeout); err != nil {
		return err
	}
	m := startMeter(p, store)
	props := []string{"tidewater.iceberg.mode", mode}
	if mode == "json" {
		props = append(props, "tidewater.iceberg.json.schema", flights.Schema)
	}
	if err := alterTopic(ctx, k, flightsTopic, props...); err != nil {
		return err
	}
	if err := w.waitTable(ctx, count); err != nil {
		return err
	}
	return addTranslate(b, mode, count, bytes, m.stop())
}

func addTranslate(b *bench, mode string, count, bytes int64, u use) error {
	mb := float64(bytes) / 1e6
	r := newResult("translate", "mode %s, %d flights as JSON, %.0f MB, from the log to the committed table", mode, count, mb)
	r.add("", "records/s per core", float64(count)/u.cpu[0])
	r.add("", "MB/s per core", mb/u.cpu[0])
	r.add("by the clock", "records/s", float64(count)/u.took.Seconds())
	r.add("by the clock", "MB/s", mb/u.took.Seconds())
	r.add("in", "s", u.took.Seconds())
	r.add("broker", "CPU-s", u.cpu[0])
	r.add("store", "CPU-s", u.cpu[1])
	return b.results.add(u.addOther(r))
}

// produceFlights sends the backlog, and gives its records and bytes of keys and values.
func produceFlights(ctx context.Context, k *kgo.Client) (count, bytes int64, err error) {
	month, err := flights.Sample()
	if err != nil {
		return 0, 0, err
	}
	failed := make(chan error, 1)
	for range flightsRounds {
		for i := range month {
			f := &month[i]
			count, bytes = count+1, bytes+int64(len(f.Key)+len(f.Value))
			k.Produce(ctx, &kgo.Record{Topic: flightsTopic, Key: []byte(f.Key), Value: f.Value}, func(_ *kgo.Record, err error) {
				if err != nil {
					select {
					case failed <- err:
					default:
					}
				}
			})
		}
	}
	if err := k.Flush(ctx); err != nil {
		return 0, 0, err
	}
	select {
	case err := <-failed:
		return 0, 0, fmt.Errorf("produce flights: %w", err)
	default:
		return count, bytes, nil
	}
}

// waitTable waits until the table's committed offsets hold so many records.
func (w *world) waitTable(ctx context.Context, want int64) error {
	var have int64
	deadline := time.Now().Add(tableTimeout)
	for {
		var err error
		if have, err = w.tableRecords(ctx); err != nil || have == want {
			return err
		}
		if have > want || time.Now().After(deadline) {
			return fmt.Errorf("table has %d of %d records", have, want)
		}
		if err := pause(ctx, tableEvery); err != nil {
			return err
		}
	}
}

// tableRecords reads how far the table is from its property tidewater.offsets
// (docs/formats/table.md), which is set in the same commit as the data.
func (w *world) tableRecords(ctx context.Context) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.ports.catalog+"/v1/namespaces/topics/tables/"+flightsTopic, nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("load table: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return 0, nil
	}
	var t struct {
		Metadata struct {
			Properties map[string]string `json:"properties"`
		} `json:"metadata"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&t); err != nil || resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("load table: %s: %w", resp.Status, err)
	}
	var sum int64
	for _, m := range regexp.MustCompile(`\d+:(\d+)-(\d+)@`).FindAllStringSubmatch(t.Metadata.Properties["tidewater.offsets"], -1) {
		from, _ := strconv.ParseInt(m[1], 10, 64)
		to, _ := strconv.ParseInt(m[2], 10, 64)
		sum += to - from
	}
	return sum, nil
}
