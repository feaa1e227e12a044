package broker

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
)

// Who may do what at the admin address. Health and metrics are open to whoever
// reaches it: probes and scrapers have no secrets. The rest (the cluster's state
// and its changes, profiles) asks for the token when there is one. Without one
// the address decides: on loopback everything is open, as it is to who can read
// the data directory; elsewhere the state is shown, and nothing that changes the
// cluster or costs it time is done.

// Bounds of a token: shorter ones are guessed, longer files are none.
const adminTokenMin, adminTokenMax = 16, 4 << 10

// adminGuard lets requests pass or answers them.
type adminGuard struct {
	// tokenFile holds the token; it is read at every request, so that a new one
	// holds at once. Empty: there is none.
	tokenFile string
	loopback  bool
	log       *slog.Logger
}

func newAdminGuard(c *Config, log *slog.Logger) *adminGuard {
	return &adminGuard{tokenFile: c.AdminTokenFile, loopback: isLoopback(c.AdminAddr), log: log}
}

// isLoopback reports whether only this machine reaches an address to listen on.
func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// readToken reads a file with a token: one line, of at least 16 characters.
func readToken(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(text))
	switch {
	case len(token) < adminTokenMin || len(token) > adminTokenMax:
		return "", fmt.Errorf("%s: a token has %d to %d characters, this has %d", path, adminTokenMin, adminTokenMax, len(token))
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", fmt.Errorf("%s: a token is one line of visible ASCII characters", path)
	}
	return token, nil
}

// errNoToken is what a request is answered that an open address does not do.
var errNoToken = errors.New("this broker's admin address is reached from other machines and has no token, so it changes nothing: " +
	"set admin-token-file, or let admin-addr be a loopback address")

// guard stands before a handler. changes says that it changes the cluster, or
// costs it time.
func (g *adminGuard) guard(changes bool, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		code, err := g.admit(changes, r)
		if err != nil {
			g.log.Warn("admin request refused", "method", r.Method, "path", r.URL.Path, "from", r.RemoteAddr, "because", err.Error())
			if code == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", `Bearer realm="tidewater"`)
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			_ = json.NewEncoder(w).Encode(adminError{err.Error()}) // a client that went away is no loss
			return
		}
		if changes {
			g.log.Info("admin request", "method", r.Method, "path", r.URL.Path, "from", r.RemoteAddr)
		}
		h.ServeHTTP(w, r)
	})
}

// admit answers whether a request may pass, with the status of a refusal.
func (g *adminGuard) admit(changes bool, r *http.Request) (int, error) {
	if g.tokenFile == "" {
		if changes && !g.loopback {
			return http.StatusForbidden, errNoToken
		}
		return http.StatusOK, nil
	}
	want, err := readToken(g.tokenFile)
	if err != nil {
		g.log.Error("admin token cannot be read; nobody is let in", "error", err)
		return http.StatusInternalServerError, errors.New("the broker cannot read its admin-token-file; its log says why")
	}
	kind, got, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch {
	case got == "":
		return http.StatusUnauthorized, errors.New("this needs the cluster's admin token: 'Authorization: Bearer …', or --token-file of the tidewater command")
	case !strings.EqualFold(kind, "Bearer") || !sameToken(strings.TrimSpace(got), want):
		return http.StatusUnauthorized, errors.New("the admin token is not this broker's (admin-token-file)")
	}
	return http.StatusOK, nil
}

// sameToken compares in a time that tells nothing of either, its length
// included.
func sameToken(got, want string) bool {
	a, b := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(want))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// validateAdmin gives the faults of what guards the admin address.
func (c *Config) validateAdmin() (faults []error) {
	if (c.AdminCert == "") != (c.AdminKey == "") {
		faults = append(faults, errors.New("admin-cert, admin-key: TLS at the admin address needs both"))
	}
	if c.AdminTokenFile != "" {
		if _, err := readToken(c.AdminTokenFile); err != nil {
			faults = append(faults, fmt.Errorf("admin-token-file: %w", err))
		}
	}
	return faults
}

// adminTLS reads the files; nil without TLS at the admin address.
func (c *Config) adminTLS() (*tls.Config, error) {
	if c.AdminCert == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(c.AdminCert, c.AdminKey)
	if err != nil {
		return nil, fmt.Errorf("admin-cert, admin-key: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}, nil
}
