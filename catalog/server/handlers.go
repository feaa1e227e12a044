package server

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"tidewater/catalog"
)

var (
	errNoView      = errors.New("view does not exist: this catalog has tables only")
	errNoWarehouse = errors.New("warehouse does not exist")
)

// levelSeparator stands between the levels of a namespace in paths and queries.
const levelSeparator = "\x1f"

func unescapePath(p string) (string, error) { return url.PathUnescape(p) }

func namespaceOf(r *http.Request) catalog.Namespace {
	return strings.Split(r.PathValue("namespace"), levelSeparator)
}

func identOf(r *http.Request) catalog.Ident {
	return catalog.Ident{Namespace: namespaceOf(r), Name: r.PathValue("table")}
}

// identJSON is a table's name on the wire.
type identJSON struct {
	Namespace []string `json:"namespace"`
	Name      string   `json:"name"`
}

func (i identJSON) ident() catalog.Ident {
	return catalog.Ident{Namespace: i.Namespace, Name: i.Name}
}

func (s *Server) getConfig(r *http.Request) (int, any, error) {
	asked := r.URL.Query().Get("warehouse")
	own := s.cfg.uri(s.cfg.Prefix)
	if asked != "" && asked != s.cfg.Warehouse && strings.TrimSuffix(asked, "/") != own {
		return 0, nil, fmt.Errorf("%w: %q; this catalog has %q (%s)", errNoWarehouse, asked, s.cfg.Warehouse, own)
	}
	defaults := s.cfg.ClientConfig
	if defaults == nil {
		defaults = map[string]string{}
	}
	return http.StatusOK, map[string]any{"defaults": defaults, "overrides": map[string]string{}, "endpoints": endpoints()}, nil
}

func (s *Server) postToken(r *http.Request) (int, any, error) {
	if err := r.ParseForm(); err != nil {
		return 0, nil, fmt.Errorf("%w: form: %w", catalog.ErrInvalid, err)
	}
	secret := r.PostForm.Get("client_secret")
	if _, basic, ok := r.BasicAuth(); ok {
		secret = basic
	}
	if s.cfg.Token != "" && secret != s.cfg.Token {
		return http.StatusUnauthorized, map[string]string{"error": "invalid_client", "error_description": "client secret is wrong"}, nil
	}
	token := s.cfg.Token
	if token == "" {
		token = "none-needed"
	}
	return http.StatusOK, map[string]any{"access_token": token, "token_type": "bearer", "expires_in": 86400,
		"issued_token_type": "urn:ietf:params:oauth:token-type:access_token"}, nil
}

func (s *Server) getNamespaces(r *http.Request) (int, any, error) {
	var parent catalog.Namespace
	if p := r.URL.Query().Get("parent"); p != "" {
		parent = strings.Split(p, levelSeparator)
	}
	found, err := s.listNamespaces(r.Context(), parent)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, map[string]any{"namespaces": append([]catalog.Namespace{}, found...)}, nil
}

type namespaceJSON struct {
	Namespace  []string          `json:"namespace"`
	Properties map[string]string `json:"properties"`
}

func (s *Server) postNamespace(r *http.Request) (int, any, error) {
	var request namespaceJSON
	if err := decode(r, &request); err != nil {
		return 0, nil, err
	}
	if request.Properties == nil {
		request.Properties = map[string]string{}
	}
	err := s.createNamespace(r.Context(), request.Namespace, request.Properties)
	return http.StatusOK, request, err
}

func (s *Server) getNamespace(r *http.Request) (int, any, error) {
	n := namespaceOf(r)
	found, err := s.namespace(r.Context(), n)
	if err != nil {
		return 0, nil, err
	}
	if r.Method == http.MethodHead {
		return http.StatusNoContent, nil, nil
	}
	properties := found.Properties
	if properties == nil {
		properties = map[string]string{}
	}
	return http.StatusOK, namespaceJSON{n, properties}, nil
}

func (s *Server) deleteNamespace(r *http.Request) (int, any, error) {
	return http.StatusNoContent, nil, s.dropNamespace(r.Context(), namespaceOf(r))
}

func (s *Server) postProperties(r *http.Request) (int, any, error) {
	var request struct {
		Removals []string          `json:"removals"`
		Updates  map[string]string `json:"updates"`
	}
	if err := decode(r, &request); err != nil {
		return 0, nil, err
	}
	change, err := s.updateNamespace(r.Context(), namespaceOf(r), request.Updates, request.Removals)
	return http.StatusOK, change, err
}

func (s *Server) getTables(r *http.Request) (int, any, error) {
	found, err := s.ListTables(r.Context(), namespaceOf(r))
	if err != nil {
		return 0, nil, err
	}
	idents := make([]identJSON, len(found))
	for i, f := range found {
		idents[i] = identJSON{f.Namespace, f.Name}
	}
	return http.StatusOK, map[string]any{"identifiers": idents}, nil
}

