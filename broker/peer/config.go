package peer

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"tidewater/broker/multiraft"
)

// Defaults and bounds of Config.
const (
	HeartbeatEveryDefault = 100 * time.Millisecond
	// DownAfterDefault is how many heartbeats without an echo make a peer
	// down: with the default interval 800 ms, below raft's election timeout.
	DownAfterDefault = 8

	// ControlBytesMaxDefault and ControlMessagesMaxDefault bound what waits
	// for one peer on the control lane: heartbeats and acknowledgements of
	// some ten thousand groups, a few dozen bytes each.
	ControlBytesMaxDefault    = 8 << 20
	ControlMessagesMaxDefault = 64 << 10
	// AppendBytesMaxDefault and AppendMessagesMaxDefault bound what waits on
	// the append lane. The entries' bytes are those of the raft log, so that
	// the bound costs little memory of its own.
	AppendBytesMaxDefault    = 128 << 20
	AppendMessagesMaxDefault = 32 << 10
	// RequestBytesMaxDefault bounds what waits on the request lane: calls,
	// answers and stream data. At the bound writers wait.
	RequestBytesMaxDefault = 32 << 20

	// FrameBytesMaxDefault bounds one frame: the largest entry of a journal's
	// default file and what stands around it.
	FrameBytesMaxDefault = 40 << 20
	// CallsMaxDefault bounds the calls and streams that one connection serves
	// at a time, and those that wait for an answer on it.
	CallsMaxDefault = 256
	// StreamWindowDefault is how many bytes of a stream may be under way or
	// unread.
	StreamWindowDefault = 1 << 20
	// StreamStallMaxDefault is how long a stream may stand still while one end
	// waits for the other: a disk that takes longer for a piece is as good as
	// gone, and a copy goes on from another broker, or later.
	StreamStallMaxDefault = 30 * time.Second
	// ConnectionsMaxDefault bounds accepted connections: three lanes of some
	// dozens of brokers, and askers.
	ConnectionsMaxDefault = 256
)

// TLS is both sides of mutual authentication. A broker is server to those that
// dial it and client to those that it dials.
type TLS struct {
	Server *tls.Config // must demand and verify a client's certificate
	Client *tls.Config // must hold a certificate; ServerName "" is the dialed host
}

// Config is what a Network is opened with.
type Config struct {
	// Node is this broker's id; Boot tells one run of its process from the
	// next and is not 0.
	Node int32
	Boot uint64
	// ClusterID gives the cluster's id, all zero until it is known. It is
	// called often and must not block. Once both ends know theirs, they must
	// agree.
	ClusterID func() [16]byte
	// Features and Level say what this broker understands beyond the
	// connection itself; peers read them with Remote.
	Features uint64
	Level    uint32
	// Addr is the host:port to listen on.
	Addr string
	// TLS nil: neither encrypted nor authenticated.
	TLS *TLS
	Log *slog.Logger // nil is slog.Default
	// Receive takes raft messages as they come, from several goroutines, in
	// order within a lane of a peer. It must not block. The slice is not the
	// callee's to keep; what the messages point to is, for good. Message.Node
	// is this broker.
	Receive func([]multiraft.Message)

	// HeartbeatEvery is the interval of the broker-pair heartbeat, DownAfter
	// how many of it may pass without an echo.
	HeartbeatEvery time.Duration
	DownAfter      int
	// Bounds per peer and lane, in bytes and raft messages.
	ControlBytesMax, AppendBytesMax, RequestBytesMax int
	ControlMessagesMax, AppendMessagesMax            int
	FrameBytesMax                                    int
	CallsMax                                         int
	StreamWindow                                     int
	ConnectionsMax                                   int

	laneBeatEvery, laneStallMax, streamStallMax time.Duration // tests have less patience
}

// Validate fills in defaults and collects every fault.
func (c *Config) Validate() error {
	setDefault(&c.HeartbeatEvery, HeartbeatEveryDefault)
	setDefault(&c.DownAfter, DownAfterDefault)
	setDefault(&c.ControlBytesMax, ControlBytesMaxDefault)
	setDefault(&c.ControlMessagesMax, ControlMessagesMaxDefault)
	setDefault(&c.AppendBytesMax, AppendBytesMaxDefault)
	setDefault(&c.AppendMessagesMax, AppendMessagesMaxDefault)
	setDefault(&c.RequestBytesMax, RequestBytesMaxDefault)
	setDefault(&c.FrameBytesMax, FrameBytesMaxDefault)
	setDefault(&c.CallsMax, CallsMaxDefault)
	setDefault(&c.StreamWindow, StreamWindowDefault)
	setDefault(&c.ConnectionsMax, ConnectionsMaxDefault)
	setDefault(&c.laneBeatEvery, laneBeatEveryDefault)
	setDefault(&c.laneStallMax, laneStallMaxDefault)
	setDefault(&c.streamStallMax, StreamStallMaxDefault)
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.ClusterID == nil {
		c.ClusterID = func() [16]byte { return [16]byte{} }
	}
	if c.Receive == nil {
		c.Receive = func([]multiraft.Message) {}
	}
	var faults []error
	if c.Node < 0 {
		faults = append(faults, fmt.Errorf("node id %d: want 0 or more", c.Node))
	}
	if c.Boot == 0 {
		faults = append(faults, errors.New("boot id is 0"))
	}
	if c.HeartbeatEvery < time.Millisecond || c.DownAfter < 2 {
		faults = append(faults, fmt.Errorf("heartbeat every %s, down after %d: want at least 1ms and 2", c.HeartbeatEvery, c.DownAfter))
	}
	if c.FrameBytesMax < 64<<10 || c.FrameBytesMax > 1<<30 {
		faults = append(faults, fmt.Errorf("frame bound %d bytes: want 64 KiB to 1 GiB", c.FrameBytesMax))
	}
	if c.StreamWindow < 16<<10 || c.StreamWindow > c.FrameBytesMax {
		faults = append(faults, fmt.Errorf("stream window %d bytes: want 16 KiB to the frame bound", c.StreamWindow))
	}
	if min(c.ControlBytesMax, c.AppendBytesMax, c.RequestBytesMax, c.ControlMessagesMax, c.AppendMessagesMax, c.CallsMax, c.ConnectionsMax) <= 0 {
		faults = append(faults, errors.New("bounds must be positive"))
	}
	if t := c.TLS; t != nil {
		if t.Server == nil || t.Client == nil {
			faults = append(faults, errors.New("TLS needs a server and a client configuration"))
		} else if t.Server.ClientAuth != tls.RequireAndVerifyClientCert {
			faults = append(faults, errors.New("TLS server must demand and verify client certificates"))
		}
	}
	if len(faults) > 0 {
		return fmt.Errorf("peer configuration: %w", errors.Join(faults...))
	}
	return nil
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// down is how long a peer may be silent.
func (c *Config) down() time.Duration { return time.Duration(c.DownAfter) * c.HeartbeatEvery }
