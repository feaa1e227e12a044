// Command demo runs the main job from one end to the other on this machine, on
// real input, and says at each step what it did and what it measured: produce,
// keep in a bucket, trim and read cold, query as a table, follow as a read
// replica, lose the cluster, restore it, and prove that log and table agree.
//
// It uses what a user would: the tidewater binary, a normal Kafka client
// (franz-go) and the bucket's own S3 interface. Everything runs on loopback, in a
// directory of its own that is removed at the end.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"tidewater/demo/flights"
)

func main() {
	binary := flag.String("binary", "bin/tidewater", "the tidewater binary")
	keep := flag.Bool("keep", false, "leave everything running at the end")
	lines := flag.Bool("print", false, "print the flights as JSON, a line each, and do nothing else")
	flag.Parse()
	if *lines {
		printFlights()
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *binary, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
}

// printFlights writes what the demo produces, for those who produce it by hand.
func printFlights() {
	all, err := flights.Sample()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
	out := bufio.NewWriter(os.Stdout)
	for _, f := range all {
		_, _ = out.Write(append(f.Value, '\n')) // Flush tells
	}
	if err := out.Flush(); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// demo is the world that the steps share.
type demo struct {
	binary string
	dir    string
	started
	ports ports
	log   *topicLog // what the producer knows of topic flights
}

// step is one part of the demo: what it is called and what it does.
type step struct {
	title string
	do    func(context.Context, *demo) error
}

func run(ctx context.Context, binary string, keep bool) error {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "tidewater-demo-")
	if err != nil {
		return err
	}
	d := &demo{binary: binary, dir: dir}
	if d.ports, err = freePorts(); err != nil {
		return err
	}
	begin := time.Now()
	steps := []step{
		{"A bucket, a broker, a catalog", start},
		{"Produce a month of flights with a normal Kafka client", produce},
		{"What arrives in the bucket", bucket},
		{"Trim the hot tier, read from offset 0", cold},
		{"The topic is a table", table},
		{"A read replica from the bucket alone", replica},
		{"kill -9 under load, delete the disk, restore from the bucket", disaster},
	}
	for i, s := range steps {
		fmt.Printf("\n%d. %s\n", i+1, s.title)
		at := time.Now()
		if err := s.do(ctx, d); err != nil {
			d.showLogs()
			d.stopAll()
			return fmt.Errorf("step %d (%s): %w; its files are in %s", i+1, s.title, err, dir)
		}
		say("done in %s", round(time.Since(at)))
	}
	fmt.Printf("\nThe whole road took %s.\n", round(time.Since(begin)))
	if keep {
		d.hints()
		fmt.Printf("\nStill running; Ctrl-C ends it. Files: %s\n", dir)
		<-ctx.Done()
	}
	d.stopAll()
	return os.RemoveAll(dir)
}

func say(format string, args ...any) { fmt.Printf("   "+format+"\n", args...) }

func round(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(10 * time.Millisecond)
}
