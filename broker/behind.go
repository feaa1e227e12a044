package broker

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"tidewater/broker/multiraft"
	"tidewater/internal/record"
)

const (
	// behindEvery is how often a broker that has just started asks whether its
	// replicas keep up, and behindTimeout bounds one question.
	behindEvery   = 200 * time.Millisecond
	behindTimeout = 2 * time.Second
	// behindAtOnce is how many partitions one question names.
	behindAtOnce = 1000
	// leaderlessFor is how long after the start partitions whose leader is not
	// known, or cannot be asked, hold back the word that this broker is ready.
	leaderlessFor = 10 * time.Second
)

// catchUp waits until the replicas here keep up with their leaders, and only
// then calls the broker ready: whoever restarts brokers one by one must not
// take the next while this one's replicas are no help to a majority. What
// cannot be asked about holds nothing up for long, since it may be what the
// restart is to mend.
func (b *Broker) catchUp(ctx context.Context) error {
	open := b.parts.all()
	for {
		behind, unknown := b.stillBehind(ctx, open)
		b.behind.Store(int64(len(behind) + len(unknown)))
		if len(behind) == 0 && (len(unknown) == 0 || time.Since(b.began) > leaderlessFor) {
			b.caughtUp.Store(true)
			b.log.Info("replicas of this broker are up to date", "after", time.Since(b.began).Round(time.Millisecond), "unknown", len(unknown))
			return nil
		}
		open = append(behind, unknown...)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(behindEvery):
		}
	}
}

// stillBehind asks the leaders of partitions about this broker's replicas. It
// gives those that their leaders call behind, and those that nobody could be
// asked about.
func (b *Broker) stillBehind(ctx context.Context, open []*hosted) (behind, unknown []*hosted) {
	v := b.controller.View()
	byLeader := map[int32][]*hosted{}
	for _, h := range open {
		p := v.PartitionOf(h.ID())
		if _, mine := p.NodeOf(h.replica); !mine || len(p.Replicas) < 2 || h.Leadership().Leading {
			continue // deleted, moved away, alone, or the one that others are measured by
		}
		if leader := h.Leadership().Leader; leader != b.cfg.NodeID && b.up(leader) {
			byLeader[leader] = append(byLeader[leader], h)
		} else {
			unknown = append(unknown, h)
		}
	}
	for leader, all := range byLeader {
		for part := range slices.Chunk(all, behindAtOnce) {
			step, err := b.askBehind(ctx, leader, part)
			if err != nil {
				b.log.Debug("a leader does not tell whether replicas here keep up", "peer", leader, "error", err)
				unknown = append(unknown, part...)
				continue
			}
			for _, h := range part {
				switch in, told := step[h.ID()]; {
				case !told:
					unknown = append(unknown, h)
				case !in:
					behind = append(behind, h)
				}
			}
		}
	}
	return behind, unknown
}

// askBehind asks one leader; what it does not lead is not in the answer.
func (b *Broker) askBehind(ctx context.Context, leader int32, part []*hosted) (map[record.PartitionID]bool, error) {
	ids := make([]record.PartitionID, len(part))
	for i, h := range part {
		ids[i] = h.ID()
	}
	ctx, stop := context.WithTimeout(ctx, behindTimeout)
	defer stop()
	answer, err := peers{b.network}.Call(ctx, leader, methodInStep, encodeInStep(ids))
	if err != nil {
		return nil, err
	}
	return decodeInStepAnswer(answer)
}

// answerInStep implements methodInStep.
func (b *Broker) answerInStep(ctx context.Context, from int32, request []byte) ([]byte, error) {
	ids, err := decodeInStep(request)
	if err != nil {
		return nil, err
	}
	v := b.controller.View()
	var mu sync.Mutex // guards steps
	steps := map[record.PartitionID]bool{}
	var asked sync.WaitGroup
	for _, id := range ids {
		p := v.PartitionOf(id)
		if p == nil {
			continue
		}
		asked.Add(1)
		err := b.hosts.Do(id, func(g *multiraft.Group) {
			defer asked.Done()
			members := g.Members()
			if members == nil {
				return // others lead it
			}
			in := slices.ContainsFunc(members, func(m multiraft.Member) bool {
				node, ok := p.NodeOf(m.Replica)
				return ok && node == from && keepsUp(g, &m)
			})
			mu.Lock()
			defer mu.Unlock()
			steps[id] = in
		})
		if err != nil {
			asked.Done() // busy, or not here: it is asked about again
		}
	}
	done := make(chan struct{})
	go func() { asked.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return encodeInStepAnswer(steps), nil
}

// readiness is why clients should go to other brokers and the next broker of a
// rolling restart should be left alone, nil when neither.
func (b *Broker) readiness() error {
	if !b.ready.Load() {
		return errStarting
	}
	if err := b.Err(); err != nil {
		return err
	}
	if !b.caughtUp.Load() {
		return fmt.Errorf("catching up: %d replicas of this broker are behind their leaders", b.behind.Load())
	}
	return nil
}
