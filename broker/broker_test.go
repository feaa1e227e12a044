package broker

import (
	"context"
	"errors"
	goflag "flag"
	"net"
	"os"
	"strings"
	"testing"

	"tidewater/internal/disk"
)

// These tests wait more than they work, so many of them run at a time.
func TestMain(m *testing.M) {
	if config := os.Getenv(childEnv); config != "" {
		os.Exit(runChild(config))
	}
	goflag.Parse()
	if err := goflag.Set("test.parallel", "12"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// Shows that data, written through one life of a broker, is there in the next.
func TestDataSurvivesReopening(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	n := openNode(t, cfg)
	n.topic("plain", 2, nil)
	n.topic("cold", 1, tiered())
	n.fill("plain", 0, 0, 10)
	n.fill("plain", 1, 0, 3)
	n.fill("cold", 0, 0, 10)
	n.close()
	n = openNode(t, cfg)
	n.mustHold("plain", 0, 10)
	n.mustHold("plain", 1, 3)
	n.mustHold("cold", 0, 10)
	n.fill("cold", 0, 10, 20)
	n.mustHold("cold", 0, 20)
}

// Shows that clients that take all the time there is at Close (a produce that
// no majority commits, say) do not keep records from their segments, and are no
// fault of the broker's.
func TestClosingAfterSlowClients(t *testing.T) {
	t.Parallel()
	n := openNode(t, testConfig(t.TempDir()))
	n.topic("t", 1, nil)
	n.fill("t", 0, 0, 10)
	late, stop := context.WithTimeout(t.Context(), 0)
	defer stop()
	if err := n.writeAll(late); err != nil {
		t.Error(err)
	}
	for _, h := range n.parts.all() {
		if bytes, _ := h.Pending(); bytes > 0 {
			t.Errorf("%s has %d bytes that are in no segment", h.Name(), bytes)
		}
	}
}

// Shows that a taken port is told with the port and the flag to change.
func TestTakenPortNamesPortAndFlag(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w := newWorldOf(t)
	for flag, set := range map[string]func(*Config){
		"--kafka-addr":   func(c *Config) { c.KafkaAddr = l.Addr().String() },
		"--admin-addr":   func(c *Config) { c.AdminAddr = l.Addr().String() },
		"--catalog-addr": func(c *Config) { c.CatalogAddr = l.Addr().String() },
	} {
		cfg := w.config()
		set(&cfg)
		refused(t, cfg, nil, l.Addr().String(), flag)
	}
}

// Shows that a second broker on a data directory is refused by the directory's
// name, and that the first one is not disturbed.
func TestLockedDirectoryIsRefusedByName(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	n := openNode(t, cfg)
	n.topic("t", 1, nil)
	refused(t, cfg, disk.ErrLocked, cfg.DataDir)
	n.fill("t", 0, 0, 1)
}

// Shows that a data directory does not change its node.
func TestDirectoryOfAnotherNodeIsRefused(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	openNode(t, cfg).close()
	cfg.NodeID = 7
	refused(t, cfg, nil, cfg.DataDir, "node 1", "node 7", "--node-id")
}

// refused says that a broker does not open, by an error that names words.
func refused(t *testing.T, cfg Config, kind error, words ...string) {
	t.Helper()
	n := &node{t: t, logged: &logged{}}
	b, err := Open(t.Context(), cfg, slogOf(n.logged))
	if err == nil {
		_ = b.Close()
		t.Fatalf("a broker opens, want an error that names %v", words)
	}
	if kind != nil && !errors.Is(err, kind) {
		t.Errorf("error %v, want %v", err, kind)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not name %q", err, w)
		}
	}
}
