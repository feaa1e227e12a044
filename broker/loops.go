package broker

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"tidewater/broker/cluster"
	"tidewater/broker/group"
	"tidewater/broker/kafka"
	"tidewater/broker/multiraft"
	"tidewater/internal/record"
)

type httpHandler = http.Handler

const (
	// retainEvery is Kafka's log.retention.check.interval.ms divided by 300:
	// a step costs little and topics with short retention are kept short.
	retainEvery = time.Second
	// retainRound bounds how many partitions one step looks at.
	retainRound = 1000
	// retainTimeout bounds what one round of retention waits for the bucket.
	retainTimeout = 5 * time.Second
	// againAfter is the pause before what failed for a view is tried again.
	againAfter = time.Second
	// leaderTimeout bounds how long "topic created" waits for its leaders.
	leaderTimeout = 5 * time.Second
)

// wakeController makes the controller's loop look again. It does not block.
func (b *Broker) wakeController() { wake(b.change) }

// wake puts a token into a channel that holds one.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// followTopics does what a changed view means to bucket, tables and groups. It
// may wait for the bucket, so nothing that clients wait for is done here.
func (b *Broker) followTopics(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.topics:
			b.topicsChanged(ctx, b.controller.View())
		}
	}
}

// followController opens and removes partitions as the view changes, and
// tells the controller and the group coordinator who leads.
func (b *Broker) followController(ctx context.Context) error {
	applied := record.Index(0)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.change:
		case <-b.parts.leads.wake:
		}
		v := b.controller.View()
		if v.Applied() != applied {
			applied = v.Applied()
			if err := b.parts.sync(v); err != nil {
				b.log.Error("a partition could not be opened or removed and will be again", "error", err)
				applied = 0
				time.AfterFunc(againAfter, b.wakeController)
			}
			wake(b.topics)
			if r := b.registered.Load(); r != nil && v.Lacks(r) {
				wake(b.report.wake)
			}
		}
		for id, l := range b.parts.leads.take() {
			if t := v.Topic(id.Topic); t != nil {
				b.leadGroups(t, id, l)
			}
			if id.Partition == 0 {
				wake(b.topics) // its table may be to begin or to end here
			}
			b.report.add(id, l)
		}
		if err := b.forgetRestore(); err != nil {
			b.log.Error("a restore could not be ended and will be", "error", err)
			time.AfterFunc(againAfter, b.wakeController)
		}
	}
}

// reportLeaders tells the controller who leads here, and what of this broker's
// registration there was no room for before. It may wait for a controller to
// lead, so nothing else waits for it.
func (b *Broker) reportLeaders(ctx context.Context) error {
	leads := map[record.PartitionID]multiraft.Leadership{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.report.wake:
		}
		for id, l := range b.report.take() {
			leads[id] = l
		}
		if r := b.registered.Load(); r != nil && b.controller.View().Lacks(r) {
			if _, err := b.controller.RegisterBroker(ctx, *r); err != nil && ctx.Err() == nil {
				b.log.Warn("the controller could not be told all about this broker and will be", "error", err)
				time.AfterFunc(againAfter, func() { wake(b.report.wake) })
			}
		}
		if err := b.tellLeaders(ctx, b.controller.View(), leads); err != nil && ctx.Err() == nil {
			b.log.Warn("leaders could not be reported and will be again", "error", err)
			time.AfterFunc(againAfter, func() { wake(b.report.wake) })
		}
	}
}

// tellLeaders reports to the controller what this broker leads and drops from
// leads what it knows.
func (b *Broker) tellLeaders(ctx context.Context, v *cluster.View, leads map[record.PartitionID]multiraft.Leadership) error {
	var reports []cluster.LeaderReport
	for id, l := range leads {
		if v.Topic(id.Topic) != nil && l.Leading && l.Ready {
			reports = append(reports, cluster.LeaderReport{Partition: id, Leader: b.cfg.NodeID, Epoch: record.LeaderEpoch(l.Term)})
		}
	}
	if len(reports) > 0 {
		if err := b.controller.ReportLeaders(ctx, reports); err != nil {
			return fmt.Errorf("report leaders: %w", err)
		}
	}
	clear(leads)
	return nil
}

// retain keeps retention. It has a loop of its own, because it may ask the
// bucket, for which no write waits. When the bucket takes longer than
// retainTimeout, the rest of the round does without it.
func (b *Broker) retain(ctx context.Context) error {
	next := 0
	return every(ctx, retainEvery, func() {
		round, stop := context.WithTimeout(ctx, retainTimeout)
		defer stop()
		all := b.parts.all()
		if next >= len(all) {
			next = 0
		}
		end := min(next+retainRound, len(all))
		for _, h := range all[next:end] {
			b.stepped(ctx, h, "retention", &h.retaining, h.Retain(round))
		}
		next = end
	})
}

// every does a step again and again until ctx ends.
func every(ctx context.Context, pause time.Duration, step func()) error {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			step()
		}
	}
}

