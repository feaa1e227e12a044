package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/broker/cluster"
	"tidewater/internal/logio"
	"tidewater/internal/record"
)

// Fetch (key 1): v4-v18, for consumers.
//
// Behaviour decided:
//   - The answer waits until min bytes are there, at most max wait (itself
//     bounded by Config.FetchWaitMax); an error of any partition ends the wait.
//   - Max bytes bound the answer and each partition; the first batch of an
//     answer is given whole whatever its size. When the memory for answers runs
//     out, answers get smaller, not later.
//   - Batches are written as they lie in the log, by vectored writes.
//   - Sessions (fetch_session.go) are bounded; without room a client gets none
//     and fetches in full.
//   - read_committed stops at the last stable offset and lists aborted
//     transactions.
//   - A consumer that names its rack is sent from a leader in another rack to a
//     replica in its own (KIP-392). Such a replica serves what it knows to be
//     committed; an offset beyond is OFFSET_NOT_AVAILABLE, never out of range,
//     since the replica may only be behind. Consumers without a rack are served
//     by leaders alone.
//   - Followers do not replicate by Fetch: a replica id is INVALID_REQUEST.
//   - A last fetched epoch (v12) that ended before the fetch offset is answered
//     with the diverging epoch.
//
// Versions:
//   - v4 isolation level; v5 log start offset; v7 sessions; v9 current leader
//     epoch; v11 rack and preferred read replica; v12 flexible, last fetched
//     epoch; v13 topic ids; v15 replica state; v16 node endpoints; v17 replica
//     directory; v18 the fetcher's high watermark

const (
	fetchIDsMin       = 13 // the first version that names topics by id
	fetchLeaderMin    = 12
	fetchEndpointsMin = 16
	// grantBytesMin is what a Fetch may always read, so that it gets on when
	// the memory for answers is used up.
	grantBytesMin = 64 << 10
)

// fetch is the Fetch being answered on a connection; its writer reuses it.
type fetch struct {
	session     *fetchSession // nil without one
	wantSession bool
	parts       []fetchedPartition
	isolation   logio.Isolation
	rack        string // of the consumer, "" for unknown
	granted     int    // bytes of answer memory held
	size        int    // record bytes found
	failed      bool
	wake        chan struct{} // one token: some partition is dirty
	head        []byte        // the encoded answer without records
	cuts        []int         // where in head each shown partition's records go
	endpoints   []byte        // the answer's tags, nil for none
}

// fetchedPartition is one partition of a Fetch with what was found.
type fetchedPartition struct {
	want       fetchWant
	remembered *sessionPart // nil without a session
	log        Partition
	topic      record.TopicID
	meta       cluster.Partition

	batches [][]byte
	release func() // gives the memory of batches back; nil for nobody
	size    int    // of batches
	aborted []logio.AbortedTxn
	offsets logio.Offsets
	sources [logio.SourceCount]int64
	end     logio.EpochEnd // the diverging epoch; Epoch -1 for none
	code    int16
	leader  leading // told beside an error; node -1 for none
	// preferred is the replica to read from instead, -1 for none.
	preferred int32
	shown     bool // in the answer

	dirty  *atomic.Bool // the log has moved on since it was read
	cancel func()       // forgets the notification
}

func (f *fetch) add(w fetchWant, remembered *sessionPart) {
	f.parts = append(f.parts, fetchedPartition{want: w, remembered: remembered})
}

func (p *fetchedPartition) diverging() bool { return p.end.Epoch >= 0 }

// finishFetch answers a Fetch in its turn. ctx ends the wait early.
func (c *conn) finishFetch(ctx context.Context, x *exchange) answer {
	m := x.msg.(*kmsg.FetchRequest)
	f := &c.fetch
	id, err := c.runFetch(ctx, &x.request, m)
	code, _ := c.s.code(&x.request, err)
	parts := f.encode(x.header, code, id)
	c.s.counters.fetchBytes.Add(int64(f.size))
	for i := range f.parts {
		for source, n := range f.parts[i].sources {
			c.s.counters.fetchSources[source].Add(n)
		}
	}
	return answer{parts: parts}
}

