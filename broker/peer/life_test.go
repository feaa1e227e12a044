package peer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/broker/multiraft"
)

// authority issues certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{pool: x509.NewCertPool()}
	_, a.cert, a.key = a.issue(t)
	a.pool.AddCert(a.cert)
	return a
}

// issue makes a certificate signed by the authority, or its own.
func (a *authority) issue(t *testing.T) (tls.Certificate, *x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "broker"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: a.cert == nil,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, cert, key
}

// pair makes a broker's configuration with a certificate of its own.
func (a *authority) pair(t *testing.T) *TLS {
	t.Helper()
	cert, _, _ := a.issue(t)
	return &TLS{
		Server: &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: a.pool, ClientAuth: tls.RequireAndVerifyClientCert},
		Client: &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: a.pool},
	}
}

// With TLS, brokers of one authority talk; one without a certificate, with
// another authority's or in the clear is refused.
func TestTLS(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	a := open(t, 1, func(c *Config) { c.TLS = ours.pair(t) })
	b := open(t, 2, func(c *Config) { c.TLS = ours.pair(t) })
	join(a, b)
	a.in.until(t, "b up", a.in.saw("2/201 true"))
	a.lanesUp(t)
	data := make([]byte, 3<<20)
	a.Send([]multiraft.Message{appendOf(2, 1, data, data[:100], data[:70_000])})
	b.in.until(t, "an append", b.in.count(1))
	if e := b.in.messages[0].Entries; len(e[0].Data) != len(data) || len(e[2].Data) != 70_000 {
		t.Error("the append is not whole")
	}
	b.Handle(1, func(context.Context, int32, []byte) ([]byte, error) { return nil, nil })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := a.Call(ctx, 2, 1, nil); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Config){
		"clear":             func(*Config) {},
		"another authority": func(c *Config) { c.TLS = others.pair(t) },
		"no certificate": func(c *Config) {
			c.TLS = ours.pair(t)
			c.TLS.Client = &tls.Config{RootCAs: ours.pool}
		},
	} {
		stranger := open(t, 3, change)
		if _, err := stranger.Ask(ctx, b.Addr().String(), 1, nil); err == nil || ctx.Err() != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	cfg := Config{Node: 1, Boot: 1, TLS: &TLS{Server: &tls.Config{}, Client: &tls.Config{}}}
	if err := cfg.Validate(); err == nil {
		t.Error("a server that asks for no certificate was accepted")
	}
}

// peerStacks counts goroutines of this package but for tests'.
func peerStacks() (int, string) {
	var b strings.Builder
	_ = pprof.Lookup("goroutine").WriteTo(&b, 2)
	n := 0
	var all []string
	for _, stack := range strings.Split(b.String(), "\n\n") {
		if strings.Contains(stack, "peer.(*Network)") || strings.Contains(stack, "peer.(*conn)") || strings.Contains(stack, "peer.(*lane)") {
			n++
			all = append(all, stack)
		}
	}
	return n, strings.Join(all, "\n\n")
}

// Close ends every loop, handler and stream, with traffic under way and a
// peer that does not read.
func TestCloseLeavesNothing(t *testing.T) {
	a, b, p := proxied(t, nil)
	b.Handle(1, func(ctx context.Context, _ int32, _ []byte) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() })
	b.HandleStream(1, func(_ context.Context, _ int32, _ []byte, w io.Writer) error {
		for {
			if _, err := w.Write(make([]byte, 1000)); err != nil {
				return err
			}
		}
	})
	lost := make(chan error, 1)
	go func() { _, err := a.Call(t.Context(), 2, 1, nil); lost <- err }()
	s, err := a.Stream(t.Context(), 2, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := io.ReadFull(s, make([]byte, 5000)); err != nil {
		t.Fatal(err)
	}
	p.set(fault{stallOut: true}, laneAppend)
	for i := range uint64(200) {
		a.Send([]multiraft.Message{appendOf(2, i, make([]byte, 64<<10))})
	}
	if err := errors.Join(a.Close(), b.Close(), a.Close()); err != nil {
		t.Error(err)
	}
	if err := <-lost; err == nil {
		t.Error("a call of a closed network was answered")
	}
	if _, err := a.Call(t.Context(), 2, 1, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("call after close: %v", err)
	}
	if _, err := a.Ask(t.Context(), b.Addr().String(), 1, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("ask after close: %v", err)
	}
	a.Send([]multiraft.Message{appendOf(2, 1)})
	a.SetPeers(map[int32]string{5: "127.0.0.1:1"})
	deadline := time.Now().Add(patience)
	for n, stacks := peerStacks(); n > 0; n, stacks = peerStacks() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines are left:\n%s", n, stacks)
		}
		runtime.Gosched()
	}
}

