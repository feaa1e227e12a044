package peer

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// heap is what kafka-server-start gives a broker.
const heap = "1g"

// Node is one broker with its controller.
type Node struct {
	ID         int
	Dir        string // holds its properties and its data
	Addr       string // where clients come
	Controller string // where the controllers talk
}

// Cluster is the nodes that know each other, and how they differ from Kafka as
// shipped.
type Cluster struct {
	ID    string
	Nodes []Node
	// Durable makes a broker sync each append before it is answered
	// (log.flush.interval.messages=1).
	Durable bool
}

// NewCluster makes the nodes of a cluster below dir, with free ports.
func NewCluster(dir string, nodes int, durable bool) (*Cluster, error) {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	c := &Cluster{ID: base64.RawURLEncoding.EncodeToString(id[:]), Durable: durable}
	for n := 1; n <= nodes; n++ {
		node := Node{ID: n, Dir: filepath.Join(dir, fmt.Sprintf("kafka-%d", n))}
		for _, at := range []*string{&node.Addr, &node.Controller} {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return nil, fmt.Errorf("find a free port: %w", err)
			}
			defer l.Close() // held until all are found, so that they differ
			*at = l.Addr().String()
		}
		c.Nodes = append(c.Nodes, node)
	}
	return c, nil
}

// Prepare writes a node's properties and formats its data directory.
func (k *Kafka) Prepare(c *Cluster, n Node) error {
	if err := os.MkdirAll(n.Dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(n.properties(), []byte(c.properties(n)), 0o644); err != nil {
		return err
	}
	out, err := k.Tool("kafka.tools.StorageTool", "format", "-t", c.ID, "-c", n.properties()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("format the data directory of Kafka node %d: %w: %s", n.ID, err, out)
	}
	return nil
}

// Broker is the command that runs a node until it is signalled.
func (k *Kafka) Broker(n Node) *exec.Cmd {
	return k.command(heap, "INFO", "kafka.Kafka", n.properties())
}

// Tool is the command that runs a tool of Kafka by its class; it logs warnings only.
func (k *Kafka) Tool(class string, args ...string) *exec.Cmd {
	return k.command("512m", "WARN", class, args...)
}

// command runs a class with the collector that Kafka's own scripts ask for.
func (k *Kafka) command(heap, level, class string, args ...string) *exec.Cmd {
	return exec.Command(k.java, append([]string{"-Xms" + heap, "-Xmx" + heap, "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
		"-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent", "-Djava.awt.headless=true",
		"-Dlog4j2.configurationFile=" + k.logging(), "-Dbench.level=" + level, "-cp", filepath.Join(k.libs(), "*"), class}, args...)...)
}

// Data is where the node's logs are.
func (n Node) Data() string { return filepath.Join(n.Dir, "data") }

func (n Node) properties() string { return filepath.Join(n.Dir, "server.properties") }

// properties are what a cluster of one or three on loopback needs. Deleted files
// go after a second and not after a minute, for the room of the next run.
func (c *Cluster) properties(n Node) string {
	var voters []string
	for _, v := range c.Nodes {
		voters = append(voters, fmt.Sprintf("%d@%s", v.ID, v.Controller))
	}
	replicas := min(3, len(c.Nodes))
	lines := []string{
		"process.roles=broker,controller",
		fmt.Sprintf("node.id=%d", n.ID),
		fmt.Sprintf("listeners=PLAINTEXT://%s,CONTROLLER://%s", n.Addr, n.Controller),
		"advertised.listeners=PLAINTEXT://" + n.Addr,
		"controller.listener.names=CONTROLLER",
		"controller.quorum.voters=" + strings.Join(voters, ","),
		"log.dirs=" + n.Data(),
		"log.segment.delete.delay.ms=1000",
		fmt.Sprintf("offsets.topic.replication.factor=%d", replicas),
		fmt.Sprintf("transaction.state.log.replication.factor=%d", replicas),
		fmt.Sprintf("transaction.state.log.min.isr=%d", max(1, replicas-1)),
		fmt.Sprintf("share.coordinator.state.topic.replication.factor=%d", replicas),
		fmt.Sprintf("share.coordinator.state.topic.min.isr=%d", max(1, replicas-1)),
		fmt.Sprintf("min.insync.replicas=%d", max(1, replicas-1)),
	}
	if c.Durable {
		lines = append(lines, "log.flush.interval.messages=1")
	}
	return strings.Join(lines, "\n") + "\n"
}
