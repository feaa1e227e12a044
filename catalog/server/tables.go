package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"tidewater/catalog"
	"tidewater/internal/objstore"
)

// Table properties by which engines bound the metadata files of the past.
const deleteAfterCommit = "write.metadata.delete-after-commit.enabled"

// latest gives the newest pointer of a name and, unless it is dropped, the
// metadata it names.
func (s *Server) latest(ctx context.Context, ident catalog.Ident) (*entry, error) {
	if err := ident.Validate(); err != nil {
		return nil, err
	}
	series := s.tableSeries(ident)
	var known record
	cached := s.cachedEntry(series.dir)
	if cached != nil {
		known = cached.record
	}
	r, err := series.latest(ctx, known)
	if err != nil {
		return nil, err
	}
	if cached != nil && cached.record.Commit == r.Commit {
		return cached, nil
	}
	e := &entry{record: r}
	if r.Number != 0 && !r.Dropped {
		if e.metadata, e.raw, err = s.readMetadata(ctx, r.Metadata); err != nil {
			return nil, err
		}
	}
	if r.Number != 0 {
		s.keep(series.dir, e)
	}
	return e, nil
}

// existing is latest for a table that must exist.
func (s *Server) existing(ctx context.Context, ident catalog.Ident) (*entry, error) {
	e, err := s.latest(ctx, ident)
	if err != nil {
		return nil, err
	}
	if e.metadata == nil {
		return nil, fmt.Errorf("%w: %s", catalog.ErrNoTable, ident)
	}
	return e, nil
}

func (s *Server) readMetadata(ctx context.Context, uri string) (table.Metadata, []byte, error) {
	key, err := s.cfg.key(uri)
	if err != nil {
		return nil, nil, err
	}
	raw, err := s.cfg.Store.Get(ctx, key, 0, metadataBytesMax)
	if errors.Is(err, objstore.ErrNotFound) {
		return nil, nil, fmt.Errorf("%w: metadata file %s does not exist", catalog.ErrInvalid, uri)
	}
	if err != nil {
		return nil, nil, storeError("read metadata", key, err)
	}
	m, err := table.ParseMetadataBytes(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: metadata file %s: %w", catalog.ErrInvalid, uri, err)
	}
	return m, raw, nil
}

// writeMetadata writes a metadata file under a name of its own.
func (s *Server) writeMetadata(ctx context.Context, m table.Metadata, number uint64) (string, []byte, error) {
	raw, err := json.Marshal(m)
	if err != nil {
		return "", nil, fmt.Errorf("encode table metadata: %w", err)
	}
	uri := fmt.Sprintf("%s/metadata/%05d-%s.metadata.json", strings.TrimSuffix(m.Location(), "/"), number-1, s.cfg.UUID())
	key, err := s.cfg.key(uri)
	if err != nil {
		return "", nil, err
	}
	// The name is unique, so an object found there is this one, whose reply was lost.
	if err := s.cfg.Store.PutIfAbsent(ctx, key, raw); err != nil && !errors.Is(err, objstore.ErrExists) {
		return "", nil, storeError("write metadata", key, err)
	}
	return uri, raw, nil
}

// publish makes m the table's metadata: the file, then the pointer after old.
func (s *Server) publish(ctx context.Context, ident catalog.Ident, old record, m table.Metadata) (*entry, error) {
	e, err := s.stage(ctx, old, m)
	if err != nil {
		return nil, err
	}
	return e, s.point(ctx, ident, e)
}

// stage writes the metadata file and prepares the pointer after old.
func (s *Server) stage(ctx context.Context, old record, m table.Metadata) (*entry, error) {
	if err := s.fenced(old); err != nil {
		return nil, err
	}
	uri, raw, err := s.writeMetadata(ctx, m, old.Number+1)
	if err != nil {
		return nil, err
	}
	r := s.newRecord(tableFormat, old.Number+1)
	r.Metadata, r.Table = uri, m.TableUUID().String()
	// What the file says is what clients get; parsing it again also proves it.
	parsed, err := table.ParseMetadataBytes(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: metadata would not be readable: %w", catalog.ErrInvalid, err)
	}
	return &entry{record: r, metadata: parsed, raw: raw}, nil
}

