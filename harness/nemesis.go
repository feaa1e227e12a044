package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// fault is one thing the nemesis can do; heal undoes it, whole.
type fault struct {
	name string
	// nodes is the least size of a cluster in which it makes sense.
	nodes int
	// begin does it and gives what was done, in words; heal undoes it.
	begin func(n *nemesis, ctx context.Context) (what string, err error)
	heal  func(n *nemesis, ctx context.Context) error
}

// faults lists what the nemesis draws from.
func faults() []fault {
	return []fault{
		{"kill", 1, (*nemesis).kill, (*nemesis).startAll},
		{"kill leader", 3, (*nemesis).killLeader, (*nemesis).startAll},
		{"kill all", 1, (*nemesis).killAll, (*nemesis).startAll},
		{"restart", 1, (*nemesis).restart, (*nemesis).startAll},
		{"pause", 1, (*nemesis).pause, (*nemesis).resumeAll},
		{"isolate", 3, (*nemesis).isolate, (*nemesis).healNetwork},
		{"isolate leader", 3, (*nemesis).isolateLeader, (*nemesis).healNetwork},
		{"halves", 3, (*nemesis).halves, (*nemesis).healNetwork},
		{"one way", 3, (*nemesis).oneWay, (*nemesis).healNetwork},
		{"ring", 5, (*nemesis).ring, (*nemesis).healNetwork},
		{"store away", 1, (*nemesis).storeAway, (*nemesis).healNetwork},
		{"disk full", 1, (*nemesis).diskFull, (*nemesis).diskFree},
		{faultDiskFails, 3, (*nemesis).diskFails, (*nemesis).diskReplaced},
		{"bit rot", 3, (*nemesis).rot, (*nemesis).rotMended},
		{faultSlowDisk, 1, (*nemesis).diskSlow, (*nemesis).diskFast},
		{faultClock, 1, (*nemesis).clock, (*nemesis).clocksRight},
	}
}

// The faults that not every machine can make.
const (
	faultSlowDisk  = "slow disk"
	faultClock     = "clock"
	faultDiskFails = "failing disk"
)

// nemesis draws faults from a seed and applies them one after the other.
type nemesis struct {
	cluster *cluster
	ledger  *ledger
	random  *rand.Rand
	leader  func(ctx context.Context) (node int, err error)
	events  []event
	skewed  *clock // the clock that is moved now, if one is
	failing int    // the broker whose disk gives errors now, 0 for none
	rotten  int    // the broker whose segments rotted last
	flips   []flip // what of it
	flipped int    // in all
}

// event is one fault's life, for the report.
type event struct {
	Fault string    `json:"fault"`
	What  string    `json:"what"`
	Begin time.Time `json:"begin"`
	Heal  time.Time `json:"heal"`
	Error string    `json:"error,omitempty"`
}

// run applies faults until ctx ends and leaves the cluster healed. Each lasts
// three to eight seconds and is followed by two to five of quiet.
func (n *nemesis) run(ctx context.Context, list []fault, said func(event)) error {
	pause := func(low, high time.Duration) {
		select {
		case <-ctx.Done():
		case <-time.After(low + time.Duration(n.random.Int64N(int64(high-low)))):
		}
	}
	after := context.WithoutCancel(ctx) // what began is healed also at the end
	pause(2*time.Second, 3*time.Second)
	var order []int
	for ctx.Err() == nil {
		if len(order) == 0 {
			order = n.random.Perm(len(list)) // all come before one comes again
		}
		f := list[order[0]]
		order = order[1:]
		e := event{Fault: f.name, Begin: time.Now()}
		what, err := f.begin(n, after)
		e.What = what
		pause(3*time.Second, 8*time.Second)
		err = errors.Join(err, n.ended(), f.heal(n, after))
		e.Heal = time.Now()
		if err != nil {
			e.Error = err.Error()
		}
		n.events = append(n.events, e)
		said(e)
		if err != nil {
			return fmt.Errorf("fault %q: %w", f.name, err)
		}
		pause(2*time.Second, 5*time.Second)
	}
	return nil
}

