package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority signs brokers' certificates.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert = &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.key = a.write("ca", a.cert, nil)
	return a
}

// write makes a key, and a certificate for it.
func (a *authority) write(name string, cert *x509.Certificate, by *ecdsa.PrivateKey) *ecdsa.PrivateKey {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if by == nil {
		by = key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, &key.PublicKey, by)
	if err != nil {
		a.t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for kind, b := range map[string]*pem.Block{".pem": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "EC PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(a.path(name+kind), pem.EncodeToMemory(b), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return key
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// secure gives broker i a certificate of the authority.
func (a *authority) secure(bs *brokers, i int) {
	a.t.Helper()
	host, _, err := net.SplitHostPort(bs.rpc(i))
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(host, &x509.Certificate{SerialNumber: big.NewInt(int64(i) + 2), Subject: pkix.Name{CommonName: host}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.ParseIP(host)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}, a.key)
	bs.keys[i]["rpc-cert"], bs.keys[i]["rpc-key"], bs.keys[i]["rpc-ca"] = a.path(host+".pem"), a.path(host+".key"), a.path("ca.pem")
}

// Shows that brokers whose configuration names certificates work together over
// TLS, and that one is not let in, and says why, whose certificate or trust is
// another authority's, or that has none.
func TestBrokersSpeakTLS(t *testing.T) {
	t.Parallel()
	bs := newBrokers(t, 4, 3)
	ours, theirs := newAuthority(t, "our authority"), newAuthority(t, "another authority")
	for i := range 3 {
		ours.secure(bs, i)
	}
	bs.start(0, 1, 2)
	must(t, "", "topic", "create", "t", "-r", "3", bs.kafka(0))
	bs.fill("t", 0, 20)
	bs.holds("t", 20)

	// It trusts another authority than the one that signed the others.
	theirs.secure(bs, 3)
	stranger := bs.launch(3)
	stranger.says(t, "our authority")
	stranger.says(t, theirs.path("ca.pem"))
	stranger.end(9)
	// It trusts ours, but was signed by another.
	bs.keys[3]["rpc-ca"] = ours.path("ca.pem")
	stranger = bs.launch(3)
	stranger.says(t, "refuses this broker's rpc-cert")
	stranger.end(9)
	// It has none.
	for _, key := range []string{"rpc-cert", "rpc-key", "rpc-ca"} {
		delete(bs.keys[3], key)
	}
	stranger = bs.launch(3)
	stranger.says(t, "waiting for a cluster")
	stranger.end(9)
	// A file that is not there is named.
	bs.keys[3]["rpc-cert"], bs.keys[3]["rpc-key"], bs.keys[3]["rpc-ca"] = "/nonexistent.pem", "/nonexistent.key", ours.path("ca.pem")
	bs.launch(3).ends(t, "/nonexistent.pem")

	ours.secure(bs, 3)
	bs.start(3)
	bs.whole(0, 4)
}
