package objstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
)

// ErrUnfit: the store does not keep a promise that fencing rests on. Nothing
// may be tiered to it.
var ErrUnfit = errors.New("object store is not fit for tiering")

const (
	probeRounds  = 3
	probeWriters = 4
)

// Probe races conditional writes on the store and checks that exactly one of
// each race wins, that it stays, and that lists and ranges show it. nonce makes
// the keys unique among probes that run at the same time. It is run once when
// a bucket is taken into use. It starts goroutines and waits for them.
//
// A store that ignores If-None-Match answers success to all, and is refused by
// name (ErrUnfit).
func Probe(ctx context.Context, s Store, nonce string) error {
	for round := range probeRounds {
		key := fmt.Sprintf("probe/%s/%d", nonce, round)
		if err := probeRace(ctx, s, key); err != nil {
			return err
		}
	}
	if _, err := s.Now(ctx); err != nil {
		return fmt.Errorf("probe the store's clock: %w", err)
	}
	return nil
}

func probeRace(ctx context.Context, s Store, key string) error {
	bodies := make([][]byte, probeWriters)
	results := make([]error, probeWriters)
	var wg sync.WaitGroup
	for i := range probeWriters {
		bodies[i] = []byte(key + " by writer " + strconv.Itoa(i))
		wg.Go(func() { results[i] = s.PutIfAbsent(ctx, key, bodies[i]) })
	}
	wg.Wait()
	winner := -1
	for i, err := range results {
		switch {
		case err == nil && winner >= 0:
			return fmt.Errorf("%w: two conditional writes (If-None-Match: *) of %s both succeeded; the store ignores the condition", ErrUnfit, key)
		case err == nil:
			winner = i
		case !errors.Is(err, ErrExists):
			return fmt.Errorf("probe conditional write: %w", err)
		}
	}
	if winner < 0 {
		return fmt.Errorf("%w: of %d conditional writes of %s none succeeded", ErrUnfit, probeWriters, key)
	}
	return probeReads(ctx, s, key, bodies[winner])
}

// probeReads checks that the winner's bytes stayed and removes them.
func probeReads(ctx context.Context, s Store, key string, want []byte) error {
	switch err := s.PutIfAbsent(ctx, key, []byte("late")); {
	case errors.Is(err, ErrUnavailable):
		return fmt.Errorf("probe a late conditional write: %w", err) // says nothing about the store's promises
	case !errors.Is(err, ErrExists):
		return fmt.Errorf("%w: a conditional write over existing %s answers %v, want %v", ErrUnfit, key, err, ErrExists)
	}
	got, err := s.Get(ctx, key, 0, -1)
	if err != nil {
		return fmt.Errorf("probe read: %w", err)
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%w: %s holds %q, the winner of the race wrote %q", ErrUnfit, key, got, want)
	}
	part, err := s.Get(ctx, key, 2, 3)
	if err != nil {
		return fmt.Errorf("probe ranged read: %w", err)
	}
	if !bytes.Equal(part, want[2:5]) {
		return fmt.Errorf("%w: bytes 2-4 of %s are %q, want %q; the store ignores ranges", ErrUnfit, key, part, want[2:5])
	}
	page, err := s.List(ctx, key, "", 10)
	if err != nil {
		return fmt.Errorf("probe list: %w", err)
	}
	if len(page.Objects) != 1 || page.Objects[0].Key != key {
		return fmt.Errorf("%w: a list right after a write does not show %s", ErrUnfit, key)
	}
	return s.Delete(ctx, key)
}
