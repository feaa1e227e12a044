package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/apache/iceberg-go/table"

	"tidewater/catalog"
)

// loadedJSON is the answer to load, create and register.
type loadedJSON struct {
	Location string            `json:"metadata-location,omitempty"`
	Metadata json.RawMessage   `json:"metadata"`
	Config   map[string]string `json:"config"`
}

// loaded builds the answer; raw replaces the metadata file's bytes.
func (s *Server) loaded(e *entry, raw []byte) any {
	if raw == nil {
		raw = e.raw
	}
	config := s.cfg.ClientConfig
	if config == nil {
		config = map[string]string{}
	}
	if raw == nil { // staged: there is no file yet
		return map[string]any{"metadata": e.metadata, "config": config}
	}
	return loadedJSON{e.record.Metadata, raw, config}
}

// getTable answers load and exists. A load freshens the table first.
func (s *Server) getTable(w http.ResponseWriter, r *http.Request) {
	ident := identOf(r)
	e, err := s.existing(r.Context(), ident)
	if err != nil {
		s.fail(w, r, fmt.Errorf("load table: %w", err))
		return
	}
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	e = s.freshened(r.Context(), ident, e)
	refsOnly := r.URL.Query().Get("snapshots") == "refs"
	etag := fmt.Sprintf("%q", fmt.Sprintf("%s-%t", e.record.Commit, refsOnly))
	w.Header().Set("ETag", etag)
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	raw := e.raw
	if refsOnly {
		if raw, err = onlyReferenced(e); err != nil {
			s.fail(w, r, err)
			return
		}
	}
	s.writeJSON(w, r, http.StatusOK, s.loaded(e, raw))
}

// freshened has pending records brought into the table, within the bounds, and
// gives the newest metadata. Past the bounds it gives what is there.
func (s *Server) freshened(ctx context.Context, ident catalog.Ident, e *entry) *entry {
	if s.cfg.Freshen == nil || !s.buckets.take(s.tableSeries(ident).dir) {
		return e
	}
	bounded, cancel := context.WithTimeout(ctx, s.cfg.FreshenWait)
	defer cancel()
	if err := s.cfg.Freshen(bounded, ident); err != nil {
		s.cfg.Log.Debug("freshen table", "table", ident.String(), "error", err)
	}
	if fresh, err := s.existing(ctx, ident); err == nil {
		return fresh
	}
	return e
}

// onlyReferenced leaves out the snapshots that no branch or tag names.
func onlyReferenced(e *entry) ([]byte, error) {
	named := map[int64]bool{}
	for _, ref := range e.metadata.Refs() {
		named[ref.SnapshotID] = true
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(e.raw, &fields); err != nil {
		return nil, fmt.Errorf("read metadata %s: %w", e.record.Metadata, err)
	}
	kept := []table.Snapshot{}
	for _, snapshot := range e.metadata.Snapshots() {
		if named[snapshot.SnapshotID] {
			kept = append(kept, snapshot)
		}
	}
	b, err := json.Marshal(kept)
	if err != nil {
		return nil, fmt.Errorf("encode snapshots of %s: %w", e.record.Metadata, err)
	}
	fields["snapshots"] = b
	return json.Marshal(fields)
}
