package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Limits of the small HTTP servers: a client that sends its header too slowly
// or holds an idle connection is cut.
const (
	httpHeaderTimeout = 5 * time.Second
	httpIdleTimeout   = 2 * time.Minute
	httpHeaderBytes   = 64 << 10
)

// httpServer is one of the broker's HTTP listeners.
type httpServer struct {
	name   string
	server *http.Server
	listen net.Listener
}

// openHTTP listens on addr, with TLS if secure is not nil. A taken port names
// the port and the key to change.
func openHTTP(name, key, addr string, secure *tls.Config, h http.Handler, log *slog.Logger) (*httpServer, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for %s: %w (choose another with --%s)", name, err, key)
	}
	if secure != nil {
		l = tls.NewListener(l, secure)
	}
	return &httpServer{name: name, listen: l, server: &http.Server{
		Handler:           h,
		ReadHeaderTimeout: httpHeaderTimeout,
		IdleTimeout:       httpIdleTimeout,
		MaxHeaderBytes:    httpHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}, nil
}

// run serves until close.
func (s *httpServer) run() error {
	if err := s.server.Serve(s.listen); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", s.name, err)
	}
	return nil
}

func (s *httpServer) close(ctx context.Context) error {
	if err := s.server.Shutdown(ctx); err != nil {
		return s.server.Close()
	}
	return nil
}

// adminHandler serves health and metrics, and what more adds behind the guard.
// ready tells why the broker cannot serve yet, nil when it can.
func adminHandler(ready func() error, metrics prometheus.Gatherer, g *adminGuard, more func(*http.ServeMux)) http.Handler {
	open := http.NewServeMux()
	open.HandleFunc("GET /health/live", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "live") })
	open.HandleFunc("GET /health/ready", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	open.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	// Profiles tell an operator where time and memory go; the admin address is
	// not for clients.
	profiles := http.NewServeMux()
	profiles.HandleFunc("GET /debug/pprof/", pprof.Index)
	profiles.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	profiles.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	open.Handle("/debug/pprof/", g.guard(true, profiles))
	guarded := http.NewServeMux()
	more(guarded)
	open.Handle("GET /v1/", g.guard(false, guarded))
	open.Handle("/v1/", g.guard(true, guarded))
	return open
}
