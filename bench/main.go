// Command bench makes the first figures of Tidewater: what one broker on this
// machine does with default settings, measured from outside, as a user runs it.
//
// It starts the tidewater binary on free loopback ports (the development store
// as a process of its own where a bucket is part of the question), drives it with
// franz-go, and reads the broker's CPU time (user and system) and resident
// memory from /proc. Load and broker share the machine's cores, so each result
// also says what the load generator and everybody else on the machine used.
//
// The figures, each with its question; run one with -only:
//
//	produce    How many MB/s of 1 KiB records are acked (acks=all, durable), and
//	           what does a GB cost the broker in CPU seconds? 1 and 16 partitions,
//	           batches of 128 and 16 KiB. A run ends when all bytes are in segments.
//	fetch      The same for reading all of that back from offset 0.
//	start      How long from the start of the process to the first acked record?
//	idle       What does a broker that does nothing need in memory and CPU?
//	partitions What do 10,000 partitions cost: made, idle, at a start, under load?
//	translate  How many MB/s and records/s become table rows, per core?
//	cold       How fast is a Fetch of bytes that are only in the bucket, against a
//	           loop of ranged GETs on the same bytes?
//	lag        How long after its ack does a consumer on a read replica see a record?
//	restore    How long from a lost disk to the first fetch, for the bytes of cold?
//
// Machine facts, the table, every result and the raw samples behind it are kept
// in -out. Command: go run ./bench -binary bin/tidewater [-only a,b] [-seconds 60].
// Payloads are pseudo-random from a fixed seed. Every loop has a bound in time;
// data lies in a directory of its own that is removed at the end.
//
// Command go run ./bench kafka puts one broker, then three, beside Apache Kafka
// in one run on one machine: see kafka.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"tidewater/bench/generator"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	command := ""
	if len(os.Args) > 1 {
		command = os.Args[1]
	}
	var err error
	switch command {
	case "kafka":
		err = kafkaCommand(ctx, os.Args[2:])
	case generateCommand:
		err = generator.Main(ctx, os.Stdin, os.Stdout)
	default:
		err = figuresCommand(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func figuresCommand(ctx context.Context) error {
	b := &bench{}
	var only string
	flag.StringVar(&b.binary, "binary", "bin/tidewater", "the tidewater binary")
	flag.StringVar(&only, "only", "", "figures to make, separated by commas; all if empty")
	flag.IntVar(&b.seconds, "seconds", 60, "length of a produce run and of the lag run; below 60 is for debugging only")
	flag.StringVar(&b.out, "out", filepath.Join("bench", "results", time.Now().UTC().Format("2006-01-02")), "where results go")
	flag.StringVar(&b.dir, "dir", os.TempDir(), "where data lies: the disk to measure")
	flag.Parse()
	return b.run(ctx, only)
}

// bench is what all figures share.
type bench struct {
	binary, out, dir string
	seconds          int
	only             []string
	results          *results
}

// figure is one part of the program; names are what -only may say to run it.
type figure struct {
	names []string
	make  func(context.Context, *bench) error
}

func figures() []figure {
	return []figure{
		{[]string{"idle"}, idle},
		{[]string{"start"}, start},
		{[]string{"partitions"}, manyTopics},
		{[]string{"produce", "fetch"}, produceAndFetch},
		{[]string{"translate"}, translate},
		{[]string{"cold", "restore"}, coldAndRestore},
		{[]string{"lag"}, lag},
	}
}

// wants reports whether a figure was asked for.
func (b *bench) wants(name string) bool { return len(b.only) == 0 || slices.Contains(b.only, name) }

func (b *bench) run(ctx context.Context, only string) error {
	if err := b.choose(only); err != nil {
		return err
	}
	var err error
	if b.binary, err = filepath.Abs(b.binary); err != nil {
		return err
	}
	facts, err := machineFacts(ctx, b.binary, b.dir)
	if err != nil {
		return err
	}
	if b.results, err = openResults(b.out, facts); err != nil {
		return err
	}
	var failed []error
	for _, f := range figures() {
		if !slices.ContainsFunc(f.names, b.wants) || ctx.Err() != nil {
			continue
		}
		if err := f.make(ctx, b); err != nil {
			err = fmt.Errorf("%s: %w", strings.Join(f.names, ", "), err)
			fmt.Fprintln(os.Stderr, "bench:", err)
			failed = append(failed, err)
		}
	}
	return errors.Join(append(failed, ctx.Err(), b.results.close(b.results.table()))...)
}

func (b *bench) choose(only string) error {
	var known []string
	for _, f := range figures() {
		known = append(known, f.names...)
	}
	if b.seconds < 1 {
		return errors.New("-seconds: want 1 or more")
	}
	if only == "" {
		return nil
	}
	b.only = strings.Split(only, ",")
	for _, name := range b.only {
		if !slices.Contains(known, name) {
			return fmt.Errorf("-only: no figure %q; there are %s", name, strings.Join(known, ", "))
		}
	}
	return nil
}

func (b *bench) runFor() time.Duration { return time.Duration(b.seconds) * time.Second }

func say(format string, args ...any) {
	fmt.Printf(time.Now().Format("15:04:05")+" "+format+"\n", args...)
}
