package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tidewater/catalog"
	"tidewater/catalog/catalogtest"
	"tidewater/catalog/server"
)

// ask sends one request and gives status, body and header.
func ask(t *testing.T, s http.Handler, method, path, body string, header ...string) (int, string, http.Header) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	b, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(b), w.Result().Header
}

// Every request an engine makes has the specification's status and error type.
func TestAnswersOfTheSpecification(t *testing.T) {
	s, made := setup(t, mem())
	catalogtest.Create(t, s, catalog.Ident{Namespace: ident.Namespace, Name: "u"})
	id := made.Metadata.TableUUID().String()
	change := `{"requirements":[{"type":"assert-table-uuid","uuid":"` + id + `"}],"updates":[{"action":"set-properties","updates":{"x":"y"}}]}`
	named := func(name, uuid string) string {
		return `{"identifier":{"namespace":["n"],"name":"` + name + `"},"requirements":[{"type":"assert-table-uuid","uuid":"` + uuid + `"}],"updates":[{"action":"set-properties","updates":{"tx":"1"}}]}`
	}
	for _, tt := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/v1/config", "", 200, `"endpoints":["GET /v1/{prefix}/namespaces"`},
		{"GET", "/v1/config?warehouse=tidewater", "", 200, `"overrides":{}`},
		{"GET", "/v1/config?warehouse=s3://tidewater/warehouse", "", 200, `"overrides":{}`},
		{"GET", "/v1/config?warehouse=other", "", 404, "NoSuchWarehouseException"},
		{"POST", "/v1/oauth/tokens", "", 200, "access_token"},
		{"GET", "/v1/namespaces", "", 200, `{"namespaces":[["n"]]}`},
		{"GET", "/v1/tidewater/namespaces", "", 200, `{"namespaces":[["n"]]}`},
		{"POST", "/v1/namespaces", `{"namespace":["n"]}`, 409, "AlreadyExistsException"},
		{"POST", "/v1/namespaces", `{"namespace":["a","b"],"properties":{"p":"q"}}`, 200, `"p":"q"`},
		{"GET", "/v1/namespaces/a%1Fb", "", 200, `{"namespace":["a","b"],"properties":{"p":"q"}}`},
		{"HEAD", "/v1/namespaces/a%1Fb", "", 204, ""},
		{"HEAD", "/v1/namespaces/zz", "", 404, ""},
		{"POST", "/v1/namespaces/a%1Fb/properties", `{"updates":{"r":"s"},"removals":["p","w"]}`, 200, `{"updated":["r"],"removed":["p"],"missing":["w"]}`},
		{"POST", "/v1/namespaces/a%1Fb/properties", `{"updates":{"r":"s"},"removals":["r"]}`, 422, "UnprocessableEntityException"},
		{"DELETE", "/v1/namespaces/a%1Fb", "", 204, ""},
		{"DELETE", "/v1/namespaces/n", "", 409, "NamespaceNotEmptyException"},
		{"GET", "/v1/namespaces/n/tables", "", 200, `{"namespace":["n"],"name":"t"}`},
		{"HEAD", "/v1/namespaces/n/tables/t", "", 204, ""},
		{"HEAD", "/v1/namespaces/n/tables/none", "", 404, ""},
		{"GET", "/v1/namespaces/n/tables/none", "", 404, "NoSuchTableException"},
		{"POST", "/v1/namespaces/n/tables", `{"name":`, 400, "BadRequestException"},
		{"POST", "/v1/namespaces/n/tables", `{"name":"x"}`, 400, "a table needs a schema"},
		{"POST", "/v1/namespaces/n/tables", `{"name":"x","location":"s3://elsewhere/x","schema":{"type":"struct","fields":[{"id":1,"name":"a","type":"int","required":false}]}}`, 400, "not below s3://tidewater/"},
		{"POST", "/v1/namespaces/n/tables", `{"name":"s","stage-create":true,"schema":{"type":"struct","fields":[{"id":1,"name":"a","type":"int","required":false}]}}`, 200, `"table-uuid"`},
		{"HEAD", "/v1/namespaces/n/tables/s", "", 404, ""},
		{"POST", "/v1/namespaces/n/tables/t", change, 200, `"x":"y"`},
		{"POST", "/v1/namespaces/n/tables/t", strings.Replace(change, id, "00000000-0000-4000-8000-000000000000", 1), 409, "CommitFailedException"},
		{"POST", "/v1/namespaces/n/tables/t", `{"updates":[{"action":"make-coffee"}]}`, 400, "make-coffee"},
		{"POST", "/v1/transactions/commit", `{"table-changes":[` + named("t", id) + `,` + named("u", id) + `]}`, 409, "CommitFailedException"},
		{"POST", "/v1/transactions/commit", `{"table-changes":[` + named("t", id) + `,` + named("t", id) + `]}`, 400, "twice"},
		{"POST", "/v1/namespaces/n/tables/t/metrics", `{"report-type":"scan-report"}`, 204, ""},
		{"GET", "/v1/namespaces/n/views", "", 200, `{"identifiers":[]}`},
		{"GET", "/v1/namespaces/n/views/v", "", 404, "NoSuchViewException"},
		{"POST", "/v1/tables/rename", `{"source":{"namespace":["n"],"name":"t"},"destination":{"namespace":["n"],"name":"u"}}`, 409, "AlreadyExistsException"},
		{"POST", "/v1/tables/rename", `{"source":{"namespace":["n"],"name":"u"},"destination":{"namespace":["n"],"name":"w"}}`, 204, ""},
		{"GET", "/v1/namespaces/n/tables/u", "", 404, "NoSuchTableException"},
		{"HEAD", "/v1/namespaces/n/tables/w", "", 204, ""},
		{"POST", "/v1/namespaces/n/register", `{"name":"r","metadata-location":"` + made.MetadataLocation + `"}`, 200, made.MetadataLocation},
		{"DELETE", "/v1/namespaces/n/tables/r?purgeRequested=false", "", 204, ""},
		{"DELETE", "/v1/namespaces/n/tables/r", "", 404, "NoSuchTableException"},
		{"GET", "/v1/unheard-of", "", 404, "NotFoundException"},
	} {
		status, body, _ := ask(t, s, tt.method, tt.path, tt.body)
		if status != tt.status || !strings.Contains(body, tt.want) {
			t.Errorf("%s %s %s: %d %s; want %d with %s", tt.method, tt.path, tt.body, status, body, tt.status, tt.want)
		}
	}
	if loaded, err := s.LoadTable(t.Context(), ident); err != nil || loaded.Metadata.Properties()["tx"] != "" {
		t.Errorf("a transaction with a failed requirement changed a table: %v", err)
	}
}

