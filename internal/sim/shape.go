package sim

import (
	"math/rand/v2"
	"time"

	"tidewater/internal/topicconfig"
)

// Shape is the kind of history a seed gives: sizes, and how often what goes
// wrong. Each seed leaves most faults out, so that the others get far.
type Shape struct {
	Brokers    int
	Partitions int  // of the table topic
	Idle       int  // groups that nobody writes to
	Replica    bool // another cluster follows the bucket
	Length     time.Duration

	JournalFileBytes int64
	SegmentBytes     int64
	LocalBytes       int64 // local retention
	RetentionBytes   int64 // of the log; -1 keeps all
	WriteCaching     bool  // producers are answered from memory, flushes take their time
	ValueBytesMax    int
	TailBytesMax     int // of one partition in one tail object

	ProduceEvery time.Duration // of one producer, on average

	DeleteEvery time.Duration // clients delete records; 0 is never

	// What goes wrong, as mean pauses; 0 is never.
	CrashEvery   time.Duration // a process dies at some call
	CrashIn      string        // an actor that dies more often than others; "" for none
	CrashShare   int           // it is armed at one of so many of its turns
	PowerShare   int           // of ten crashes, how many cut the power
	OutageEvery  time.Duration // the bucket is down, flaky or slow
	Flaky        bool          // it is never anything but flaky
	FullEvery    time.Duration // the disk is full
	SyncEvery    time.Duration // an fsync of the journal, or of a segment or its like, fails
	RestoreEvery time.Duration // the data directory is lost, or left behind
	ZombieShare  int           // of ten restores, how many leave the old brokers running

	// Among several brokers.
	PartitionEvery time.Duration // the network is cut
	PauseEvery     time.Duration // a process is stopped and goes on
	ClockEvery     time.Duration // a broker's clock jumps
	SlowEvery      time.Duration // a broker's disk is slow
	TransferEvery  time.Duration // a leader hands over
	WipeEvery      time.Duration // a disk comes back empty
	RotEvery       time.Duration // flushed bits change
}

// draw makes a seed's shape.
func draw(rng *rand.Rand) Shape {
	pick := func(n ...int64) int64 { return n[rng.IntN(len(n))] }
	often := func() time.Duration { return time.Duration(2000+rng.IntN(5000)) * time.Millisecond }
	maybe := func(share int) time.Duration {
		d := often()
		if rng.IntN(10) >= share {
			return 0
		}
		return d
	}
	s := Shape{
		Brokers: 1, Partitions: 2 + rng.IntN(2), Idle: rng.IntN(4), Replica: rng.IntN(2) == 0, Length: time.Duration(7+rng.IntN(8)) * time.Second,
		JournalFileBytes: pick(32<<10, 64<<10, 256<<10), SegmentBytes: pick(8<<10, 16<<10, 32<<10),
		LocalBytes: pick(0, 8<<10, 24<<10), RetentionBytes: pick(-1, -1, -1, 64<<10),
		ValueBytesMax: int(pick(100, 600, 1500)), TailBytesMax: int(pick(4<<10, 16<<10, 1<<20)),
		ProduceEvery: time.Duration(pick(60, 120, 250)) * time.Millisecond,
		DeleteEvery:  maybe(2), CrashEvery: maybe(6), PowerShare: int(pick(0, 5, 10)), OutageEvery: maybe(5),
		CrashIn: []string{"", "", "segments", "retain", "archive", "tail", "keeper", "table"}[rng.IntN(8)], CrashShare: 8, FullEvery: maybe(2), SyncEvery: maybe(2) * 2, RestoreEvery: maybe(4) * 2, ZombieShare: int(pick(0, 5, 10)),
		ClockEvery: maybe(1),
	}
	if rng.IntN(2) == 0 {
		s.Brokers = 3
		s.Length = time.Duration(5+rng.IntN(6)) * time.Second
		s.PartitionEvery, s.PauseEvery, s.SlowEvery = maybe(5), maybe(3), maybe(2)
		s.ClockEvery, s.TransferEvery = maybe(2), maybe(2)/2
		s.WipeEvery, s.RotEvery = maybe(2), maybe(2)
	}
	return s
}

// settings are the table topic's properties.
func (s *Shape) settings() topicconfig.Settings {
	t := topicconfig.Defaults()
	t.Tiered = true
	t.SegmentBytes, t.SegmentAge = s.SegmentBytes, 3*time.Second
	t.Retention, t.RetentionBytes = topicconfig.Unlimited, s.RetentionBytes
	t.LocalRetention, t.LocalRetentionBytes = topicconfig.Unlimited, s.LocalBytes
	t.WriteCaching = s.WriteCaching
	return t
}

// idleSettings are those of the groups that nobody writes to.
func (s *Shape) idleSettings() topicconfig.Settings {
	t := topicconfig.Defaults()
	t.Retention, t.RetentionBytes = topicconfig.Unlimited, topicconfig.Unlimited
	return t
}
