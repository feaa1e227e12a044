package kafka

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"tidewater/broker/cluster"
)

// patience bounds every wait of these tests; none takes nearly as long.
const patience = time.Minute

// world is a server over fakes.
type world struct {
	*Server
	cluster *fakeCluster
	groups  *fakeGroups
	logged  *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newWorld(c *fakeCluster) *world {
	return &world{cluster: c, groups: &fakeGroups{}, logged: &lockedBuffer{}}
}

// open starts a server with fakes; change may be nil.
func open(t testing.TB, change func(*Config)) *world {
	t.Helper()
	return openOver(t, newFakeCluster(), change)
}

func openOver(t testing.TB, c *fakeCluster, change func(*Config)) *world {
	t.Helper()
	w := newWorld(c)
	cfg := w.config()
	if change != nil {
		change(&cfg)
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.Server = s
	host, port, _ := net.SplitHostPort(s.Addr().String())
	n, _ := strconv.Atoi(port)
	w.cluster.mu.Lock()
	w.cluster.listener = cluster.Listener{Name: "kafka", Host: host, Port: int32(n)}
	w.cluster.mu.Unlock()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
		if ctx.Err() != nil {
			t.Error("connections did not end by themselves")
		}
		if st := s.Stats(); st.Connections != 0 || st.RequestBytes != 0 || s.answers.held() != 0 {
			t.Errorf("left behind: %d connections, %d request bytes, %d answer bytes", st.Connections, st.RequestBytes, s.answers.held())
		}
	})
	return w
}

func (w *world) config() Config {
	return Config{
		Addr: "127.0.0.1:0", NodeID: 1,
		View: func() View { return w.cluster }, Cluster: w.cluster, Groups: w.groups, Partitions: w.cluster,
		Log:              slog.New(slog.NewTextHandler(w.logged, nil)),
		AutoCreateTopics: func() bool { return true },
		OffsetsTopic:     cluster.TopicSpec{Partitions: 3},
	}
}

// client is franz-go's.
func (w *world) client(t testing.TB, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	return w.strictClient(t, append([]kgo.Opt{kgo.AllowAutoTopicCreation()}, opts...)...)
}

// strictClient does not ask for topics to be created.
func (w *world) strictClient(t testing.TB, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	opts = append([]kgo.Opt{kgo.SeedBrokers(w.Addr().String()), kgo.FetchMaxWait(time.Second)}, opts...)
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func (w *world) admin(t testing.TB) *kadm.Client { return kadm.NewClient(w.strictClient(t)) }

// topic makes a topic directly.
func (w *world) topic(t testing.TB, name string, partitions int32) *cluster.Topic {
	t.Helper()
	topic, err := w.cluster.CreateTopic(t.Context(), cluster.TopicSpec{Name: name, Partitions: partitions}, false)
	if err != nil {
		t.Fatal(err)
	}
	return topic
}

// until waits for a condition that another goroutine brings about.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// within is a context for client calls.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}