func (n *nemesis) pick() int { return 1 + n.random.IntN(len(n.cluster.brokers)) }

func (n *nemesis) kill(context.Context) (string, error) {
	id := n.pick()
	n.cluster.brokers[id-1].kill()
	return fmt.Sprintf("kill -9 of broker %d", id), nil
}

func (n *nemesis) killLeader(ctx context.Context) (string, error) {
	id, err := n.leader(ctx)
	if err != nil {
		return "", err
	}
	n.cluster.brokers[id-1].kill()
	return fmt.Sprintf("kill -9 of broker %d, leader of partition 0", id), nil
}

func (n *nemesis) killAll(context.Context) (string, error) {
	for _, b := range n.cluster.brokers {
		b.kill()
	}
	return "kill -9 of all brokers", nil
}

// restart stops brokers cleanly, one after the other, each up again before the
// next: what an operator does for an upgrade.
func (n *nemesis) restart(ctx context.Context) (string, error) {
	for _, b := range n.cluster.brokers {
		if err := errors.Join(b.stop(readyMax), n.cluster.start(b)); err != nil {
			return "", err
		}
		if err := n.cluster.ready(ctx, readyMax); err != nil {
			return "", err
		}
	}
	return "rolling restart", nil
}

func (n *nemesis) startAll(ctx context.Context) error {
	for _, b := range n.cluster.brokers {
		if err := n.cluster.start(b); err != nil {
			return err
		}
	}
	return n.cluster.ready(ctx, readyMax)
}

func (n *nemesis) pause(context.Context) (string, error) {
	id := n.pick()
	return fmt.Sprintf("SIGSTOP of broker %d", id), n.cluster.brokers[id-1].signal(syscall.SIGSTOP)
}

func (n *nemesis) resumeAll(context.Context) error {
	var errs []error
	for _, b := range n.cluster.brokers {
		errs = append(errs, b.signal(syscall.SIGCONT))
	}
	return errors.Join(errs...)
}

// divide cuts both ways between two sets of brokers.
func (n *nemesis) divide(ctx context.Context, left, right []int) error {
	var errs []error
	for _, a := range left {
		for _, b := range right {
			errs = append(errs, n.cluster.net.cut(ctx, brokerHost(a), brokerHost(b)), n.cluster.net.cut(ctx, brokerHost(b), brokerHost(a)))
		}
	}
	return errors.Join(errs...)
}

func (n *nemesis) others(id int) []int {
	var out []int
	for other := range len(n.cluster.brokers) {
		if other+1 != id {
			out = append(out, other+1)
		}
	}
	return out
}

// isolate cuts a broker from the others; clients still reach it, and must not
// be told by it what a majority does not know.
func (n *nemesis) isolate(ctx context.Context) (string, error) {
	id := n.pick()
	return fmt.Sprintf("broker %d cut from the other brokers", id), n.divide(ctx, []int{id}, n.others(id))
}