// runFetch reads until there is enough, and gives the session's id.
func (c *conn) runFetch(ctx context.Context, r *request, m *kmsg.FetchRequest) (session int32, err error) {
	f := &c.fetch
	if m.ReplicaID >= 0 || m.ReplicaState.ID >= 0 {
		return 0, refuse(kerr.InvalidRequest, "replicas do not fetch here")
	}
	if err := c.s.sessions.begin(m, f, time.Now()); err != nil {
		f.parts = f.parts[:0]
		return 0, err
	}
	f.isolation, f.rack = isolation(m.IsolationLevel), m.Rack
	wanted := min(int(max(m.MaxBytes, 0)), c.s.cfg.FetchBytesMax)
	f.granted = c.s.answers.grant(wanted, grantBytesMin)
	for i := range f.parts {
		c.s.openFetch(r, f, &f.parts[i], m.Version)
		c.s.readFetch(ctx, r, f, &f.parts[i])
	}
	enough := min(int(m.MinBytes), f.granted)
	if wait := min(time.Duration(m.MaxWaitMillis)*time.Millisecond, c.s.cfg.FetchWaitMax); wait > 0 && !f.done(enough) {
		c.waitFetch(ctx, r, wait, enough)
	}
	c.s.nameLeaders(ctx, r, f)
	c.s.sessions.end(f)
	if f.session != nil {
		return f.session.id, nil
	}
	return c.s.sessions.create(m, f, time.Now()), nil
}

// done says whether the answer need not wait.
func (f *fetch) done(enough int) bool { return f.size >= enough || f.failed || len(f.parts) == 0 }

// openFetch finds a partition's log.
func (s *Server) openFetch(r *request, f *fetch, p *fetchedPartition, version int16) {
	p.end.Epoch, p.leader.node, p.preferred = -1, -1, -1
	t, err := s.resolve([]byte(p.want.name), p.want.id, version >= fetchIDsMin)
	if err == nil {
		p.log, err = s.partition(t, p.want.partition)
	}
	if err == nil {
		p.topic, p.meta = t.id, t.partitions[p.want.partition]
	}
	if err != nil {
		s.failFetch(r, f, p, err)
	}
}

func (s *Server) failFetch(r *request, f *fetch, p *fetchedPartition, err error) {
	p.code, _ = s.code(r, err)
	p.log, p.batches, p.aborted, p.release = nil, nil, nil, nil
	f.size -= p.size
	p.size = 0
	p.offsets = logio.Offsets{LogStart: -1, LastStable: -1, HighWatermark: -1}
	f.failed = true
}

// readFetch reads a partition, again if it was read before, within what the
// others have left.
func (s *Server) readFetch(ctx context.Context, r *request, f *fetch, p *fetchedPartition) {
	if p.log == nil {
		return
	}
	if p.want.lastEpoch >= 0 && s.checkDiverging(r, f, p) {
		return
	}
	others := f.size - p.size
	res, err := p.log.Read(ctx, logio.ReadRequest{
		Offset: p.want.offset, Isolation: f.isolation, CurrentEpoch: p.want.currentEpoch, Follower: f.rack != "",
		BytesMax: max(min(p.want.bytesMax, f.granted-others), 0), MinOne: others == 0,
	})
	if err != nil {
		s.failFetch(r, f, p, err)
		return
	}
	p.offsets = res.Offsets
	if !res.Followed {
		if p.preferred = s.preferred(f.rack, record.PartitionID{Topic: p.topic, Partition: p.want.partition}, &p.meta); p.preferred >= 0 {
			f.failed = true // the records are there, not here
			return
		}
	}
	p.batches, p.aborted, p.sources, p.release = res.Batches, res.Aborted, res.Bytes, res.Release
	p.size = res.Size()
	f.size = others + p.size
}

