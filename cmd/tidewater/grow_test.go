package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// alone makes broker i one that founds a cluster of its own, without a network.
func (bs *brokers) alone(i int) {
	delete(bs.keys[i], "seeds")
	delete(bs.keys[i], "rpc-addr")
}

// joined gives broker i back its network; the others find the cluster by it.
func (bs *brokers) joined(i int) {
	bs.keys[i]["rpc-addr"] = bs.rpc(i)
	for j := range bs.keys {
		if j != i {
			bs.keys[j]["seeds"] = []string{bs.rpc(i)}
		}
	}
}

// Shows that a cluster of one, begun without seeds and without a network, grows
// to three: topics and group offsets get three replicas, and the first broker
// can be lost.
func TestClusterOfOneGrows(t *testing.T) {
	t.Parallel()
	bs := newBrokers(t, 3, 3)
	bs.alone(0)
	bs.start(0)
	must(t, "", "topic", "create", "t", "-p", "3", "-r", "1", bs.kafka(0))
	bs.fill("t", 0, 50, 0)
	must(t, "", "consume", "t", "--group", "g", "--from", "earliest", "-n", "50", bs.kafka(0))
	bs.all[0].end(syscall.SIGTERM)
	bs.joined(0)
	bs.start(0)
	bs.start(1, 2)
	bs.whole(1, 3)
	must(t, "", "partition", "replicas", "3", "--all", bs.admin(2))
	bs.whole(1, 3)
	bs.threeEach("t", 1)
	bs.fill("t", 50, 80)
	bs.all[0].end(syscall.SIGKILL)
	bs.holds("t", 80, 1, 2)
	until(t, "the group's offsets are there", func() error {
		out, bad, err := run(t, "", "group", "describe", "g", "--format", "json", bs.kafka(1, 2))
		if err != nil || strings.Count(out, `"topic":"t"`) != 3 {
			return fmt.Errorf("%s%s: %w", out, bad, errors.Join(err, errors.New("offsets are missing")))
		}
		return nil
	})
	bs.fill("t", 80, 90, 1, 2)
}

// Shows that a cluster restored from its bucket alone onto one broker grows
// again: other brokers join it, topics get three replicas, and the broker that
// was restored can be lost.
func TestRestoredClusterGrows(t *testing.T) {
	t.Parallel()
	bs := newBrokers(t, 3, 3)
	s3 := bs.host + ".9:9000"
	start(t, bs.dir, "s3", "--data-dir", filepath.Join(bs.dir, "bucket"), "--addr", s3).says(t, s3)
	for _, k := range bs.keys {
		k["bucket"] = fmt.Sprintf("s3://tidewater?endpoint=http://%s&region=us-east-1", s3)
		k["bucket-access-key"], k["bucket-secret-key"] = devSecret, devSecret
	}
	bs.start(0, 1, 2)
	must(t, "", "topic", "create", "t", "-p", "2", "-r", "3", "--tiered", bs.kafka(0))
	bs.fill("t", 0, 60)

	// A restore brings what tail objects hold: those of the last record are
	// there a moment later.
	attempt := 0
	until(t, "everything is in the bucket", func() error {
		attempt++
		bs.keys[0]["data-dir"] = filepath.Join(bs.dir, fmt.Sprintf("restored-%d", attempt))
		out := must(t, "", "restore", "--config", bs.config(0), "--format", "json")
		var report struct{ Records int64 }
		if err := json.Unmarshal([]byte(out), &report); err != nil || report.Records < 60 {
			return fmt.Errorf("%d records, %w", report.Records, err)
		}
		return nil
	})
	bs.lose(0, 1, 2)
	for _, i := range []int{1, 2} {
		bs.keys[i]["data-dir"] = bs.dataDir(i) + "-new"
	}
	delete(bs.keys[0], "seeds")
	bs.joined(0)
	bs.start(0)
	bs.start(1, 2)
	bs.whole(1, 3)
	bs.holds("t", 60)
	must(t, "", "partition", "replicas", "3", "--all", bs.admin(1))
	bs.whole(1, 3)
	bs.threeEach("t", 1)
	bs.fill("t", 60, 80)
	bs.all[0].end(syscall.SIGKILL)
	bs.holds("t", 80, 1, 2)
}

// Shows that five brokers of 'tidewater dev' work as a cluster of five, stand
// the loss of one, start it again, and end together.
func TestDevRunsFiveNodes(t *testing.T) {
	t.Parallel()
	bs := newBrokers(t, 5, 5)
	host := bs.host + ".1"
	dev := start(t, bs.dir, "dev", "--nodes", "5", "--data-dir", filepath.Join(bs.dir, "dev"), "--kafka-addr", host+":9092", "--admin-addr", host+":9644",
		"--s3-addr", host+":9000", "--catalog-addr", "", "--rpc-addr", host+":33145", "--memory", fmt.Sprint(64<<20))
	for i := range bs.keys {
		bs.keys[i]["kafka-addr"], bs.keys[i]["admin-addr"] = fmt.Sprintf("%s:%d", host, 9092+i), fmt.Sprintf("%s:%d", host, 9644+i)
	}
	dev.says(t, "5 brokers")
	bs.whole(4, 5)
	must(t, "", "topic", "create", "t", "-p", "5", "-r", "5", bs.kafka())
	bs.fill("t", 0, 50)
	var pid int
	for _, line := range strings.Split(dev.out.String(), "\n") {
		if _, err := fmt.Sscanf(line, "node 2 pid %d", &pid); err == nil {
			break
		}
	}
	if pid == 0 {
		t.Fatalf("no line 'node 2 pid':\n%s", dev.out.String())
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	bs.fill("t", 50, 80)
	bs.whole(4, 5) // it was started again
	bs.holds("t", 80)
	dev.end(syscall.SIGTERM)
	if dev.failed != nil {
		t.Errorf("it ends with %v", dev.failed)
	}
	refused(t, []string{"cluster", "status", bs.admin()}, "no broker answers")
}
