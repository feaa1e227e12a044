package archive

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/tiering/manifest"
)

// Faults are planted by the simulation to prove that its checkers see them.
type Faults struct {
	// TrimBeforeChecked announces a segment as archived before its manifest
	// was written and read back.
	TrimBeforeChecked bool
	// ReuseTailSeries lets a restarted broker write the tail numbers of its
	// former life again.
	ReuseTailSeries bool
	// OverwriteManifest takes a manifest's number although it is taken.
	OverwriteManifest bool
}

// Config of a Partition.
type Config struct {
	Store  objstore.Store
	Dir    manifest.Dir
	Source Source
	// Name is unique to this process in the whole cluster: the tail series.
	Name string
	// ObjectBytesMax bounds a segment object, which is held in memory while it
	// is built; a longer local segment becomes several. 0 is 64 MiB.
	ObjectBytesMax int64
	// SegmentsPerRunMax bounds how many objects go under one manifest and how
	// long one RunOnce takes. 0 is 4.
	SegmentsPerRunMax int
	// EntriesMax is how many entries a manifest may hold before the older half
	// spills to a page. 0 is 512.
	EntriesMax int
	// Grace is how long a retired object stays, by the store's clock. 0 is 10
	// minutes: longer than any read of a replica takes.
	Grace time.Duration
	// KeepManifests: see manifest.WriterConfig.
	KeepManifests uint64
	// Now paces deletions, nothing else. Nil looks for them on every run.
	Now    func() time.Time
	Faults Faults
}

const (
	defaultObjectBytes = 64 << 20
	defaultSegments    = 4
	defaultEntries     = 512
	defaultGrace       = 10 * time.Minute
	readBytes          = 1 << 20
	ripeKeysMax        = 256 // deletions per run
	// ripeEvery is the pause between looks for ripe objects: each costs a
	// request for the store's clock.
	ripeEvery = 30 * time.Second
)

// Partition archives one partition while this broker leads it.
type Partition struct {
	cfg     Config
	w       *manifest.Writer
	epoch   record.LeaderEpoch
	lives   int
	deleted []string // deleted, but still in the manifest's retired list
	looked  time.Time

	mu     sync.Mutex
	number uint64        // newest manifest known here
	end    record.Offset // its end
	open   bool          // number and end are of the term that Source leads
}

// Result says what one run did.
type Result struct {
	Segments int
	Bytes    int64
	// More: there is work left; run again at once.
	More bool
}

// NewPartition makes the core for one partition.
func NewPartition(cfg Config) *Partition {
	if cfg.ObjectBytesMax == 0 {
		cfg.ObjectBytesMax = defaultObjectBytes
	}
	if cfg.SegmentsPerRunMax == 0 {
		cfg.SegmentsPerRunMax = defaultSegments
	}
	if cfg.EntriesMax == 0 {
		cfg.EntriesMax = defaultEntries
	}
	if cfg.Grace == 0 {
		cfg.Grace = defaultGrace
	}
	return &Partition{cfg: cfg}
}

// Dir is where the partition lies in the bucket.
func (p *Partition) Dir() manifest.Dir { return p.cfg.Dir }

// Manifest is the newest manifest's number and end; false while it is not
// known for the term that this broker leads.
func (p *Partition) Manifest() (number uint64, end record.Offset, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.number, p.end, p.open
}

func (p *Partition) publish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = p.w != nil
	if p.open {
		p.number, p.end = p.w.Current().Number, p.w.Current().End
	}
}

// RunOnce brings the bucket up to what is sealed, the log start up to the
// Source's, and deletes what is ripe. Without leadership it does nothing.
// objstore.ErrUnavailable: again later. manifest.ErrFenced: this broker's
// leadership is over, or its whole incarnation.
func (p *Partition) RunOnce(ctx context.Context) (Result, error) {
	marks := p.cfg.Source.Marks()
	if !marks.Leading {
		p.w, p.deleted = nil, nil
		p.publish()
		return Result{}, nil
	}
	res, err := p.run(ctx, marks)
	if errors.Is(err, manifest.ErrConflict) {
		// What is current now is loaded; objects just stored are orphans.
		p.publish()
		return Result{More: true}, nil
	}
	return res, err
}

func (p *Partition) run(ctx context.Context, marks Marks) (Result, error) {
	if err := p.lead(ctx, marks); err != nil {
		return Result{}, err
	}
	if err := p.announce(ctx, marks); err != nil {
		return Result{}, err
	}
	res, err := p.advance(ctx, marks)
	if err != nil {
		return Result{}, err
	}
	return res, p.collect(ctx)
}

