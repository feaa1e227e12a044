package server_test

import (
	"net/http/httptest"
	"testing"
	"time"

	"tidewater/catalog"
	"tidewater/catalog/catalogtest"
	"tidewater/catalog/rest"
	"tidewater/catalog/server"
	"tidewater/internal/objstore"
)

func open(t *testing.T, store objstore.Store, change func(*server.Config)) *server.Server {
	t.Helper()
	cfg := server.Config{Store: store, Root: "s3://tidewater", ClusterID: "test", Incarnation: 1}
	if change != nil {
		change(&cfg)
	}
	s, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mem() *objstore.Mem { return objstore.NewMem(time.Now) }

// The suite on the server in process.
func TestServerPassesTheSuite(t *testing.T) {
	catalogtest.Run(t, func(t *testing.T) catalog.Catalog { return open(t, mem(), nil) })
}

// The suite over HTTP: with and without the prefix, with a token fetched by
// client credentials.
func TestServerOverHTTPPassesTheSuite(t *testing.T) {
	for name, setup := range map[string]struct {
		token string
		cfg   rest.Config
		path  string
	}{
		"open":  {},
		"token": {token: "s3cret", cfg: rest.Config{Credential: "me:s3cret", Warehouse: "tidewater"}},
	} {
		t.Run(name, func(t *testing.T) {
			catalogtest.Run(t, func(t *testing.T) catalog.Catalog {
				h := httptest.NewServer(open(t, mem(), func(c *server.Config) { c.Token = setup.token }))
				t.Cleanup(h.Close)
				cfg := setup.cfg
				cfg.URI = h.URL
				c, err := rest.Open(t.Context(), cfg)
				if err != nil {
					t.Fatal(err)
				}
				return c
			})
		})
	}
}
