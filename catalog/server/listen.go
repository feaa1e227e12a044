package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Limits of a connection. Writing waits for FreshenWait too, so its limit is wide.
const (
	headerBytesMax = 64 << 10
	headerTimeout  = 10 * time.Second
	readTimeout    = 60 * time.Second
	writeTimeout   = 120 * time.Second
	idleTimeout    = 120 * time.Second
	closeTimeout   = 5 * time.Second
)

// Listener serves a Server on an address until Close.
type Listener struct {
	addr   string
	http   *http.Server
	served chan error
}

// Listen serves the catalog on host:port. A taken port is an error that names it.
func Listen(s *Server, addr string) (*Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s for the catalog: %w", addr, err)
	}
	server := &http.Server{Handler: s, MaxHeaderBytes: headerBytesMax, ReadHeaderTimeout: headerTimeout,
		ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout}
	out := &Listener{addr: l.Addr().String(), http: server, served: make(chan error, 1)}
	go func() { out.served <- server.Serve(l) }()
	return out, nil
}

// Addr is the host:port served.
func (l *Listener) Addr() string { return l.addr }

// Close lets running requests end, for at most five seconds.
func (l *Listener) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := l.http.Shutdown(ctx)
	if err != nil {
		err = l.http.Close()
	}
	if served := <-l.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