// lead opens the manifests for the term that is led now.
func (p *Partition) lead(ctx context.Context, marks Marks) error {
	if p.w != nil && p.epoch == marks.Epoch {
		err := p.w.Settle(ctx)
		if err != nil && !errors.Is(err, manifest.ErrConflict) {
			return p.fenced(err)
		}
		p.publish()
		return nil
	}
	p.w, p.deleted = nil, nil
	p.publish()
	p.lives++
	w, err := manifest.OpenWriter(ctx, manifest.WriterConfig{
		Store: p.cfg.Store, Dir: p.cfg.Dir, Epoch: marks.Epoch, Keep: p.cfg.KeepManifests, Overwrite: p.cfg.Faults.OverwriteManifest,
		Name: fmt.Sprintf("%s.e%d.%d", p.cfg.Name, marks.Epoch, p.lives),
	})
	if err != nil {
		return err
	}
	p.w, p.epoch = w, marks.Epoch
	p.publish()
	return nil
}

// fenced forgets the writer when err says that it is fenced, so that nothing
// of its decisions is used again.
func (p *Partition) fenced(err error) error {
	if errors.Is(err, manifest.ErrFenced) {
		p.w = nil
		p.publish()
	}
	return err
}

// announce tells the Source of a manifest that was written before: by a former
// life, a former leader, or a run that failed on the way.
func (p *Partition) announce(ctx context.Context, marks Marks) error {
	m := p.w.Current()
	if m.Number == 0 || m.End <= marks.Archived {
		return nil
	}
	if m.End > marks.HighWatermark {
		return fmt.Errorf("manifest %d of %s-%d ends at %d, the log at %d: the log lost what the bucket has",
			m.Number, p.cfg.Dir.Topic, p.cfg.Dir.ID.Partition, m.End, marks.HighWatermark)
	}
	return p.announceChecked(ctx, marks.Archived)
}

// announceChecked reads the manifest back, sees that what it names from from on
// is there in full size, and commits its end in the partition's own log.
func (p *Partition) announceChecked(ctx context.Context, from record.Offset) error {
	if err := p.w.ReadBack(ctx); err != nil {
		return p.fenced(err)
	}
	m := p.w.Current()
	for i := range m.Entries {
		if e := &m.Entries[i]; e.Next() > from {
			if err := checkStored(ctx, p.cfg.Store, e); err != nil {
				return err
			}
		}
	}
	if err := p.cfg.Source.SetArchived(ctx, m.End, m.Number); err != nil {
		return fmt.Errorf("commit %d as archived: %w", m.End, err)
	}
	return nil
}

// advance uploads sealed segments and writes one manifest for them.
func (p *Partition) advance(ctx context.Context, marks Marks) (Result, error) {
	next := p.w.Current().Clone()
	var res Result
	stored, err := p.upload(ctx, marks, next, &res)
	if err != nil {
		return res, err
	}
	if len(stored) == 0 && !p.shrinks(next, marks.LogStart) {
		return res, nil
	}
	clock, err := p.cfg.Store.Now(ctx)
	if err != nil {
		return res, err
	}
	now := clock.UnixMilli()
	changed, err := p.shrink(ctx, next, marks.LogStart, now)
	if err != nil {
		return res, err
	}
	if len(stored) == 0 && !changed {
		return res, nil
	}
	if len(stored) > 0 {
		next.SetEpochs(stored[len(stored)-1].history.Epochs)
		next.StableTo = min(marks.LastStable, next.End)
	}
	next.Forget(p.deleted)
	if err := p.commit(ctx, next, marks, len(stored) > 0, now); err != nil {
		return res, err
	}
	p.deleted = nil
	return res, nil
}

// commit makes next current and then, checked, known to the Source.
func (p *Partition) commit(ctx context.Context, next *manifest.Manifest, marks Marks, grown bool, now int64) error {
	if err := manifest.CheckRoot(ctx, p.cfg.Store, p.cfg.Dir.Layout); err != nil {
		return p.fenced(err)
	}
	if p.cfg.Faults.TrimBeforeChecked && grown {
		if err := p.cfg.Source.SetArchived(ctx, next.End, next.Number+1); err != nil {
			return err
		}
	}
	if err := p.w.Write(ctx, next, now); err != nil {
		return p.fenced(err)
	}
	p.publish()
	if !grown {
		return nil
	}
	return p.announceChecked(ctx, marks.Archived)
}
