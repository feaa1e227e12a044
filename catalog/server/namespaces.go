package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	"tidewater/catalog"
)

// newRecord fills in what stands in every object.
func (s *Server) newRecord(format string, number uint64) record {
	return record{Format: format, Version: recordVersion, MinReader: recordVersion, Cluster: s.cfg.ClusterID,
		Incarnation: s.cfg.Incarnation, Tenant: "default", Number: number, Commit: s.cfg.UUID().String()}
}

// fenced refuses to write over what a later incarnation wrote.
func (s *Server) fenced(r record) error {
	if r.Incarnation > s.cfg.Incarnation {
		return fmt.Errorf("%w: the catalog belongs to incarnation %d, this is %d", catalog.ErrDenied, r.Incarnation, s.cfg.Incarnation)
	}
	return nil
}

// namespace gives the newest record of a namespace that exists.
func (s *Server) namespace(ctx context.Context, n catalog.Namespace) (record, error) {
	if err := n.Validate(); err != nil {
		return record{}, err
	}
	r, err := s.namespaceSeries(n).latest(ctx, record{})
	if err != nil {
		return record{}, err
	}
	if r.Number == 0 || r.Dropped {
		return r, fmt.Errorf("%w: %s", catalog.ErrNoNamespace, n)
	}
	return r, nil
}

// createNamespace makes one namespace; its parents need not exist.
func (s *Server) createNamespace(ctx context.Context, n catalog.Namespace, properties map[string]string) error {
	if err := n.Validate(); err != nil {
		return err
	}
	series := s.namespaceSeries(n)
	old, err := series.latest(ctx, record{})
	if err != nil {
		return err
	}
	if old.Number != 0 && !old.Dropped {
		return fmt.Errorf("%w: namespace %s", catalog.ErrExists, n)
	}
	if err := s.fenced(old); err != nil {
		return err
	}
	next := s.newRecord(namespaceFormat, old.Number+1)
	next.Properties = properties
	if err := series.put(ctx, next); errors.Is(err, catalog.ErrConflict) {
		return fmt.Errorf("%w: namespace %s", catalog.ErrExists, n)
	} else if err != nil {
		return fmt.Errorf("create namespace %s: %w", n, err)
	}
	return nil
}

// EnsureNamespace makes the namespace and its parents unless they exist.
func (s *Server) EnsureNamespace(ctx context.Context, n catalog.Namespace, properties map[string]string) error {
	if err := n.Validate(); err != nil {
		return err
	}
	for depth := 1; depth <= len(n); depth++ {
		var own map[string]string
		if depth == len(n) {
			own = properties
		}
		if _, err := s.namespace(ctx, n[:depth]); !errors.Is(err, catalog.ErrNoNamespace) {
			if err != nil {
				return err
			}
			continue
		}
		if err := s.createNamespace(ctx, n[:depth], own); err != nil && !errors.Is(err, catalog.ErrExists) {
			return err
		}
	}
	return nil
}

// propertyChange tells what an update of properties did.
type propertyChange struct {
	Updated []string `json:"updated"`
	Removed []string `json:"removed"`
	Missing []string `json:"missing"`
}

func (s *Server) updateNamespace(ctx context.Context, n catalog.Namespace, set map[string]string, remove []string) (propertyChange, error) {
	change := propertyChange{Updated: []string{}, Removed: []string{}, Missing: []string{}}
	for _, key := range remove {
		if _, both := set[key]; both {
			return change, fmt.Errorf("%w: property %q is to be set and removed", errUnprocessable, key)
		}
	}
	old, err := s.namespace(ctx, n)
	if err != nil {
		return change, err
	}
	if err := s.fenced(old); err != nil {
		return change, err
	}
	next := s.newRecord(namespaceFormat, old.Number+1)
	next.Properties = maps.Clone(old.Properties)
	if next.Properties == nil {
		next.Properties = map[string]string{}
	}
	maps.Copy(next.Properties, set)
	change.Updated = append(change.Updated, slices.Sorted(maps.Keys(set))...)
	for _, key := range remove {
		if _, found := next.Properties[key]; found {
			delete(next.Properties, key)
			change.Removed = append(change.Removed, key)
		} else {
			change.Missing = append(change.Missing, key)
		}
	}
	if err := s.namespaceSeries(n).put(ctx, next); err != nil {
		return change, fmt.Errorf("update namespace %s: %w", n, err)
	}
	s.clean(ctx, s.namespaceSeries(n), next.Number)
	return change, nil
}

