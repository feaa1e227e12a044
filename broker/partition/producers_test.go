package partition

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"tidewater/internal/record"
)

// markerBatch makes a transaction marker as a coordinator does.
func markerBatch(t testing.TB, id int64, epoch int16, commit bool, coordinator int32) record.Batch {
	t.Helper()
	key := []byte{0, 0, 0, 0}
	if commit {
		key[3] = 1
	}
	b := record.Builder{Control: true, Transactional: true, Producer: &record.Producer{ID: id, Epoch: epoch, Sequence: -1}}
	b.Add(1000, key, binary.BigEndian.AppendUint32([]byte{0, 0}, uint32(coordinator)))
	batch, err := b.Build(0)
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

// history is a log of batches without Raft, for the golden scripts.
type history struct {
	t         testing.TB
	batches   []record.Batch
	committed int // how many of them
	state     state
}

func (h *history) highWatermark() record.Offset {
	if h.committed == 0 {
		return 0
	}
	return h.batches[h.committed-1].NextOffset()
}

// add appends b if the state lets it, and says what became of it.
func (h *history) add(b record.Batch, epoch int, nowMs int64) string {
	dup, err := h.state.producers.check(b)
	if err != nil {
		return err.Error() + "\n"
	}
	if dup != nil {
		return fmt.Sprintf("duplicate of %d\n", dup.base)
	}
	b.SetBaseOffset(h.state.next)
	b.SetEpoch(record.LeaderEpoch(epoch))
	h.apply(b, nowMs)
	h.batches = append(h.batches, b)
	return fmt.Sprintf("at %d\n", b.BaseOffset())
}

func (h *history) apply(b record.Batch, nowMs int64) {
	if err := h.state.applyBatch(b, 1, 1, nowMs); err != nil {
		h.t.Fatal(err)
	}
}

// truncate keeps n batches and builds the state again.
func (h *history) truncate(n int) {
	h.batches = h.batches[:n]
	epochs := h.state.epochs
	h.state = state{}
	for _, b := range h.batches {
		h.apply(b, 0)
	}
	h.state.producers.txns.commit(h.highWatermark())
	epochs.cutBack(h.state.next)
	if fmt.Sprint(epochs) != fmt.Sprint(h.state.epochs) {
		h.t.Fatalf("epochs cut back are %v, built again %v", epochs, h.state.epochs)
	}
}

func (h *history) show() string {
	var b strings.Builder
	s := &h.state.producers
	for _, id := range s.ids() {
		p := s.byID[id]
		fmt.Fprintf(&b, "producer %d epoch %d:", id, p.epoch)
		for _, r := range p.recent {
			fmt.Fprintf(&b, " %d-%d@%d", r.first, r.last, r.base)
		}
		b.WriteByte('\n')
	}
	for _, x := range s.txns.undecided {
		fmt.Fprintf(&b, "undecided: producer %d from %d marker %d\n", x.producer, x.first, x.marker)
	}
	for _, a := range s.txns.aborted {
		fmt.Fprintf(&b, "aborted: producer %d %d to %d\n", a.ProducerID, a.FirstOffset, a.LastOffset)
	}
	hw := h.highWatermark()
	fmt.Fprintf(&b, "end %d high watermark %d last stable %d epochs %v\n", h.state.next, hw, s.txns.firstUndecided(hw), h.state.epochs)
	return b.String()
}

// TestProducerHistories plays the scripts of testdata/producers: each line of
// a "log" is one batch, and each snapshot taken on the way must decode to the
// same state.
func TestProducerHistories(t *testing.T) {
	datadriven.Walk(t, "testdata/producers", func(t *testing.T, path string) {
		h := &history{t: t}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			out := h.run(t, d)
			h.checkSnapshot(t)
			return out
		})
	})
}