func (n *nemesis) isolateLeader(ctx context.Context) (string, error) {
	id, err := n.leader(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("broker %d, leader of partition 0, cut from the other brokers", id), n.divide(ctx, []int{id}, n.others(id))
}

func (n *nemesis) halves(ctx context.Context) (string, error) {
	order := n.random.Perm(len(n.cluster.brokers))
	for i := range order {
		order[i]++
	}
	half := len(order) / 2
	return fmt.Sprintf("brokers %v cut from %v", order[:half], order[half:]), n.divide(ctx, order[:half], order[half:])
}

func (n *nemesis) oneWay(ctx context.Context) (string, error) {
	id := n.pick()
	var errs []error
	for _, other := range n.others(id) {
		errs = append(errs, n.cluster.net.cut(ctx, brokerHost(id), brokerHost(other)))
	}
	return fmt.Sprintf("nothing broker %d sends reaches the others", id), errors.Join(errs...)
}

// ring leaves each broker its two neighbours.
func (n *nemesis) ring(ctx context.Context) (string, error) {
	all := len(n.cluster.brokers)
	var errs []error
	for id := 1; id <= all; id++ {
		near := []int{id%all + 1, (id+all-2)%all + 1}
		for _, other := range n.others(id) {
			if !slices.Contains(near, other) {
				errs = append(errs, n.cluster.net.cut(ctx, brokerHost(id), brokerHost(other)))
			}
		}
	}
	return "each broker sees its two neighbours only", errors.Join(errs...)
}

func (n *nemesis) storeAway(ctx context.Context) (string, error) {
	var errs []error
	for id := range n.cluster.brokers {
		errs = append(errs, n.cluster.net.cut(ctx, storeHost, brokerHost(id+1)))
	}
	return "the object store answers nobody", errors.Join(errs...)
}

func (n *nemesis) healNetwork(ctx context.Context) error {
	errs := []error{n.cluster.net.heal(ctx, storeHost)}
	for id := range n.cluster.brokers {
		errs = append(errs, n.cluster.net.heal(ctx, brokerHost(id+1)))
	}
	return errors.Join(errs...)
}

// filler takes the room on a broker's disk.
const filler = "filler"

func (n *nemesis) diskFull(context.Context) (string, error) {
	id := n.pick()
	point := n.cluster.mountPoint(id)
	f, err := os.Create(filepath.Join(point, filler))
	if err != nil {
		return "", fmt.Errorf("fill disk: %w", err)
	}
	defer f.Close()
	// From large to small, until not a block is left.
	at := int64(0)
	for size := int64(1 << 30); size >= 4096; {
		if err := syscall.Fallocate(int(f.Fd()), 0, at, size); err != nil {
			size /= 2
			continue
		}
		at += size
	}
	return fmt.Sprintf("disk of broker %d full (%d MiB taken)", id, at>>20), nil
}

func (n *nemesis) diskFree(ctx context.Context) error {
	for id := range n.cluster.brokers {
		err := os.Remove(filepath.Join(n.cluster.mountPoint(id+1), filler))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("free disk: %w", err)
		}
	}
	return n.startAll(ctx)
}

// diskSlow bounds what one broker's disk writes, to little more than clients do.
func (n *nemesis) diskSlow(context.Context) (string, error) {
	id := n.pick()
	what := fmt.Sprintf("disk of broker %d writes %d KiB and %d times a second", id, slowBytes>>10, slowRequests)
	return what, n.cluster.throttle.slow(brokerHost(id), n.cluster.mountPoint(id))
}

func (n *nemesis) diskFast(context.Context) error {
	var errs []error
	for id := range n.cluster.brokers {
		errs = append(errs, n.cluster.throttle.free(brokerHost(id+1), n.cluster.mountPoint(id+1)))
	}
	return errors.Join(errs...)
}

// clock moves one broker's wall clock by a second up to hours, either way.
func (n *nemesis) clock(context.Context) (string, error) {
	id := n.pick()
	by := time.Duration(math.Exp(n.random.Float64()*math.Log(4*3600))) * time.Second
	if n.random.IntN(2) == 0 {
		by = -by
	}
	b := n.cluster.brokers[id-1]
	c, err := takeClock(b.pid())
	if b.gone() {
		return fmt.Sprintf("broker %d has ended, its clock stays", id), nil
	}
	if err != nil {
		return "", err
	}
	n.skewed = c
	return fmt.Sprintf("clock of broker %d off by %s", id, by), c.set(by)
}

func (n *nemesis) clocksRight(context.Context) error {
	if n.skewed == nil {
		return nil
	}
	err := n.skewed.set(0)
	n.skewed = nil
	if errors.Is(err, os.ErrNotExist) {
		return nil // the process has ended meanwhile
	}
	return err
}

// ended tells of brokers that ended though nobody killed them, and starts them
// again, as a supervisor would.
func (n *nemesis) ended() error {
	var errs []error
	for _, b := range n.cluster.brokers {
		if b.gone() && b.host == brokerHost(n.failing) {
			continue // heal starts it
		}
		if b.gone() {
			n.ledger.report(crashed, "%s ended by itself: see the end of %s", b.name, b.log)
			b.kill()
			errs = append(errs, n.cluster.start(b))
		}
	}
	return errors.Join(errs...)
}
