package broker

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"tidewater/broker/cluster"
	"tidewater/broker/multiraft"
	"tidewater/broker/peer"
	"tidewater/internal/record"
)

// openNetwork listens for other brokers; a cluster of one has no network.
func (b *Broker) openNetwork(context.Context) error {
	listen, _ := b.cfg.rpc()
	if listen == "" {
		if m := b.identity.Controller; m != nil && len(m.Members) > 1 {
			return fmt.Errorf("data directory %s belongs to a cluster of %d brokers: name the address where they reach this one with --rpc-addr", b.cfg.DataDir, len(m.Members))
		}
		return nil
	}
	secrets, err := b.cfg.rpcTLS()
	if err != nil {
		return err
	}
	b.network, err = peer.Open(peer.Config{
		Node: b.cfg.NodeID, Boot: b.identity.Session, Addr: listen, TLS: secrets, Log: b.log,
		ClusterID: func() [16]byte { return *b.clusterID.Load() },
		Receive: func(messages []multiraft.Message) {
			if h := b.receiver.Load(); h != nil {
				h.Receive(messages)
			}
		},
		HeartbeatEvery: b.cfg.heartbeatEvery,
	})
	if err != nil {
		return fmt.Errorf("%w (choose another with --rpc-addr)", err)
	}
	return nil
}

// rpcAdvertised is where other brokers are told to reach this one.
func (b *Broker) rpcAdvertised() string {
	listen, advertised := b.cfg.rpc()
	switch {
	case b.network == nil:
		return ""
	case advertised != "":
		return advertised
	}
	if _, port, err := net.SplitHostPort(listen); err == nil && port == "0" {
		return b.network.Addr().String()
	}
	return listen
}

// openMembership finds the broker's cluster: the one of its data directory, a
// new one of its own, or with seeds the one that they know or found together,
// for which it waits.
func (b *Broker) openMembership(ctx context.Context) error {
	m := b.identity.membership()
	seeds := b.cfg.seeds()
	if m == nil && (len(seeds) == 0 || b.identity.known()) {
		// A directory that was restored, or written before clusters had several
		// brokers, begins or has a controller of one, which others may join.
		alone := cluster.Alone(b.identity.cluster(), b.cfg.NodeID, b.identity.Disk)
		if !b.identity.known() {
			alone.Identity = newCluster()
			b.made = true
		}
		alone.Restoring = b.restored != nil
		alone.Members[0].Addr = b.rpcAdvertised()
		if err := b.saveMembership(alone); err != nil {
			return err
		}
		m = &alone
	}
	if m != nil {
		*m = b.recovery.recoveredMembership(*m)
		if err := b.stillPlaced(ctx, m); err != nil {
			return err
		}
	}
	if b.network != nil {
		joined, err := b.join(ctx, m, seeds)
		if err != nil {
			return err
		}
		m = &joined
	}
	b.member = *m
	return nil
}

// join answers others who look for a cluster, and looks for one itself if it
// has none.
func (b *Broker) join(ctx context.Context, m *cluster.Membership, seeds []string) (cluster.Membership, error) {
	joiner := cluster.NewJoiner(cluster.JoinConfig{Registration: b.registration(), Seeds: seeds, Peers: secured{peers{b.network}, b.cfg.RPCCA}, Save: b.saveMembership, Log: b.log}, m)
	b.handle(cluster.MethodHello, joiner.Hello)
	b.made = b.made || m == nil
	joined, err := joiner.Join(ctx)
	if err != nil {
		return joined, fmt.Errorf("find the cluster: %w", err)
	}
	return joined, nil
}

// saveMembership makes the broker's place in its cluster last.
func (b *Broker) saveMembership(m cluster.Membership) error {
	next := b.identity
	next.join(&m)
	if err := next.save(b.cfg.DataDir); err != nil {
		return err
	}
	b.identity = next
	b.clusterID.Store(&next.ClusterID)
	b.log.Info("this broker belongs to a cluster from now on", "cluster", next.Cluster, "node", next.NodeID, "founder", m.Founder, "brokers", len(m.Members))
	return nil
}

// registration is who this broker is, without the address of clients.
func (b *Broker) registration() cluster.Registration {
	return cluster.Registration{ID: b.cfg.NodeID, Rack: b.cfg.Rack, Disk: b.identity.Disk, RPCAddr: b.rpcAdvertised(),
		Session: b.identity.Session, FeatureMin: cluster.FeatureLevelMin, FeatureMax: cluster.FeatureLevelMax, Build: b.cfg.Build}
}

// register announces this broker, with the address that clients are to use:
// the configured one, or where it listens.
func (b *Broker) register(ctx context.Context, listens string) error {
	advertised := b.cfg.KafkaAdvertised
	if advertised == "" {
		advertised = listens
	}
	host, port, err := net.SplitHostPort(advertised)
	if err != nil {
		return fmt.Errorf("kafka-advertised: %w", err)
	}
	n, err := strconv.ParseInt(port, 10, 32)
	if err != nil {
		return fmt.Errorf("kafka-advertised: port %q: %w", port, err)
	}
	r := b.registration()
	r.Listeners = []cluster.Listener{{Name: listenerKafka, Host: host, Port: int32(n)}}
	if _, err := rand.Read(r.Boot[:]); err != nil {
		return err
	}
	for {
		if _, err = b.controller.RegisterBroker(ctx, r); err == nil {
			b.registered.Store(&r)
			return nil
		}
		if b.network == nil || ctx.Err() != nil || errors.Is(err, cluster.ErrFenced) || errors.Is(err, cluster.ErrInvalidRequest) {
			return fmt.Errorf("register broker: %w", err)
		}
		b.log.Warn("the controller does not take this broker's registration yet", "error", err)
		select {
		case <-time.After(againAfter):
		case <-ctx.Done():
		}
	}
}

