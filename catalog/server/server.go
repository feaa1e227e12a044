package server

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"github.com/apache/iceberg-go/table"

	"tidewater/catalog"
)

// errUnprocessable: the request contradicts itself (422).
var errUnprocessable = errors.New("request contradicts itself")

// Server is the catalog. It is an http.Handler for engines and a
// catalog.Catalog for callers in this process.
type Server struct {
	cfg     Config
	routes  *http.ServeMux
	buckets *buckets

	mu     sync.Mutex
	cached map[string]*entry // by String of the ident's series; guarded by mu
	used   uint64            // counts uses; guarded by mu
}

var (
	_ catalog.Catalog = (*Server)(nil)
	_ http.Handler    = (*Server)(nil)
)

// entry is a table's newest metadata as the store had it. It is never changed
// once in the cache, but for used.
type entry struct {
	record   record
	metadata table.Metadata
	raw      []byte // the metadata file
	used     uint64 // guarded by Server.mu
}

// New makes a server; it does not touch the store.
func New(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	s := &Server{cfg: cfg, cached: map[string]*entry{}, buckets: newBuckets(cfg.FreshenPerTable, cfg.FreshenTotal, cfg.Now)}
	s.routes = s.newRoutes()
	return s, nil
}

func (s *Server) cachedEntry(dir string) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.cached[dir]
	if e != nil {
		s.used++
		e.used = s.used
	}
	return e
}

func (s *Server) keep(dir string, e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.cached[dir]; old != nil && old.record.Number > e.record.Number {
		return
	}
	s.used++
	e.used = s.used
	s.cached[dir] = e
	if len(s.cached) <= tablesCachedMax {
		return
	}
	oldest := ""
	for d, c := range s.cached {
		if oldest == "" || c.used < s.cached[oldest].used {
			oldest = d
		}
	}
	delete(s.cached, oldest)
}

// clean removes old objects of a series now and then. Failing costs only space.
func (s *Server) clean(ctx context.Context, series series, newest uint64) {
	if newest%recordsKept != 0 {
		return
	}
	if err := series.clean(ctx, newest); err != nil {
		s.cfg.Log.Warn("clean catalog series", "series", series.dir, "error", err)
	}
}