// A load carries an ETag by which the next one costs nothing, and gives only
// the snapshots that are asked for.
func TestLoadWithETagAndRefs(t *testing.T) {
	s, made := setup(t, mem())
	m := made.Metadata
	for id := int64(1); id <= 3; id++ {
		requirements, updates := catalogtest.Append(m, id)
		next, _, err := s.CommitTable(t.Context(), ident, requirements, updates)
		if err != nil {
			t.Fatal(err)
		}
		m = next
	}
	path := "/v1/namespaces/n/tables/t"
	_, _, header := ask(t, s, "GET", path, "")
	if status, body, _ := ask(t, s, "GET", path, "", "If-None-Match", header.Get("ETag")); status != 304 || body != "" {
		t.Errorf("same ETag: %d %s", status, body)
	}
	if status, _, _ := ask(t, s, "GET", path+"?snapshots=refs", "", "If-None-Match", header.Get("ETag")); status != 200 {
		t.Errorf("ETag of another view: %d", status)
	}
	count := func(path string) int {
		_, body, _ := ask(t, s, "GET", path, "")
		var answer struct {
			Metadata struct {
				Snapshots []json.RawMessage `json:"snapshots"`
			} `json:"metadata"`
		}
		if err := json.Unmarshal([]byte(body), &answer); err != nil {
			t.Fatal(err)
		}
		return len(answer.Metadata.Snapshots)
	}
	if all, refs := count(path), count(path+"?snapshots=refs"); all != 3 || refs != 1 {
		t.Errorf("%d snapshots, %d of refs", all, refs)
	}
}

// A load freshens the table first, within a bounded wait, and a crawler cannot
// make it do so more often than the buckets allow.
func TestFreshenIsBounded(t *testing.T) {
	var calls atomic.Int64
	now := time.Unix(1_700_000_000, 0)
	var s *server.Server
	s = open(t, mem(), func(c *server.Config) {
		c.Now = func() time.Time { return now }
		c.FreshenWait = time.Millisecond
		c.Freshen = func(ctx context.Context, i catalog.Ident) error {
			if calls.Add(1) == 1 { // in time, whatever the machine's pace
				ctx = context.WithoutCancel(ctx)
			}
			loaded, err := s.LoadTable(ctx, i)
			if err != nil && calls.Load() == 1 {
				return err
			}
			if calls.Load() == 1 {
				requirements, updates := catalogtest.Set(loaded.Metadata, "k", "fresh")
				_, _, err = s.CommitTable(ctx, i, requirements, updates)
				return err
			}
			<-ctx.Done() // too slow: the load goes on without it
			return ctx.Err()
		}
	})
	if err := s.EnsureNamespace(t.Context(), ident.Namespace, nil); err != nil {
		t.Fatal(err)
	}
	catalogtest.Create(t, s, ident)
	for range 50 {
		if status, body, _ := ask(t, s, "GET", "/v1/namespaces/n/tables/t", ""); status != 200 || !strings.Contains(body, "fresh") {
			t.Fatalf("%d %s", status, body)
		}
	}
	if calls.Load() != 2 {
		t.Errorf("freshened %d times in one instant, want the burst of 2", calls.Load())
	}
	now = now.Add(time.Second)
	ask(t, s, "GET", "/v1/namespaces/n/tables/t", "")
	if calls.Load() != 3 {
		t.Errorf("freshened %d times after a second, want 3", calls.Load())
	}
}

// Requests that are too large or carry no token are refused.
func TestLimitsAndToken(t *testing.T) {
	s := open(t, mem(), func(c *server.Config) { c.Token = "x" })
	if status, body, _ := ask(t, s, "GET", "/v1/namespaces", ""); status != 401 || !strings.Contains(body, "NotAuthorizedException") {
		t.Errorf("no token: %d %s", status, body)
	}
	large := `{"namespace":["` + string(bytes.Repeat([]byte("a"), 17<<20)) + `"]}`
	if status, _, _ := ask(t, s, "POST", "/v1/namespaces", large, "Authorization", "Bearer x"); status != 413 {
		t.Errorf("large body: %d", status)
	}
}
