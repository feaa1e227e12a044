package broker

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/broker/cluster"
)

// buildBefore makes the test binary of the build before this one
// (broker/cluster/features_old.go).
func buildBefore(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "before")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", "tidewater_before", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the build before: %v\n%s", err, out)
	}
	return path
}

// upgrade is a cluster of three whose brokers are changed to another build one
// after the other.
type upgrade struct {
	t      *testing.T
	cfgs   []Config
	kids   []*child
	client *kgo.Client
}

// become starts a broker again with another build.
func (u *upgrade) become(i int, build string) {
	u.t.Helper()
	u.kids[i].stop(u.t)
	u.kids[i] = launchBuild(u.t, build, u.cfgs[i])
	u.kids[i].serves(u.t)
}

// features are what the brokers say: the cluster's level as each knows it, and
// the highest of its build.
func (u *upgrade) features() (levels, most []int16) {
	u.t.Helper()
	until(u.t, "every broker says what it can", func() error {
		levels, most = nil, nil
		answers, err := kadm.NewClient(u.client).ApiVersions(u.t.Context()) // tried once: connections may be of brokers that ended
		if err != nil {
			return err
		}
		for _, a := range answers.Sorted() {
			if a.Err != nil {
				return a.Err
			}
			for _, f := range a.Raw().SupportedFeatures {
				most = append(most, f.MaxVersion)
			}
			for _, f := range a.Raw().FinalizedFeatures {
				levels = append(levels, f.MaxVersionLevel)
			}
		}
		if len(most) != len(u.kids) || len(levels) != len(u.kids) {
			return fmt.Errorf("brokers can %v and know of %v", most, levels)
		}
		return nil
	})
	return levels, most
}

// raise asks for a feature level and gives what the answer says.
func (u *upgrade) raise(level uint32) (string, error) {
	u.t.Helper()
	req := kmsg.NewPtrUpdateFeaturesRequest()
	one := kmsg.NewUpdateFeaturesRequestFeatureUpdate()
	one.Feature, one.MaxVersionLevel, one.UpgradeType = "tidewater.version", int16(level), 1
	req.FeatureUpdates = append(req.FeatureUpdates, one)
	said, err := req.RequestWith(u.t.Context(), u.client)
	if err != nil {
		u.t.Fatal(err)
	}
	text := ""
	if said.ErrorMessage != nil {
		text = *said.ErrorMessage
	}
	return text, kerr.ErrorForCode(said.ErrorCode)
}

// refusal starts a broker that must end by itself, and gives what it says.
func (u *upgrade) refusal(i int, build string) string {
	u.t.Helper()
	u.kids[i].stop(u.t)
	c := launchBuild(u.t, build, u.cfgs[i])
	if line, err := bufio.NewReader(c.out).ReadString('\n'); err == nil {
		u.t.Errorf("a build that is too old serves on %s", line)
	}
	c.kill()
	u.kids[i] = c
	return c.logged.String()
}

// Shows that a cluster is brought from the build before to this one broker by
// broker, under load, without a failed request for clients with default
// retries; that a broker can go back until the feature level is raised; that it
// cannot be raised too early; and that afterwards the old build is refused in
// words that name both.
func TestRollingUpgrade(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles another build")
	}
	t.Parallel()
	before, now := buildBefore(t), os.Args[0]
	u := &upgrade{t: t, cfgs: threeOf(t, testConfig)}
	var seeds []string
	for i := range u.cfgs {
		u.cfgs[i].Build = "test"
		u.kids = append(u.kids, launchBuild(t, before, u.cfgs[i]))
	}
	for i, c := range u.kids {
		c.serves(t)
		u.cfgs[i].KafkaAddr = c.addr
		seeds = append(seeds, c.addr)
	}
	open := func(name string, opts ...kgo.Opt) *kgo.Client { return patientClient(t, name, seeds, opts...) }
	u.client = open("admin")
	const partitions = 4
	if _, err := kadm.NewClient(u.client).CreateTopic(t.Context(), partitions, 3, nil, "t"); err != nil {
		t.Fatal(err)
	}
	consumed := consumeAll(t, open("consumer", kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())))
	l := startLoad(t, open("producer", kgo.DefaultProduceTopic("t"), kgo.ProducerLinger(0)))
	l.more(t, 50)
	joined(t, consumed)
	for i, build := range []string{now, before, now} { // the first goes back once
		u.become(0, build)
		l.more(t, 30)
		if levels, most := u.features(); slices.Max(levels) != 1 || most[0] != []int16{int16(cluster.FeatureLevelMax), 1}[i%2] {
			t.Errorf("step %d: levels %v, brokers can %v", i, levels, most)
		}
	}
	if said, err := u.raise(cluster.FeatureLevelMax); err != kerr.InvalidUpdateVersion || !strings.Contains(said, "broker 2's build works at 1 to 1") {
		t.Errorf("raised while two brokers cannot: %v: %s", err, said)
	}
	for i := 1; i < 3; i++ {
		u.become(i, now)
		l.more(t, 30)
	}
	if said, err := u.raise(cluster.FeatureLevelMax); err != nil {
		t.Fatalf("raise the feature level: %v: %s", err, said)
	}
	if said, err := u.raise(1); err != kerr.InvalidUpdateVersion {
		t.Errorf("lowered: %v: %s", err, said)
	}
	l.more(t, 30)
	until(t, "the broker that goes back has heard", func() error {
		if levels, _ := u.features(); slices.Min(levels) < int16(cluster.FeatureLevelMax) {
			return fmt.Errorf("levels %v", levels)
		}
		return nil
	})
	if said := u.refusal(2, before); !strings.Contains(said, "the cluster works at feature level 2, this build at 1 to 1") {
		t.Errorf("a build that is too old says:\n%s", said)
	}
	l.more(t, 30) // two of three go on
	u.kids[2] = launchBuild(t, now, u.cfgs[2])
	u.kids[2].serves(t)
	u.become(0, now)
	l.end(t)
	sameLog(t, u.client, "t", partitions, l)
	until(t, "everything is consumed", func() error {
		if n := consumed(); n < l.count() {
			return context.DeadlineExceeded
		}
		return nil
	})
	t.Logf("%d records; the longest pause between acks was %s", l.count(), l.gap)
}
