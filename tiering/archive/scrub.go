package archive

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"tidewater/internal/objstore"
	"tidewater/tiering/manifest"
)

// ScrubReport is what a scrub of one partition found.
type ScrubReport struct {
	Objects int
	// Orphans are objects that no manifest names and that are older than the
	// grace period: left by crashes between data and manifest.
	Orphans []objstore.Info
	// Missing are keys that the newest manifest names and the bucket lacks:
	// loss of data, for a person to look at.
	Missing []string
	Deleted int
}

// Scrub compares a partition's objects with its newest manifest. With collect
// it deletes the orphans; only the partition's leader may ask that, and grace
// must be longer than any upload takes until its manifest is written.
func Scrub(ctx context.Context, store objstore.Store, dir manifest.Dir, grace time.Duration, collect bool) (ScrubReport, error) {
	var rep ScrubReport
	now, err := store.Now(ctx)
	if err != nil {
		return rep, err
	}
	// The list comes before the manifest: what is listed and old is either in
	// the manifest read after it or never will be.
	listed, err := listAll(ctx, store, dir.Prefix())
	if err != nil {
		return rep, err
	}
	wanted, err := wantedKeys(ctx, store, dir)
	if err != nil {
		return rep, err
	}
	rep.Objects = len(listed)
	there := map[string]bool{}
	for _, o := range listed {
		there[o.Key] = true
		if strings.HasPrefix(o.Key, dir.ManifestPrefix()) || wanted[o.Key] || now.Sub(o.LastModified) < grace {
			continue
		}
		rep.Orphans = append(rep.Orphans, o)
	}
	rep.Missing, err = missing(ctx, store, dir, there)
	if err != nil || !collect {
		return rep, err
	}
	if err := manifest.CheckRoot(ctx, store, dir.Layout); err != nil {
		return rep, err
	}
	for _, o := range rep.Orphans {
		if err := store.Delete(ctx, o.Key); err != nil {
			return rep, fmt.Errorf("delete orphan: %w", err)
		}
		rep.Deleted++
	}
	return rep, nil
}

func listAll(ctx context.Context, store objstore.Store, prefix string) ([]objstore.Info, error) {
	var out []objstore.Info
	for after := ""; ; {
		page, err := store.List(ctx, prefix, after, 0)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", prefix, err)
		}
		out = append(out, page.Objects...)
		if !page.More || len(page.Objects) == 0 {
			return out, nil
		}
		after = page.Objects[len(page.Objects)-1].Key
	}
}

// wantedKeys are those that any manifest still there names: a replica may be
// reading by an older one.
func wantedKeys(ctx context.Context, store objstore.Store, dir manifest.Dir) (map[string]bool, error) {
	wanted := map[string]bool{}
	numbers, err := manifest.Numbers(ctx, store, dir.ManifestPrefix(), 0)
	if err != nil {
		return nil, err
	}
	for _, n := range numbers {
		body, err := store.Get(ctx, dir.Manifest(n), 0, -1)
		if errors.Is(err, objstore.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		m, err := manifest.Decode(body)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", dir.Manifest(n), err)
		}
		for _, k := range named(m.Entries, m.Retired) {
			wanted[k] = true
		}
		for _, p := range m.Pages {
			wanted[p.Key] = true
			entries, err := manifest.ReadPage(ctx, store, p)
			if errors.Is(err, objstore.ErrNotFound) {
				continue
			}
			if err != nil {
				return nil, err
			}
			for _, k := range named(entries, nil) {
				wanted[k] = true
			}
		}
	}
	return wanted, nil
}

// missing lists the newest manifest's keys that the bucket lacks.
func missing(ctx context.Context, store objstore.Store, dir manifest.Dir, there map[string]bool) ([]string, error) {
	r := manifest.NewReader(store, dir)
	err := r.Load(ctx)
	if errors.Is(err, objstore.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m := r.Current()
	keys := named(m.Entries, nil)
	for _, p := range m.Pages {
		keys = append(keys, p.Key)
	}
	var lost []string
	for _, k := range keys {
		if there[k] {
			continue
		}
		if _, err := store.Head(ctx, k); errors.Is(err, objstore.ErrNotFound) {
			lost = append(lost, k)
		} else if err != nil {
			return nil, err
		}
	}
	return lost, nil
}
