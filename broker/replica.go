package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"tidewater/broker/cluster"
	"tidewater/broker/kafka"
	"tidewater/internal/record"
	"tidewater/readreplica"
	"tidewater/tiering/manifest"
	"tidewater/tiering/restore"
)

// followEvery is how often a read replica looks for news.
const followEvery = 250 * time.Millisecond

// replica is a read replica's side of a foreign cluster: the source's topics
// stand in this cluster's own metadata, under their ids, so that groups and
// clients here find them; their logs are read from the bucket.
type replica struct {
	b      *Broker
	source *readreplica.Cluster
	// changed says that the source's topics must be brought in; by RunOnce's
	// caller, as everything else here.
	changed bool
}

// openReplica finds the cluster to follow and reads it once, so that its
// topics are there when clients come.
func (b *Broker) openReplica(ctx context.Context) error {
	if !b.cfg.Replica {
		return nil
	}
	layout, err := b.sourceLayout(ctx)
	if err != nil {
		return err
	}
	if err := b.register(ctx, b.cfg.KafkaAddr); err != nil { // topics are placed on brokers that are known
		return err
	}
	r := &replica{b: b, changed: true}
	r.source = readreplica.Open(readreplica.Config{
		Store: b.tier.store, Layout: layout, Cache: b.tier.cache, Topics: replicaTopics,
		Changed: func([]readreplica.Topic) { r.changed = true }, MemoryMax: b.cfg.Memory / 4, Now: time.Now,
	})
	b.replica = r
	if err := r.step(ctx); err != nil {
		return fmt.Errorf("follow cluster %s: %w", manifest.ClusterName(layout.ClusterID), err)
	}
	return nil
}

// sourceLayout is where the followed cluster lies.
func (b *Broker) sourceLayout(ctx context.Context) (manifest.Layout, error) {
	var id [16]byte
	if b.cfg.ReplicaOf != "" {
		var err error
		if id, err = parseClusterID(b.cfg.ReplicaOf); err != nil {
			return manifest.Layout{}, fmt.Errorf("replica-of: %w", err)
		}
	}
	l, err := restore.Find(ctx, b.tier.store, "", id)
	if err != nil {
		return l, fmt.Errorf("find the cluster to follow in %s: %w", b.cfg.Bucket, err)
	}
	return l, nil
}

// replicaTopics reads the followed topics out of the source's metadata.
func replicaTopics(blob []byte) ([]readreplica.Topic, error) {
	tiered, err := tieredTopics(blob)
	if err != nil {
		return nil, err
	}
	var out []readreplica.Topic
	for _, t := range tiered {
		if !cluster.InternalTopic(t.Name) {
			out = append(out, readreplica.Topic(t))
		}
	}
	return out, nil
}

// tieredTopics reads the topics that the bucket holds out of a metadata blob.
func tieredTopics(blob []byte) ([]restore.Topic, error) {
	v, err := cluster.DecodeView(blob)
	if err != nil {
		return nil, fmt.Errorf("read cluster metadata: %w", err)
	}
	var out []restore.Topic
	for _, t := range v.Topics() {
		if t.Configs["remote.storage.enable"] == "true" {
			out = append(out, restore.Topic{Name: t.Name, ID: t.ID, Partitions: int32(len(t.Partitions))})
		}
	}
	return out, nil
}

// step reads what is new, and brings changed topics into this cluster.
func (r *replica) step(ctx context.Context) error {
	if err := r.source.RunOnce(ctx); err != nil {
		return err
	}
	if !r.changed {
		return nil
	}
	if err := r.syncTopics(ctx); err != nil {
		return err
	}
	r.changed = false
	return nil
}

// syncTopics makes the followed topics of this cluster those of the source.
func (r *replica) syncTopics(ctx context.Context) error {
	c := r.b.controller
	followed := map[record.TopicID]bool{}
	var reports []cluster.LeaderReport
	for _, t := range r.source.Topics() {
		followed[t.ID] = true
		if err := r.follow(ctx, t); err != nil {
			return fmt.Errorf("follow topic %s: %w", t.Name, err)
		}
		for n := range t.Partitions {
			id := record.PartitionID{Topic: t.ID, Partition: n}
			reports = append(reports, cluster.LeaderReport{Partition: id, Leader: r.b.cfg.NodeID, Epoch: r.epoch(id)})
		}
	}
	for _, t := range c.View().Topics() {
		if !followed[t.ID] && c.Settings(t).ReadReplica != "" {
			if err := c.DeleteTopic(ctx, t.ID); err != nil {
				return fmt.Errorf("drop topic %s, which the source deleted: %w", t.Name, err)
			}
		}
	}
	if len(reports) == 0 {
		return nil
	}
	return c.ReportLeaders(ctx, reports)
}

// follow makes one topic of the source known here.
func (r *replica) follow(ctx context.Context, t readreplica.Topic) error {
	c := r.b.controller
	here := c.View().Topic(t.ID)
	if here == nil {
		nodes := slices.Repeat([][]int32{{r.b.cfg.NodeID}}, int(t.Partitions))
		_, err := c.CreateTopic(ctx, cluster.TopicSpec{Name: t.Name, ID: t.ID, Assignment: nodes,
			Configs: map[string]string{"tidewater.readreplica": r.b.cfg.Bucket}}, false)
		if errors.Is(err, cluster.ErrTopicExists) {
			return fmt.Errorf("%w here under another id: delete it to follow the source's", err)
		}
		return err
	}
	if int32(len(here.Partitions)) < t.Partitions {
		_, err := c.CreatePartitions(ctx, t.ID, t.Partitions, nil, false)
		return err
	}
	return nil
}

// epoch is the source's leader epoch of a partition, 0 before it is known.
func (r *replica) epoch(id record.PartitionID) record.LeaderEpoch {
	if p := r.source.Partition(id); p != nil {
		if o, err := p.Offsets(); err == nil {
			return max(o.Epoch, 0)
		}
	}
	return 0
}

// partition finds a followed partition.
func (r *replica) partition(id record.PartitionID) (kafka.Partition, bool) {
	if p := r.source.Partition(id); p != nil {
		return p, true
	}
	return nil, false
}

// lag is how long ago, by the source's clock, it wrote what was last read
// here; a source that has nothing new writes a sign of life every 10 s.
func (r *replica) lag() []sample {
	var out []sample
	for _, t := range r.source.Topics() {
		for n := range t.Partitions {
			if p := r.source.Partition(record.PartitionID{Topic: t.ID, Partition: n}); p != nil {
				out = append(out, sample{p.Lag().Visible.Seconds(), []string{t.Name, fmt.Sprint(n)}})
			}
		}
	}
	return out
}
