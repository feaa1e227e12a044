package broker

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"tidewater/broker/cluster"
	"tidewater/broker/multiraft"
	"tidewater/internal/record"
)

// handOverTimeout bounds how long a broker that closes waits until others lead
// what it led. It is a kindness to clients: without it they wait for elections.
const handOverTimeout = 2 * time.Second

// farewell is how long clients are still served after that, which is to say
// told who leads now. One that finds its connection closed instead asks for
// metadata, and may do so only every few seconds.
const farewell = 500 * time.Millisecond

// handOver has other brokers lead what this one leads, the controller's group
// last, so that it is there to be told. It tells whether there was anything.
func (b *Broker) handOver() bool {
	if b.network == nil || b.parts == nil {
		return false
	}
	end := time.NewTimer(handOverTimeout)
	defer end.Stop()
	var led []replicaOf
	for _, h := range b.parts.all() {
		if h.Leadership().Leading {
			led = append(led, replicaOf{h.ID(), h.replica})
		}
	}
	moved := b.transfer(end.C, led) && b.transfer(end.C, []replicaOf{{cluster.GroupID(), b.member.Replica}})
	if len(led) > 0 {
		b.log.Info("other brokers lead what this one led", "partitions", len(led), "all", moved)
	}
	return len(led) > 0
}

// replicaOf is this broker's replica of a group.
type replicaOf struct {
	group   record.PartitionID
	replica uint64
}

// transfer hands groups over and waits; false when the time was up.
func (b *Broker) transfer(end <-chan time.Time, led []replicaOf) bool {
	var moving sync.WaitGroup
	for i, own := range led {
		moving.Add(1)
		done := sync.OnceFunc(moving.Done)
		err := b.hosts.Do(own.group, func(g *multiraft.Group) {
			if to := heir(g.Members(), own.replica, i); to != 0 {
				g.Transfer(to, func(error) { done() }) // whoever leads then, clients find out
			} else {
				done()
			}
		})
		if err != nil {
			done()
		}
	}
	all := make(chan struct{})
	go func() { moving.Wait(); close(all) }() // ends at the latest when the groups stop
	select {
	case <-all:
		return true
	case <-end:
		return false
	}
}

// heir picks who leads next: of the other voters that answer and have the most
// of the log, the nth in turn; 0 when there is none.
func heir(members []multiraft.Member, self uint64, nth int) uint64 {
	voters := slices.DeleteFunc(slices.Clone(members), func(m multiraft.Member) bool {
		return m.Replica == self || !m.Voter || !m.Active || m.Copying
	})
	if len(voters) == 0 {
		return 0
	}
	most := slices.MaxFunc(voters, func(a, b multiraft.Member) int { return cmp.Compare(a.Match, b.Match) }).Match
	voters = slices.DeleteFunc(voters, func(m multiraft.Member) bool { return m.Match < most })
	return voters[nth%len(voters)].Replica
}
