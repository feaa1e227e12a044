package manifest

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"tidewater/internal/objstore"
	"tidewater/internal/record"
)

// WriterConfig says who writes the manifests of which partition.
type WriterConfig struct {
	Store objstore.Store
	Dir   Dir
	// Epoch is the term that the caller leads.
	Epoch record.LeaderEpoch
	// Name is unique to this writer among all processes and terms; writes
	// count up behind it.
	Name string
	// Keep is how many manifests stay for readers that are behind; 0 is 32.
	Keep uint64
	// Overwrite is a planted fault: numbers are taken without a condition.
	Overwrite bool
}

const defaultKeep = 32

// Writer is the single writer of a partition's manifests for one term. One
// caller at a time.
type Writer struct {
	cfg   WriterConfig
	cur   *Manifest // newest that counts; Number 0 before the first
	count int
	// pending was sent and its fate is not known yet. Nothing else is written
	// before it is: a number is only ever tried again with the same bytes.
	pending     *Manifest
	pendingBody []byte
	lowest      uint64 // lowest manifest that may still exist
}

// OpenWriter loads the newest manifest. A newer epoch in it is ErrFenced.
func OpenWriter(ctx context.Context, cfg WriterConfig) (*Writer, error) {
	if cfg.Keep == 0 {
		cfg.Keep = defaultKeep
	}
	w := &Writer{cfg: cfg}
	if err := w.reload(ctx); err != nil {
		return nil, err
	}
	return w, nil
}

// Current is the newest manifest that counts; nobody changes it. Before the
// first it has number 0 and is empty.
func (w *Writer) Current() *Manifest { return w.cur }

// NextName gives a unique writer name for an object's key.
func (w *Writer) NextName() string {
	w.count++
	return fmt.Sprintf("%s.%d", w.cfg.Name, w.count)
}

func (w *Writer) reload(ctx context.Context) error {
	r := NewReader(w.cfg.Store, w.cfg.Dir)
	err := r.Load(ctx)
	if errors.Is(err, objstore.ErrNotFound) {
		w.cur = &Manifest{Header: w.cfg.Dir.Layout.Header(), Topic: w.cfg.Dir.Topic, Partition: w.cfg.Dir.ID, MaxProducerID: -1}
		return nil
	}
	if err != nil {
		return fmt.Errorf("open manifest of %s: %w", w.cfg.Dir.ID, err)
	}
	m := r.Current()
	if m.Epoch > w.cfg.Epoch {
		return fmt.Errorf("%w: manifest %d of %s-%d has epoch %d, this leader %d", ErrFenced, m.Number, w.cfg.Dir.Topic, w.cfg.Dir.ID.Partition, m.Epoch, w.cfg.Epoch)
	}
	w.cur, w.lowest = m, r.lowest
	return nil
}

// Write makes next the current manifest; it was made from Current().Clone().
// ErrConflict: decide again on what Current is now. ErrFenced: stop.
// objstore.ErrUnavailable: the write may have happened; call Settle or Write
// again later.
func (w *Writer) Write(ctx context.Context, next *Manifest, nowMs int64) error {
	if w.pending != nil {
		if err := w.Settle(ctx); err != nil {
			return err
		}
		return fmt.Errorf("%w: an earlier write was confirmed", ErrConflict)
	}
	next.Header, next.Number, next.Epoch = w.cfg.Dir.Layout.Header(), w.cur.Number+1, w.cfg.Epoch
	next.Writer, next.Created = w.NextName(), nowMs
	w.pending, w.pendingBody = next, next.AppendTo(nil)
	return w.Settle(ctx)
}

// Settle finds out the fate of a write whose reply was lost, trying it again
// with the same bytes. Nil when nothing is pending any more.
func (w *Writer) Settle(ctx context.Context) error {
	if w.pending == nil {
		return nil
	}
	n := w.pending.Number
	create := Create
	if w.cfg.Overwrite {
		create = overwrite
	}
	found, err := create(ctx, w.cfg.Store, w.cfg.Dir.Manifest(n), w.pendingBody)
	if err != nil {
		return fmt.Errorf("write manifest %d of %s: %w", n, w.cfg.Dir.ID, err)
	}
	if found {
		return w.passed(ctx, fmt.Sprintf("manifest %d of %s was written by another", n, w.cfg.Dir.ID))
	}
	if err := w.counts(ctx, n); err != nil {
		return err
	}
	w.cur, w.pending, w.pendingBody = w.pending, nil, nil
	return nil
}

func overwrite(ctx context.Context, store objstore.Store, key string, body []byte) (found bool, err error) {
	return false, store.Put(ctx, key, body)
}