func (h *history) run(t *testing.T, d *datadriven.TestData) string {
	var n, to int
	switch d.Cmd {
	case "log":
		var out strings.Builder
		for line := range strings.Lines(d.Input) {
			out.WriteString(h.line(t, line))
		}
		return out.String()
	case "commit":
		d.ScanArgs(t, "n", &n)
		h.committed += n
		h.state.producers.txns.commit(h.highWatermark())
	case "truncate":
		d.ScanArgs(t, "n", &n)
		h.truncate(len(h.batches) - n)
	case "expire":
		d.ScanArgs(t, "before", &n)
		h.state.producers.expire(int64(n))
	case "log-start":
		d.ScanArgs(t, "to", &to)
		h.state.producers.txns.forgetBefore(record.Offset(to))
	case "aborted":
		d.ScanArgs(t, "from", &n)
		d.ScanArgs(t, "to", &to)
		return fmt.Sprintln(h.state.producers.txns.abortedIn(record.Offset(n), record.Offset(to)))
	case "epoch-end":
		d.ScanArgs(t, "epoch", &n)
		d.ScanArgs(t, "current", &to)
		return fmt.Sprintf("%+v\n", h.state.epochs.endOf(record.LeaderEpoch(n), record.LeaderEpoch(to), h.state.next))
	default:
		t.Fatalf("unknown command %q", d.Cmd)
	}
	return h.show()
}

// line is "pid=1 epoch=0 seq=0 n=2 [txn] [term=1] [now=0]" or
// "pid=1 epoch=0 commit|abort [coordinator=0]".
func (h *history) line(t *testing.T, line string) string {
	v := map[string]int{"n": 1, "term": 1}
	words := map[string]bool{}
	for _, f := range strings.Fields(line) {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			words[f] = true
			continue
		}
		var n int
		if _, err := fmt.Sscan(value, &n); err != nil {
			t.Fatal(err)
		}
		v[key] = n
	}
	if words["commit"] || words["abort"] {
		return h.add(markerBatch(t, int64(v["pid"]), int16(v["epoch"]), words["commit"], int32(v["coordinator"])), v["term"], int64(v["now"]))
	}
	who := record.Producer{ID: int64(v["pid"]), Epoch: int16(v["epoch"]), Sequence: int32(v["seq"])}
	return h.add(makeBatch(t, record.Builder{Producer: &who, Transactional: words["txn"]}, 1000, v["n"], 1), v["term"], int64(v["now"]))
}

// checkSnapshot takes a snapshot through its codec. What it does not carry:
// markers that are not committed, since snapshots are of committed state.
func (h *history) checkSnapshot(t *testing.T) {
	t.Helper()
	for _, x := range h.state.producers.txns.undecided {
		if x.marker >= 0 {
			return
		}
	}
	data := encodeSnapshot(testIdentity(), h.state.next, &h.state.producers)
	id, next, s, err := decodeSnapshot(data)
	if err != nil || id != testIdentity() || next != h.state.next {
		t.Fatalf("decode snapshot: %+v at %d, %v", id, next, err)
	}
	if again := encodeSnapshot(id, next, &s); string(again) != string(data) {
		t.Fatal("snapshot changed by its codec")
	}
}

// Sequences wrap from the largest int32 to 0, also inside a batch.
func TestSequenceWraps(t *testing.T) {
	h := &history{t: t}
	if got := h.line(t, fmt.Sprintf("pid=1 seq=%d n=3", math.MaxInt32-1)); got != "at 0\n" {
		t.Fatal(got)
	}
	if got := h.line(t, "pid=1 seq=1 n=1"); got != "at 3\n" {
		t.Fatal(got)
	}
	if got := h.line(t, fmt.Sprintf("pid=1 seq=%d n=3", math.MaxInt32-1)); got != "duplicate of 0\n" {
		t.Fatal(got)
	}
}

// The number of producers is bounded: the idlest go, those in a transaction stay.
func TestProducersAreBounded(t *testing.T) {
	var s producers
	open := makeBatch(t, record.Builder{Producer: &record.Producer{ID: 0}, Transactional: true}, 0, 1, 1)
	if err := s.append(open, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	for id := range int64(producersMax) {
		s.producer(id+1, id)
	}
	if n := len(s.byID); n > producersMax || s.byID[0] == nil || s.byID[1] != nil || s.byID[producersMax] == nil {
		t.Fatalf("%d producers", n)
	}
}
