package broker

import (
	"context"
	"time"

	"tidewater/internal/record"
)

const (
	// mendEvery is how often damaged segments are looked for among what readers
	// and the scrub found, and how often the scrub reads.
	mendEvery = time.Second
	// mendTimeout bounds what one round of mending waits for other brokers and
	// the bucket, so that one partition does not keep the others waiting.
	mendTimeout = 2 * time.Minute
	// scrubRoundEvery is how often all of a disk is read, if the rate allows it:
	// rot that strikes two replicas of a record within that time is lost.
	scrubRoundEvery = 24 * time.Hour
	// scrubPartitionsMax bounds the partitions of one step: each opens a file.
	scrubPartitionsMax = 16
)

// scrub is where the reading of all segments stands.
type scrub struct {
	after record.PartitionID // the last partition that was read to its end
	begun bool               // a round is under way
	next  time.Time          // when the next one begins
}

// mend keeps what lies on the disk whole: segments are read slowly from end to
// end, and those that are damaged are made anew from other replicas or the
// bucket.
func (b *Broker) mend(ctx context.Context) error {
	s := scrub{next: time.Now().Add(mendEvery)}
	return every(ctx, mendEvery, func() {
		if b.cfg.ScrubBytesPerSecond > 0 {
			b.scrubStep(ctx, &s, b.cfg.ScrubBytesPerSecond*int64(mendEvery)/int64(time.Second), time.Now())
		}
		round, stop := context.WithTimeout(ctx, mendTimeout)
		defer stop()
		for _, h := range b.parts.all() {
			if len(h.Damaged()) > 0 {
				b.stepped(ctx, h, "repair", &h.mending, h.Repair(round))
			}
		}
	})
}

// scrubStep reads about bytesMax bytes of segments.
func (b *Broker) scrubStep(ctx context.Context, s *scrub, bytesMax int64, now time.Time) {
	if !s.begun && now.Before(s.next) {
		return
	}
	if !s.begun {
		*s = scrub{begun: true, next: now.Add(scrubRoundEvery)}
	}
	looked := 0
	for _, h := range b.parts.all() {
		if s.after != (record.PartitionID{}) && h.ID().Compare(s.after) <= 0 {
			continue
		}
		if looked++; looked > scrubPartitionsMax || bytesMax <= 0 {
			return
		}
		read, end, err := h.Scrub(ctx, bytesMax)
		b.stepped(ctx, h, "scrub", &h.scrubbing, err)
		bytesMax -= read
		if !end && err == nil {
			return
		}
		s.after = h.ID()
	}
	s.begun, s.after = false, record.PartitionID{}
}

// others are the brokers that are up and have another replica of a partition.
func (ps *partitions) others(id record.PartitionID) []int32 {
	var out []int32
	if p := ps.view().PartitionOf(id); p != nil {
		for _, node := range p.Nodes() {
			if node != ps.node && ps.up(node) {
				out = append(out, node)
			}
		}
	}
	return out
}
