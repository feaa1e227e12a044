package server

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"tidewater/catalog"
)

// endpoints is what /v1/config announces.
func endpoints() []string {
	return []string{
		"GET /v1/{prefix}/namespaces", "POST /v1/{prefix}/namespaces",
		"GET /v1/{prefix}/namespaces/{namespace}", "HEAD /v1/{prefix}/namespaces/{namespace}",
		"DELETE /v1/{prefix}/namespaces/{namespace}", "POST /v1/{prefix}/namespaces/{namespace}/properties",
		"GET /v1/{prefix}/namespaces/{namespace}/tables", "POST /v1/{prefix}/namespaces/{namespace}/tables",
		"GET /v1/{prefix}/namespaces/{namespace}/tables/{table}", "HEAD /v1/{prefix}/namespaces/{namespace}/tables/{table}",
		"POST /v1/{prefix}/namespaces/{namespace}/tables/{table}", "DELETE /v1/{prefix}/namespaces/{namespace}/tables/{table}",
		"POST /v1/{prefix}/namespaces/{namespace}/register", "POST /v1/{prefix}/namespaces/{namespace}/tables/{table}/metrics",
		"POST /v1/{prefix}/tables/rename", "POST /v1/{prefix}/transactions/commit",
	}
}

// answer handles one request; the value is written as JSON unless it is nil.
type answer func(r *http.Request) (status int, value any, err error)

func (s *Server) newRoutes() *http.ServeMux {
	mux := http.NewServeMux()
	on := func(pattern string, a answer) { mux.HandleFunc(pattern, s.handle(a)) }
	on("GET /v1/config", s.getConfig)
	on("POST /v1/oauth/tokens", s.postToken)
	on("GET /v1/namespaces", s.getNamespaces)
	on("POST /v1/namespaces", s.postNamespace)
	on("GET /v1/namespaces/{namespace}", s.getNamespace) // HEAD too
	on("DELETE /v1/namespaces/{namespace}", s.deleteNamespace)
	on("POST /v1/namespaces/{namespace}/properties", s.postProperties)
	on("GET /v1/namespaces/{namespace}/tables", s.getTables)
	on("POST /v1/namespaces/{namespace}/tables", s.postTable)
	on("POST /v1/namespaces/{namespace}/register", s.postRegister)
	mux.HandleFunc("GET /v1/namespaces/{namespace}/tables/{table}", s.getTable)
	on("POST /v1/namespaces/{namespace}/tables/{table}", s.postCommit)
	on("DELETE /v1/namespaces/{namespace}/tables/{table}", s.deleteTable)
	on("POST /v1/namespaces/{namespace}/tables/{table}/metrics", s.postMetrics)
	on("POST /v1/tables/rename", s.postRename)
	on("POST /v1/transactions/commit", s.postTransaction)
	on("GET /v1/namespaces/{namespace}/views", s.getViews)
	on("GET /v1/namespaces/{namespace}/views/{view}", s.getView)
	return mux
}

// ServeHTTP answers the REST catalog's requests, with or without the
// warehouse's name as prefix.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, bodyBytesMax)
	rest, ok := strings.CutPrefix(r.URL.EscapedPath(), "/v1/"+s.cfg.Warehouse+"/")
	if ok {
		u := *r.URL
		u.RawPath = "/v1/" + rest
		if path, err := unescapePath(u.RawPath); err == nil {
			u.Path = path
		}
		r2 := *r
		r2.URL = &u
		r = &r2
	}
	if !s.authorized(r) {
		s.writeError(w, r, http.StatusUnauthorized, "NotAuthorizedException", "a valid bearer token is needed")
		return
	}
	if _, pattern := s.routes.Handler(r); pattern == "" {
		s.writeError(w, r, http.StatusNotFound, "NotFoundException", fmt.Sprintf("this catalog has no %s %s", r.Method, r.URL.Path))
		return
	}
	s.routes.ServeHTTP(w, r)
}

func (s *Server) authorized(r *http.Request) bool {
	if s.cfg.Token == "" || r.URL.Path == "/v1/oauth/tokens" {
		return true
	}
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return subtle.ConstantTimeCompare([]byte(token), []byte(s.cfg.Token)) == 1
}

func (s *Server) handle(a answer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		status, value, err := a(r)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		s.writeJSON(w, r, status, value)
	}
}

func (s *Server) writeJSON(w http.ResponseWriter, r *http.Request, status int, value any) {
	if value == nil {
		w.WriteHeader(status)
		return
	}
	b, err := json.Marshal(value)
	if err != nil {
		s.writeError(w, r, http.StatusInternalServerError, "InternalServerError", err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b) // the client went away
}

func (s *Server) writeError(w http.ResponseWriter, r *http.Request, status int, kind, message string) {
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	type model struct {
		Message string `json:"message"`
		Type    string `json:"type"`
		Code    int    `json:"code"`
	}
	s.writeJSON(w, r, status, map[string]model{"error": {message, kind, status}})
}

// fail answers an error in the specification's words.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	status, kind := http.StatusInternalServerError, "InternalServerError"
	tooLarge := new(http.MaxBytesError)
	for _, known := range []struct {
		err    error
		status int
		kind   string
	}{
		// Unknown first: it may wrap what made it unknown.
		{catalog.ErrUnknown, http.StatusInternalServerError, "CommitStateUnknownException"},
		{catalog.ErrNoTable, http.StatusNotFound, "NoSuchTableException"},
		{catalog.ErrNoNamespace, http.StatusNotFound, "NoSuchNamespaceException"},
		{errNoView, http.StatusNotFound, "NoSuchViewException"},
		{errNoWarehouse, http.StatusNotFound, "NoSuchWarehouseException"},
		{catalog.ErrExists, http.StatusConflict, "AlreadyExistsException"},
		{catalog.ErrNotEmpty, http.StatusConflict, "NamespaceNotEmptyException"},
		{catalog.ErrConflict, http.StatusConflict, "CommitFailedException"},
		{catalog.ErrDenied, http.StatusForbidden, "ForbiddenException"},
		{errUnprocessable, http.StatusUnprocessableEntity, "UnprocessableEntityException"},
		{catalog.ErrInvalid, http.StatusBadRequest, "BadRequestException"},
		{catalog.ErrUnavailable, http.StatusServiceUnavailable, "ServiceUnavailableException"},
		{context.Canceled, http.StatusServiceUnavailable, "ServiceUnavailableException"},
		{context.DeadlineExceeded, http.StatusServiceUnavailable, "ServiceUnavailableException"},
	} {
		if errors.Is(err, known.err) {
			status, kind = known.status, known.kind
			break
		}
	}
	if errors.As(err, &tooLarge) {
		status, kind = http.StatusRequestEntityTooLarge, "BadRequestException"
	}
	if status >= http.StatusInternalServerError {
		s.cfg.Log.Warn("catalog request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	s.writeError(w, r, status, kind, err.Error())
}

// decode reads a JSON body; what is wrong with it is the client's to know.
func decode(r *http.Request, into any) error {
	tooLarge := new(http.MaxBytesError)
	err := json.NewDecoder(r.Body).Decode(into)
	if errors.As(err, &tooLarge) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: body of %s %s: %w", catalog.ErrInvalid, r.Method, r.URL.Path, err)
	}
	return nil
}
