package multiraft

import (
	"sync"
	"testing"
	"time"

	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// shown is a machine as readers see it from goroutines of their own.
type shown struct {
	quiet
	mu   sync.Mutex // guards lead
	lead Leadership
}

// quiet is a machine that does nothing.
type quiet struct{}

func (quiet) Append(Entry) error    { return nil }
func (quiet) Truncate(record.Index) {}
func (quiet) Stopped(error)         {}
func (quiet) Commit(record.Index)   {}
func (quiet) Lead(Leadership)       {}

func (s *shown) Lead(l Leadership) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lead = l
}

// shows is the term in which readers are served here, 0 for none.
func (s *shown) shows(h *Host) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.lead.Ready || h.Late(groupID(0)) {
		return 0
	}
	return s.lead.Term
}

// A leader's loop stands still, as behind a slow flush, while its broker goes
// on answering heartbeats. From the moment another leads, readers are shown
// nothing here any more, neither before the loop goes on nor after.
func TestLeaderThatStoodStillShowsNothing(t *testing.T) {
	h := openHosts(t, func(int32) disk.FS { return disk.NewMem(0) })
	machines := map[int32]*shown{}
	for node, one := range h.all {
		machines[node] = &shown{}
		gc := GroupConfig{ID: groupID(0), Replica: uint64(node), Voters: []uint64{1, 2, 3}, StateMachine: machines[node],
			NodeOf: func(r uint64) (int32, bool) { return int32(r), true }}
		if err := one.Start(gc); err != nil {
			t.Fatal(err)
		}
	}
	leader := func(not int32) int32 {
		for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			for node, m := range machines {
				if node != not && m.shows(h.get(node)) > 0 {
					return node
				}
			}
		}
		t.Fatal("nobody leads")
		return 0
	}
	for range 3 {
		old := leader(0)
		term := machines[old].shows(h.get(old))
		stands, goOn := make(chan struct{}), make(chan struct{})
		if err := h.get(old).Do(groupID(0), func(*Group) { close(stands); <-goOn }); err != nil {
			t.Fatal(err)
		}
		<-stands
		next := leader(old)
		if got := machines[old].shows(h.get(old)); got == term && term > 0 {
			t.Errorf("broker %d leads, and broker %d shows what it knew in term %d", next, old, term)
		}
		close(goOn)
		for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
			if got := machines[old].shows(h.get(old)); got == term && term > 0 {
				t.Fatalf("broker %d leads, and broker %d, which goes on, shows what it knew in term %d", next, old, term)
			}
		}
	}
}