// nameLeaders tells the leaders of partitions that this broker does not lead,
// and where they are.
func (s *Server) nameLeaders(ctx context.Context, r *request, f *fetch) {
	if !f.failed || r.version < fetchLeaderMin {
		return
	}
	h := newHints(ctx, hintWait)
	for i := range f.parts {
		p := &f.parts[i]
		p.leader = s.hint(h, p.code, []byte(p.want.name), p.want.id, r.version >= fetchIDsMin, p.want.partition)
	}
	if h.named != nil && r.version >= fetchEndpointsMin {
		f.endpoints = s.appendEndpoints(nil, h.named)
	}
}

// checkDiverging looks whether the client's log is a prefix of ours: whether
// the epoch of its last record reaches up to its fetch offset here. A client
// that knows a newer epoch than this leader is told so: it must not take for
// parted or lost what a successor wrote.
func (s *Server) checkDiverging(r *request, f *fetch, p *fetchedPartition) bool {
	end, err := p.log.EpochEnd(p.want.lastEpoch)
	if err == nil {
		offsets, _ := p.log.Offsets() // an error was EpochEnd's, too
		if err = checkEpoch(offsets.Epoch, int32(p.want.currentEpoch)); err == nil && p.want.lastEpoch > offsets.Epoch {
			err = fmt.Errorf("%w: last fetched epoch %d, it is %d", logio.ErrUnknownEpoch, p.want.lastEpoch, offsets.Epoch)
		}
	}
	switch {
	case errors.Is(err, logio.ErrNotLeader) && f.rack != "":
		return false // a replica shows committed records only, of which no log departs
	case err != nil:
		s.failFetch(r, f, p, err)
		return true
	case end.Epoch < 0:
		s.failFetch(r, f, p, fmt.Errorf("%w: nothing is known of leader epoch %d", logio.ErrOffsetOutOfRange, p.want.lastEpoch))
		return true
	case end.Epoch == p.want.lastEpoch && end.End >= p.want.offset:
		return false
	}
	p.end = end
	p.offsets, _ = p.log.Offsets() // only told to the client
	f.failed = true
	return true
}

// waitFetch waits until there is enough, time is up, or ctx ends. Only
// partitions that moved are read again.
func (c *conn) waitFetch(ctx context.Context, r *request, wait time.Duration, enough int) {
	f := &c.fetch
	if f.wake == nil {
		f.wake = make(chan struct{}, 1)
	}
	defer func() {
		for i := range f.parts {
			f.parts[i].forget()
		}
	}()
	for i := range f.parts {
		f.parts[i].listen(f.isolation, f.wake)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for !f.done(enough) {
		select {
		case <-f.wake:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
		for i := range f.parts {
			p := &f.parts[i]
			if p.log == nil || !p.dirty.Swap(false) {
				continue
			}
			c.s.readFetch(ctx, r, f, p)
			if !f.done(enough) {
				p.listen(f.isolation, f.wake)
			}
		}
	}
}

// listen asks the log to wake the writer when there is more than was read.
// wake may get a token from a log that was heard before and forgotten: that
// costs a look at the dirty flags.
func (p *fetchedPartition) listen(iso logio.Isolation, wake chan struct{}) {
	if p.log == nil {
		return
	}
	p.forget()
	dirty := new(atomic.Bool)
	p.dirty = dirty
	p.cancel = p.log.Notify(iso, p.offsets.End(iso), func() {
		dirty.Store(true)
		select {
		case wake <- struct{}{}:
		default:
		}
	})
}

func (p *fetchedPartition) forget() {
	if p.cancel != nil {
		p.cancel()
		p.cancel = nil
	}
}

// clearFetch lets go of the batches and their memory once they are written.
func (c *conn) clearFetch() {
	f := &c.fetch
	c.s.answers.hold(-f.granted)
	for i := range f.parts {
		if release := f.parts[i].release; release != nil {
			release()
		}
	}
	clear(f.parts)
	f.parts = f.parts[:0]
	if cap(f.parts) > fetchKeptPartitions {
		f.parts, f.head, f.cuts = nil, nil, nil
	}
	f.session, f.wantSession, f.failed, f.granted, f.size, f.endpoints = nil, false, false, 0, 0, nil
}

// fetchKeptPartitions bounds the scratch memory a connection keeps between
// Fetches.
const fetchKeptPartitions = 1024
