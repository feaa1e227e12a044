package commit

import (
	"context"
	"errors"
	"fmt"
	"time"

	ice "github.com/apache/iceberg-go"

	"tidewater/catalog"
	"tidewater/iceberg/schema"
	"tidewater/iceberg/translate"
	"tidewater/internal/record"
)

// Committer keeps one topic's table up with its log. It is for one caller at a
// time; Loop is its shell.
type Committer struct {
	cfg        Config
	main       table
	dead       *table // nil without dead letters
	translator *translate.Translator
	spec       specText

	ready   bool // tables exist, with the wanted schema, and were checked
	pending *pending
	next    *Topic // from Configure, taken when nothing is pending
}

// pending is a round whose files are in the bucket and whose commits are not
// all known to be in.
type pending struct {
	dead *change // nil when there is none to make
	main *change
	done []translate.Done
}

// Round says what a round did.
type Round struct {
	// Moved: the table's offsets moved.
	Moved bool
	// Behind: there was more to translate than one round takes; run again.
	Behind bool
	Done   []translate.Done
}

// New makes a committer; nothing is read yet.
func New(cfg Config) (*Committer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	spec, err := parseSpec(cfg.Topic.PartitionSpec)
	if err != nil {
		return nil, err
	}
	c := &Committer{cfg: cfg, spec: spec}
	c.main = table{cfg: &c.cfg, ident: cfg.Ident, fs: cfg.FS}
	tc := cfg.Translate
	tc.FS, tc.Log = cfg.FS, cfg.Log
	tc.Name = func() string { return name(cfg.Random) }
	c.translator = translate.New(tc)
	c.take(cfg.Topic)
	return c, nil
}

// Configure changes the topic's properties. The next round brings the table's
// schema up first; a round that is half committed is finished as it was begun.
// The partition spec of a table that exists stays.
func (c *Committer) Configure(topic Topic) { c.next = &topic }

func (c *Committer) take(topic Topic) {
	c.cfg.Topic = topic
	c.ready = false
	c.dead = nil
	if topic.Value != nil && topic.Invalid == translate.DeadLetter {
		c.dead = &table{cfg: &c.cfg, ident: c.cfg.deadIdent(), fs: c.cfg.FS}
	}
}

// Offsets is how far the table was when last seen.
func (c *Committer) Offsets() Offsets { return c.main.offsets.clone() }

// Translated is the end of what the table holds of a partition; the log must
// not drop anything from there on. False before the first round.
func (c *Committer) Translated(p int32) (record.Offset, bool) {
	m, ok := c.main.offsets.Marks[p]
	return m.End, ok
}

// RunOnce does one round. ErrMoved and the errors of catalog and store are for
// a retry, *StoppedError and *translate.InvalidRecordError for a person.
func (c *Committer) RunOnce(ctx context.Context) (Round, error) {
	if c.next != nil && c.pending == nil {
		c.take(*c.next)
		c.next = nil
	}
	if !c.ready {
		if err := c.prepare(ctx); err != nil {
			return Round{}, err
		}
		c.ready = true
	}
	if c.pending == nil {
		behind, err := c.translate(ctx)
		if err != nil || c.pending == nil {
			return Round{Behind: behind}, err
		}
		round, err := c.finish(ctx)
		round.Behind = behind
		return round, err
	}
	round, err := c.finish(ctx)
	round.Behind = true // what was left over says nothing about what came since
	return round, err
}

// prepare makes the tables or brings their schemas up, and checks them.
func (c *Committer) prepare(ctx context.Context) error {
	if err := c.cfg.Catalog.EnsureNamespace(ctx, c.cfg.Ident.Namespace, nil); err != nil {
		return fmt.Errorf("ensure namespace %s: %w", c.cfg.Ident.Namespace, err)
	}
	sc := schema.KeyValueSchema()
	if c.cfg.Topic.Value != nil {
		sc = schema.JSONSchema(c.cfg.Topic.Value)
	}
	spec, err := c.spec.bind(sc)
	if err != nil {
		return c.main.stopped(err.Error())
	}
	if err := c.ensure(ctx, &c.main, sc, spec); err != nil {
		return err
	}
	if err := c.main.evolve(ctx, c.cfg.Topic.Value); err != nil {
		return err
	}
	if c.dead != nil {
		if err := c.ensure(ctx, c.dead, schema.DeadLetterSchema(), nil); err != nil {
			return err
		}
	}
	return c.checkLog()
}

