package broker

import (
	"errors"
	"fmt"
	"sync"

	"tidewater/broker/cluster"
	"tidewater/broker/journal"
	"tidewater/broker/multiraft"
	"tidewater/internal/record"
)

// hosts are the Raft groups of all data directories, each with a journal and
// loops of its own. The controller's group is in the first; where a partition's
// replica lies is what the journals say, and a new one is placed. Its methods
// are safe for concurrent use.
type hosts struct {
	dirs []*dataDir

	mu sync.RWMutex // guards what follows
	// at is where replicas lie, and held how many lie where; both without the
	// controller's group.
	at   map[record.PartitionID]*dataDir
	held map[*dataDir]int
}

// newHosts takes directories whose journals were read: recovered is what each
// of them held. A group in two of them was copied there by hand, and nobody can
// tell which one has voted last.
func newHosts(dirs []*dataDir, recovered [][]journal.Group) (*hosts, error) {
	hs := &hosts{dirs: dirs, at: map[record.PartitionID]*dataDir{}, held: map[*dataDir]int{}}
	for i, d := range dirs {
		for _, g := range recovered[i] {
			if g.ID == cluster.GroupID() && i == 0 {
				continue
			}
			if other := hs.at[g.ID]; other != nil || g.ID == cluster.GroupID() {
				if other == nil {
					other = dirs[0]
				}
				return nil, fmt.Errorf("data directories %s and %s both hold a replica of group %s: one is a copy of the other; bring back what was there", other.path, d.path, g.ID)
			}
			hs.at[g.ID] = d
			hs.held[d]++
		}
	}
	return hs, nil
}

// of gives the directory that a group is in, nil for none.
func (hs *hosts) of(id record.PartitionID) *dataDir {
	if id == cluster.GroupID() {
		return hs.dirs[0]
	}
	hs.mu.RLock()
	defer hs.mu.RUnlock()
	return hs.at[id]
}

// place gives the directory that a replica is in, or is to be in from now on:
// the one with the most room for each replica that it would have.
func (hs *hosts) place(id record.PartitionID) *dataDir {
	if d := hs.of(id); d != nil {
		return d
	}
	room := make([]int64, len(hs.dirs))
	if len(hs.dirs) > 1 {
		for i, d := range hs.dirs {
			room[i] = d.free() // a disk that does not say is the last choice
		}
	}
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if d := hs.at[id]; d != nil {
		return d
	}
	best := 0
	for i, d := range hs.dirs {
		if room[i]/int64(hs.held[d]+1) > room[best]/int64(hs.held[hs.dirs[best]]+1) {
			best = i
		}
	}
	hs.put(id, hs.dirs[best])
	return hs.dirs[best]
}

// put has hs.mu locked; nil takes the group away.
func (hs *hosts) put(id record.PartitionID, d *dataDir) {
	if old := hs.at[id]; old != nil {
		hs.held[old]--
		delete(hs.at, id)
	}
	if d != nil {
		hs.at[id] = d
		hs.held[d]++
	}
}

// replicas is how many lie in a directory.
func (hs *hosts) replicas(d *dataDir) int {
	hs.mu.RLock()
	defer hs.mu.RUnlock()
	return hs.held[d]
}

// unplace forgets where a replica was to be that did not get so far.
func (hs *hosts) unplace(id record.PartitionID) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if d := hs.at[id]; d != nil {
		if _, known := d.host.Recovered(id); !known {
			hs.put(id, nil)
		}
	}
}

// Do implements cluster.Host.
func (hs *hosts) Do(id record.PartitionID, task func(*multiraft.Group)) error {
	d := hs.of(id)
	if d == nil {
		return fmt.Errorf("%w: group %s", multiraft.ErrStopped, id)
	}
	return d.host.Do(id, task)
}

// known says whether a journal holds a group that was not started yet.
func (hs *hosts) known(id record.PartitionID) bool {
	d := hs.of(id)
	if d == nil {
		return false
	}
	_, ok := d.host.Recovered(id)
	return ok
}

// startAll starts replicas that were placed, those of all directories at the
// same time; the answers are in the order of gcs.
func (hs *hosts) startAll(gcs []multiraft.GroupConfig) []error {
	if len(hs.dirs) == 1 {
		return hs.dirs[0].host.StartAll(gcs)
	}
	errs := make([]error, len(gcs))
	in := map[*dataDir][]int{}
	for i := range gcs {
		d := hs.of(gcs[i].ID)
		in[d] = append(in[d], i)
	}
	var starting sync.WaitGroup
	for d, mine := range in {
		starting.Go(func() {
			part := make([]multiraft.GroupConfig, len(mine))
			for i, n := range mine {
				part[i] = gcs[n]
			}
			for i, err := range d.host.StartAll(part) {
				errs[mine[i]] = err
			}
		})
	}
	starting.Wait()
	return errs
}

// remove stops a replica and has its journal forget the group.
func (hs *hosts) remove(id record.PartitionID) error {
	d := hs.of(id)
	if d == nil {
		return fmt.Errorf("%w: group %s", multiraft.ErrStopped, id)
	}
	err := d.host.Remove(id)
	if err == nil {
		hs.mu.Lock()
		defer hs.mu.Unlock()
		hs.put(id, nil)
	}
	return err
}

// Receive takes messages from other brokers; the slice is the caller's again
// when it returns. What is for no group here is dropped, as a host does.
func (hs *hosts) Receive(messages []multiraft.Message) {
	if len(hs.dirs) == 1 {
		hs.dirs[0].host.Receive(messages)
		return
	}
	parts := make(map[*dataDir][]multiraft.Message, len(hs.dirs))
	for i := range messages {
		if d := hs.of(messages[i].Group); d != nil {
			parts[d] = append(parts[d], messages[i])
		}
	}
	for d, part := range parts {
		d.host.Receive(part)
	}
}

// PeerUp and PeerDown tell all who answers.
func (hs *hosts) PeerUp(node int32, boot uint64) {
	for _, d := range hs.dirs {
		d.host.PeerUp(node, boot)
	}
}

// PeerDown tells all who does not.
func (hs *hosts) PeerDown(node int32) {
	for _, d := range hs.dirs {
		d.host.PeerDown(node)
	}
}

// stats are the counters of all together; Full is that of any.
func (hs *hosts) stats() multiraft.Stats {
	var sum multiraft.Stats
	for _, d := range hs.dirs {
		s := d.host.Stats()
		sum.Groups += s.Groups
		sum.Ticking += s.Ticking
		sum.Resting += s.Resting
		sum.Installs += s.Installs
		sum.Proposals += s.Proposals
		sum.Messages += s.Messages
		sum.Dropped += s.Dropped
		sum.Flushes += s.Flushes
		sum.Writes += s.Writes
		sum.Bytes += s.Bytes
		sum.Carried += s.Carried
		sum.HeldTold += s.HeldTold
		sum.Uncommitted += s.Uncommitted
		sum.Held += s.Held
		sum.Full = sum.Full || s.Full
	}
	return sum
}

// close stops all groups; the journals stay open.
func (hs *hosts) close() error {
	var errs []error
	for _, d := range hs.dirs {
		if d.host != nil {
			errs = append(errs, d.host.Close())
		}
	}
	return errors.Join(errs...)
}
