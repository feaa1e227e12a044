package broker

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tidewater/broker/journal"
)

// Shows that faults in what is between brokers are told by their keys, and that
// ports and numbers of replicas have defaults.
func TestConfigurationBetweenBrokers(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"rpc-addr: a broker with seeds": func(c *Config) { c.Seeds = []string{"a", "b", "c"} },
		"rpc-advertised: others cannot": func(c *Config) { c.RPCAddr = "0.0.0.0:33145" },
		"seeds: \"a:\"":                 func(c *Config) { c.RPCAddr, c.Seeds = "a", []string{"a:", "b"} },
		"seeds: an address is there":    func(c *Config) { c.RPCAddr, c.Seeds = "a", []string{"a", "a:33145"} },
		"needs all three":               func(c *Config) { c.RPCCert = "cert.pem" },
		"a read replica is a single":    func(c *Config) { c.Replica, c.Bucket, c.RPCAddr = true, "s3://b", "a" },
	} {
		c := testConfig(t.TempDir())
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	c := testConfig(t.TempDir())
	c.RPCAddr, c.Seeds = "a", []string{"a", "b:1", "c"}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if listen, _ := c.rpc(); listen != "a:33145" || c.replicationFactor() != 3 || strings.Join(c.seeds(), " ") != "a:33145 b:1 c:33145" {
		t.Errorf("%s, %d replicas, %v", listen, c.replicationFactor(), c.seeds())
	}
}

// A journal that was emptied, or replaced by a copy of before, is not taken for
// the one that made the broker's promises, however often the start is tried.
func TestOlderJournalIsRefused(t *testing.T) {
	t.Parallel()
	for _, swap := range []string{"emptied", "older copy"} {
		cfg := testConfig(t.TempDir())
		openNode(t, cfg).close()
		dir, old := filepath.Join(cfg.DataDir, journalDir), t.TempDir()
		if err := os.CopyFS(filepath.Join(old, "journal"), os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		openNode(t, cfg).close()
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		with := os.DirFS(filepath.Join(old, "journal"))
		if swap == "emptied" {
			with = os.DirFS(t.TempDir())
		}
		if err := os.CopyFS(dir, with); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			b, err := Open(t.Context(), cfg, slogOf(&logged{}))
			if err == nil {
				t.Fatal("it starts", b.Close())
			}
			if !errors.Is(err, journal.ErrOlder) || !strings.Contains(err.Error(), "empty the directory") {
				t.Error(err)
			}
		}
	}
}

// Shows that a broker whose journal is gone does not start: it would forget
// what it promised.
func TestLostJournalIsNotBegunAnew(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	openNode(t, cfg).close()
	if err := os.RemoveAll(filepath.Join(cfg.DataDir, journalDir)); err != nil {
		t.Fatal(err)
	}
	b, err := Open(t.Context(), cfg, slogOf(&logged{}))
	if err == nil {
		t.Fatal("it starts", b.Close())
	}
	if !strings.Contains(err.Error(), "lost its journal") {
		t.Error(err)
	}
}
