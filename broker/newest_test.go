package broker

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Shows that the record with the greatest timestamp is found where the bucket
// alone holds it, the first of several, not below the log start, and that
// there is none in an empty log.
func TestNewestRecordIsFoundInTheBucket(t *testing.T) {
	w := newWorld(t)
	n := openNode(t, w.config())
	n.topic("t", 1, coldOnly())
	now := time.Now().Truncate(time.Millisecond)
	produce := func(age time.Duration) {
		t.Helper()
		r := &kgo.Record{Topic: "t", Timestamp: now.Add(-age), Value: []byte("v")}
		if err := n.client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	newest := func(offset int64, age time.Duration) {
		t.Helper()
		until(t, "the newest record", func() error {
			got, err := n.admin.ListMaxTimestampOffsets(t.Context(), "t")
			if err != nil {
				return err
			}
			o, _ := got.Lookup("t", 0)
			ms := now.Add(-age).UnixMilli()
			if offset < 0 {
				ms = -1
			}
			if o.Err != nil || o.Offset != offset || o.Timestamp != ms || (o.LeaderEpoch < 0) != (offset < 0) {
				return fmt.Errorf("%+v, want offset %d at %d", o, offset, ms)
			}
			return nil
		})
	}
	deleteTo := func(offset int64) {
		t.Helper()
		to := kadm.Offsets{}
		to.Add(kadm.Offset{Topic: "t", At: offset, LeaderEpoch: -1})
		r, err := n.admin.DeleteRecords(t.Context(), to)
		if err == nil {
			err = r.Error()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	newest(-1, 0)
	for _, age := range []time.Duration{time.Hour, 0, 0, 30 * time.Minute} {
		produce(age)
	}
	n.untilCold("t", 0, 4)
	newest(1, 0)
	produce(10 * time.Minute)
	newest(1, 0)
	deleteTo(2)
	newest(2, 0)
	deleteTo(3)
	newest(4, 10*time.Minute)
	n.untilCold("t", 0, 5)
	newest(4, 10*time.Minute)
	deleteTo(5)
	newest(-1, 0)
}