// A peer that moves is found at its new address; one that is removed is down
// and gets no messages.
func TestPeersMoveAndGo(t *testing.T) {
	a, b, p := proxied(t, nil)
	p2 := newProxy(t, b.Addr().String())
	a.SetPeers(map[int32]string{2: p2.addr()})
	p.set(fault{cut: true})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	b.Handle(1, func(context.Context, int32, []byte) ([]byte, error) { return nil, nil })
	for {
		_, err := a.Call(ctx, 2, 1, nil)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
	a.in.until(t, "b up", a.in.last("2/201 true"))
	a.SetPeers(nil)
	a.in.until(t, "b down", a.in.last("2/201 false"))
	b.in.until(t, "a down", b.in.last("1/101 false"))
	if _, ok := a.Up(2); ok {
		t.Error("a removed peer is up")
	}
	if _, err := a.Call(ctx, 2, 1, nil); !errors.Is(err, ErrDown) {
		t.Errorf("call of a removed peer: %v", err)
	}
	a.SetPeers(map[int32]string{2: b.Addr().String()})
	a.in.until(t, "b up again", a.in.last("2/201 true"))
}

// A cluster id that is learned after connecting is checked from then on.
func TestClusterLearnedLater(t *testing.T) {
	var known atomic.Bool
	a := open(t, 1, nil)
	b := open(t, 2, func(c *Config) {
		c.ClusterID = func() (id [16]byte) {
			if known.Load() {
				id[0] = 0xee
			}
			return id
		}
	})
	join(a, b)
	a.in.until(t, "b up", a.in.saw("2/201 true"))
	b.in.until(t, "a up", b.in.saw("1/101 true"))
	known.Store(true)
	a.in.until(t, "b down", a.in.saw("2/201 false"))
	b.in.until(t, "a down", b.in.saw("1/101 false"))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		_, err := a.Call(ctx, 2, 1, nil)
		if errors.Is(err, ErrWrongCluster) {
			break
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
}

// A late watcher is told who is up; what a peer says of itself can be asked.
func TestWatchAndRemote(t *testing.T) {
	a := open(t, 1, nil)
	b := open(t, 2, func(c *Config) { c.Features, c.Level = 6, 3 })
	join(a, b)
	a.in.until(t, "b up", a.in.saw("2/201 true"))
	late := newInboxOf()
	a.Watch(late.watch)
	late.until(t, "b up for a late watcher", late.saw("2/201 true"))
	if r, ok := a.Remote(2); !ok || r != (Remote{Boot: 201, Version: 1, Features: 6, Level: 3}) {
		t.Errorf("%+v, %v", r, ok)
	}
	if s := a.Stats(); len(s.Peers) != 1 || !s.Peers[0].Up || s.Peers[0].RoundTrip <= 0 {
		t.Errorf("%+v", s)
	}
}

// Every fault of a configuration is named at once.
func TestConfigFaultsAreCollected(t *testing.T) {
	_, err := Open(Config{Node: -1, HeartbeatEvery: 1, FrameBytesMax: 5, StreamWindow: 1, CallsMax: -1, TLS: &TLS{}})
	for _, want := range []string{"node id -1", "boot id", "heartbeat", "frame bound", "stream window", "positive", "TLS"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	a := open(t, 1, nil)
	if _, err := Open(Config{Node: 2, Boot: 1, Addr: a.Addr().String()}); err == nil {
		t.Error("a taken port was opened")
	}
}

// BenchmarkAppends asks how many MB a second of MsgApp one pair of brokers
// moves over loopback, both ends in this process, and what a message costs in
// allocations and processor time (both ends): go test -run - -bench Appends ./broker/peer
func BenchmarkAppends(b *testing.B) {
	for _, size := range []int{128 << 10, 16 << 10, 1 << 10} {
		b.Run(fmt.Sprint(size>>10, "KiB"), func(b *testing.B) { benchAppends(b, size) })
	}
}

func benchAppends(b *testing.B, size int) {
	const inFlight = 16 << 20
	got := make(chan int, 1<<16)
	x := open(b, 1, nil)
	y := open(b, 2, func(c *Config) { c.Receive = func(ms []multiraft.Message) { got <- len(ms) } })
	join(x, y)
	x.in.until(b, "y up", x.in.saw("2/201 true"))
	x.lanesUp(b)
	data := make([]byte, size)
	ms := make([]multiraft.Message, 8)
	for i := range ms {
		ms[i] = appendOf(2, uint64(i), data)
	}
	cpu := cpuTime()
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	flying := 0
	for sent := 0; sent < b.N; {
		n := min(len(ms), b.N-sent)
		x.Send(ms[:n])
		sent += n
		flying += n
		for flying*size > inFlight || flying > 0 && sent == b.N {
			flying -= some(b, got)
		}
	}
	b.StopTimer()
	b.ReportMetric((cpuTime()-cpu).Seconds()/(float64(b.N)*float64(size)/1e9), "cpu-s/GB")
}

// some waits for messages. Those that were lost with a connection (a machine
// that stood still for seconds) do not come again: nobody here is raft.
func some(b *testing.B, got <-chan int) int {
	select {
	case n := <-got:
		return n
	default:
	}
	select {
	case n := <-got:
		return n
	case <-time.After(patience):
		b.Fatal("messages were lost")
		return 0
	}
}

// BenchmarkLoopback is what the kernel alone takes for the same bytes: the
// limit of BenchmarkAppends on this machine.
func BenchmarkLoopback(b *testing.B) {
	const size = 128 << 10
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		defer c.Close()
		buf := make([]byte, size)
		for err == nil {
			_, err = c.Read(buf)
		}
		done <- nil
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	data := make([]byte, size)
	cpu := cpuTime()
	b.SetBytes(size)
	b.ResetTimer()
	for range b.N {
		if _, err := c.Write(data); err != nil {
			b.Fatal(err)
		}
	}
	_ = c.Close()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	b.ReportMetric((cpuTime()-cpu).Seconds()/(float64(b.N)*size/1e9), "cpu-s/GB")
}

// BenchmarkHeartbeats asks what one small message costs both ends together.
func BenchmarkHeartbeats(b *testing.B) {
	got := make(chan int, 1<<16)
	x := open(b, 1, nil)
	y := open(b, 2, func(c *Config) { c.Receive = func(ms []multiraft.Message) { got <- len(ms) } })
	join(x, y)
	x.in.until(b, "y up", x.in.saw("2/201 true"))
	x.lanesUp(b)
	ms := make([]multiraft.Message, 1000)
	for i := range ms {
		ms[i] = multiraft.Message{Group: group(i), Node: 2, Message: raftpb.Message{Type: raftpb.MsgHeartbeat, From: 1, To: 2, Term: 5, Commit: 1000}}
	}
	b.ReportAllocs()
	b.ResetTimer()
	flying := 0
	for sent := 0; sent < b.N; {
		n := min(len(ms), b.N-sent)
		x.Send(ms[:n])
		sent += n
		flying += n
		for flying > 20_000 || flying > 0 && sent == b.N {
			flying -= some(b, got)
		}
	}
}