// peers is the network as the controller sees it.
type peers struct{ n *peer.Network }

var _ cluster.Peers = peers{}

// Call implements cluster.Peers.
func (p peers) Call(ctx context.Context, node int32, m cluster.Method, request []byte) ([]byte, error) {
	return p.n.Call(ctx, node, peer.Method(m), request)
}

// Ask implements cluster.Peers.
func (p peers) Ask(ctx context.Context, addr string, m cluster.Method, request []byte) ([]byte, error) {
	return p.n.Ask(ctx, addr, peer.Method(m), request)
}

// SetPeers implements cluster.Peers.
func (p peers) SetPeers(addrs map[int32]string) { p.n.SetPeers(addrs) }

// Up implements cluster.Peers.
func (p peers) Up(node int32) (session uint64, ok bool) { return p.n.Up(node) }

// handle registers who answers a call between brokers.
func (b *Broker) handle(m cluster.Method, h cluster.Handler) {
	b.network.Handle(peer.Method(m), h)
}

// meetPeers tells the Raft groups which brokers are up, from now on.
func (b *Broker) meetPeers() {
	if b.network == nil {
		return
	}
	b.receiver.Store(b.hosts)
	b.network.Watch(func(node int32, boot uint64, up bool) {
		if up {
			b.log.Info("a broker is up", "peer", node)
			b.hosts.PeerUp(node, boot)
		} else {
			b.log.Warn("a broker does not answer; the others take over what it leads", "peer", node)
			b.hosts.PeerDown(node)
		}
	})
}

// alive is up, as clients are told. Right after the start nothing was heard of
// others yet, which says nothing about them.
func (b *Broker) alive(node int32) bool {
	return b.up(node) || b.network != nil && time.Since(b.began) < meetWithin
}

// meetWithin is how long brokers may take to find each other after a start.
const meetWithin = 3 * time.Second

// signWithin bounds the wait for a sign. Silence says nothing: heartbeats tell.
const signWithin = 100 * time.Millisecond

// answers asks another broker for a sign. It is false when the broker's process
// has ended, or nobody listens there, which heartbeats may not have told yet.
func (b *Broker) answers(ctx context.Context, node int32) bool {
	if b.network == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, signWithin)
	defer cancel()
	_, err := b.network.Call(ctx, node, peer.Method(methodSign), nil)
	return !errors.Is(err, peer.ErrLost) && !errors.Is(err, peer.ErrDown)
}

// sizes tells the controller how large the partitions are that are led here.
func (b *Broker) sizes() map[record.PartitionID]int64 {
	if !b.ready.Load() {
		return nil
	}
	return b.parts.ledBytes()
}

// openCalls answers the other brokers' calls of this package.
func (b *Broker) openCalls(context.Context) error {
	if b.network == nil {
		return nil
	}
	b.handle(methodSign, func(context.Context, int32, []byte) ([]byte, error) { return nil, nil })
	b.handle(methodForget, b.answerForget)
	b.handle(methodRead, b.answerRead)
	b.handle(methodInStep, b.answerInStep)
	b.network.HandleStream(methodSegments, b.answerSegments)
	if b.tier != nil && !b.cfg.Replica {
		b.handle(methodEnds, b.answerEnds)
		b.handle(methodTable, b.answerEnds)
		b.handle(methodFreshen, b.answerFreshen)
	}
	return nil
}

// up says whether a broker answers, as far as this one knows.
func (b *Broker) up(node int32) bool {
	if node == b.cfg.NodeID {
		return true
	}
	if b.network == nil {
		return false
	}
	_, ok := b.network.Up(node)
	return ok
}

// secured are peers of whom one that does not speak, for TLS's sake, is told
// apart, with what to do; ca is the file that says whom this broker trusts.
type secured struct {
	peers
	ca string
}

// Ask implements cluster.Peers.
func (p secured) Ask(ctx context.Context, addr string, m cluster.Method, request []byte) ([]byte, error) {
	answer, err := p.peers.Ask(ctx, addr, m, request)
	var unknown x509.UnknownAuthorityError
	var alert *net.OpError
	var plain tls.RecordHeaderError
	switch {
	case errors.As(err, &unknown):
		err = fmt.Errorf("%w: its certificate is signed by %q, which is not in rpc-ca %s", err, unknown.Cert.Issuer, p.ca)
	case errors.As(err, &alert) && alert.Op == "remote error":
		err = fmt.Errorf("%w: it refuses this broker's rpc-cert: its own rpc-ca must hold who signed it", err)
	case errors.As(err, &plain):
		err = fmt.Errorf("%w: it does not speak TLS: give all brokers rpc-cert, rpc-key and rpc-ca, or none", err)
	}
	return answer, err
}
