package cluster

import "context"

// Method numbers a call between brokers; these are the controller's.
type Method = uint16

// The calls that this package makes and answers. A number is never used again.
const (
	// MethodHello asks who a broker is and which cluster it belongs to; it is
	// answered before there is a cluster.
	MethodHello Method = 0x10
	// MethodRegister brings a broker into the cluster or announces its start;
	// whoever is asked passes it on to the controller's leader.
	MethodRegister Method = 0x11
	// MethodPropose gives a command to the controller's leader.
	MethodPropose Method = 0x12
	// MethodRead asks the controller's leader how far its log is committed.
	MethodRead Method = 0x13
	// MethodGroups asks a broker for the state of groups it leads, MethodChange
	// to change their members or leader.
	MethodGroups Method = 0x14
	MethodChange Method = 0x15
	// MethodSizes asks for the bytes of the partitions that a broker leads.
	MethodSizes Method = 0x16
	// MethodQuorum asks the controller's leader how far its replicas are.
	MethodQuorum Method = 0x17
)

// Peers is what the controller needs of the network between brokers:
// peer.Network, or a simulated one. All methods are safe for concurrent use.
type Peers interface {
	// Call asks the node; Ask an address, before ids are known. An error that
	// the other side's handler gave is told apart by the handler's answer, so
	// any error here leaves open whether the request arrived.
	Call(ctx context.Context, node int32, m Method, request []byte) ([]byte, error)
	Ask(ctx context.Context, addr string, m Method, request []byte) ([]byte, error)
	// SetPeers gives the address of every broker there is.
	SetPeers(addrs map[int32]string)
	// Up tells whether the node answers heartbeats, and its Session.
	Up(node int32) (session uint64, ok bool)
}

// Handler answers one call; from is -1 if the caller has no id yet.
type Handler = func(ctx context.Context, from int32, request []byte) ([]byte, error)
