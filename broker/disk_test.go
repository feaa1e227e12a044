package broker

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"tidewater/broker/segment"
	"tidewater/internal/disk"
)

// fill makes a disk full: nothing new is made, and only the journal's files,
// which have their blocks already, are still written. tries counts what was
// refused.
func fill(d *disk.Fault, tries *atomic.Int64) {
	d.Add(disk.Rule{Err: disk.ErrFull, When: func(c disk.Call) bool {
		journal := strings.HasPrefix(c.Name, journalDir)
		refused := c.Op == disk.OpCreate || c.Op == disk.OpMkdirAll || c.Op == disk.OpWrite && !journal
		if refused {
			tries.Add(1)
		}
		return refused
	}})
	d.Add(disk.Rule{When: func(c disk.Call) bool { return c.Op == disk.OpFree }})
}

// Shows that a disk without room for segments refuses produce with a retriable
// code, goes on with reads, says so once and not twenty times a second, and
// takes records again when there is room.
func TestFullDiskRefusesProduceAndRecovers(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	var d *disk.Fault
	cfg.disk = func(below disk.FS) disk.FS {
		d = disk.NewFault(below)
		return d
	}
	n := openNode(t, cfg)
	n.topic("t", 1, map[string]string{"segment.bytes": fmt.Sprint(1 << 20), "segment.ms": "100"})
	n.fill("t", 0, 0, 10)
	var tries atomic.Int64
	fill(d, &tries)
	stored := 10
	until(t, "a full disk refuses produce", func() error {
		p := n.produce("t", 0, batchOf(t, nil, []byte(value(0, stored))))
		if p.ErrorCode == 0 {
			stored++
			return fmt.Errorf("record %d was taken", stored-1)
		}
		wantCode(t, "produce to a full disk", p.ErrorCode, kerr.KafkaStorageError)
		return nil
	})
	if !kerr.IsRetriable(kerr.KafkaStorageError) {
		t.Error("the code is not retriable")
	}
	n.mustHold("t", 0, stored)
	until(t, "the step is tried again", func() error {
		if got := tries.Load(); got < 20 {
			return fmt.Errorf("%d tries", got)
		}
		return nil
	})
	if told := n.logged.count("disk is full"); told != 1 {
		t.Errorf("the log tells of the full disk %d times in %d tries", told, tries.Load())
	}
	d.Clear()
	until(t, "produce is taken again", func() error {
		return code(n.produce("t", 0, batchOf(t, nil, []byte(value(0, stored)))).ErrorCode)
	})
	n.mustHold("t", 0, stored+1)
	n.close()
	cfg.disk = nil
	openNode(t, cfg).mustHold("t", 0, stored+1)
}

// Shows that a broker of a cluster ends when its disk has failed a sync of a
// segment, so that others lead, and is whole again after a start.
func TestFailedSegmentSyncEndsTheBrokerOfACluster(t *testing.T) {
	t.Parallel()
	cfgs := threeOf(t, testConfig)
	var d *disk.Fault
	cfgs[0].disk = func(below disk.FS) disk.FS {
		d = disk.NewFault(below)
		return d
	}
	ns := openNodes(t, cfgs)
	ns.topic(1, "t", 3, map[string]string{"segment.bytes": fmt.Sprint(1 << 20), "segment.ms": "100"})
	d.Add(disk.Rule{Times: 1, Err: errors.New("medium error"), When: func(c disk.Call) bool {
		return c.Op == disk.OpSync && strings.HasSuffix(c.Name, ".segment")
	}})
	client := ns.client()
	sent := 0
	send := func() {
		t.Helper()
		if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte(value(0, sent))}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		sent++
	}
	broken, closed := ns.all[0], make(chan error, 1)
	go func() { // as the command does
		<-broken.Done()
		closed <- broken.Close()
	}()
	for broken.Err() == nil {
		send()
	}
	for range 9 {
		send() // the others serve
	}
	if err := <-closed; !errors.Is(err, segment.ErrDead) {
		t.Errorf("it ended with: %v, closed with: %v", broken.Err(), err)
	}
	broken.client.Close()
	broken.closed = true
	ns.again(0, nil)
	ns.whole()
}
