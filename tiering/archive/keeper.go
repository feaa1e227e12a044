package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/tiering/manifest"
)

// ClusterState is what the controller wants kept of itself.
type ClusterState struct {
	Blob                         []byte
	NextProducerID, NextSchemaID int64
}

// KeeperConfig of the controller's part in the bucket.
type KeeperConfig struct {
	Store  objstore.Store
	Layout manifest.Layout
	// Leading is the controller's term and whether this broker leads it.
	Leading func() (record.LeaderEpoch, bool)
	// State is the controller's committed state.
	State func() (ClusterState, error)
	// Ends captures how far the bucket holds all partitions of a class that
	// are tiered, in an order that does not depend on chance. It is called
	// class by class; what it gives must be confirmed by the bucket
	// (Tails.Confirmed), and is EndUnknown for a partition of which nothing
	// was confirmed since the start.
	Ends func(ctx context.Context, class manifest.Class) ([]manifest.CutEnd, error)
	// Live are the tail series of the brokers that are up, as far as known.
	Live func() []manifest.Series
	// Gone says that a node left the cluster for good; nil takes all that are
	// not live as gone. A series that is not live is dead when its node is
	// gone, or has a later one; else its broker may only be out of reach.
	Gone func(node int32) bool
	// TopicGrace is how long a deleted topic's objects stay. 0 is a day.
	TopicGrace time.Duration
	// TailGrace: see TailsConfig.Grace. 0 is one minute.
	TailGrace time.Duration
	// HouseEvery is the pause between looks at dead series and deleted
	// topics. 0 is 30 s.
	HouseEvery time.Duration
	Now        func() time.Time
}

// EndUnknown is the end of a partition whose hold in the bucket is not known.
const EndUnknown = record.Offset(-1)

const (
	defaultTopicGrace = 24 * time.Hour
	defaultHouseEvery = 30 * time.Second
	// numberedKeep is how many cuts and metadata objects stay.
	numberedKeep = 16
	// seriesTailsMax bounds how many tail objects of a dead series are looked
	// at in one run.
	seriesTailsMax = 64
)

// Keeper writes cluster metadata and cuts, and cleans up behind dead brokers
// and deleted topics, while this broker leads the controller.
type Keeper struct {
	cfg    KeeperConfig
	epoch  record.LeaderEpoch
	loaded bool
	meta   manifest.Metadata // newest known; Number 0 for none
	cut    manifest.Cut
	housed time.Time
	series []manifest.Series // as listed last
	listed time.Time
	dead   map[manifest.Series]*seriesTrim // looked up by key only
}

// NewKeeper makes the core.
func NewKeeper(cfg KeeperConfig) *Keeper {
	if cfg.TopicGrace == 0 {
		cfg.TopicGrace = defaultTopicGrace
	}
	if cfg.TailGrace == 0 {
		cfg.TailGrace = defaultTailGrace
	}
	if cfg.HouseEvery == 0 {
		cfg.HouseEvery = defaultHouseEvery
	}
	return &Keeper{cfg: cfg, dead: map[manifest.Series]*seriesTrim{}}
}

// RunOnce writes metadata and a cut if either changed. Call it once a second.
func (k *Keeper) RunOnce(ctx context.Context) error {
	epoch, leading := k.cfg.Leading()
	if !leading {
		k.loaded = false
		return nil
	}
	if !k.loaded || k.epoch != epoch {
		if err := k.load(ctx, epoch); err != nil {
			return err
		}
	}
	if err := k.writeMetadata(ctx); err != nil {
		return err
	}
	if err := k.writeCut(ctx); err != nil {
		return err
	}
	if now := k.cfg.Now(); now.Sub(k.housed) >= k.cfg.HouseEvery {
		k.housed = now
		return k.house(ctx)
	}
	return nil
}

