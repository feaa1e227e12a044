package cluster

import (
	"context"
	"fmt"
)

// ImportOptions say how an older life's metadata becomes this one's.
type ImportOptions struct {
	// ProducerIDFloor is above every producer id found in the bucket; the
	// snapshot's own counter is minded as well.
	ProducerIDFloor int64
	// ReplicationFactor bounds the topics' own, which is also cut to the
	// number of brokers; 0 is no bound.
	ReplicationFactor int
}

// producerIDGap is left between the ids an older life may have handed out
// after its snapshot was made and the first of this one.
const producerIDGap = 1_000_000

// restoreTopicsMax is how many partitions and topics one Restore command
// carries, to stay far below CommandBytesMax.
const (
	restorePartitionsMax = 4_000
	restoreBytesMax      = CommandBytesMax / 2
)

// Import fills a cluster that was bootstrapped with restoring from an older
// life's snapshot: topics with their ids, properties and epochs, deletions,
// kept tables, cluster-wide properties, counters raised. Brokers are not taken
// over. It may be run again after it was cut off, and ends the restoring.
func (c *Controller) Import(ctx context.Context, from *View, o ImportOptions) error {
	cmds, err := planImport(c.View(), from, o)
	if err != nil {
		return err
	}
	for _, cmd := range cmds {
		if _, err := c.do(ctx, cmd); err != nil {
			return fmt.Errorf("import cluster metadata: %w", err)
		}
	}
	return nil
}

func planImport(now, from *View, o ImportOptions) ([]*Restore, error) {
	first := &Restore{Deletions: from.Deletions(), KeptTables: from.KeptTables(),
		ClusterConfigs:  from.BrokerConfigs(ClusterDefault),
		ProducerIDFloor: max(from.nextProducerID, o.ProducerIDFloor) + producerIDGap,
		ReplicaIDFloor:  from.nextReplicaID}
	cmds := []*Restore{first}
	partitions, size := 0, 0
	for _, t := range from.Topics() {
		n, err := reassigned(now, t, o)
		if err != nil {
			return nil, err
		}
		bytes := len(appendTopic(nil, n))
		if partitions+len(n.Partitions) > restorePartitionsMax || size+bytes > restoreBytesMax || len(cmds) == 1 {
			cmds = append(cmds, &Restore{})
			partitions, size = 0, 0
		}
		partitions, size = partitions+len(n.Partitions), size+bytes
		last := cmds[len(cmds)-1]
		last.Topics = append(last.Topics, n)
	}
	cmds[len(cmds)-1].Final = true
	return cmds, nil
}

// reassigned places a topic's partitions on the brokers there are now.
func reassigned(now *View, t *Topic, o ImportOptions) (*Topic, error) {
	replicas := min(t.ReplicationFactor(), len(now.brokers))
	if o.ReplicationFactor > 0 {
		replicas = min(replicas, o.ReplicationFactor)
	}
	nodes, err := Place(now, t.ID, 0, len(t.Partitions), replicas)
	if err != nil {
		return nil, fmt.Errorf("place topic %s: %w", t.Name, err)
	}
	n := *t
	n.Partitions = unassigned(nodes)
	for i := range n.Partitions {
		n.Partitions[i].LeaderEpoch = t.Partitions[i].LeaderEpoch
	}
	return &n, nil
}
