package sim

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"

	"github.com/google/uuid"

	"tidewater/broker/journal"
	"tidewater/broker/multiraft"
	"tidewater/broker/partition"
	"tidewater/catalog/server"
	"tidewater/iceberg/commit"
	"tidewater/internal/disk"
	"tidewater/internal/objstore"
	"tidewater/internal/record"
	"tidewater/tiering/archive"
	"tidewater/tiering/manifest"
)

// Config is one history.
type Config struct {
	Seed uint64
	// Shape replaces what the seed would draw; nil lets it draw.
	Shape *Shape
	// The planted faults. The zero values are the program as it is.
	Journal journal.Fault
	Raft    multiraft.Fault
	Parts   partition.Fault
	Archive archive.Faults
	Commit  commit.Faults
	Disk    []disk.Rule // of every disk
	// Blind are rules not to be checked by looking into memory or bucket, to
	// show that what clients see breaks another rule.
	Blind []Rule
	// Line is told every line of the trace; nil for nobody.
	Line func(string)
}

// Stats counts what a history had in it, so that a test can see that the
// checkers were given something to check.
type Stats struct {
	Acked, Reads, ColdReads, Crashes, PowerCuts, Outages, LostReplies, Full, SyncFailures    int
	Restores, Zombies, FencedZombies, Segments, Rounds, JournalUses, Retries, Rows           int
	ReplicaReads, Deletes, Elections, Truncations, Partitions, LostMessages, Doubled, Copies int
	Pauses, ClockJumps, SlowDisks, Wipes, Rot, RotSeen, Missing, Replaced                    int
	Held, HeldLost                                                                           int // entries answered for from memory, lost with it
}

// Report is the outcome of one history.
type Report struct {
	Seed       uint64
	Hash       uint64 // of everything that happened
	Events     int
	Violations []Violation
	Last       []string // lines of the trace
	RotMended  int64    // segments
	Stats      Stats
}

// Rule names what was violated.
type Rule string

// The rules that are checked.
const (
	acked     Rule = "acked stays readable"
	same      Rule = "same bytes at the same offset"
	offsets   Rule = "offsets without gap, never back"
	once      Rule = "idempotent records once"
	cold      Rule = "cold bytes equal hot bytes"
	rows      Rule = "table equals log"
	past      Rule = "table within the bucket"
	votes     Rule = "no vote lost"
	bounded   Rule = "journal bounded"
	archived  Rule = "trimmed only what the bucket holds"
	agreed    Rule = "replicas agree on what is committed"
	oneLeader Rule = "one leader per epoch"
	ordered   Rule = "an append is behind all that was acked before it began"
	equal     Rule = "replicas at rest are equal"
	held      Rule = "restore reaches what the bucket confirmed"
	reused    Rule = "objects are immutable"
	follows   Rule = "a replica reaches what the bucket confirmed"
	fencing   Rule = "a stale writer does nothing that lasts"
	rest      Rule = "all comes to rest when faults end"
	working   Rule = "healthy parts answer"
	sane      Rule = "no panic, no corruption"
)

// Violation is one broken rule.
type Violation struct {
	Rule   Rule
	Detail string
}

func (v Violation) String() string { return string(v.Rule) + ": " + v.Detail }

// world is everything: the clock, the bucket, the disks, the brokers, the
// clients, and what is known to be true.
type world struct {
	cfg    Config
	shape  Shape
	rng    *rand.Rand
	start  time.Time
	now    time.Time
	seq    uint64
	queue  queue
	trace  trace
	events int
	stats  Stats
	rot    partition.Rot // of all brokers
	log    *slog.Logger

	violations []Violation

	ground   *ground
	tables   *server.Server // the catalog, read as it really is
	outage   outage
	healed   time.Time // when the last outage ended
	ids      ids
	active   *cluster // where clients go
	clusters []*cluster
	parts    []*truth
	people   []*producer
	replica  *replica // nil without one

	depth     int  // of during on the stack
	turns     int  // of actors on the stack
	closing   bool // no new records, no new faults
	still     bool // an audit reads: nothing else happens
	restoring bool
	restores  int
	nextPID   int64
	payload   uint64
	alien     map[uint64]bool // payloads written to brokers of the past
}

// ids are the identities of the one cluster.
type ids struct {
	cluster                 [16]byte
	topic, idle, controller record.TopicID
}

const (
	topicName      = "orders"
	idleName       = "quiet"
	controllerName = "controller"
	bucketURI      = "s3://lake"
)

// startMs is when a world begins: before the machine's clock, which iceberg-go
// writes into table metadata, and which must not lie behind a snapshot's time.
const startMs = 1_600_000_000_000