// ensure loads the table, making it if need be, and checks its lineage.
func (c *Committer) ensure(ctx context.Context, t *table, sc *ice.Schema, spec *ice.PartitionSpec) error {
	err := t.load(ctx)
	if errors.Is(err, catalog.ErrNoTable) {
		err = t.create(ctx, sc, spec)
		if err == nil || errors.Is(err, catalog.ErrExists) || errors.Is(err, catalog.ErrUnknown) {
			err = t.load(ctx)
		}
	}
	if err != nil {
		return err
	}
	return t.lineage()
}

// checkLog stops a table that a restored log does not reach: its rows are of
// records that this log does not have.
func (c *Committer) checkLog() error {
	old := c.main.offsets.Owner()
	if old.Topic != c.cfg.Owner.Topic || old.Incarnation == c.cfg.Owner.Incarnation {
		return nil
	}
	for _, s := range c.cfg.Sources() {
		o, err := s.Offsets()
		if err != nil {
			return fmt.Errorf("read offsets of partition %s: %w", s.ID(), err)
		}
		p := s.ID().Partition
		if m, ok := c.main.offsets.Marks[p]; ok && m.End > o.HighWatermark {
			return c.main.stopped(fmt.Sprintf("partition %d is in the table up to offset %d (%s), but this log ends at %d",
				p, m.End, old, o.HighWatermark), Accept)
		}
	}
	return nil
}

// translate plans a round and makes its files; pending stays nil when there is
// nothing to do.
func (c *Committer) translate(ctx context.Context) (behind bool, err error) {
	ranges, asked, err := c.plan(ctx)
	if err != nil || len(ranges) == 0 {
		return false, err
	}
	request := translate.Request{
		Table:   c.main.target(),
		Value:   c.cfg.Topic.Value,
		Invalid: c.cfg.Topic.Invalid,
		Ranges:  ranges,
		// The range of one busy partition must not keep the others waiting.
		RangeBytesMax: max(c.cfg.RoundBytes/int64(len(ranges)), 1),
	}
	if c.dead != nil {
		target := c.dead.target()
		request.Dead = &target
	}
	result, err := c.translator.Translate(ctx, request)
	if err != nil {
		return false, err
	}
	moved := false
	if err := c.checkLost(result.Done); err != nil {
		return false, err // the files are orphans
	}
	for i, d := range result.Done {
		moved = moved || d.To > d.From
		behind = behind || d.To < asked[i]
	}
	if moved {
		c.pending = c.changes(result)
	}
	return behind && moved, nil
}

// checkLost refuses a round that passes records which were deleted from the log
// but would come back with a restore. The next round finds the bucket told.
func (c *Committer) checkLost(done []translate.Done) error {
	for _, d := range done {
		if d.Lost == 0 || c.cfg.BucketStart == nil {
			continue
		}
		start := d.From + record.Offset(d.Lost)
		if known := c.cfg.BucketStart(d.Partition); known < start {
			return fmt.Errorf("translate partition %s: records before offset %d were deleted, the bucket knows of those before %d so far", d.Partition, start, known)
		}
	}
	return nil
}

func (t *table) target() translate.Target {
	return translate.Target{Schema: t.meta.CurrentSchema(), Spec: t.meta.PartitionSpec(), Location: t.meta.Location()}
}