func (s *Server) point(ctx context.Context, ident catalog.Ident, e *entry) error {
	series := s.tableSeries(ident)
	if err := series.put(ctx, e.record); err != nil {
		return err
	}
	s.keep(series.dir, e)
	s.clean(ctx, series, e.record.Number)
	return nil
}

func (s *Server) tableOf(ident catalog.Ident, e *entry) *catalog.Table {
	return &catalog.Table{Ident: ident, Metadata: e.metadata, MetadataLocation: e.record.Metadata, Config: s.cfg.ClientConfig}
}

// LoadTable gives the table as the store has it. It does not freshen.
func (s *Server) LoadTable(ctx context.Context, ident catalog.Ident) (*catalog.Table, error) {
	e, err := s.existing(ctx, ident)
	if err != nil {
		return nil, fmt.Errorf("load table %s: %w", ident, err)
	}
	return s.tableOf(ident, e), nil
}

// CreateTable makes an empty table.
func (s *Server) CreateTable(ctx context.Context, request catalog.CreateRequest) (*catalog.Table, error) {
	e, err := s.create(ctx, request, false)
	if err != nil {
		return nil, fmt.Errorf("create table %s: %w", request.Ident, err)
	}
	return s.tableOf(request.Ident, e), nil
}

// create makes a table, or with staged only its metadata for a commit to come.
func (s *Server) create(ctx context.Context, request catalog.CreateRequest, staged bool) (*entry, error) {
	ident := request.Ident
	old, err := s.vacant(ctx, ident)
	if err != nil {
		return nil, err
	}
	m, err := s.newMetadata(request)
	if err != nil {
		return nil, err
	}
	if staged {
		return &entry{metadata: m}, nil
	}
	e, err := s.publish(ctx, ident, old, m)
	if errors.Is(err, catalog.ErrConflict) {
		return nil, fmt.Errorf("%w: table %s", catalog.ErrExists, ident)
	}
	return e, err
}

// vacant gives the newest record of a name that no table has, in a namespace
// that exists.
func (s *Server) vacant(ctx context.Context, ident catalog.Ident) (record, error) {
	e, err := s.latest(ctx, ident)
	if err != nil {
		return record{}, err
	}
	if e.metadata != nil {
		return record{}, fmt.Errorf("%w: table %s", catalog.ErrExists, ident)
	}
	if _, err := s.namespace(ctx, ident.Namespace); err != nil {
		return record{}, err
	}
	return e.record, nil
}

func (s *Server) newMetadata(request catalog.CreateRequest) (table.Metadata, error) {
	if request.Schema == nil || request.Schema.NumFields() == 0 {
		return nil, fmt.Errorf("%w: a table needs a schema with at least one field", catalog.ErrInvalid)
	}
	spec, order := request.Spec, table.UnsortedSortOrder
	if spec == nil {
		spec = iceberg.UnpartitionedSpec
	}
	if request.SortOrder != nil {
		order = *request.SortOrder
	}
	id := s.cfg.UUID()
	location := strings.TrimSuffix(request.Location, "/")
	if location == "" {
		location = s.defaultLocation(request.Ident, id.String())
	}
	if _, err := s.cfg.key(location); err != nil {
		return nil, err
	}
	m, err := table.NewMetadataWithUUID(request.Schema, spec, order, location, request.Properties, id)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", catalog.ErrInvalid, err)
	}
	return m, nil
}

// DropTable takes the table out of the catalog. With purge its metadata files
// named by the newest one are deleted too, best effort; data files are left to
// whoever cleans the bucket by age.
func (s *Server) DropTable(ctx context.Context, ident catalog.Ident, purge bool) error {
	for range attemptsMax {
		e, err := s.existing(ctx, ident)
		if err != nil {
			return fmt.Errorf("drop table %s: %w", ident, err)
		}
		if err := s.fenced(e.record); err != nil {
			return fmt.Errorf("drop table %s: %w", ident, err)
		}
		r := s.newRecord(tableFormat, e.record.Number+1)
		r.Dropped, r.Metadata, r.Table = true, e.record.Metadata, e.record.Table
		err = s.point(ctx, ident, &entry{record: r})
		if errors.Is(err, catalog.ErrConflict) {
			continue
		}
		if err != nil {
			return fmt.Errorf("drop table %s: %w", ident, err)
		}
		if purge {
			s.purge(ctx, ident, e.metadata)
		}
		return nil
	}
	return fmt.Errorf("drop table %s: %w", ident, catalog.ErrConflict)
}

