package manifest

import (
	"context"
	"errors"
	"fmt"

	"tidewater/internal/objstore"
)

// PutNew stores an object under a name that nobody else uses.
func PutNew(ctx context.Context, store objstore.Store, key string, body []byte) error {
	found, err := Create(ctx, store, key, body)
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	if found {
		return fmt.Errorf("upload %s: %w: the name is taken by other bytes", key, ErrFenced)
	}
	return nil
}

// NewestMetadata reads the newest cluster metadata of an incarnation;
// objstore.ErrNotFound if there is none.
func NewestMetadata(ctx context.Context, store objstore.Store, l Layout) (*Metadata, error) {
	body, n, err := newestBody(ctx, store, l.MetadataPrefix(), l.Metadata)
	if err != nil {
		return nil, fmt.Errorf("read cluster metadata: %w", err)
	}
	m, err := DecodeMetadata(body)
	if err != nil {
		return nil, fmt.Errorf("read cluster metadata %d: %w", n, err)
	}
	return m, nil
}

// NewestCut reads the newest cut; objstore.ErrNotFound if there is none.
func NewestCut(ctx context.Context, store objstore.Store, l Layout) (*Cut, error) {
	body, n, err := newestBody(ctx, store, l.CutPrefix(), l.Cut)
	if err != nil {
		return nil, fmt.Errorf("read cut: %w", err)
	}
	c, err := DecodeCut(body)
	if err != nil {
		return nil, fmt.Errorf("read cut %d: %w", n, err)
	}
	return c, nil
}

func newestBody(ctx context.Context, store objstore.Store, prefix string, key func(uint64) string) ([]byte, uint64, error) {
	const races = 4
	for range races {
		n, err := Newest(ctx, store, prefix, 0)
		if err != nil {
			return nil, 0, err
		}
		if n == 0 {
			return nil, 0, fmt.Errorf("nothing under %s: %w", prefix, objstore.ErrNotFound)
		}
		body, err := store.Get(ctx, key(n), 0, -1)
		if errors.Is(err, objstore.ErrNotFound) {
			continue
		}
		return body, n, err
	}
	return nil, 0, fmt.Errorf("objects under %s vanish while they are read: %w", prefix, objstore.ErrUnavailable)
}
