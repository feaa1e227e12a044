package archive

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/tiering/manifest"
)

func deletedPrefix(l manifest.Layout) string { return l.Prefix() + "deleted/" }

func deletedKey(l manifest.Layout, topic string, id record.TopicID) string {
	return fmt.Sprintf("%s%s~%s", deletedPrefix(l), topic, id)
}

// MarkDeleted notes in the bucket that a topic was deleted. Its objects go a
// grace period later, by ReapTopics; until then an operator can save them.
// Marking twice keeps the first time.
func MarkDeleted(ctx context.Context, store objstore.Store, l manifest.Layout, topic string, id record.TopicID) error {
	err := store.PutIfAbsent(ctx, deletedKey(l, topic, id), []byte(topic+"\n"))
	if err != nil && !errors.Is(err, objstore.ErrExists) {
		return fmt.Errorf("mark topic %s as deleted: %w", topic, err)
	}
	return nil
}

// ReapTopics deletes the objects of topics that were marked more than grace
// ago by the store's clock, and says which are gone for good. Only the
// controller's leader calls it.
func ReapTopics(ctx context.Context, store objstore.Store, l manifest.Layout, grace time.Duration) ([]string, error) {
	page, err := store.List(ctx, deletedPrefix(l), "", 0)
	if err != nil {
		return nil, fmt.Errorf("list deleted topics: %w", err)
	}
	if len(page.Objects) == 0 {
		return nil, nil
	}
	now, err := store.Now(ctx)
	if err != nil {
		return nil, err
	}
	var gone []string
	for _, o := range page.Objects {
		if now.Sub(o.LastModified) < grace {
			continue
		}
		if err := manifest.CheckRoot(ctx, store, l); err != nil {
			return gone, err
		}
		name := strings.TrimPrefix(o.Key, deletedPrefix(l))
		if err := reapTopic(ctx, store, l.Prefix()+name+"/"); err != nil {
			return gone, fmt.Errorf("delete objects of topic %s: %w", name, err)
		}
		if err := store.Delete(ctx, o.Key); err != nil {
			return gone, err
		}
		gone = append(gone, name)
	}
	return gone, nil
}

// reapTopic deletes what the topic's manifests name in older incarnations,
// then everything under its own prefix, manifests last so that a crash in
// between can go on from them.
func reapTopic(ctx context.Context, store objstore.Store, prefix string) error {
	var manifests []string
	for after := ""; ; {
		page, err := store.List(ctx, prefix, after, 0)
		if err != nil {
			return err
		}
		var data []string
		for _, o := range page.Objects {
			after = o.Key
			if strings.Contains(o.Key[len(prefix):], "/manifest/") {
				manifests = append(manifests, o.Key)
			} else {
				data = append(data, o.Key)
			}
		}
		if err := store.Delete(ctx, data...); err != nil {
			return err
		}
		if !page.More {
			break
		}
	}
	for _, key := range manifests {
		if err := reapNamed(ctx, store, key); err != nil {
			return err
		}
	}
	return store.Delete(ctx, manifests...)
}

// reapNamed deletes every key that one manifest names.
func reapNamed(ctx context.Context, store objstore.Store, key string) error {
	body, err := store.Get(ctx, key, 0, -1)
	if errors.Is(err, objstore.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	m, err := manifest.Decode(body)
	if err != nil {
		return nil // a boundary, or rot: what it named is found by Scrub
	}
	keys := named(m.Entries, m.Retired)
	for _, p := range m.Pages {
		entries, err := manifest.ReadPage(ctx, store, p)
		if err != nil && !errors.Is(err, objstore.ErrNotFound) {
			return err
		}
		keys = append(append(keys, named(entries, nil)...), p.Key)
	}
	return store.Delete(ctx, keys...)
}

func named(entries []manifest.Entry, retired []manifest.Retired) []string {
	var keys []string
	for _, e := range entries {
		for _, k := range []string{e.Key, e.Index, e.Aborted} {
			if k != "" && (k != e.Key || e.Kind == manifest.KindSegment) {
				keys = append(keys, k)
			}
		}
	}
	for _, r := range retired {
		keys = append(keys, r.Key)
	}
	return keys
}