// stepped logs how a step of a partition went, if it is worth a line.
func (b *Broker) stepped(ctx context.Context, h *hosted, step string, t *trouble, err error) {
	if ctx.Err() != nil {
		return
	}
	switch tell := t.tell(err, time.Now()); {
	case tell && err != nil:
		b.log.Error("a step of a partition failed and will be tried again", "step", step, "partition", h.Name(), "error", err)
	case tell:
		b.log.Info("a step of a partition succeeds again", "step", step, "partition", h.Name())
	}
}

// troubleEvery is how often trouble that lasts is told again: a full disk
// fails every step of every partition.
const troubleEvery = 30 * time.Second

// trouble is what a step that is tried again and again last failed with. It
// has one caller.
type trouble struct {
	err  string // "" while there is none
	told time.Time
}

// tell says whether a step's result is worth a line in the log: trouble that
// is new, other, or lasts, and its end.
func (t *trouble) tell(err error, now time.Time) bool {
	if err == nil {
		ended := t.err != ""
		t.err = ""
		return ended
	}
	if err.Error() == t.err && now.Sub(t.told) < troubleEvery {
		return false
	}
	t.err, t.told = err.Error(), now
	return true
}

// offsetsPartitions is the number of partitions of __consumer_offsets, 0
// before it exists.
func (b *Broker) offsetsPartitions() int32 {
	t := b.controller.View().TopicByName(cluster.ConsumerOffsetsTopic)
	if t == nil {
		return 0
	}
	return int32(len(t.Partitions))
}

// offsetsTopic is how __consumer_offsets is made. With a bucket it is tiered,
// so that a restore brings group offsets back. It keeps everything until
// tiered topics can be compacted.
func (b *Broker) offsetsTopic() cluster.TopicSpec {
	s := cluster.TopicSpec{Partitions: group.PartitionsDefault, ReplicationFactor: -1, Configs: map[string]string{
		"cleanup.policy": "delete", "retention.ms": "-1", "compression.type": "producer",
	}}
	if b.tier != nil && b.replica == nil {
		s.Configs["remote.storage.enable"] = "true"
	}
	return s
}

// topicAdmin is the controller as the Kafka API uses it: a topic is created
// when it can be produced to, and deleted when no group has an offset in it:
// groups know topics by name, and the name may be given again at once.
type topicAdmin struct {
	*cluster.Controller
	b *Broker
}

// DeleteTopic deletes a topic and has groups forget it. If the process ends in
// between, the loop that follows deletions makes up for it.
func (a topicAdmin) DeleteTopic(ctx context.Context, id record.TopicID) error {
	if a.b.cfg.Replica {
		return errReplicaTopics
	}
	t := a.View().Topic(id)
	err := a.Controller.DeleteTopic(ctx, id)
	if err == nil && t != nil {
		a.b.groups.DeleteTopics([]string{t.Name})
		if err := a.b.tellForget(ctx, a.b.others(), []string{t.Name}); err != nil {
			a.b.log.Debug("a coordinator has not forgotten a deleted topic yet", "topic", t.Name, "error", err)
		}
	}
	return err
}

// CreateTopic creates a topic and waits, for a bounded time, for its leaders.
func (a topicAdmin) CreateTopic(ctx context.Context, s cluster.TopicSpec, validateOnly bool) (*cluster.Topic, error) {
	if a.b.cfg.Replica && !cluster.InternalTopic(s.Name) {
		return nil, errReplicaTopics
	}
	t, err := a.Controller.CreateTopic(ctx, s, validateOnly)
	if err == nil && !validateOnly {
		wait, stop := context.WithTimeout(ctx, leaderTimeout)
		defer stop()
		_ = waitLeaders(wait, a.Controller, t.ID) // clients ask again for leaders that are late
	}
	return t, err
}

// errReplicaTopics: a read replica has the topics of its source, no more and
// no fewer.
var errReplicaTopics = fmt.Errorf("%w: this is a read replica: create and delete topics on the source cluster", cluster.ErrPolicy)

// groupTopics tells the coordinator which topics exist.
type groupTopics struct{ c *cluster.Controller }

// ByName implements group.Topics.
func (g groupTopics) ByName(name string) (id record.TopicID, partitions int32, ok bool) {
	t := g.c.View().TopicByName(name)
	if t == nil {
		return id, 0, false
	}
	return t.ID, int32(len(t.Partitions)), true
}

// ByID implements group.Topics.
func (g groupTopics) ByID(id record.TopicID) (name string, partitions int32, ok bool) {
	t := g.c.View().Topic(id)
	if t == nil {
		return "", 0, false
	}
	return t.Name, int32(len(t.Partitions)), true
}

// logDirs answers DescribeLogDirs.
func (b *Broker) logDirs() []kafka.LogDir {
	out := make([]kafka.LogDir, len(b.dirs))
	for i, d := range b.dirs {
		out[i] = kafka.LogDir{Path: d.path, TotalBytes: -1, UsableBytes: -1, Sizes: map[record.PartitionID]int64{}}
		if free, err := d.disk.Free(); err == nil {
			out[i].UsableBytes = free
		} else {
			out[i].Err = storageError(err)
		}
		for _, h := range b.parts.in(d) {
			out[i].Sizes[h.ID()] = h.LocalBytes()
		}
	}
	return out
}
