package broker

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// ask sends a request to a broker's admin address, at 127.0.0.1, and gives the
// status and what was said.
func (n *node) ask(method, path, token string) (int, string) {
	n.t.Helper()
	_, port, err := net.SplitHostPort(n.AdminAddr())
	if err != nil {
		n.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(n.t.Context(), method, "http://127.0.0.1:"+port+path, strings.NewReader(`{"on": true}`))
	if err != nil {
		n.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// wantStatus asks, and wants a status and, in what is said, a word.
func (n *node) wantStatus(method, path, token string, status int, word string) {
	n.t.Helper()
	if got, text := n.ask(method, path, token); got != status || !strings.Contains(text, word) {
		n.t.Errorf("%s %s with %q: status %d, wanted %d with %q:\n%.200s", method, path, token, got, status, word, text)
	}
}

const (
	maintenance = "/v1/brokers/1/maintenance"
	adminSecret = "correct horse battery"
)

func writeToken(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A broker whose admin address other machines reach changes nothing without a
// token and says how to have that; what only shows goes on.
func TestAdminAddressOfOthersChangesNothingWithoutToken(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	cfg.AdminAddr = "0.0.0.0:0"
	n := openNode(t, cfg)
	for _, change := range []struct{ method, path string }{
		{"PUT", maintenance}, {"PUT", "/v1/brokers/1/draining"}, {"DELETE", "/v1/brokers/1"}, {"PUT", "/v1/topics/t/replicas"},
		{"GET", "/debug/pprof/heap"}, {"POST", "/v1/nosuch"},
	} {
		n.wantStatus(change.method, change.path, "", http.StatusForbidden, "admin-token-file")
	}
	n.wantStatus("PUT", maintenance, "Bearer "+adminSecret, http.StatusForbidden, "admin-token-file")
	n.wantStatus("GET", "/v1/cluster", "", http.StatusOK, `"brokers"`)
	n.wantStatus("GET", "/health/ready", "", http.StatusOK, "ready")
	n.wantStatus("GET", "/metrics", "", http.StatusOK, "tidewater_")
	if n.logged.count("it shows the cluster and changes nothing") != 1 {
		t.Error("the log does not say that the admin address has no token")
	}
}

// With a token nothing but health and metrics is answered without it; a file
// that changes holds at the next request, and one that is gone lets nobody in.
func TestAdminTokenIsAskedFor(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	cfg.AdminTokenFile = writeToken(t, "correct-horse-battery\n")
	n := openNode(t, cfg)
	const right = "Bearer correct-horse-battery"
	for _, token := range []string{"", "Bearer", "Bearer ", "Bearer wrong-horse-battery", "Basic correct-horse-battery", "correct-horse-battery", right + "x"} {
		n.wantStatus("PUT", maintenance, token, http.StatusUnauthorized, "token")
		n.wantStatus("GET", "/v1/cluster", token, http.StatusUnauthorized, "token")
		n.wantStatus("GET", "/debug/pprof/heap", token, http.StatusUnauthorized, "token")
	}
	n.wantStatus("GET", "/health/live", "", http.StatusOK, "live")
	n.wantStatus("GET", "/metrics", "", http.StatusOK, "tidewater_")
	n.wantStatus("GET", "/v1/cluster", right, http.StatusOK, `"brokers"`)
	n.wantStatus("PUT", maintenance, right, http.StatusOK, "{}")
	if n.logged.count("admin request") == 0 {
		t.Error("the change is not in the log")
	}

	if err := os.WriteFile(cfg.AdminTokenFile, []byte("another-horse-battery"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.wantStatus("PUT", maintenance, right, http.StatusUnauthorized, "token")
	n.wantStatus("PUT", maintenance, "bearer another-horse-battery", http.StatusOK, "{}")
	if err := os.Remove(cfg.AdminTokenFile); err != nil {
		t.Fatal(err)
	}
	n.wantStatus("PUT", maintenance, "Bearer another-horse-battery", http.StatusInternalServerError, "admin-token-file")
}

func TestAdminConfigIsChecked(t *testing.T) {
	for word, change := range map[string]func(*Config){
		"no such file":        func(c *Config) { c.AdminTokenFile = filepath.Join(t.TempDir(), "none") },
		"16 to":               func(c *Config) { c.AdminTokenFile = writeToken(t, "short\n") },
		"visible ASCII":       func(c *Config) { c.AdminTokenFile = writeToken(t, adminSecret) },
		"admin-cert, admin-k": func(c *Config) { c.AdminCert = "cert.pem" },
	} {
		cfg := testConfig(t.TempDir())
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("want %q, got %v", word, err)
		}
	}
	for addr, loopback := range map[string]bool{"127.0.0.1:1": true, "127.9.9.9:1": true, "[::1]:1": true, "localhost:1": true,
		"0.0.0.0:1": false, ":1": false, "[::]:1": false, "10.0.0.1:1": false, "broker-1:1": false} {
		if isLoopback(addr) != loopback {
			t.Errorf("%s: loopback %t", addr, !loopback)
		}
	}
}
