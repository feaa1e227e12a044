package cluster

import (
	"errors"
	"strings"

	"tidewater/internal/topicconfig"
)

// Errors of the controller; each is wrapped with the facts and answered with
// the Kafka code of the same name.
var (
	ErrTopicExists              = errors.New("topic already exists")
	ErrUnknownTopic             = errors.New("unknown topic")
	ErrInvalidTopicName         = errors.New("invalid topic name")
	ErrInvalidPartitions        = errors.New("invalid number of partitions")
	ErrInvalidReplicationFactor = errors.New("invalid replication factor")
	ErrInvalidAssignment        = errors.New("invalid replica assignment")
	ErrInvalidRequest           = errors.New("invalid request")
	// ErrInvalidConfig: see ConfigError for the faults.
	ErrInvalidConfig = errors.New("invalid configuration")
	// ErrPolicy: the broker's own rules forbid what is otherwise valid. Answer
	// POLICY_VIOLATION.
	ErrPolicy        = errors.New("not allowed by this cluster's policy")
	ErrUnknownBroker = errors.New("unknown broker")
	// ErrNotController: this broker does not lead the controller's group, or
	// not any more. Clients ask for the controller again.
	ErrNotController = errors.New("this broker is not the controller")
	// ErrUnknownOutcome: leadership was lost while a command was on its way; it
	// may or may not happen. Clients look before they repeat.
	ErrUnknownOutcome = errors.New("controller changed while the command was on its way")
	// ErrMoving: the partition's replicas are being changed. Answer
	// REASSIGNMENT_IN_PROGRESS.
	ErrMoving = errors.New("partition is being moved")
	// ErrNotMoving: there is no move to take back. Answer
	// NO_REASSIGNMENT_IN_PROGRESS.
	ErrNotMoving = errors.New("partition is not being moved")
	// ErrElectionNotNeeded: the preferred leader leads. Answer
	// ELECTION_NOT_NEEDED.
	ErrElectionNotNeeded = errors.New("preferred leader leads already")
	// ErrPreferredNotAvailable: the preferred leader is offline or behind.
	// Answer PREFERRED_LEADER_NOT_AVAILABLE.
	ErrPreferredNotAvailable = errors.New("preferred leader is not available")
	// ErrFenced: this broker must not take part; the message says what to do.
	// It ends.
	ErrFenced = errors.New("broker is fenced")
	// ErrFeatureLevel: the cluster cannot be brought to the level; the message
	// says why. Answer INVALID_UPDATE_VERSION.
	ErrFeatureLevel = errors.New("feature level is out of reach")
	// ErrNotReady: the cluster has no identity yet, or the controller is
	// starting. Retriable.
	ErrNotReady = errors.New("controller is not ready")
	ErrClosed   = errors.New("controller is closed")
	// ErrFormat: bytes that are not what they claim, or of an unknown version.
	ErrFormat = errors.New("controller data is not readable")
	// ErrConflict: the state changed between look and act. The controller
	// itself tries again; it comes out only after many attempts.
	ErrConflict = errors.New("state changed meanwhile")
	// errRepeated: the command was applied before. Whoever waits for it has its
	// answer from then, unless a snapshot came between.
	errRepeated = errors.New("command was applied before")
)

// ConfigError is an ErrInvalidConfig with every fault.
type ConfigError struct{ Faults []topicconfig.Fault }

func (e *ConfigError) Error() string {
	parts := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		parts[i] = f.Error()
	}
	return strings.Join(parts, "; ")
}

// Unwrap makes errors.Is(err, ErrInvalidConfig) true.
func (e *ConfigError) Unwrap() error { return ErrInvalidConfig }
