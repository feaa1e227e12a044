package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"tidewater/catalog"
)

// TakeOver gives every table, and every name given (a table that is not made
// yet), to this server's incarnation: afterwards a server of an earlier one
// commits, creates and drops nothing under them. What it committed before
// stands. A restore calls it after it took its incarnation and before it looks
// how far the bucket holds the logs; after an error it calls again.
func (s *Server) TakeOver(ctx context.Context, names ...catalog.Ident) error {
	var dirs []string
	for _, n := range names {
		if err := n.Validate(); err != nil {
			return err
		}
		dirs = append(dirs, s.tableSeries(n).dir)
	}
	for after := ""; ; {
		page, err := s.cfg.Store.List(ctx, s.root(), after, 1000)
		if err != nil {
			return storeError("list", s.root(), err)
		}
		for _, o := range page.Objects {
			after = o.Key
			if i := strings.LastIndexByte(o.Key, '/'); strings.HasSuffix(o.Key[:i+1], tableSuffix) {
				dirs = append(dirs, o.Key[:i+1])
			}
		}
		if !page.More {
			break
		}
	}
	slices.Sort(dirs)
	for _, dir := range slices.Compact(dirs) {
		if err := s.takeOver(ctx, series{store: s.cfg.Store, dir: dir, format: tableFormat}); err != nil {
			return fmt.Errorf("take over %s: %w", dir, err)
		}
	}
	return nil
}

// takeOver continues one series with the same contents and this incarnation. A
// name without a table is left free.
func (s *Server) takeOver(ctx context.Context, of series) error {
	var last error
	for range attemptsMax {
		old, err := of.latest(ctx, record{})
		if err != nil {
			return err
		}
		if err := s.fenced(old); err != nil || old.Incarnation == s.cfg.Incarnation {
			return err
		}
		next := s.newRecord(tableFormat, old.Number+1)
		next.Dropped, next.Metadata, next.Table, next.RenamedTo = old.Dropped || old.Number == 0, old.Metadata, old.Table, old.RenamedTo
		if last = of.put(ctx, next); !errors.Is(last, catalog.ErrConflict) {
			return last
		}
	}
	return last
}