// renameTable moves a name. The old name is given up first and says where the
// table goes, so a table never has two names; if the second step is cut off,
// the same rename completes it.
func (s *Server) renameTable(ctx context.Context, from, to catalog.Ident) error {
	old, err := s.latest(ctx, from)
	if err != nil {
		return err
	}
	target := append(append([]string{}, to.Namespace...), to.Name)
	resumed := old.record.Dropped && strings.Join(old.record.RenamedTo, "\x1f") == strings.Join(target, "\x1f")
	if old.metadata == nil && !resumed {
		return fmt.Errorf("%w: %s", catalog.ErrNoTable, from)
	}
	free, err := s.vacant(ctx, to)
	if err != nil {
		return err
	}
	if err := errors.Join(s.fenced(old.record), s.fenced(free)); err != nil {
		return err
	}
	if !resumed {
		gone := s.newRecord(tableFormat, old.record.Number+1)
		gone.Dropped, gone.RenamedTo, gone.Metadata, gone.Table = true, target, old.record.Metadata, old.record.Table
		if err := s.point(ctx, from, &entry{record: gone}); err != nil {
			return err
		}
	} else if old.metadata, old.raw, err = s.readMetadata(ctx, old.record.Metadata); err != nil {
		return err
	}
	r := s.newRecord(tableFormat, free.Number+1)
	r.Metadata, r.Table = old.record.Metadata, old.record.Table
	return s.point(ctx, to, &entry{record: r, metadata: old.metadata, raw: old.raw})
}

// registerTable puts a metadata file that exists under a name.
func (s *Server) registerTable(ctx context.Context, ident catalog.Ident, uri string, overwrite bool) (*entry, error) {
	m, raw, err := s.readMetadata(ctx, uri)
	if err != nil {
		return nil, err
	}
	old, err := s.latest(ctx, ident)
	if err != nil {
		return nil, err
	}
	if old.metadata != nil && !overwrite {
		return nil, fmt.Errorf("%w: table %s", catalog.ErrExists, ident)
	}
	if _, err := s.namespace(ctx, ident.Namespace); err != nil {
		return nil, err
	}
	if err := s.fenced(old.record); err != nil {
		return nil, err
	}
	r := s.newRecord(tableFormat, old.record.Number+1)
	r.Metadata, r.Table = uri, m.TableUUID().String()
	e := &entry{record: r, metadata: m, raw: raw}
	return e, s.point(ctx, ident, e)
}

// dropOldMetadata deletes metadata files that a commit pushed out of the log,
// when the table asks for it. Clients over HTTP do that themselves after their
// commit, so only callers in this process have it done for them.
func (s *Server) dropOldMetadata(ctx context.Context, before, after table.Metadata) {
	if on, err := strconv.ParseBool(after.Properties()[deleteAfterCommit]); err != nil || !on {
		return
	}
	kept := map[string]bool{}
	for f := range after.PreviousFiles() {
		kept[f.MetadataFile] = true
	}
	var old []string
	for f := range before.PreviousFiles() {
		if key, err := s.cfg.key(f.MetadataFile); err == nil && !kept[f.MetadataFile] {
			old = append(old, key)
		}
	}
	s.deleteFiles(ctx, old)
}

func (s *Server) purge(ctx context.Context, ident catalog.Ident, m table.Metadata) {
	var files []string
	for f := range m.PreviousFiles() {
		if key, err := s.cfg.key(f.MetadataFile); err == nil {
			files = append(files, key)
		}
	}
	s.cfg.Log.Info("table purged", "table", ident.String(), "location", m.Location())
	s.deleteFiles(ctx, files)
}

func (s *Server) deleteFiles(ctx context.Context, keys []string) {
	if len(keys) == 0 {
		return
	}
	if err := s.cfg.Store.Delete(ctx, keys...); err != nil {
		s.cfg.Log.Warn("delete old metadata files", "files", len(keys), "error", err)
	}
}
