package broker

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"
)

// mishap is what the way to the bucket does to a request.
type mishap int

const (
	pass     mishap = iota
	cut             // the connection ends before the store hears anything
	busy            // 503 without asking the store
	slow            // passes after slowness
	lost            // carried out, then the connection ends without a reply
	hung            // no answer for as long as the client waits
	clash           // 409, as for two conditional writes at once
	slowness = 300 * time.Millisecond
)

// way is the network between a broker and the store, an HTTP proxy that breaks
// requests on order. It leaves the Host header as it is, since it is signed.
type way struct {
	*httptest.Server

	mu     sync.Mutex
	rule   func(r *http.Request) mishap
	over   chan struct{} // closed when the rule changes: what hangs is let go
	struck map[mishap]int
}

func newWay(t *testing.T, endpoint string) *way {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
		},
		Transport:    transport,
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	w := &way{over: make(chan struct{}), struck: map[mishap]int{}}
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		what, over := w.strike(r)
		switch what {
		case cut:
			panic(http.ErrAbortHandler)
		case busy:
			http.Error(rw, "", http.StatusServiceUnavailable)
			return
		case clash:
			rw.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(rw, `<Error><Code>ConditionalRequestConflict</Code></Error>`)
			return
		case hung:
			_, _ = io.Copy(io.Discard, r.Body) // only then the server sees the client leave
			select {
			case <-r.Context().Done():
			case <-over:
			}
			panic(http.ErrAbortHandler)
		case slow:
			select {
			case <-time.After(slowness):
			case <-r.Context().Done():
				panic(http.ErrAbortHandler)
			}
		case lost:
			proxy.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}
		proxy.ServeHTTP(rw, r)
	}))
	t.Cleanup(func() {
		w.set(nil)
		w.CloseClientConnections()
		w.Close()
		transport.CloseIdleConnections()
	})
	return w
}

// strike gives what befalls a request, and when that is over.
func (w *way) strike(r *http.Request) (mishap, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.rule == nil {
		return pass, nil
	}
	what := w.rule(r)
	w.struck[what]++
	return what, w.over
}

// set decides by rule from now on; nil lets everything pass.
func (w *way) set(rule func(r *http.Request) mishap) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rule = rule
	close(w.over)
	w.over = make(chan struct{})
	clear(w.struck)
}

// all does the same to every request.
func (w *way) all(what mishap) { w.set(func(*http.Request) mishap { return what }) }

// times is how often a mishap struck since it was set.
func (w *way) times(what mishap) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.struck[what]
}
