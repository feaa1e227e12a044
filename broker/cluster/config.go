package cluster

import (
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"

	"tidewater/broker/multiraft"
	"tidewater/internal/record"
	"tidewater/internal/topicconfig"
)

// Raft is the controller's group on this broker: multiraft, or a simulated one.
type Raft interface {
	// Do runs task on the loop that calls the controller's Machine, or returns
	// an error and never runs it.
	Do(task func(Proposer)) error
}

// Proposer is the group as a task in Raft.Do sees it.
type Proposer interface {
	// Leading gives the term when this replica leads and is ready to serve.
	Leading() (term uint64, ok bool)
	// Propose appends data to the log; Machine.Append has been called when it
	// returns without error. On error nothing has happened.
	Propose(data []byte) (record.Index, error)
	// ReadIndex confirms with a majority that this replica leads; done gets the
	// entry up to which everything committed before is applied.
	ReadIndex(done func(record.Index, error))
	// Members is the group's membership, Change proposes another. Both are for
	// the leader.
	Members() Members
	Change(cc raftpb.ConfChangeV2) error
	// Transfer asks another replica to lead.
	Transfer(to uint64)
	// Release says that everything up to at is durable in the controller's
	// store, so that the log may forget it.
	Release(at record.Index, term uint64)
}

// Members is a Raft group's membership as its leader sees it.
type Members struct {
	// Voters are those of the present configuration, Outgoing those of the one
	// that a joint one comes from. Learners have no vote.
	Voters, Outgoing, Learners []uint64
	Replicas                   []multiraft.Member // how far each is
}

// Config is what a Controller needs. Zero fields take the defaults named.
type Config struct {
	Node int32
	// Membership is this broker's place in the controller's group; zero is a
	// cluster of one.
	Membership Membership
	// Session counts the starts of the data directory, from 1 on, and is what
	// Peers' connections carry. 0, in a cluster of one only, leaves commands
	// without request ids.
	Session uint64
	// Peers reaches the other brokers; nil in a cluster of one.
	Peers Peers
	// Seeds are asked for the brokers' addresses while there is no leader.
	Seeds []string
	Raft  Raft
	// Groups are the partitions' groups on this broker: GroupsOn the host that
	// runs them. Without it no partition is moved.
	Groups Groups
	// FS and Dir are where the store lies; FS is vfs.Default if nil.
	FS  vfs.FS
	Dir string

	// DefaultPartitions (1) and DefaultReplicationFactor (1) are for topics
	// created with -1; internal ones get at least three replicas where there
	// are three brokers.
	DefaultPartitions        int32
	DefaultReplicationFactor int16
	// PartitionsMax (100,000) bounds the partitions of the cluster.
	PartitionsMax int
	// BrokerConfigs are the static broker properties; synonyms of topic
	// properties among them are the topics' defaults.
	BrokerConfigs map[string]string
	// CheckBrokerConfigs judges dynamic broker properties; without it only
	// synonyms of topic properties can be set.
	CheckBrokerConfigs func(map[string]string) []topicconfig.Fault
	// CheckpointEvery (1 s) is how often Run syncs the store.
	CheckpointEvery time.Duration

	// DutyEvery (250 ms) is how often the controller's leader looks after the
	// cluster.
	DutyEvery time.Duration
	// OfflineAfter (5 s) is how long a broker may not answer before it is
	// marked offline.
	OfflineAfter time.Duration
	// RepairAfter (15 min) is how long a broker may be offline before its
	// replicas are made anew elsewhere, VoterAfter (1 min) before another takes
	// its vote in the controller's group.
	RepairAfter, VoterAfter time.Duration
	// PlanEvery (5 s) is how often moves are planned; MovesMax (32) bounds those
	// under way, BalanceMax (4) those of them that only even out the load; -1
	// is none.
	PlanEvery            time.Duration
	MovesMax, BalanceMax int
	// Sizes gives the bytes of the partitions that this broker leads; nil when
	// disks are not to be evened out.
	Sizes func() map[record.PartitionID]int64

	Now    func() time.Time // time.Now
	Random io.Reader        // crypto/rand; for topic ids
	Log    *slog.Logger     // slog.Default
}

// Validate reports every fault.
func (c *Config) Validate() error {
	var errs []error
	if c.Raft == nil {
		errs = append(errs, errors.New("cluster: Raft is missing"))
	}
	if c.Dir == "" {
		errs = append(errs, errors.New("cluster: Dir is missing"))
	}
	if c.Peers != nil && c.Session == 0 {
		errs = append(errs, errors.New("cluster: Session is missing"))
	}
	if c.Membership.Replica != 0 {
		errs = append(errs, c.Membership.validate())
	}
	if c.DefaultPartitions < 0 || c.DefaultReplicationFactor < 0 || c.PartitionsMax < 0 || c.CheckpointEvery < 0 {
		errs = append(errs, errors.New("cluster: a default or bound is negative"))
	}
	return errors.Join(errs...)
}

func (c *Config) fill() {
	if c.Membership.Replica == 0 {
		c.Membership = Alone(Identity{}, c.Node, [16]byte{})
	}
	if c.FS == nil {
		c.FS = vfs.Default
	}
	if c.DefaultPartitions == 0 {
		c.DefaultPartitions = 1
	}
	if c.DefaultReplicationFactor == 0 {
		c.DefaultReplicationFactor = 1
	}
	if c.PartitionsMax == 0 {
		c.PartitionsMax = 100_000
	}
	if c.CheckpointEvery == 0 {
		c.CheckpointEvery = time.Second
	}
	setDuration(&c.DutyEvery, 250*time.Millisecond)
	setDuration(&c.OfflineAfter, 5*time.Second)
	setDuration(&c.RepairAfter, 15*time.Minute)
	setDuration(&c.VoterAfter, time.Minute)
	setDuration(&c.PlanEvery, 5*time.Second)
	if c.MovesMax == 0 {
		c.MovesMax = 32
	}
	if c.BalanceMax == 0 {
		c.BalanceMax = 4
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Random == nil {
		c.Random = rand.Reader
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
}

func setDuration(d *time.Duration, v time.Duration) {
	if *d == 0 {
		*d = v
	}
}
