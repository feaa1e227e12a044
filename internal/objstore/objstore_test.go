package objstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"tidewater/internal/objstore"
	"tidewater/internal/objstore/objstoretest"
)

func TestMemPassesTheSuite(t *testing.T) {
	objstoretest.Run(t, func(*testing.T) objstore.Store { return objstore.NewMem(time.Now) })
}

func TestFaultWithoutFaultsPassesTheSuite(t *testing.T) {
	objstoretest.Run(t, func(*testing.T) objstore.Store {
		return &objstore.Fault{Store: objstore.NewMem(time.Now)}
	})
}

// fakeS3 answers the few requests that retries are tested with. Every request
// passes meddle first, which may answer itself (true) or wreck the reply.
type fakeS3 struct {
	mu      sync.Mutex
	objects map[string]string
	n       int
	meddle  func(n int, w http.ResponseWriter, r *http.Request) (answered, lost bool)
}

func (f *fakeS3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	var lost bool
	if f.meddle != nil {
		var answered bool
		if answered, lost = f.meddle(f.n, w, r); answered {
			return
		}
	}
	fail := func(code int, name string) {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(code)
		fmt.Fprintf(w, "<Error><Code>%s</Code><Message>m</Message></Error>", name)
	}
	body, there := f.objects[r.URL.Path]
	switch r.Method {
	case http.MethodPut:
		if there && r.Header.Get("If-None-Match") == "*" {
			fail(http.StatusPreconditionFailed, "PreconditionFailed")
			return
		}
		b, _ := io.ReadAll(r.Body)
		f.objects[r.URL.Path] = string(b)
		if lost {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("ETag", `"e"`)
	case http.MethodGet, http.MethodHead:
		if !there {
			fail(http.StatusNotFound, "NoSuchKey")
			return
		}
		w.Header().Set("ETag", `"e"`)
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		io.WriteString(w, body)
	}
}

func openFake(t *testing.T, f *fakeS3) *objstore.S3 {
	t.Helper()
	f.objects = map[string]string{}
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	s, err := objstore.OpenS3(objstore.Config{
		Endpoint: srv.URL, Bucket: "bucket", Prefix: "pre/fix", AccessKey: "k", SecretKey: "s",
		AttemptTimeout: 30 * time.Second, Jitter: func() float64 { return 0 },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// A write whose reply is lost was done; the next attempt meets it and must not
// take it for somebody else's.
func TestS3LostReplyOfAConditionalPutIsSuccess(t *testing.T) {
	f := &fakeS3{}
	s := openFake(t, f)
	f.meddle = func(n int, _ http.ResponseWriter, _ *http.Request) (bool, bool) { return false, n == 1 }
	if err := s.PutIfAbsent(t.Context(), "k", []byte("mine")); err != nil {
		t.Fatal(err)
	}
	if err := s.PutIfAbsent(t.Context(), "k", []byte("mine")); !errors.Is(err, objstore.ErrExists) {
		t.Fatalf("a second write answers %v, want %v", err, objstore.ErrExists)
	}
	if f.objects["/bucket/pre/fix/k"] != "mine" {
		t.Fatalf("stored: %v", f.objects)
	}
}

// A 503 is retried a bounded number of times and then told as unavailable; a
// refusal is not retried.
func TestS3RetriesAreBounded(t *testing.T) {
	f := &fakeS3{}
	s := openFake(t, f)
	f.meddle = func(n int, w http.ResponseWriter, _ *http.Request) (bool, bool) {
		if n < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return n < 3, false
	}
	if err := s.Put(t.Context(), "k", []byte("b")); err != nil {
		t.Fatal(err)
	}
	f.n = 0
	f.meddle = func(_ int, w http.ResponseWriter, _ *http.Request) (bool, bool) {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true, false
	}
	if err := s.Put(t.Context(), "k", []byte("b")); !errors.Is(err, objstore.ErrUnavailable) || f.n != 4 {
		t.Fatalf("after %d attempts: %v", f.n, err)
	}
	f.n = 0
	f.meddle = func(_ int, w http.ResponseWriter, _ *http.Request) (bool, bool) {
		w.WriteHeader(http.StatusForbidden)
		return true, false
	}
	if err := s.Put(t.Context(), "k", []byte("b")); !errors.Is(err, objstore.ErrDenied) || f.n != 1 {
		t.Fatalf("after %d attempts: %v", f.n, err)
	}
	if now, err := s.Now(t.Context()); err != nil || time.Since(now).Abs() > time.Minute {
		t.Fatalf("clock of a store that refuses: %v, %v", now, err)
	}
}

// A body that stops early is a failure, not a short object.
func TestS3ShortBodyIsRetried(t *testing.T) {
	f := &fakeS3{}
	s := openFake(t, f)
	if err := s.Put(t.Context(), "k", []byte("0123456789")); err != nil {
		t.Fatal(err)
	}
	f.n = 0
	f.meddle = func(n int, w http.ResponseWriter, _ *http.Request) (bool, bool) {
		if n == 1 {
			w.Header().Set("Content-Length", "10")
			w.Header().Set("ETag", `"e"`)
			w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
			io.WriteString(w, "012")
		}
		return n == 1, false
	}
	got, err := s.Get(t.Context(), "k", 0, -1)
	if err != nil || string(got) != "0123456789" {
		t.Fatalf("%q, %v", got, err)
	}
}

// ignoresCondition is a store that takes If-None-Match for a plain write.
type ignoresCondition struct{ *objstore.Mem }

func (s ignoresCondition) PutIfAbsent(ctx context.Context, key string, body []byte) error {
	return s.Put(ctx, key, body)
}

func TestProbeRefusesAStoreThatIgnoresConditions(t *testing.T) {
	err := objstore.Probe(t.Context(), ignoresCondition{objstore.NewMem(time.Now)}, "x")
	if !errors.Is(err, objstore.ErrUnfit) || !strings.Contains(err.Error(), "If-None-Match") {
		t.Fatalf("probe answers %v", err)
	}
}

// Shows that a store which is away in the middle of a probe is taken for away,
// and not for unfit: the bucket is waited for.
func TestProbeOfAStoreThatGoesAway(t *testing.T) {
	for n := int64(1); ; n++ {
		f := &objstore.Fault{Store: objstore.NewMem(time.Now), Rule: func(c objstore.Call) objstore.Effect {
			if c.Seq == n {
				return objstore.Effect{Err: objstore.ErrUnavailable}
			}
			return objstore.Effect{}
		}}
		err := objstore.Probe(t.Context(), f, "x")
		if err == nil && n > 10 {
			return // past its last call
		}
		if !errors.Is(err, objstore.ErrUnavailable) || errors.Is(err, objstore.ErrUnfit) {
			t.Fatalf("without an answer to call %d the probe says %v", n, err)
		}
	}
}

// Each fault does what it says: refusal without effect, effect without reply,
// a list that has not heard of the newest keys, a crash before the effect.
func TestFaultsDoWhatTheySay(t *testing.T) {
	mem := objstore.NewMem(time.Now)
	var effect objstore.Effect
	f := &objstore.Fault{Store: mem, Rule: func(objstore.Call) objstore.Effect { return effect }}
	ctx := t.Context()

	effect = objstore.Effect{Err: objstore.ErrUnavailable}
	if err := f.Put(ctx, "a", nil); !errors.Is(err, objstore.ErrUnavailable) {
		t.Fatal(err)
	}
	if _, err := mem.Head(ctx, "a"); !errors.Is(err, objstore.ErrNotFound) {
		t.Fatalf("a refused write happened: %v", err)
	}
	effect = objstore.Effect{LostReply: true}
	if err := f.PutIfAbsent(ctx, "b", nil); !errors.Is(err, objstore.ErrUnavailable) {
		t.Fatal(err)
	}
	if _, err := mem.Head(ctx, "b"); err != nil {
		t.Fatalf("a write with a lost reply did not happen: %v", err)
	}
	effect = objstore.Effect{StaleBy: 1}
	if err := f.Put(ctx, "c", nil); err != nil {
		t.Fatal(err)
	}
	if p, err := f.List(ctx, "", "", 10); err != nil || len(p.Objects) != 1 {
		t.Fatalf("stale list: %v, %v", p, err)
	}
	effect = objstore.Effect{}
	f.Before = func(c objstore.Call) {
		if c.Write() {
			panic("crash")
		}
	}
	func() {
		defer func() { recover() }()
		f.Put(ctx, "d", nil)
	}()
	if _, err := mem.Head(ctx, "d"); !errors.Is(err, objstore.ErrNotFound) {
		t.Fatalf("a write happened after the crash: %v", err)
	}
}

func TestParseReadsWhatStringGives(t *testing.T) {
	c, err := objstore.Parse("s3://lake/some/dir?endpoint=http://127.0.0.1:9000&region=eu-west-1&style=virtual")
	if err != nil {
		t.Fatal(err)
	}
	if c.Bucket != "lake" || c.Prefix != "some/dir" || c.Endpoint != "http://127.0.0.1:9000" || c.Region != "eu-west-1" || !c.VirtualHost {
		t.Fatalf("%+v", c)
	}
	if d, err := objstore.Parse(c.String()); err != nil || d.String() != c.String() {
		t.Fatalf("%v, %v", d, err)
	}
	for _, bad := range []string{"", "lake", "http://lake", "s3://", "s3://k:s@lake", "s3://lake?colour=red", "s3://lake?endpoint=ftp://x", "s3://lake?style=odd"} {
		if _, err := objstore.Parse(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
