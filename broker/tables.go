package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"tidewater/broker/cluster"
	"tidewater/catalog"
	"tidewater/catalog/server"
	"tidewater/iceberg/commit"
	"tidewater/iceberg/schema"
	"tidewater/iceberg/tablefs"
	"tidewater/iceberg/translate"
	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/internal/topicconfig"
)

const (
	// orphanEvery is how often files that no snapshot took are looked for, and
	// orphanGrace how old they must be: far longer than a catalog may keep an
	// undecided commit.
	orphanEvery = 6 * time.Hour
	orphanGrace = 24 * time.Hour
)

// tables keeps a committer per table topic whose first partition is led here,
// and serves the catalog. For a moment after a change of leaders two brokers
// may commit to one table: every commit asserts the snapshot that it follows,
// so that one of them fails and reads again.
type tables struct {
	b       *Broker
	catalog *server.Server
	fs      tablefs.FS

	mu     sync.Mutex
	topics map[record.TopicID]*table
}

// table is one topic's committer and its loops.
type table struct {
	topic  *cluster.Topic
	ident  catalog.Ident
	loop   *commit.Loop
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// openTables starts our own catalog on the bucket; the committers follow as
// the controller's loop sees their topics.
func (b *Broker) openTables(context.Context) error {
	if b.tier == nil || b.cfg.Replica {
		return nil
	}
	s3, err := objstore.Parse(b.cfg.Bucket)
	if err != nil {
		return fmt.Errorf("bucket: %w", err)
	}
	engines := cmp.Or(b.cfg.CatalogS3Endpoint, s3.Endpoint)
	root := "s3://" + s3.Bucket
	if s3.Prefix != "" {
		root += "/" + strings.Trim(s3.Prefix, "/")
	}
	t := &tables{b: b, fs: tablefs.FS{Store: b.tier.store, Root: root}, topics: map[record.TopicID]*table{}}
	t.catalog, err = server.New(server.Config{
		Store: b.tier.store, Root: root, Prefix: b.tier.layout.Warehouse(), ClusterID: b.identity.Cluster, Incarnation: b.identity.Incarnation,
		ClientConfig: server.S3Client(engines, s3.Region, b.cfg.CatalogAccessKey, b.cfg.CatalogSecretKey),
		Freshen:      t.freshen, Now: time.Now, UUID: uuid.New, Log: b.log,
	})
	if err != nil {
		return fmt.Errorf("open catalog: %w", err)
	}
	b.tables = t
	if b.cfg.CatalogAddr == "" {
		return nil
	}
	return b.serve("catalog", "catalog-addr", b.cfg.CatalogAddr, nil, t.catalog)
}

// sync starts, configures and stops committers as the view says. It has one
// caller, the topics' loop.
func (t *tables) sync(ctx context.Context, v *cluster.View) {
	for _, topic := range v.Topics() {
		s := t.b.controller.Settings(topic)
		if !s.Iceberg.On() || s.ReadReplica != "" || !t.owner(topic.ID) {
			t.stop(topic.ID)
			continue
		}
		if err := t.start(ctx, topic, s); err != nil {
			t.b.log.Error("a topic's table cannot be written", "topic", topic.Name, "error", err)
		}
	}
	for _, id := range t.ids() {
		if v.Topic(id) == nil {
			t.stop(id)
		}
	}
}

func (t *tables) ids() []record.TopicID {
	t.mu.Lock()
	defer t.mu.Unlock()
	ids := make([]record.TopicID, 0, len(t.topics))
	for id := range t.topics {
		ids = append(ids, id)
	}
	return ids
}

func (t *tables) get(id record.TopicID) *table {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.topics[id]
}

// start runs a topic's committer, or brings a running one to newer properties.
func (t *tables) start(ctx context.Context, topic *cluster.Topic, s topicSettings) error {
	want, err := tableTopic(s)
	if err != nil {
		return err
	}
	if running := t.get(topic.ID); running != nil {
		if running.topic.ConfigVersion == topic.ConfigVersion {
			return nil
		}
		running.topic = topic
		return running.loop.Configure(ctx, want)
	}
	ident := tableIdent(topic.Name, s.Iceberg.Namespace)
	c, err := commit.New(commit.Config{
		Catalog: t.catalog, FS: t.fs, Ident: ident, Topic: want,
		Owner:     commit.Owner{Topic: topic.ID, Incarnation: t.b.identity.Incarnation},
		Sources:   func() []translate.Source { return t.sources(topic.ID) },
		BucketEnd: t.b.bucketEnd, BucketStart: t.b.bucketStart, Now: time.Now, Random: rand.Uint64, Log: t.b.log,
	})
	if err != nil {
		return fmt.Errorf("open table %s: %w", ident, err)
	}
	run, cancel := context.WithCancel(t.b.done)
	started := &table{topic: topic, ident: ident, cancel: cancel}
	started.loop = commit.NewLoop(c, commit.LoopConfig{TargetLag: s.Iceberg.TargetLag, Log: t.b.log,
		Upload: func(ctx context.Context) error { return t.upload(ctx, topic.ID) }})
	started.done.Go(func() { started.loop.Run(run) })
	started.done.Go(func() { started.collect(run, t.b) })
	started.done.Go(func() { t.exchange(run, topic.ID) })
	t.mu.Lock()
	t.topics[topic.ID] = started
	t.mu.Unlock()
	return nil
}

// collect looks for orphans now and then.
func (t *table) collect(ctx context.Context, b *Broker) {
	tick := time.NewTicker(orphanEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := t.loop.CollectOrphans(ctx, orphanGrace); err != nil && ctx.Err() == nil {
				b.log.Warn("orphan files of a table were not collected", "table", t.ident.String(), "error", err)
			}
		}
	}
}