// Run plays one history to its end and checks it.
func Run(ctx context.Context, cfg Config) *Report {
	w := newWorld(cfg)
	w.trace.line(0, "seed %d: %+v", cfg.Seed, w.shape)
	w.play(ctx)
	w.trace.line(w.elapsed(), "end: %d events, %+v", w.events, w.stats)
	return &Report{
		Seed: cfg.Seed, Hash: w.trace.hash.Sum64(), Events: w.events, Violations: w.violations,
		Last: w.trace.last(), Stats: w.stats, RotMended: w.rot.Mended.Load(),
	}
}

// play lets the history happen, to its end or to the first panic.
func (w *world) play(ctx context.Context) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(over); !ok {
				panic(r)
			}
		}
	}()
	w.begin(ctx)
	w.runUntil(w.start.Add(w.shape.Length))
	if !w.failed() {
		w.epilogue(ctx)
	}
}

func newWorld(cfg Config) *world {
	w := &world{
		cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 0x7469646577617465)), trace: newTrace(cfg.Line),
		start: time.UnixMilli(startMs).UTC(), log: slog.New(slog.DiscardHandler), nextPID: 1000, alien: map[uint64]bool{},
	}
	w.now = w.start
	w.shape = draw(w.rng)
	w.shape.WriteCaching = cfg.Seed%3 == 0
	if cfg.Shape != nil {
		w.shape = *cfg.Shape
	}
	w.ground = &ground{Mem: objstore.NewMem(w.clock), w: w, sums: map[string]uint32{}, epochs: map[string]manifestSeen{}}
	w.random(w.ids.cluster[:])
	w.random(w.ids.topic[:])
	w.random(w.ids.idle[:])
	w.random(w.ids.controller[:])
	for n := range w.shape.Partitions {
		w.parts = append(w.parts, newTruth(record.PartitionID{Topic: w.ids.topic, Partition: int32(n)}))
	}
	return w
}

// begin makes the first incarnation, its broker and the clients.
func (w *world) begin(ctx context.Context) {
	l := manifest.Layout{ClusterID: w.ids.cluster}
	l, err := manifest.TakeIncarnation(ctx, w.ground, l, 0, manifest.ReasonCreate, "genesis")
	if err != nil {
		w.violate(sane, "take the first incarnation: %v", err)
		return
	}
	if w.tables, err = w.newCatalog(w.ground.Mem, l); err != nil {
		w.violate(sane, "open catalog: %v", err)
		return
	}
	w.active = w.newCluster(l, nil)
	w.active.boot()
	for n := range w.parts {
		for range 1 + w.rng.IntN(2) {
			w.newProducer(n, true)
		}
	}
	w.newProducer(w.rng.IntN(len(w.parts)), false)
	w.newReader()
	if w.shape.Replica {
		w.newReplica()
	}
	w.newFaults()
}

func (w *world) clock() time.Time       { return w.now }
func (w *world) elapsed() time.Duration { return w.now.Sub(w.start) }

func (w *world) random(b []byte) {
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, w.rng.Uint64())
		b = b[8:]
	}
}

func (w *world) uuid() (u uuid.UUID) {
	w.random(u[:])
	return u
}

func (w *world) say(format string, args ...any) { w.trace.line(w.elapsed(), format, args...) }

// violate notes a broken rule; the history ends there.
func (w *world) violate(rule Rule, format string, args ...any) {
	v := Violation{rule, fmt.Sprintf(format, args...)}
	w.violations = append(w.violations, v)
	w.say("VIOLATION %s", v)
}

// violateUnlessBlind is violate for rules that Config.Blind may name.
func (w *world) violateUnlessBlind(rule Rule, format string, args ...any) {
	if !slices.Contains(w.cfg.Blind, rule) {
		w.violate(rule, format, args...)
	}
}

func (w *world) failed() bool { return len(w.violations) > 0 }

// crash is what a dying process panics with.
type crash struct{ life *life }

// over is what ends a world after a panic: whatever is in the middle of
// something ends there too, since the locks of what panicked are never given
// back.
type over struct{}

// guard runs something of a process (nil: of the world), a turn of its actors
// or not, and lets the process die where it was told to. Any other panic is a
// broken rule.
func (w *world) guard(l *life, turn bool, run func()) {
	if turn = turn && l != nil; turn {
		l.working++
		w.turns++
	}
	of := l
	defer func() {
		if turn {
			of.working--
			w.turns--
		}
		r := recover()
		if c, ok := r.(crash); ok && c.life != nil {
			l, r = c.life, nil
		}
		if _, ends := r.(over); r != nil && !ends {
			w.violate(sane, "panic: %v\n%s", r, debug.Stack())
		}
		if r != nil {
			panic(over{})
		}
		if l != nil && l.dead && l.node.life == l {
			l.node.died(l)
		}
	}()
	run()
}
