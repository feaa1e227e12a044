package broker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"

	"tidewater/broker/peer"
)

const (
	// rpcPort is the port between brokers where none is named.
	rpcPort = "33145"
	// replicationDefault is how many replicas a topic has when nothing says.
	replicationDefault = 3
)

// rpcAddress adds the port to an address between brokers.
func rpcAddress(addr string) string {
	if addr == "" {
		return ""
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return net.JoinHostPort(addr, rpcPort)
	}
	return addr
}

// rpc is where this broker listens for others and what they are told; the
// latter is empty when it is where it listens.
func (c *Config) rpc() (listen, advertised string) {
	return rpcAddress(c.RPCAddr), rpcAddress(c.RPCAdvertised)
}

// seeds are the founders' addresses with their ports.
func (c *Config) seeds() []string {
	out := make([]string, 0, len(c.Seeds))
	for _, s := range c.Seeds {
		if s = rpcAddress(s); s != "" && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// replicationFactor is a topic's that was created without.
func (c *Config) replicationFactor() int16 {
	if c.DefaultReplicationFactor > 0 {
		return c.DefaultReplicationFactor
	}
	return int16(min(max(len(c.seeds()), 1), replicationDefault))
}

// validateRPC gives the faults of what is between brokers.
func (c *Config) validateRPC() []error {
	var faults []error
	for key, addr := range map[string]string{"rpc-addr": c.RPCAddr, "rpc-advertised": c.RPCAdvertised} {
		if addr == "" {
			continue
		}
		if _, port, err := net.SplitHostPort(rpcAddress(addr)); err != nil || port == "" {
			faults = append(faults, fmt.Errorf("%s: %q: want host or host:port", key, addr))
		}
	}
	for _, s := range c.seeds() {
		if host, port, err := net.SplitHostPort(s); err != nil || host == "" || port == "" {
			faults = append(faults, fmt.Errorf("seeds: %q: want host or host:port", s))
		}
	}
	if len(c.Seeds) > 0 && c.RPCAddr == "" {
		faults = append(faults, errors.New("rpc-addr: a broker with seeds needs the address where the others reach it"))
	}
	if c.Replica && c.RPCAddr != "" {
		faults = append(faults, errors.New("rpc-addr: a read replica is a single broker"))
	}
	if host, _, err := net.SplitHostPort(rpcAddress(c.RPCAddr)); err == nil && c.RPCAdvertised == "" {
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			faults = append(faults, fmt.Errorf("rpc-advertised: others cannot reach %s: name the address where they can", c.RPCAddr))
		}
	}
	if n := len(c.Seeds); n > 0 && len(c.seeds()) != n {
		faults = append(faults, errors.New("seeds: an address is there twice"))
	}
	if c.DefaultReplicationFactor < 0 {
		faults = append(faults, fmt.Errorf("default-replication-factor: %d: want 1 or more, 0 for 3 or as many as there are seeds", c.DefaultReplicationFactor))
	}
	if some := c.RPCCert != "" || c.RPCKey != "" || c.RPCCA != ""; some && (c.RPCCert == "" || c.RPCKey == "" || c.RPCCA == "") {
		faults = append(faults, errors.New("rpc-cert, rpc-key, rpc-ca: TLS between brokers needs all three"))
	}
	return faults
}

// rpcTLS reads the files; nil without TLS between brokers.
func (c *Config) rpcTLS() (*peer.TLS, error) {
	if c.RPCCert == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(c.RPCCert, c.RPCKey)
	if err != nil {
		return nil, fmt.Errorf("rpc-cert, rpc-key: %w", err)
	}
	text, err := os.ReadFile(c.RPCCA)
	if err != nil {
		return nil, fmt.Errorf("rpc-ca: %w", err)
	}
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("rpc-ca: %s holds no certificate in PEM", c.RPCCA)
	}
	return &peer.TLS{
		Server: &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, ClientCAs: trusted, ClientAuth: tls.RequireAndVerifyClientCert},
		Client: &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, RootCAs: trusted},
	}, nil
}
