package sim

import (
	"context"
	"hash/crc32"
	"strings"
	"time"

	"tidewater/internal/objstore"
	"tidewater/tiering/manifest"
)

// outage is what is wrong with the bucket for a while.
type outage uint8

const (
	healthy outage = iota
	// down answers 503 to everything.
	down
	// flaky answers 503 to some calls and loses replies of writes that happened.
	flaky
	// slow takes up to two seconds a call; clients go on meanwhile.
	slow
)

func (o outage) String() string { return [...]string{"healthy", "down", "flaky", "slow"}[o] }

// ground is the bucket itself, below every fault: it sees what really is
// stored, and holds the rules that no caller may break.
type ground struct {
	*objstore.Mem
	w    *world
	sums map[string]uint32 // of every object ever stored, by key
	// epochs is the highest epoch of the manifests of a partition directory.
	epochs map[string]manifestSeen
}

type manifestSeen struct {
	number uint64
	epoch  int32
}

// Put implements objstore.Store. No object of ours is ever overwritten with
// other bytes, nor comes back with other bytes after it was deleted.
func (g *ground) Put(ctx context.Context, key string, body []byte) error {
	err := g.Mem.Put(ctx, key, body)
	if err == nil {
		g.stored(key, body)
	}
	return err
}

// PutIfAbsent implements objstore.Store.
func (g *ground) PutIfAbsent(ctx context.Context, key string, body []byte) error {
	err := g.Mem.PutIfAbsent(ctx, key, body)
	if err == nil {
		g.stored(key, body)
	}
	return err
}

func (g *ground) stored(key string, body []byte) {
	sum := crc32.ChecksumIEEE(body)
	if had, ok := g.sums[key]; ok && had != sum {
		kind := "object"
		if strings.Contains(key, "/tail/") {
			kind = "tail object"
		}
		g.w.violateUnlessBlind(reused, "%s %s was stored again with other bytes", kind, key)
	}
	g.sums[key] = sum
	switch {
	case strings.Contains(key, "/root/"):
		g.w.incarnationTaken()
	case strings.Contains(key, "/manifest/") && !strings.Contains(key, "/tail/") && !strings.Contains(key, "boundary"):
		g.manifest(key, body)
	}
}

// manifest holds that numbers of one partition rise by one and their epochs
// never go back: each number belongs to one (incarnation, epoch).
func (g *ground) manifest(key string, body []byte) {
	m, err := manifest.Decode(body)
	if err != nil {
		return // a boundary
	}
	dir := key[:strings.LastIndexByte(key, '/')]
	was := g.epochs[dir]
	if m.Number <= was.number || int32(m.Epoch) < was.epoch {
		g.w.violate(fencing, "manifest %d of epoch %d was written to %s after %d of epoch %d", m.Number, m.Epoch, dir, was.number, was.epoch)
	}
	g.epochs[dir] = manifestSeen{m.Number, int32(m.Epoch)}
}

// bucketFor gives the bucket as one process reaches it: touch is told of each
// call before and after it happened, pass lets the time go by that it takes.
func (w *world) bucketFor(touch func(c objstore.Call, after bool), pass func(time.Duration)) *objstore.Fault {
	return &objstore.Fault{
		Store:  w.ground,
		Before: func(c objstore.Call) { pass(w.millis(0, 8)); touch(c, false) },
		After:  func(c objstore.Call) { touch(c, true); pass(w.millis(0, 8)) },
		Rule: func(c objstore.Call) objstore.Effect {
			e := w.disturb(c, pass)
			w.trace.note("bucket", string(c.Op), c.Key)
			return e
		},
	}
}

// disturb decides what the outage does to a call.
func (w *world) disturb(c objstore.Call, pass func(time.Duration)) objstore.Effect {
	switch w.outage {
	case down:
		pass(w.millis(1, 100))
		return objstore.Effect{Err: objstore.ErrUnavailable}
	case flaky:
		switch n := w.rng.IntN(10); {
		case n < 2:
			return objstore.Effect{Err: objstore.ErrUnavailable}
		case n < 5 && c.Write():
			w.stats.LostReplies++
			return objstore.Effect{LostReply: true}
		}
	case slow:
		d := w.millis(0, 700)
		return objstore.Effect{Delay: func(context.Context) { pass(d) }}
	}
	return objstore.Effect{}
}

// disturbedSince reports whether the bucket refused calls at some time since.
func (w *world) disturbedSince(at time.Time) bool {
	return w.outage == down || w.outage == flaky || !w.healed.Before(at)
}

// millis draws a duration in [lo, hi) milliseconds.
func (w *world) millis(lo, hi int) time.Duration {
	return time.Duration(lo+w.rng.IntN(hi-lo)) * time.Millisecond
}
