package cluster

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// JoinConfig is what a broker without a membership is told.
type JoinConfig struct {
	// Registration is who it is: ID, Disk, RPCAddr, Rack, Session and feature
	// levels; listeners come later, when it serves.
	Registration Registration
	// Seeds are the addresses of brokers, the same list at each of them.
	Seeds []string
	Peers Peers
	// Save makes a membership durable. What it returned for lasts.
	Save func(Membership) error
	// Identity is the cluster's, from a restore: then this broker founds it.
	// Zero lets the founder choose one.
	Identity  Identity
	Restoring bool
	// Every (500 ms) is the time between rounds of asking.
	Every  time.Duration
	Random io.Reader    // crypto/rand
	Log    *slog.Logger // slog.Default
}

// Joiner finds a broker's cluster by its seeds, or founds it, and tells others
// who ask. There is never more than one: a founder writes down who the voters
// are, each with the id of its data directory; a directory takes one such
// record in its life, and a majority of those named must have taken it before
// anything is decided.
type Joiner struct {
	cfg    JoinConfig
	member atomic.Pointer[Membership] // what Save was done for; nil before
}

// NewJoiner makes a Joiner; m is the membership that the broker has already,
// nil for none. Its Hello is to be registered for MethodHello for as long as
// the broker runs.
func NewJoiner(cfg JoinConfig, m *Membership) *Joiner {
	if cfg.Every == 0 {
		cfg.Every = 500 * time.Millisecond
	}
	if cfg.Random == nil {
		cfg.Random = rand.Reader
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	j := &Joiner{cfg: cfg}
	j.member.Store(m)
	return j
}

// Hello answers MethodHello.
func (j *Joiner) Hello(context.Context, int32, []byte) ([]byte, error) {
	h := hello{Node: j.cfg.Registration.ID, Disk: j.cfg.Registration.Disk, Seeds: seedsHash(j.cfg.Seeds),
		Brings: j.cfg.Identity != Identity{}, Member: j.member.Load()}
	return h.encode(), nil
}

// Join asks the seeds until this broker has a membership, saves it and
// returns it. An ErrFenced says what a person must do; other failures are
// tried again until ctx ends.
func (j *Joiner) Join(ctx context.Context) (Membership, error) {
	if m := j.member.Load(); m != nil {
		return *m, nil
	}
	last := ""
	for {
		m, err := j.round(ctx)
		if err == nil {
			return m, nil
		}
		if errors.Is(err, ErrFenced) || errors.Is(err, errNotSaved) {
			return Membership{}, err
		}
		if why := err.Error(); why != last {
			j.cfg.Log.Info("waiting for a cluster", "reason", why)
			last = why
		}
		select {
		case <-time.After(j.cfg.Every):
		case <-ctx.Done():
			return Membership{}, fmt.Errorf("join a cluster: %w", err)
		}
	}
}

// round asks every seed once and does what can be done.
func (j *Joiner) round(ctx context.Context) (Membership, error) {
	d, err := j.decide(askSeeds(ctx, j.cfg.Peers, j.cfg.Seeds))
	if err != nil {
		return Membership{}, err
	}
	m := d.member
	if d.via != "" {
		if m, err = j.register(ctx, d.via); err != nil {
			return m, err
		}
	}
	if err := j.cfg.Save(m); err != nil {
		return m, fmt.Errorf("%w: %w", errNotSaved, err)
	}
	j.member.Store(&m)
	return m, nil
}

// errNotSaved: whether the membership lasts is unknown; the broker must not go
// on with it or without it.
var errNotSaved = errors.New("save membership")

// seedAnswer is what one seed said.
type seedAnswer struct {
	addr string
	hello
	err error
}

// askSeeds says hello to every seed, all at the same time.
func askSeeds(ctx context.Context, peers Peers, seeds []string) []seedAnswer {
	ctx, stop := context.WithTimeout(ctx, attemptTimeout)
	defer stop()
	addrs := slices.Compact(slices.Sorted(slices.Values(seeds)))
	out := make([]seedAnswer, len(addrs))
	var wg sync.WaitGroup
	for i, addr := range addrs {
		wg.Go(func() {
			a := seedAnswer{addr: addr}
			b, err := peers.Ask(ctx, addr, MethodHello, nil)
			if a.err = err; err == nil {
				a.hello, a.err = decodeHello(b)
			}
			out[i] = a
		})
	}
	wg.Wait()
	return out
}

// decision is a membership to take, or whom to ask for one.
type decision struct {
	member Membership
	via    string // an address; empty when member is given
}

// decide is all there is to think about; an error means to ask again.
func (j *Joiner) decide(answers []seedAnswer) (decision, error) {
	me := &j.cfg.Registration
	var found *seedAnswer
	for i := range answers {
		a := &answers[i]
		if a.err != nil || a.Member == nil {
			continue
		}
		if found != nil && found.Member.ClusterID != a.Member.ClusterID {
			return decision{}, fmt.Errorf("%w: seed %s belongs to cluster %x, seed %s to %x: give this broker the seeds of one cluster",
				ErrFenced, found.addr, found.Member.ClusterID, a.addr, a.Member.ClusterID)
		}
		if m, ok := a.Member.foundedBy(me); ok {
			return decision{member: m}, nil
		}
		found = a
	}
	if found != nil {
		return decision{via: found.addr}, nil
	}
	return j.found(answers)
}

// foundedBy gives the membership of a founder that was named as such by
// another: the same record for all, but for whose it is.
func (m Membership) foundedBy(r *Registration) (Membership, bool) {
	for _, o := range m.Members {
		if m.Founder && o.Node == r.ID && o.Disk == r.Disk {
			m.Node, m.Disk, m.Replica = o.Node, o.Disk, o.Replica
			return m, true
		}
	}
	return m, false
}

// found makes the record of a new cluster when this broker is the one to do
// it: every seed answered, none has a cluster, all have the same list.
func (j *Joiner) found(answers []seedAnswer) (decision, error) {
	me := &j.cfg.Registration
	var members []Member
	founder := int32(-1)
	brings := 0
	for _, a := range answers {
		if a.err != nil {
			return decision{}, fmt.Errorf("a new cluster needs the answer of every seed: seed %s: %w", a.addr, a.err)
		}
		if a.Seeds != seedsHash(j.cfg.Seeds) {
			return decision{}, fmt.Errorf("seed %s was started with another list of seeds; a new cluster needs the same list everywhere", a.addr)
		}
		if a.Brings {
			founder = a.Node
			brings++
		}
		members = append(members, Member{Node: a.Node, Disk: a.Disk, Addr: a.addr})
	}
	slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.Node, b.Node) })
	for i := range members {
		if members[i].Replica = uint64(i) + 1; i > 0 && members[i].Node == members[i-1].Node {
			return decision{}, fmt.Errorf("%w: the seeds %s and %s are both node %d: give each broker a --node-id of its own, and list it once",
				ErrFenced, members[i-1].Addr, members[i].Addr, members[i].Node)
		}
	}
	if brings > 1 {
		return decision{}, fmt.Errorf("%w: %d seeds bring a restored cluster: restore into one of them", ErrFenced, brings)
	}
	if brings == 0 && len(members) > 0 {
		founder = members[0].Node
	}
	if founder != me.ID {
		return decision{}, fmt.Errorf("node %d is to found the cluster", founder)
	}
	m := Membership{Identity: j.cfg.Identity, Members: members, Founder: true, Restoring: j.cfg.Restoring}
	if m.Identity == (Identity{}) {
		id, err := newTopicID(j.cfg.Random)
		if err != nil {
			return decision{}, err
		}
		m.Identity = Identity{ClusterID: id, Incarnation: 1}
	}
	m, ok := m.foundedBy(me)
	if !ok {
		return decision{}, fmt.Errorf("another broker answers as node %d at one of the seeds %s", me.ID, strings.Join(j.cfg.Seeds, ", "))
	}
	return decision{member: m}, nil
}

// register asks the cluster's controller, through the broker at addr, to take
// this broker in.
func (j *Joiner) register(ctx context.Context, addr string) (Membership, error) {
	ctx, stop := context.WithTimeout(ctx, requestTimeout)
	defer stop()
	call := registerCall{Registration: j.cfg.Registration}
	answer, err := j.cfg.Peers.Ask(ctx, addr, MethodRegister, call.encode())
	if err != nil {
		return Membership{}, fmt.Errorf("register at %s: %w", addr, err)
	}
	m, err := decodeRegistered(answer)
	if err != nil {
		return Membership{}, fmt.Errorf("register at %s: %w", addr, err)
	}
	if m.Node != j.cfg.Registration.ID || m.Disk != j.cfg.Registration.Disk {
		return Membership{}, fmt.Errorf("register at %s: it answered for node %d", addr, m.Node)
	}
	return m, nil
}