func (s *Server) dropNamespace(ctx context.Context, n catalog.Namespace) error {
	old, err := s.namespace(ctx, n)
	if err != nil {
		return err
	}
	if err := s.fenced(old); err != nil {
		return err
	}
	tables, children, err := s.names(ctx, n)
	if err != nil {
		return err
	}
	if len(tables)+len(children) > 0 {
		return fmt.Errorf("%w: %s holds %d tables and %d namespaces", catalog.ErrNotEmpty, n, len(tables), len(children))
	}
	next := s.newRecord(namespaceFormat, old.Number+1)
	next.Dropped = true
	if err := s.namespaceSeries(n).put(ctx, next); err != nil {
		return fmt.Errorf("drop namespace %s: %w", n, err)
	}
	return nil
}

// names gives the tables and namespaces right inside a namespace, sorted.
func (s *Server) names(ctx context.Context, n catalog.Namespace) (tables, namespaces []string, err error) {
	dir := s.namespaceDir(n)
	after := ""
	seen := map[string]bool{}
	for {
		page, err := s.cfg.Store.List(ctx, dir, after, 1000)
		if err != nil {
			return nil, nil, storeError("list", dir, err)
		}
		for _, o := range page.Objects {
			after = o.Key
			// Only series right inside dir matter: NAME.table/N, NAME.namespace/N.
			folder, _, _ := strings.Cut(strings.TrimPrefix(o.Key, dir), "/")
			if strings.Contains(folder, ".") {
				seen[folder] = true
			}
		}
		if !page.More {
			break
		}
	}
	for folder := range seen {
		name, isTable := strings.CutSuffix(folder+"/", tableSuffix)
		name, isNamespace := strings.CutSuffix(name, namespaceSuffix)
		level, ok := unescape(name)
		if !ok || !isTable && !isNamespace {
			continue
		}
		format := namespaceFormat
		if isTable {
			format = tableFormat
		}
		r, err := series{store: s.cfg.Store, dir: dir + folder + "/", format: format}.latest(ctx, record{})
		if err != nil {
			return nil, nil, err
		}
		switch {
		case r.Number == 0 || r.Dropped:
		case isTable:
			tables = append(tables, level)
		default:
			namespaces = append(namespaces, level)
		}
	}
	sort.Strings(tables)
	sort.Strings(namespaces)
	return tables, namespaces, nil
}

// ListTables gives the tables right in the namespace, sorted by name.
func (s *Server) ListTables(ctx context.Context, n catalog.Namespace) ([]catalog.Ident, error) {
	if _, err := s.namespace(ctx, n); err != nil {
		return nil, err
	}
	names, _, err := s.names(ctx, n)
	if err != nil {
		return nil, err
	}
	idents := make([]catalog.Ident, len(names))
	for i, name := range names {
		idents[i] = catalog.Ident{Namespace: n, Name: name}
	}
	return idents, nil
}

// listNamespaces gives the namespaces right inside parent; the root is empty.
func (s *Server) listNamespaces(ctx context.Context, parent catalog.Namespace) ([]catalog.Namespace, error) {
	if len(parent) > 0 {
		if _, err := s.namespace(ctx, parent); err != nil {
			return nil, err
		}
	}
	_, names, err := s.names(ctx, parent)
	if err != nil {
		return nil, err
	}
	out := make([]catalog.Namespace, len(names))
	for i, name := range names {
		out[i] = append(slices.Clone(parent), name)
	}
	return out, nil
}
