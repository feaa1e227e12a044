package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"

	"tidewater/bench/generator"
)

// javaRecordsPerSecond times the length of a run is how many records the Java
// tools produce, so that a run lasts about as long as the others on this machine.
const javaRecordsPerSecond = 100_000

// javaRow has Kafka's own kafka-producer-perf-test write (its default producer but
// for the row's batch and linger) and kafka-consumer-perf-test read it back.
func javaRow(ctx context.Context, r *running, of row) error {
	return r.withTopic(ctx, of.partitions, func(topic string) error {
		records := r.v.seconds * javaRecordsPerSecond
		mb := float64(records) * generator.RecordBytes / 1e6
		produce := []string{"--topic", topic, "--num-records", strconv.Itoa(records), "--record-size", strconv.Itoa(generator.RecordBytes), "--throughput", "-1",
			"--bootstrap-server", strings.Join(r.brokers, ","), "--command-property", "acks=all", "batch.size=" + strconv.Itoa(int(of.batch)), "linger.ms=" + strconv.Itoa(of.lingerMs)}
		out := r.result(of)
		m := r.begin()
		said, cpu, err := r.java(ctx, of, "ProducerPerformance", produce...)
		if err != nil {
			return err
		}
		// The last line sums up: "… records sent, N records/sec (N MB/sec), N ms avg latency, … 99.9th."
		sums := regexp.MustCompile(`records sent, ([\d.]+) records/sec.*?([\d.]+) ms avg latency.*?([\d.]+) ms 99th, ([\d.]+) ms 99.9th`).FindAllStringSubmatch(said, -1)
		if len(sums) == 0 {
			return fmt.Errorf("kafka-producer-perf-test said no figures: %s", said)
		}
		last := sums[len(sums)-1]
		if err := addAll(out, last[1:], []value{{rate, "MB/s", generator.RecordBytes / 1e6}, {"ack mean", "ms", 1}, {"ack p99", "ms", 1}, {"ack p99.9", "ms", 1}}); err != nil {
			return err
		}
		if err := r.drained(ctx); err != nil {
			return err
		}
		m.add(out, mb, cpu)
		if err := r.countRecords(ctx, topic, int64(records)); err != nil {
			return err
		}
		said, _, err = r.java(ctx, of, "ConsumerPerformance", "--bootstrap-server", strings.Join(r.brokers, ","), "--topic", topic, "--num-records", strconv.Itoa(records), "--hide-header", "--timeout", "60000")
		if err != nil {
			return err
		}
		// start, end, MB, MB/s, records, records/s, rebalance ms, fetch ms, MB/s of fetching, records/s of fetching
		f := strings.Split(strings.TrimSpace(said[strings.LastIndexByte(strings.TrimSpace(said), '\n')+1:]), ", ")
		if len(f) != 10 || f[4] != strconv.Itoa(records) {
			return fmt.Errorf("kafka-consumer-perf-test did not read %d records: %s", records, said)
		}
		return errors.Join(addAll(out, f[8:9], []value{{"read back", "MB/s", (1 << 20) / 1e6}}), r.keep(out)) // its MB are MiB
	})
}

// java runs one of Kafka's tools and gives what it printed and the CPU it used.
func (r *running) java(ctx context.Context, of row, tool string, args ...string) (string, float64, error) {
	cmd := r.v.kafka.Tool("org.apache.kafka.tools."+tool, args...)
	if r.v.pin {
		pinTo(cmd, generatorCore)
	}
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := startAndWait(ctx, cmd); err != nil {
		return "", 0, fmt.Errorf("%s: %w: %s%s", tool, err, out.String(), said.String())
	}
	name := fmt.Sprintf("%s-%s-%s.txt", of.name, strings.ReplaceAll(r.name, " ", "-"), tool)
	cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return out.String(), cpu.Seconds(), r.v.results.keep(name, out.Bytes())
}

// startAndWait ends the command when ctx does.
func startAndWait(ctx context.Context, cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	return cmd.Wait()
}

// addAll adds printed numbers to a result; as says each one's name and unit, and
// what to multiply it by.
func addAll(out *result, numbers []string, as []value) error {
	for i, text := range numbers {
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("read figure %s of %q: %w", as[i].Name, text, err)
		}
		out.add(as[i].Name, as[i].Unit, v*as[i].Value)
	}
	return nil
}
