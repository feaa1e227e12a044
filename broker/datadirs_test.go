package broker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"tidewater/broker/journal"
	"tidewater/internal/disk"
	"tidewater/internal/record"
)

// twoDirs is a broker's configuration with a second data directory.
func twoDirs(t *testing.T) Config {
	cfg := testConfig(t.TempDir())
	cfg.MoreDataDirs = []string{t.TempDir()}
	return cfg
}

// lie gives how many replicas of a topic lie in each directory.
func (n *node) lie(topic string) []int {
	out := make([]int, len(n.dirs))
	for i, d := range n.dirs {
		for _, h := range n.parts.in(d) {
			if h.topic == topic {
				out[i]++
			}
		}
	}
	return out
}

// fillAll puts records into each partition of a topic.
func (n *node) fillAll(topic string, partitions int32, from, to int) {
	n.t.Helper()
	for p := range partitions {
		n.fill(topic, p, from, to)
	}
}

func (n *node) mustHoldAll(topic string, partitions int32, count int) {
	n.t.Helper()
	for p := range partitions {
		n.mustHold(topic, p, count)
	}
}

// Shows that a broker with two directories spreads replicas over them, finds
// them again where they were after a close and after a kill, tells clients and
// metrics which is where, and removes a topic from both.
func TestSeveralDataDirectories(t *testing.T) {
	t.Parallel()
	const partitions = 8
	cfg := twoDirs(t)
	n := openNode(t, cfg)
	n.topic("t", partitions, nil)
	n.fillAll("t", partitions, 0, 5)
	where := n.lie("t")
	if where[0]+where[1] != partitions || min(where[0], where[1]) < partitions/4 {
		t.Errorf("replicas lie %v", where)
	}
	all, err := n.admin.DescribeAllLogDirs(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]int{}
	all.Each(func(d kadm.DescribedLogDir) {
		d.Topics.Each(func(p kadm.DescribedLogDirPartition) {
			if p.Topic == "t" {
				told[d.Dir]++
			}
		})
	})
	if told[cfg.DataDir] != where[0] || told[cfg.MoreDataDirs[0]] != where[1] {
		t.Errorf("clients are told %v, replicas lie %v", told, where)
	}
	families, err := n.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "tidewater_data_dir_replicas" && len(f.Metric) == 2 &&
			int(f.Metric[0].GetGauge().GetValue()+f.Metric[1].GetGauge().GetValue()) == partitions {
			told["metric"] = partitions
		}
	}
	if told["metric"] != partitions {
		t.Error("the metrics do not tell how many replicas are where")
	}
	n.close()

	c := startChild(t, cfg)
	client, _ := openClient(t, c.addr)
	for p := range int32(partitions) {
		r := &kgo.Record{Topic: "t", Partition: p, Key: []byte("key 5"), Value: []byte(value(p, 5))}
		if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	c.kill()
	client.Close()

	n = openNode(t, cfg)
	n.mustHoldAll("t", partitions, 6)
	if now := n.lie("t"); fmt.Sprint(now) != fmt.Sprint(where) {
		t.Errorf("replicas lay %v and lie %v", where, now)
	}
	n.delete("t")
	until(t, "both directories are rid of the topic", func() error {
		if now := n.lie("t"); now[0]+now[1] > 0 {
			return fmt.Errorf("folders %v", now)
		}
		return nil
	})
}

// Shows that a directory that is added at a start gets the new replicas, while
// the old ones stay, and that it belongs to the broker from then on.
func TestDirectoryIsAdded(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	n := openNode(t, cfg)
	n.topic("old", 4, nil)
	n.fillAll("old", 4, 0, 3)
	n.close()
	cfg.MoreDataDirs = []string{filepath.Join(t.TempDir(), "mount", "tidewater")}
	n = openNode(t, cfg)
	n.topic("new", 4, nil)
	n.fillAll("new", 4, 0, 3)
	n.mustHoldAll("old", 4, 3)
	if where := n.lie("old"); where[0] != 4 || where[1] != 0 {
		t.Errorf("old replicas lie %v", where)
	}
	if where := n.lie("new"); where[1] < 3 {
		t.Errorf("new replicas lie %v", where)
	}
	n.close()
	n = openNode(t, cfg)
	n.mustHoldAll("new", 4, 3)
	n.close()
	cfg.MoreDataDirs = nil
	refused(t, cfg, nil, "missing", "mount/tidewater")
}