// Check confirms that the current manifest is still the newest, before
// something is done by it that cannot be taken back.
func (w *Writer) Check(ctx context.Context) error {
	if w.cur.Number == 0 {
		return nil
	}
	if _, err := w.cfg.Store.Head(ctx, w.cfg.Dir.Manifest(w.cur.Number)); err != nil {
		return w.gone(ctx, err, w.cur.Number)
	}
	return w.nothingAbove(ctx, w.cur.Number)
}

// counts applies the fence to number n, which was just created or found to be
// ours: the one before still exists, nothing above does. A writer that slept
// while its successors wrote and collected creates a number again that once
// was; it finds the one before missing, or the boundary.
func (w *Writer) counts(ctx context.Context, n uint64) error {
	if n > 1 {
		if _, err := w.cfg.Store.Head(ctx, w.cfg.Dir.Manifest(n-1)); err != nil {
			return w.gone(ctx, err, n-1)
		}
	}
	return w.nothingAbove(ctx, n)
}

func (w *Writer) gone(ctx context.Context, err error, n uint64) error {
	if errors.Is(err, objstore.ErrNotFound) {
		return w.passed(ctx, fmt.Sprintf("manifest %d of %s is gone", n, w.cfg.Dir.ID))
	}
	return fmt.Errorf("check manifest %d of %s: %w", n, w.cfg.Dir.ID, err)
}

// passed is called when others wrote past this writer, so that its own newest
// write does not count. A newer epoch is the end; an older leader that did not
// know better yet is a conflict, and the newest is loaded.
func (w *Writer) passed(ctx context.Context, what string) error {
	w.pending, w.pendingBody = nil, nil
	if err := w.reload(ctx); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%w: %s", ErrConflict, what)
}

// nothingAbove is one list: higher manifests come first, then boundaries.
func (w *Writer) nothingAbove(ctx context.Context, n uint64) error {
	dir := w.cfg.Dir
	page, err := w.cfg.Store.List(ctx, dir.ManifestPrefix(), dir.Manifest(n), 0)
	if err != nil {
		return fmt.Errorf("check manifest %d of %s: %w", n, dir.ID, err)
	}
	for _, o := range page.Objects {
		if b, ok := parseBoundary(o.Key); ok && b < n {
			continue
		}
		return w.passed(ctx, fmt.Sprintf("%s stands above manifest %d", o.Key, n))
	}
	return nil
}

// ReadBack reads the current manifest as a stranger would and compares.
func (w *Writer) ReadBack(ctx context.Context) error {
	n := w.cur.Number
	got, err := w.cfg.Store.Get(ctx, w.cfg.Dir.Manifest(n), 0, -1)
	if err != nil {
		return w.gone(ctx, err, n)
	}
	if _, err := Decode(got); err != nil {
		return fmt.Errorf("read back manifest %d of %s: %w", n, w.cfg.Dir.ID, err)
	}
	if !bytes.Equal(got, w.cur.AppendTo(nil)) {
		return fmt.Errorf("%w: manifest %d of %s holds other bytes than were written", ErrFenced, n, w.cfg.Dir.ID)
	}
	return nil
}

// Collect deletes manifests that no reader needs: it raises the boundary, and
// then deletes upwards below it, so that a number that is missing below one
// that exists can never be created unseen.
func (w *Writer) Collect(ctx context.Context) error {
	if w.cur.Number <= w.cfg.Keep || w.cur.Number-w.cfg.Keep < w.lowest+w.cfg.Keep {
		return nil // twice Keep at most, so that this runs once in Keep writes
	}
	if err := w.Check(ctx); err != nil {
		return err
	}
	bound := w.cur.Number - w.cfg.Keep
	store, dir := w.cfg.Store, w.cfg.Dir
	if err := store.Put(ctx, dir.Boundary(bound), AppendBoundary(nil, dir.Layout.Header(), bound)); err != nil {
		return fmt.Errorf("raise boundary of %s to %d: %w", dir.ID, bound, err)
	}
	old, err := Numbers(ctx, store, dir.ManifestPrefix(), 0)
	if err != nil {
		return err
	}
	for _, n := range old {
		if n >= bound {
			break
		}
		if err := store.Delete(ctx, dir.Manifest(n)); err != nil {
			return fmt.Errorf("delete manifest %d of %s: %w", n, dir.ID, err)
		}
	}
	page, err := store.List(ctx, dir.ManifestPrefix()+boundaryWord, "", 0)
	if err != nil {
		return fmt.Errorf("list boundaries of %s: %w", dir.ID, err)
	}
	for _, o := range page.Objects {
		if b, ok := parseBoundary(o.Key); ok && b < bound {
			if err := store.Delete(ctx, o.Key); err != nil {
				return fmt.Errorf("delete boundary %d of %s: %w", b, dir.ID, err)
			}
		}
	}
	w.lowest = bound
	return nil
}