// load reads the newest numbers after winning a term.
func (k *Keeper) load(ctx context.Context, epoch record.LeaderEpoch) error {
	meta, err := manifest.NewestMetadata(ctx, k.cfg.Store, k.cfg.Layout)
	if err != nil && !errors.Is(err, objstore.ErrNotFound) {
		return err
	}
	cut, err := manifest.NewestCut(ctx, k.cfg.Store, k.cfg.Layout)
	if err != nil && !errors.Is(err, objstore.ErrNotFound) {
		return err
	}
	k.meta, k.cut = manifest.Metadata{}, manifest.Cut{}
	if meta != nil {
		k.meta = *meta
	}
	if cut != nil {
		k.cut = *cut
	}
	if max(k.meta.Epoch, k.cut.Epoch) > epoch {
		return fmt.Errorf("%w: cluster metadata of controller epoch %d, this is %d", manifest.ErrFenced, max(k.meta.Epoch, k.cut.Epoch), epoch)
	}
	k.epoch, k.loaded = epoch, true
	return nil
}

func (k *Keeper) writeMetadata(ctx context.Context) error {
	state, err := k.cfg.State()
	if err != nil {
		return fmt.Errorf("read cluster state: %w", err)
	}
	series, err := k.listSeries(ctx)
	if err != nil {
		return err
	}
	if k.meta.Number > 0 && bytes.Equal(state.Blob, k.meta.Blob) && slices.Equal(series, k.meta.Series) &&
		state.NextProducerID == k.meta.NextProducerID && state.NextSchemaID == k.meta.NextSchemaID {
		return nil
	}
	m := manifest.Metadata{
		Header: k.cfg.Layout.Header(), Number: k.meta.Number + 1, Epoch: k.epoch, Created: k.cfg.Now().UnixMilli(),
		Series: series, NextProducerID: state.NextProducerID, NextSchemaID: state.NextSchemaID, Blob: state.Blob,
	}
	if err := k.create(ctx, k.cfg.Layout.Metadata(m.Number), m.AppendTo(nil)); err != nil {
		return fmt.Errorf("write cluster metadata %d: %w", m.Number, err)
	}
	k.meta = m
	return k.dropOld(ctx, m.Number, k.cfg.Layout.Metadata)
}

// listSeries lists the claims anew when one that is live is missing, and now
// and then.
func (k *Keeper) listSeries(ctx context.Context) ([]manifest.Series, error) {
	now := k.cfg.Now()
	known := func(s manifest.Series) bool { return slices.Contains(k.series, s) }
	if k.listed.IsZero() || now.Sub(k.listed) >= k.cfg.HouseEvery || slices.ContainsFunc(k.cfg.Live(), func(s manifest.Series) bool { return !known(s) }) {
		list, err := manifest.ListSeries(ctx, k.cfg.Store, k.cfg.Layout)
		if err != nil {
			return nil, err
		}
		k.series, k.listed = list, now
	}
	return k.series, nil
}

// create stores a numbered object; a taken number means that the newest is to
// be read again, where a newer epoch fences.
func (k *Keeper) create(ctx context.Context, key string, body []byte) error {
	found, err := manifest.Create(ctx, k.cfg.Store, key, body)
	if err != nil {
		// It may have happened: what is newest is read again before the next try.
		k.loaded = false
		return err
	}
	if found {
		k.loaded = false
		return manifest.ErrConflict
	}
	return nil
}

// writeCut captures class by class; each call of Ends speaks of what the
// bucket has confirmed before the next is made.
func (k *Keeper) writeCut(ctx context.Context) error {
	c := manifest.Cut{
		Header: k.cfg.Layout.Header(), Number: k.cut.Number + 1, Epoch: k.epoch,
		Created: k.cfg.Now().UnixMilli(), Metadata: k.meta.Number,
	}
	for _, class := range []manifest.Class{manifest.ClassTransactions, manifest.ClassGroups, manifest.ClassData} {
		ends, err := k.cfg.Ends(ctx, class)
		if err != nil {
			return fmt.Errorf("capture bucket ends: %w", err)
		}
		c.Ends = append(c.Ends, k.notBefore(ends)...)
	}
	if k.cut.Number > 0 && k.cut.Metadata == c.Metadata && slices.Equal(c.Ends, k.cut.Ends) {
		return nil
	}
	if err := manifest.CheckRoot(ctx, k.cfg.Store, k.cfg.Layout); err != nil {
		return err
	}
	if err := k.create(ctx, k.cfg.Layout.Cut(c.Number), c.AppendTo(nil)); err != nil {
		return fmt.Errorf("write cut %d: %w", c.Number, err)
	}
	k.cut = c
	return k.dropOld(ctx, c.Number, k.cfg.Layout.Cut)
}

