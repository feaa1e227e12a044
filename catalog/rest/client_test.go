package rest

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"tidewater/catalog"
)

var ident = catalog.Ident{Namespace: catalog.Namespace{"n"}, Name: "t"}

func commit(c *Client, timeout time.Duration) error {
	c.cfg.Timeout = timeout
	_, _, err := c.CommitTable(context.Background(), ident, nil, []table.Update{table.NewSetPropertiesUpdate(iceberg.Properties{"a": "b"})})
	return err
}

// A commit is sent once, whatever comes back, and its error says whether it may
// have been done.
func TestOutcomeOfACommit(t *testing.T) {
	var commits atomic.Int64
	var answer atomic.Pointer[http.HandlerFunc]
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/v1/config") {
			_, _ = w.Write([]byte(`{"defaults":{},"overrides":{"prefix":"p"}}`))
			return
		}
		if r.URL.Path != "/v1/p/namespaces/n/tables/t" {
			t.Errorf("asked %s", r.URL.Path)
		}
		commits.Add(1)
		(*answer.Load())(w, r)
	}))
	defer h.Close()
	status := func(code int, kind string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = w.Write([]byte(`{"error":{"message":"m","type":"` + kind + `","code":1}}`))
		}
	}
	released := make(chan struct{})
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		want   error
	}{
		"conflict":     {status(409, "CommitFailedException"), catalog.ErrConflict},
		"server error": {status(500, "InternalServerError"), catalog.ErrUnknown},
		"bad gateway":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }, catalog.ErrUnknown},
		"unavailable":  {status(503, "ServiceUnavailableException"), catalog.ErrUnavailable},
		"no table":     {status(404, "NoSuchTableException"), catalog.ErrNoTable},
		"forbidden":    {status(403, "ForbiddenException"), catalog.ErrDenied},
		"bad request":  {status(400, "BadRequestException"), catalog.ErrInvalid},
		"cut off":      {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, catalog.ErrUnknown},
		"half answer":  {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"metadata"`)) }, catalog.ErrUnknown},
		"no answer":    {func(http.ResponseWriter, *http.Request) { <-released }, catalog.ErrUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Open(t.Context(), Config{URI: h.URL})
			if err != nil {
				t.Fatal(err)
			}
			answer.Store(&tt.answer)
			before := commits.Load()
			timeout := time.Minute
			if name == "no answer" {
				timeout = time.Second // enough to arrive
			}
			if err := commit(c, timeout); !errors.Is(err, tt.want) {
				t.Errorf("error is %v, want %v", err, tt.want)
			}
			if n := commits.Load() - before; n != 1 {
				t.Errorf("the commit was sent %d times", n)
			}
		})
	}
	close(released)
	c, err := Open(t.Context(), Config{URI: h.URL})
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
	if err := commit(c, time.Minute); !errors.Is(err, catalog.ErrUnavailable) || errors.Is(err, catalog.ErrUnknown) {
		t.Errorf("no connection: %v", err)
	}
}

// A token is fetched once, used until shortly before its end, and fetched again
// when the catalog refuses it.
func TestToken(t *testing.T) {
	var fetched, refuse atomic.Int64
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/oauth/tokens" {
			if r.FormValue("client_id") != "me" || r.FormValue("client_secret") != "it" || r.FormValue("grant_type") != "client_credentials" {
				t.Errorf("form %v", r.Form)
			}
			fetched.Add(1)
			_, _ = w.Write([]byte(`{"access_token":"tok","token_type":"bearer","expires_in":600}`))
			return
		}
		if r.Header.Get("Authorization") != "Bearer tok" || refuse.Add(-1) >= 0 {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = w.Write([]byte(`{"defaults":{},"overrides":{},"identifiers":[]}`))
	}))
	defer h.Close()
	now := time.Unix(1_700_000_000, 0)
	c, err := Open(t.Context(), Config{URI: h.URL, Credential: "me:it", Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	list := func(want int64) {
		t.Helper()
		if _, err := c.ListTables(t.Context(), ident.Namespace); err != nil || fetched.Load() != want {
			t.Fatalf("%v; fetched %d times, want %d", err, fetched.Load(), want)
		}
	}
	list(1)
	now = now.Add(10 * time.Minute)
	list(2)
	refuse.Store(1)
	list(3)
}