// A start that is cut off while a directory is added adds it again.
func TestDirectoryThatWasHalfAdded(t *testing.T) {
	t.Parallel()
	for _, cut := range []string{"before the first lists it", "before its journal is there"} {
		cfg := testConfig(t.TempDir())
		n := openNode(t, cfg)
		n.topic("t", 1, nil)
		n.fill("t", 0, 0, 3)
		n.close()
		before, err := os.ReadFile(filepath.Join(cfg.DataDir, identityFile))
		if err != nil {
			t.Fatal(err)
		}
		cfg.MoreDataDirs = []string{t.TempDir()}
		locked, err := lockDirs(&cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(locked.begin(n.began), locked.unlock()); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(cut, "before the first") {
			if err := os.WriteFile(filepath.Join(cfg.DataDir, identityFile), before, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		n = openNode(t, cfg)
		n.mustHold("t", 0, 3)
		n.close()
	}
}

// Shows that a broker does not start when one of its directories is not what it
// was, and that it writes nothing then: with what was there it goes on.
func TestWrongDirectoriesAreRefused(t *testing.T) {
	t.Parallel()
	copyOf := func(dir string) string {
		to := filepath.Join(t.TempDir(), "copy")
		if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		return to
	}
	cfg := twoDirs(t)
	first, second := cfg.DataDir, cfg.MoreDataDirs[0]
	n := openNode(t, cfg)
	n.topic("t", 4, nil)
	n.fillAll("t", 4, 0, 3)
	n.close()
	older := copyOf(second)
	openNode(t, cfg).close()
	other := twoDirs(t)
	openNode(t, other).close()
	alone := testConfig(t.TempDir())
	openNode(t, alone).close()
	noJournal, wiped, foreign := copyOf(second), copyOf(second), filepath.Join(t.TempDir(), "foreign")
	link := filepath.Join(t.TempDir(), "link")
	for _, err := range []error{os.RemoveAll(filepath.Join(noJournal, journalDir)), os.RemoveAll(filepath.Join(wiped, journalDir)),
		os.RemoveAll(filepath.Join(wiped, partitionsDir)), os.Remove(filepath.Join(wiped, journalEndFile)),
		os.MkdirAll(filepath.Join(foreign, "etc"), 0o755), os.Symlink(second, link)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	unmounted := filepath.Join(t.TempDir(), "unmounted")
	for _, c := range []struct {
		first string
		more  []string
		words []string
	}{
		{first, nil, []string{"missing", second}},
		{first, []string{unmounted}, []string{"missing", second}},
		{first, []string{older}, []string{"older copy", older}},
		{first, []string{noJournal}, []string{"lost its journal", noJournal}},
		{first, []string{wiped}, []string{"lost its journal", wiped}},
		{first, []string{second, second}, []string{"twice", second}},
		{first, []string{second, link}, []string{"twice", link}},
		{first, []string{first}, []string{"twice", first}},
		{first, []string{second, copyOf(second)}, []string{"copy of the other", second}},
		{first, []string{second, copyOf(first)}, []string{"copy of the first"}},
		{first, []string{other.MoreDataDirs[0]}, []string{"another broker", other.MoreDataDirs[0]}},
		{first, []string{second, alone.DataDir}, []string{"must be", alone.DataDir}},
		{first, []string{second, foreign}, []string{"not empty", "etc"}},
		{second, []string{first}, []string{"not the first", first, "--data-dir"}},
		{t.TempDir(), []string{second}, []string{"another broker", second}},
	} {
		wrong := cfg
		wrong.DataDir, wrong.MoreDataDirs = c.first, c.more
		refused(t, wrong, nil, c.words...)
	}
	if _, err := os.Stat(unmounted); err == nil {
		t.Error("a refused start has made a directory where a disk was to be mounted")
	}
	openNode(t, cfg).mustHoldAll("t", 4, 3)
}

// A journal that fails ends the broker by the directory's name, also when
// another directory is well and holds the controller.
func TestDeadJournalOfOneDirectoryEndsTheBroker(t *testing.T) {
	t.Parallel()
	cfg := twoDirs(t)
	var second *disk.Fault
	cfg.disk = func(below disk.FS) disk.FS {
		if below.(*disk.OS).Root() != cfg.MoreDataDirs[0] {
			return below
		}
		second = disk.NewFault(below)
		return second
	}
	n := openNode(t, cfg)
	n.topic("t", 4, nil)
	n.fillAll("t", 4, 0, 2)
	second.Add(disk.Rule{Err: errors.New("medium error"), When: func(c disk.Call) bool {
		return strings.HasPrefix(c.Name, journalDir) && (c.Op == disk.OpWrite || c.Op == disk.OpSync)
	}})
	for p := range int32(4) {
		_, _ = n.tryProduce("t", p, batchOf(t, nil, []byte("lost"))) // those on the dead disk are not acked
	}
	until(t, "the broker ends", func() error {
		select {
		case <-n.Done():
			return nil
		default:
			return errors.New("it runs")
		}
	})
	if err := n.Err(); !errors.Is(err, journal.ErrDead) || !strings.Contains(err.Error(), cfg.MoreDataDirs[0]) {
		t.Errorf("it ends with %v", err)
	}
	second.Clear()
	_ = n.Close() // tells of the journal again
	n.closed = true
	cfg.disk = nil
	n = openNode(t, cfg)
	for p := range int32(4) {
		values, err := n.read("t", p, 0)
		if err != nil || len(values) < 2 {
			t.Errorf("partition %d holds %v: %v", p, values, err)
		}
	}
}

// A new replica goes where it has the most room to itself.
func TestPlaceGoesByRoom(t *testing.T) {
	t.Parallel()
	room := func(bytes int64) *dataDir {
		return &dataDir{path: fmt.Sprint(bytes), disk: roomy{bytes: bytes}}
	}
	for _, c := range []struct {
		room []int64
		want string
	}{{[]int64{100, 100}, "[6 6]"}, {[]int64{300, 100}, "[9 3]"}, {[]int64{0, 100}, "[0 12]"}, {[]int64{0, 0}, "[12 0]"}} {
		hs, err := newHosts([]*dataDir{room(c.room[0] << 30), room(c.room[1] << 30)}, make([][]journal.Group, 2))
		if err != nil {
			t.Fatal(err)
		}
		for p := range int32(12) {
			id := record.PartitionID{Topic: record.TopicID{1}, Partition: p}
			if d := hs.place(id); d != hs.place(id) || d != hs.of(id) {
				t.Error("a replica moves")
			}
		}
		if got := fmt.Sprint([]int{hs.replicas(hs.dirs[0]), hs.replicas(hs.dirs[1])}); got != c.want {
			t.Errorf("room %v: replicas %s, want %s", c.room, got, c.want)
		}
	}
}

// roomy is a disk with so many bytes free.
type roomy struct {
	disk.FS
	bytes int64
}

func (r roomy) Free() (int64, error) { return r.bytes, nil }

// A group in two journals is not taken for either.
func TestGroupInTwoDirectoriesIsRefused(t *testing.T) {
	t.Parallel()
	g := journal.Group{ID: record.PartitionID{Topic: record.TopicID{1}}}
	_, err := newHosts([]*dataDir{{path: "/a"}, {path: "/b"}}, [][]journal.Group{{g}, {g}})
	if err == nil || !strings.Contains(err.Error(), "/a") || !strings.Contains(err.Error(), "/b") {
		t.Error(err)
	}
}

// Shows that three brokers with two directories each keep what they ack while
// one after the other is started again.
func TestClusterOfSeveralDirectories(t *testing.T) {
	t.Parallel()
	ns := openNodes(t, threeOf(t, func(dir string) Config {
		cfg := testConfig(dir)
		cfg.MoreDataDirs = []string{t.TempDir()}
		return cfg
	}))
	const partitions = 4
	ns.topic(0, "t", partitions, nil)
	l := ns.load("t")
	for i := range ns.all {
		l.more(t, 30)
		ns.again(i, nil)
		ns.ready(i)
	}
	l.end(t)
	ns.whole()
	ns.sameLog("t", partitions, l)
	for _, n := range ns.all {
		if where := n.lie("t"); where[0] == 0 || where[1] == 0 {
			t.Errorf("replicas of broker %d lie %v", n.cfg.NodeID, where)
		}
	}
}

// Shows that a disk without room refuses produce to its own partitions, and
// that those on another disk go on.
func TestFullDiskOfSeveralRefusesItsOwn(t *testing.T) {
	t.Parallel()
	cfg := twoDirs(t)
	var second *disk.Fault
	cfg.disk = func(below disk.FS) disk.FS {
		if below.(*disk.OS).Root() != cfg.MoreDataDirs[0] {
			return below
		}
		second = disk.NewFault(below)
		return second
	}
	n := openNode(t, cfg)
	const partitions = 4
	n.topic("t", partitions, map[string]string{"segment.bytes": fmt.Sprint(1 << 20), "segment.ms": "100"})
	n.fillAll("t", partitions, 0, 3)
	var tries atomic.Int64
	fill(second, &tries)
	for _, h := range n.parts.in(n.dirs[1]) {
		until(t, "the full disk refuses produce", func() error {
			if n.produce("t", h.number, batchOf(t, nil, []byte("more"))).ErrorCode == 0 {
				return fmt.Errorf("partition %d takes records", h.number)
			}
			return nil
		})
	}
	for _, h := range n.parts.in(n.dirs[0]) {
		n.fill("t", h.number, 3, 6)
	}
	second.Clear()
	for _, h := range n.parts.in(n.dirs[1]) {
		until(t, "produce is taken again", func() error {
			return code(n.produce("t", h.number, batchOf(t, nil, []byte("more"))).ErrorCode)
		})
	}
}

// Shows that a cluster is restored into several directories, and that a further
// one must be empty for it.
func TestRestoreIntoSeveralDirectories(t *testing.T) {
	w := newWorld(t)
	const partitions = 4
	old := openNode(t, w.config())
	old.topic("t", partitions, tiered())
	old.fillAll("t", partitions, 0, 5)
	if err := old.seal(); err != nil {
		t.Fatal(err)
	}
	old.untilInBucket()
	old.close()
	cfg := w.config()
	cfg.MoreDataDirs = []string{old.cfg.DataDir}
	if _, err := Restore(t.Context(), cfg, nil); err == nil || !strings.Contains(err.Error(), old.cfg.DataDir) {
		t.Errorf("restored beside another broker's directory: %v", err)
	}
	cfg.MoreDataDirs = []string{t.TempDir()}
	if _, err := Restore(t.Context(), cfg, nil); err != nil {
		t.Fatal(err)
	}
	n := openNode(t, cfg)
	n.mustHoldAll("t", partitions, 5)
	n.fillAll("t", partitions, 5, 8)
	if where := n.lie("t"); where[0] == 0 || where[1] == 0 {
		t.Errorf("replicas lie %v", where)
	}
	n.close()
	openNode(t, cfg).mustHoldAll("t", partitions, 8)
}