// notBefore lifts the ends to those of the cut before, which the bucket still
// holds: right after a start a broker knows less than it once confirmed, and a
// restore by such a cut would cut group offsets away. A partition of which
// neither says anything stays out, as one that was made after the cut.
func (k *Keeper) notBefore(ends []manifest.CutEnd) []manifest.CutEnd {
	before := make(map[record.PartitionID]record.Offset, len(k.cut.Ends))
	for _, e := range k.cut.Ends {
		before[e.Partition] = e.End
	}
	kept := make([]manifest.CutEnd, 0, len(ends))
	for _, e := range ends {
		if end, ok := before[e.Partition]; ok {
			e.End = max(e.End, end)
		}
		if e.End != EndUnknown {
			kept = append(kept, e)
		}
	}
	return kept
}

// dropOld deletes the one number that falls out of the kept ones. Readers take
// the newest by list, so a number created again below it harms nobody.
func (k *Keeper) dropOld(ctx context.Context, n uint64, key func(uint64) string) error {
	if n <= numberedKeep {
		return nil
	}
	return k.cfg.Store.Delete(ctx, key(n-numberedKeep))
}

// house retires the tails of dead series and reaps deleted topics.
func (k *Keeper) house(ctx context.Context) error {
	var faults []error
	live := k.cfg.Live()
	for _, s := range k.meta.Series {
		if slices.Contains(live, s) || !k.over(s) {
			delete(k.dead, s)
			continue
		}
		if err := k.retire(ctx, s); err != nil {
			faults = append(faults, fmt.Errorf("retire series %s: %w", s, err))
		}
	}
	if _, err := ReapTopics(ctx, k.cfg.Store, k.cfg.Layout, k.cfg.TopicGrace); err != nil {
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// over says whether nobody will write to a series that is not known to be live.
func (k *Keeper) over(s manifest.Series) bool {
	return k.cfg.Gone == nil || k.cfg.Gone(s.Node) || k.later(s)
}

// later says whether the series' node has claimed another one since.
func (k *Keeper) later(s manifest.Series) bool {
	return slices.ContainsFunc(k.meta.Series, func(o manifest.Series) bool { return o.Node == s.Node && o.Boot > s.Boot })
}

// retire trims a dead series; one that is empty and old leaves the list.
func (k *Keeper) retire(ctx context.Context, s manifest.Series) error {
	t := k.dead[s]
	if t == nil {
		t = newSeriesTrim(k.cfg.Store, k.cfg.Layout, s, k.cfg.TailGrace)
		if err := t.load(ctx, seriesTailsMax); err != nil {
			return err
		}
		k.dead[s] = t
	} else if err := t.loadTails(ctx, seriesTailsMax); err != nil {
		return err
	}
	unknown := func(record.PartitionID) (record.Offset, bool) { return 0, false }
	if err := t.runOnce(ctx, unknown, t.cur.End, true); err != nil {
		if errors.Is(err, manifest.ErrFenced) {
			delete(k.dead, s) // another controller wrote; read again
		}
		return err
	}
	if len(t.live) > 0 || t.cur.RetiredFrom < t.cur.First {
		return nil
	}
	return k.forgetSeries(ctx, t)
}

// forgetSeries deletes the claim of a series that has no tails left. A node's
// highest boot stays for ever: by it the number is not taken again.
func (k *Keeper) forgetSeries(ctx context.Context, t *seriesTrim) error {
	s := t.cur.Series
	if !k.later(s) {
		return nil
	}
	info, err := k.cfg.Store.Head(ctx, k.cfg.Layout.SeriesKey(s))
	if errors.Is(err, objstore.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	now, err := k.cfg.Store.Now(ctx)
	if err != nil {
		return err
	}
	// A broker that has just claimed a series has not announced itself yet.
	if now.Sub(info.LastModified) < seriesAgeMin {
		return nil
	}
	left, err := listAll(ctx, k.cfg.Store, k.cfg.Layout.TailPrefix(s))
	if err != nil {
		return err
	}
	for _, o := range left {
		if err := k.cfg.Store.Delete(ctx, o.Key); err != nil {
			return err
		}
	}
	delete(k.dead, s)
	return k.cfg.Store.Delete(ctx, k.cfg.Layout.SeriesKey(s))
}

// seriesAgeMin is how old a claim must be before it can be forgotten.
const seriesAgeMin = 10 * time.Minute