func (s *Server) postTable(r *http.Request) (int, any, error) {
	var request struct {
		Name       string                        `json:"name"`
		Location   string                        `json:"location"`
		Schema     *iceberg.Schema               `json:"schema"`
		Spec       *iceberg.UnboundPartitionSpec `json:"partition-spec"`
		Order      *table.UnboundSortOrder       `json:"write-order"`
		Stage      bool                          `json:"stage-create"`
		Properties iceberg.Properties            `json:"properties"`
	}
	if err := decode(r, &request); err != nil {
		return 0, nil, err
	}
	create := catalog.CreateRequest{Ident: catalog.Ident{Namespace: namespaceOf(r), Name: request.Name},
		Schema: request.Schema, Location: request.Location, Properties: request.Properties}
	if request.Spec != nil {
		create.Spec = &request.Spec.PartitionSpec
	}
	if request.Order != nil {
		create.SortOrder = &request.Order.SortOrder
	}
	e, err := s.create(r.Context(), create, request.Stage)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, s.loaded(e, nil), nil
}

func (s *Server) postRegister(r *http.Request) (int, any, error) {
	var request struct {
		Name      string `json:"name"`
		Metadata  string `json:"metadata-location"`
		Overwrite bool   `json:"overwrite"`
	}
	if err := decode(r, &request); err != nil {
		return 0, nil, err
	}
	ident := catalog.Ident{Namespace: namespaceOf(r), Name: request.Name}
	e, err := s.registerTable(r.Context(), ident, request.Metadata, request.Overwrite)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, s.loaded(e, nil), nil
}

// commitJSON is a commit of one table. In a transaction it names the table.
type commitJSON struct {
	Identifier   *identJSON         `json:"identifier"`
	Requirements table.Requirements `json:"requirements"`
	Updates      table.Updates      `json:"updates"`
}

func (s *Server) postCommit(r *http.Request) (int, any, error) {
	var request commitJSON
	if err := decode(r, &request); err != nil {
		return 0, nil, err
	}
	e, _, err := s.commit(r.Context(), tableChange{identOf(r), request.Requirements, request.Updates})
	if err != nil {
		return 0, nil, fmt.Errorf("commit table %s: %w", identOf(r), err)
	}
	return http.StatusOK, map[string]any{"metadata-location": e.record.Metadata, "metadata": e.metadata}, nil
}

func (s *Server) postTransaction(r *http.Request) (int, any, error) {
	var request struct {
		Changes []commitJSON `json:"table-changes"`
	}
	if err := decode(r, &request); err != nil {
		return 0, nil, err
	}
	seen := map[string]bool{}
	var changes []tableChange
	for _, c := range request.Changes {
		if c.Identifier == nil {
			return 0, nil, fmt.Errorf("%w: a change of a transaction does not name its table", catalog.ErrInvalid)
		}
		ident := c.Identifier.ident()
		if seen[ident.String()] {
			return 0, nil, fmt.Errorf("%w: a transaction changes table %s twice", catalog.ErrInvalid, ident)
		}
		seen[ident.String()] = true
		changes = append(changes, tableChange{ident, c.Requirements, c.Updates})
	}
	if len(changes) == 1 {
		_, _, err := s.commit(r.Context(), changes[0])
		return http.StatusNoContent, nil, err
	}
	return http.StatusNoContent, nil, s.commitAll(r.Context(), changes)
}

func (s *Server) deleteTable(r *http.Request) (int, any, error) {
	purge := false
	if asked := r.URL.Query().Get("purgeRequested"); asked != "" {
		var err error
		if purge, err = strconv.ParseBool(asked); err != nil {
			return 0, nil, fmt.Errorf("%w: purgeRequested is %q", catalog.ErrInvalid, asked)
		}
	}
	return http.StatusNoContent, nil, s.DropTable(r.Context(), identOf(r), purge)
}

func (s *Server) postRename(r *http.Request) (int, any, error) {
	var request struct {
		Source      identJSON `json:"source"`
		Destination identJSON `json:"destination"`
	}
	if err := decode(r, &request); err != nil {
		return 0, nil, err
	}
	from, to := request.Source.ident(), request.Destination.ident()
	if err := s.renameTable(r.Context(), from, to); err != nil {
		return 0, nil, fmt.Errorf("rename table %s to %s: %w", from, to, err)
	}
	return http.StatusNoContent, nil, nil
}

func (s *Server) postMetrics(*http.Request) (int, any, error) { return http.StatusNoContent, nil, nil }

func (s *Server) getViews(r *http.Request) (int, any, error) {
	if _, err := s.namespace(r.Context(), namespaceOf(r)); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, map[string]any{"identifiers": []identJSON{}}, nil
}

func (s *Server) getView(r *http.Request) (int, any, error) {
	return 0, nil, fmt.Errorf("%w: %s", errNoView, r.PathValue("view"))
}
