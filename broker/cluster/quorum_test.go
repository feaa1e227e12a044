package cluster

import (
	"bytes"
	"context"
	"encoding/hex"
	"testing"
	"time"
)

// Every broker tells the same of the controller's group, as its leader sees it:
// who votes, how far each is, and since when one that is down is behind.
func TestQuorum(t *testing.T) {
	inCluster(t, 3, func(w *world) {
		ctx := context.Background()
		w.create(w.leader(), "t", 1, 1)
		time.Sleep(time.Second)
		for _, id := range []int32{1, 2, 3} {
			q, err := w.node(id).c.Quorum(ctx)
			now := time.Now().UnixMilli()
			if err != nil || q.Leader != w.leader().id || len(q.Voters) != 3 || len(q.Observers) != 0 {
				t.Fatalf("broker %d: %+v, %v", id, q, err)
			}
			for _, r := range q.Voters {
				if r.Match != q.Committed || r.HeardMs != now || r.CaughtUpMs != now {
					t.Errorf("broker %d of %d: %+v", r.Node, now, r)
				}
			}
		}
		f := w.follower()
		f.crash()
		before := time.Now().UnixMilli()
		w.until("it is offline", func() bool { return w.leader().c.View().Broker(f.id).Offline })
		time.Sleep(time.Minute)
		q, err := w.leader().c.Quorum(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range q.Voters {
			ago := time.Now().UnixMilli() - r.CaughtUpMs
			if behind := r.Node == f.id; behind != (r.Match < q.Committed) || behind != (ago > 55_000) || behind != (r.HeardMs < before+30_000) || r.CaughtUpMs < 0 {
				t.Errorf("%+v, committed %d, crashed at %d", r, q.Committed, before)
			}
		}
	})
}

func sampleQuorum() *Quorum {
	return &Quorum{Leader: 2, Term: 7, Committed: 300, Voters: []QuorumReplica{{2, 301, 1000, 1000}, {1, 300, 900, -1}}, Observers: []QuorumReplica{{3, 9, -1, -1}}}
}

// The bytes of a call that brokers of different builds make to each other.
func TestQuorumBytes(t *testing.T) {
	const want = "010407ac020204ad02d00fd00f02ac02880e010106090101"
	b := encodeQuorum(sampleQuorum())
	if got := hex.EncodeToString(b); got != want {
		t.Errorf("got %s", got)
	}
}

func FuzzDecodeQuorum(f *testing.F) {
	f.Add(encodeQuorum(sampleQuorum()))
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := decodeQuorum(b)
		if err != nil {
			return
		}
		again, err := decodeQuorum(encodeQuorum(&q))
		if err != nil || !bytes.Equal(encodeQuorum(&again), encodeQuorum(&q)) {
			t.Errorf("%+v, then %+v, %v", q, again, err)
		}
	})
}