// plan gives what lies between the table and the end of what may be committed.
func (c *Committer) plan(ctx context.Context) (ranges []translate.Range, asked []record.Offset, err error) {
	marks := c.main.offsets.Marks
	if c.main.offsets.Owner().Topic != c.cfg.Owner.Topic {
		marks = nil
	}
	for _, s := range c.cfg.Sources() {
		id := s.ID()
		// The bucket's end is asked before the log's, so that it is not above
		// what this log ever held.
		end := c.cfg.BucketEnd(id)
		o, err := s.Offsets()
		if err != nil {
			return nil, nil, fmt.Errorf("read offsets of partition %s: %w", id, err)
		}
		to := min(o.LastStable, end)
		if c.cfg.Faults.CommitPastBucket {
			to = o.LastStable
		}
		from := o.LogStart
		if m, ok := marks[id.Partition]; ok {
			from = m.End
		}
		if to <= from {
			continue
		}
		r := translate.Range{Source: s, From: from, To: to}
		if r.Decided, err = c.decided(ctx, id.Partition, from); err != nil {
			return nil, nil, err
		}
		ranges = append(ranges, r)
		asked = append(asked, to)
	}
	return ranges, asked, nil
}

// changes makes the commits of a round.
func (c *Committer) changes(result translate.Result) *pending {
	p := &pending{done: result.Done}
	p.main = c.change(&c.main, result.Files, result.Done)
	var lost, dropped int64
	for _, d := range result.Done {
		lost += d.Lost
		dropped += d.Dropped
	}
	p.main.summary = ice.Properties{}
	if lost > 0 {
		p.main.summary[SummaryLost] = fmt.Sprint(lost)
	}
	if dropped > 0 {
		p.main.summary[SummaryDropped] = fmt.Sprint(dropped)
	}
	if len(result.DeadFiles) > 0 {
		p.dead = c.change(c.dead, result.DeadFiles, result.Done)
	}
	return p
}

// change moves table t to where done says, unless it is there already: the
// dead-letter table may be ahead of the table.
func (c *Committer) change(t *table, files []ice.DataFile, done []translate.Done) *change {
	out := &change{snapshot: int64(c.cfg.Random() >> 1), files: files, from: map[int32]record.Offset{}, to: map[int32]Mark{}}
	marks := t.offsets.Marks
	if t.offsets.Owner().Topic != c.cfg.Owner.Topic {
		marks = nil
	}
	for _, d := range done {
		p := d.Partition.Partition
		m, ok := marks[p]
		if !ok {
			m = Mark{Start: d.From, End: d.From, Epoch: -1}
		}
		out.from[p] = m.End
		m.End = max(m.End, d.To)
		if d.Epoch >= 0 {
			m.Epoch = d.Epoch
		}
		out.to[p] = m
	}
	return out
}

// finish commits what is pending: dead letters, then the table.
func (c *Committer) finish(ctx context.Context) (Round, error) {
	p := c.pending
	if p.dead != nil {
		if err := c.apply(ctx, c.dead, p.dead); err != nil {
			return Round{}, err
		}
		p.dead = nil
	}
	if err := c.apply(ctx, &c.main, p.main); err != nil {
		return Round{}, err
	}
	c.pending = nil
	if err := c.expire(ctx); err != nil {
		return Round{Moved: true, Done: p.done}, err
	}
	return Round{Moved: true, Done: p.done}, nil
}

func (c *Committer) apply(ctx context.Context, t *table, change *change) error {
	err := t.apply(ctx, change)
	var stopped *StoppedError
	if errors.Is(err, ErrMoved) || errors.As(err, &stopped) {
		// The work is void; everything is looked at again.
		c.pending, c.ready = nil, false
	}
	return err
}

func (c *Committer) expire(ctx context.Context) error {
	err := c.main.expire(ctx)
	if c.dead != nil {
		err = errors.Join(err, c.dead.expire(ctx))
	}
	return err
}

// CollectOrphans deletes files that no snapshot refers to and that are older
// than grace by the store's clock; grace must be longer than a catalog may
// keep an undecided commit. It gives the number deleted.
func (c *Committer) CollectOrphans(ctx context.Context, grace time.Duration) (int, error) {
	if !c.ready {
		return 0, nil
	}
	n, err := c.main.collect(ctx, grace)
	if err != nil || c.dead == nil {
		return n, err
	}
	m, err := c.dead.collect(ctx, grace)
	return n + m, err
}

// Status is what a person asks of a table.
type Status struct {
	Table   catalog.Ident
	Offsets Offsets
	Pending bool
}

// Status of the committer when it was last looked at.
func (c *Committer) Status() Status {
	return Status{Table: c.cfg.Ident, Offsets: c.main.offsets.clone(), Pending: c.pending != nil}
}
