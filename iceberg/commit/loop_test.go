package commit

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tidewater/catalog"
	"tidewater/iceberg/icebergtest"
)

// start runs a loop in a bubble and stops it at the end.
func start(t *testing.T, w *world, cfg LoopConfig) *Loop {
	c := w.committer()
	c.cfg.Now = time.Now
	l := NewLoop(c, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); l.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return l
}

// offset appends what moves the table's offsets by two and makes no file: the
// compressors behind files keep channels that must not be born in a bubble.
func offset(w *world) {
	w.parts[0].AppendTxn(1, icebergtest.Rec{Value: []byte("x")})
	w.parts[0].EndTxn(1, false)
}

// A record is in the table within the target lag, without anybody asking.
func TestLoopKeepsTheTargetLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, false)
		l := start(t, w, LoopConfig{TargetLag: 4 * time.Second})
		synctest.Wait()
		time.Sleep(time.Second)
		offset(w)
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if s, err := l.Status(); err != nil || s.Offsets.Marks[0].End != 2 {
			t.Fatalf("after the target lag: %+v, %v", s, err)
		}
	})
}

// Freshen brings in what was appended just before, after an upload of the
// tail; beyond the token bucket it does nothing; a slow upload is waited for
// as long as the context says.
func TestFreshen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, false)
		uploads := 0
		slow := false
		l := start(t, w, LoopConfig{TargetLag: time.Hour, Upload: func(ctx context.Context) error {
			uploads++
			if slow {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}})
		synctest.Wait()
		offset(w)
		if err := l.Freshen(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s, _ := l.Status(); s.Offsets.Marks[0].End != 2 || uploads != 1 {
			t.Fatalf("after Freshen: %+v, %d uploads", s, uploads)
		}
		offset(w)
		if err := l.Freshen(t.Context()); err != nil || uploads != 1 {
			t.Fatalf("a second Freshen at once: %v, %d uploads", err, uploads)
		}
		time.Sleep(time.Second)
		slow = true
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		began := time.Now()
		if err := l.Freshen(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 2*time.Second {
			t.Fatalf("a slow upload: %v after %v", err, time.Since(began))
		}
	})
}

// A catalog that is down is retried with pauses, not hammered, and the table
// catches up when it is back.
func TestLoopBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, false)
		var calls atomic.Int32
		var down atomic.Bool
		down.Store(true)
		offset(w)
		w.catalog.Before = func(string) error {
			calls.Add(1)
			if down.Load() {
				return catalog.ErrUnavailable
			}
			return nil
		}
		l := start(t, w, LoopConfig{TargetLag: time.Second})
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if n := calls.Load(); n < 5 || n > 30 {
			t.Fatalf("%d calls in five minutes", n)
		}
		if _, err := l.Status(); !errors.Is(err, catalog.ErrUnavailable) {
			t.Fatalf("status says %v", err)
		}
		down.Store(false)
		time.Sleep(backoffMax + time.Second)
		synctest.Wait()
		if s, err := l.Status(); err != nil || s.Offsets.Marks[0].End != 2 {
			t.Fatalf("after the catalog came back: %+v, %v", s, err)
		}
	})
}

func TestSpecText(t *testing.T) {
	for text, want := range map[string]string{"": "", "()": "", "(day(kafka_timestamp))": "day kafka_timestamp;",
		" ( hour( ts ) , carrier,bucket(16, id), truncate(4, s.x) ) ": "hour ts;identity carrier;bucket[16] id;truncate[4] s.x;"} {
		got, err := parseSpec(text)
		s := ""
		for _, f := range got {
			s += f.transform + " " + f.column + ";"
		}
		if err != nil || s != want {
			t.Errorf("%q is %q %v, want %q", text, s, err, want)
		}
	}
	for _, text := range []string{"(day(ts)", "(fortnight(ts))", "(a,,b)", "(bucket(id))", "day(ts"} {
		if _, err := parseSpec(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
