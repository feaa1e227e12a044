package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Shows, on real brokers with a token and TLS at their admin addresses, that the
// commands work with the token's file, by flag and by environment, and with the
// authority's, and that without them they say what is missing; and that a token
// is changed on brokers that run.
func TestAdminCommandsUseTokenAndTLS(t *testing.T) {
	t.Parallel()
	bs := newBrokers(t, 3, 3)
	ours := newAuthority(t, "our authority")
	token := filepath.Join(bs.dir, "token")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(token, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("the-first-of-our-tokens\n")
	var urls []string
	for i := range 3 {
		ours.secure(bs, i)
		bs.keys[i]["admin-cert"], bs.keys[i]["admin-key"] = bs.keys[i]["rpc-cert"], bs.keys[i]["rpc-key"]
		bs.keys[i]["admin-token-file"] = token
		urls = append(urls, "https://"+bs.keys[i]["admin-addr"].(string))
	}
	bs.start(0, 1, 2)
	at, trust := "--admin="+strings.Join(urls, ","), "--admin-ca="+ours.path("ca.pem")
	change := []string{"cluster", "maintenance", "on", "2", at}

	refused(t, append(change, trust), "admin token", "--token-file")
	refused(t, append(change, "--token-file="+token), "no broker answers", "certificate")
	refused(t, []string{"cluster", "status", at, trust}, "admin token")
	refused(t, append(change, trust, "--token-file="+filepath.Join(bs.dir, "none")), "read the admin token", "no such file")
	must(t, "", append(change, trust, "--token-file="+token)...)

	kept := filepath.Join(bs.dir, "kept")
	if err := os.WriteFile(kept, []byte("the-first-of-our-tokens"), 0o600); err != nil {
		t.Fatal(err)
	}
	write("the-second-of-our-tokens\n")
	off := []string{"cluster", "maintenance", "off", "2", at, trust}
	refused(t, append(off, "--token-file="+kept), "not this broker's", "admin-token-file")
	c := command(t.Context(), off...)
	c.Env = append(c.Env, adminTokenEnv+"="+token)
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("with the token in the environment: %v\n%s", err, out)
	}
	if out := must(t, "", "cluster", "status", at, trust, "--token-file="+token); !strings.Contains(out, "active") {
		t.Errorf("status says\n%s", out)
	}
}