// stop ends a topic's committer and waits for it; the table stays.
func (t *tables) stop(id record.TopicID) {
	t.mu.Lock()
	running := t.topics[id]
	delete(t.topics, id)
	t.mu.Unlock()
	if running != nil {
		running.cancel()
		running.done.Wait()
	}
}

// close waits for all committers; the broker's context has ended.
func (t *tables) close() {
	for _, id := range t.ids() {
		t.stop(id)
	}
}

// freshen brings a table up to date for an engine that is about to read it:
// here, or by its owner.
func (t *tables) freshen(ctx context.Context, ident catalog.Ident) error {
	if loop := t.loopOf(ident); loop != nil {
		return loop.Freshen(ctx)
	}
	return t.askFreshen(ctx, ident)
}

// loopOf is the committer of a table that is written here, nil for another's.
func (t *tables) loopOf(ident catalog.Ident) *commit.Loop {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, one := range t.topics {
		if one.ident.String() == ident.String() {
			return one.loop
		}
	}
	return nil
}

// pin is the offset that retention must not pass: what the table has not got.
func (t *tables) pin(id record.PartitionID) (record.Offset, bool) {
	running := t.get(id.Topic)
	if running == nil {
		// What the owner said; of one that has not begun nothing is known to
		// be in the table.
		topic := t.b.controller.View().Topic(id.Topic)
		return t.b.ends.table(id), topic != nil && t.b.controller.Settings(topic).Iceberg.On()
	}
	marks, ok := running.marks(id.Topic)
	if !ok {
		return 0, true // not read yet, or of an older topic of that name
	}
	return marks[id.Partition].End, true
}

// marks is how far the table is with each partition of its topic; false while
// it is not known.
func (t *table) marks(topic record.TopicID) (map[int32]commit.Mark, bool) {
	status, _ := t.loop.Status() // an error is the table's trouble; its offsets hold
	if o := status.Offsets; len(o.Owners) == 0 || o.Owner().Topic != topic {
		return nil, false
	}
	return status.Offsets.Marks, true
}

// dropTable deletes a deleted topic's table and its dead letters, unless they
// are another topic's by now: the name may have been given again.
func (t *tables) dropTable(ctx context.Context, d *cluster.Deletion) error {
	t.stop(d.Topic)
	ident := tableIdent(d.Name, d.Namespace)
	dead := ident
	dead.Name += commit.DeadSuffix
	for _, i := range []catalog.Ident{ident, dead} {
		if owned, err := t.owned(ctx, i, d.Topic); err != nil || !owned {
			if err != nil {
				return fmt.Errorf("drop table %s: %w", i, err)
			}
			continue
		}
		if err := t.catalog.DropTable(ctx, i, true); err != nil && !errors.Is(err, catalog.ErrNoTable) {
			return fmt.Errorf("drop table %s: %w", i, err)
		}
	}
	return nil
}

// owned reports whether a table exists and its rows are of that topic.
func (t *tables) owned(ctx context.Context, ident catalog.Ident, topic record.TopicID) (bool, error) {
	table, err := t.catalog.LoadTable(ctx, ident)
	if errors.Is(err, catalog.ErrNoTable) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	o, err := commit.ParseOffsets(table.Metadata.Properties()[commit.PropertyOffsets])
	return err == nil && o.Owner().Topic == topic, nil
}

// tableIdent names a topic's table: dots would be further namespaces.
func tableIdent(topic, namespace string) catalog.Ident {
	return catalog.Ident{Namespace: strings.Split(namespace, "."), Name: strings.ReplaceAll(topic, ".", "_")}
}

// TableOf gives the name of a topic's table and how its rows are made, by the
// topic's own properties; a topic without a table is an error that says so.
func TableOf(topic string, props map[string]string) (catalog.Ident, commit.Topic, error) {
	s, faults := topicconfig.Parse(props)
	for _, f := range faults {
		return catalog.Ident{}, commit.Topic{}, fmt.Errorf("topic %s: %w", topic, f)
	}
	if !s.Iceberg.On() {
		return catalog.Ident{}, commit.Topic{}, fmt.Errorf("topic %s has no table: set tidewater.iceberg.mode", topic)
	}
	want, err := tableTopic(s)
	return tableIdent(topic, s.Iceberg.Namespace), want, err
}

// tableTopic turns a topic's properties into what its committer needs.
func tableTopic(s topicSettings) (commit.Topic, error) {
	var out commit.Topic
	var err error
	if s.Iceberg.JSONSchema != "" && s.Iceberg.Mode == "json" {
		if out.Value, err = schema.Compile(s.Iceberg.JSONSchema); err != nil {
			return out, fmt.Errorf("tidewater.iceberg.json.schema: %w", err)
		}
	}
	if out.Invalid, err = translate.ParseAction(string(s.Iceberg.Invalid)); err != nil {
		return out, fmt.Errorf("tidewater.iceberg.invalid.record.action: %w", err)
	}
	terms := make([]string, len(s.Iceberg.Partition))
	for i, term := range s.Iceberg.Partition {
		terms[i] = term.String()
	}
	out.PartitionSpec = strings.Join(terms, ", ")
	return out, nil
}
