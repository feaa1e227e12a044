package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tidewater/bench/generator"
	"tidewater/bench/peer"
)

const (
	generateCommand = "generate"
	// The cores that -pin gives to brokers and to the generator.
	brokerCore, generatorCore = 0, 1
)

// versus is a run of the comparison with Apache Kafka: every contender in turn,
// alone on the machine, does the same rows.
//
//	for one node, then three:
//	  for each contender: disk probe ▸ start ▸ warm up ▸ row ▸ row ▸ … ▸ stop
//
// A row makes its own topic, has a generator process drive it, waits until all
// bytes are in segments, checks what was acked, and deletes the topic.
type versus struct {
	*bench
	kafka   *peer.Kafka
	quick   bool
	pin     bool
	warmFor time.Duration
	peers   []string
	runs    *os.File // runs.jsonl: what each generator was asked and what it saw
	found   outcomes
}

// kafkaCommand is `bench kafka`.
func kafkaCommand(ctx context.Context, args []string) error {
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	v := &versus{bench: &bench{}}
	var only, peers string
	f := flag.NewFlagSet("bench kafka", flag.ContinueOnError)
	f.StringVar(&v.binary, "binary", "bin/tidewater", "the tidewater binary")
	f.StringVar(&only, "only", "", "rows to make, by the beginnings of their names, separated by commas; all if empty")
	f.StringVar(&peers, "brokers", "", "brokers to run, of "+strings.Join(contenderNames(), ", ")+"; all if empty")
	f.IntVar(&v.seconds, "seconds", 60, "length of a run; below 60 is for development")
	f.BoolVar(&v.quick, "quick", false, "runs of 6 s and small data, for development")
	f.BoolVar(&v.pin, "pin", false, "pin brokers to one core and the generator to another")
	f.StringVar(&v.out, "out", filepath.Join("bench", "results", time.Now().UTC().Format("2006-01-02")+"-kafka"), "where results go")
	f.StringVar(&v.dir, "dir", os.TempDir(), "where data lies: the disk to measure")
	f.StringVar(&cache, "cache", filepath.Join(cache, "tidewater-bench"), "where Kafka's jars are kept")
	if err := f.Parse(args); err != nil {
		return err
	}
	v.warmFor = time.Duration(min(20, v.seconds)) * time.Second
	if v.quick {
		v.seconds, v.warmFor = 6, 4*time.Second
	}
	if err := v.choose(only, peers); err != nil {
		return err
	}
	if v.binary, err = filepath.Abs(v.binary); err != nil {
		return err
	}
	if v.kafka, err = peer.Gather(ctx, cache); err != nil {
		return err
	}
	return v.run(ctx)
}

// choose takes -only and -brokers.
func (v *versus) choose(only, peers string) error {
	if v.seconds < 1 {
		return errors.New("-seconds: want 1 or more")
	}
	if only != "" {
		v.only = strings.Split(only, ",")
	}
	for _, name := range v.only {
		if !slices.ContainsFunc(rows(), func(r row) bool { return strings.HasPrefix(r.name, name) }) {
			return fmt.Errorf("-only: no row begins with %q", name)
		}
	}
	v.peers = contenderNames()
	if peers != "" {
		v.peers = strings.Split(peers, ",")
	}
	for _, name := range v.peers {
		if !slices.Contains(contenderNames(), name) {
			return fmt.Errorf("-brokers: no broker %q; there are %s", name, strings.Join(contenderNames(), ", "))
		}
	}
	return nil
}

func (v *versus) wantsRow(r row) bool {
	return len(v.only) == 0 || slices.ContainsFunc(v.only, func(name string) bool { return strings.HasPrefix(r.name, name) })
}

func (v *versus) run(ctx context.Context) error {
	facts, err := machineFacts(ctx, v.binary, v.dir)
	if err != nil {
		return err
	}
	facts.Kafka = v.kafka.Version
	if v.results, err = openResults(v.out, facts); err != nil {
		return err
	}
	if v.runs, err = os.Create(filepath.Join(v.out, "runs.jsonl")); err != nil {
		return err
	}
	v.found.disk = facts.Disk.WriteMBps
	var failed []error
	for _, nodes := range []int{1, 3} {
		for _, c := range contenders() {
			chosen := slices.DeleteFunc(rows(), func(r row) bool { return r.nodes != nodes || !v.wantsRow(r) })
			if len(chosen) == 0 || !slices.Contains(v.peers, c.name) || ctx.Err() != nil {
				continue
			}
			if err := v.contend(ctx, c, nodes, chosen); err != nil {
				err = fmt.Errorf("%s: %w", c.name, err)
				fmt.Fprintln(os.Stderr, "bench:", err)
				failed = append(failed, err)
			}
		}
	}
	return errors.Join(append(failed, ctx.Err(), v.close())...)
}

// contend has one contender do the rows.
func (v *versus) contend(ctx context.Context, c contender, nodes int, chosen []row) (err error) {
	w, err := v.newWorld()
	if err != nil {
		return err
	}
	defer w.close(&err)
	disk, err := probeDisk(v.dir)
	if err != nil {
		return err
	}
	v.note(c.name, "before its rows", "disk writes", "MB/s", disk.WriteMBps, "syncs", "a second", disk.SyncsPerSecond)
	r, err := c.start(ctx, v, w, nodes)
	if err != nil {
		return err
	}
	r.name, r.v, r.w, r.nodes = c.name, v, w, nodes
	if c.name != tidewater {
		defer r.kill()
	}
	if err := r.warmUp(ctx); err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	var failed []error
	for _, row := range chosen {
		if ctx.Err() != nil {
			break
		}
		if err := row.make(ctx, r, row); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", row.name, err))
			fmt.Fprintf(os.Stderr, "bench: %s, %s: %v\n", c.name, row.name, err)
		}
	}
	return errors.Join(failed...)
}

// note keeps a few numbers given as name, unit, value.
func (v *versus) note(broker, what string, values ...any) {
	r := newResult("machine", "%s", what)
	r.Broker = broker
	for i := 0; i+2 < len(values); i += 3 {
		r.add(values[i].(string), values[i+1].(string), values[i+2].(float64))
	}
	if err := v.results.add(r); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}

// generate runs a generator process and keeps what it saw; cpu is all that the
// process used.
func (v *versus) generate(ctx context.Context, broker, row string, s generator.Spec) (r generator.Result, cpu float64, err error) {
	self, err := os.Executable()
	if err != nil {
		return r, 0, err
	}
	in, err := json.Marshal(s)
	if err != nil {
		return r, 0, err
	}
	cmd := exec.CommandContext(ctx, self, generateCommand)
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &said
	if v.pin {
		pinTo(cmd, generatorCore)
	}
	if err := cmd.Run(); err != nil {
		return r, 0, fmt.Errorf("generator: %w: %s", err, strings.TrimSpace(said.String()))
	}
	cpu = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return r, cpu, fmt.Errorf("generator: %w", err)
	}
	err = json.NewEncoder(v.runs).Encode(struct {
		Row    string          `json:"row"`
		Broker string          `json:"broker"`
		Spec   generator.Spec  `json:"spec"`
		Result json.RawMessage `json:"result"`
	}{row, broker, s, out.Bytes()})
	if err == nil && r.Fault != "" {
		err = errors.New(r.Fault)
	}
	return r, cpu, err
}

// pinTo lets a command run on one core only, with the tool of util-linux.
func pinTo(cmd *exec.Cmd, core int) {
	cmd.Args = append([]string{"taskset", "-c", fmt.Sprint(core), cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/usr/bin/taskset"
}
