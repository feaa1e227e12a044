package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"tidewater/broker/multiraft"
	"tidewater/internal/record"
)

// The calls by which the controller's leader works on partitions that others
// lead. Bytes are in docs/formats/controller.md.

func encodeIDs(ids []record.PartitionID) []byte {
	return appendList([]byte{helloVersion}, ids, appendPartitionID)
}

func decodeIDs(b []byte) ([]record.PartitionID, error) {
	c := &cursor{b: b}
	c.hello()
	return list(c, decodePartitionID), c.end()
}

func encodeStatuses(all []GroupStatus) []byte {
	return appendList([]byte{helloVersion}, all, func(b []byte, s GroupStatus) []byte {
		b = appendBool(appendPartitionID(b, s.Partition), s.Leading)
		if !s.Leading {
			return b
		}
		for _, n := range []uint64{s.Term, s.Replica, uint64(s.Committed)} {
			b = binary.AppendUvarint(b, n)
		}
		for _, ids := range [][]uint64{s.Members.Voters, s.Members.Outgoing, s.Members.Learners} {
			b = appendList(b, ids, binary.AppendUvarint)
		}
		return appendList(b, s.Members.Replicas, func(b []byte, m multiraft.Member) []byte {
			b = binary.AppendUvarint(binary.AppendUvarint(b, m.Replica), uint64(m.Match))
			return appendBool(appendBool(appendBool(b, m.Voter), m.Active), m.Copying)
		})
	})
}

func decodeStatuses(b []byte) ([]GroupStatus, error) {
	c := &cursor{b: b}
	c.hello()
	all := list(c, func(c *cursor) GroupStatus {
		s := GroupStatus{Partition: decodePartitionID(c), Leading: c.bool()}
		if !s.Leading {
			return s
		}
		s.Term, s.Replica, s.Committed = c.uvarint(), c.uvarint(), record.Index(c.uvarint())
		m := &s.Members
		m.Voters, m.Outgoing, m.Learners = list(c, (*cursor).uvarint), list(c, (*cursor).uvarint), list(c, (*cursor).uvarint)
		m.Replicas = list(c, func(c *cursor) multiraft.Member {
			return multiraft.Member{Replica: c.uvarint(), Match: record.Index(c.uvarint()), Voter: c.bool(), Active: c.bool(), Copying: c.bool()}
		})
		return s
	})
	return all, c.end()
}

func encodeOps(ops []GroupOp) []byte {
	return appendList([]byte{helloVersion}, ops, func(b []byte, o GroupOp) []byte {
		b = binary.AppendUvarint(appendPartitionID(b, o.Partition), o.Term)
		b = appendList(b, o.Changes, func(b []byte, s raftpb.ConfChangeSingle) []byte {
			return binary.AppendUvarint(append(b, byte(s.Type)), s.NodeID)
		})
		return binary.AppendUvarint(b, o.Transfer)
	})
}

func decodeOps(b []byte) ([]GroupOp, error) {
	c := &cursor{b: b}
	c.hello()
	ops := list(c, func(c *cursor) GroupOp {
		return GroupOp{Partition: decodePartitionID(c), Term: c.uvarint(),
			Changes: list(c, func(c *cursor) raftpb.ConfChangeSingle {
				return raftpb.ConfChangeSingle{Type: c.changeType(), NodeID: c.uvarint()}
			}),
			Transfer: c.uvarint()}
	})
	return ops, c.end()
}

func (c *cursor) changeType() raftpb.ConfChangeType {
	t := raftpb.ConfChangeType(c.byte())
	if t != raftpb.ConfChangeAddNode && t != raftpb.ConfChangeRemoveNode && t != raftpb.ConfChangeAddLearnerNode {
		c.fail(fmt.Sprintf("change of members %d is not known", t))
	}
	return t
}

func encodeTexts(errs []error) []byte {
	return appendList([]byte{helloVersion}, errs, func(b []byte, err error) []byte {
		if err == nil {
			return appendString(b, "")
		}
		return appendString(b, err.Error())
	})
}

func decodeTexts(b []byte) ([]error, error) {
	c := &cursor{b: b}
	c.hello()
	errs := list(c, func(c *cursor) error {
		if text := c.string(); text != "" {
			return errors.New(text)
		}
		return nil
	})
	return errs, c.end()
}

func (c *Controller) handleGroups(ctx context.Context, _ int32, request []byte) ([]byte, error) {
	ids, err := decodeIDs(request)
	if err != nil {
		return nil, err
	}
	return encodeStatuses(c.cfg.Groups.Status(ctx, ids)), nil
}

func (c *Controller) handleChange(ctx context.Context, _ int32, request []byte) ([]byte, error) {
	ops, err := decodeOps(request)
	if err != nil {
		return nil, err
	}
	return encodeTexts(c.cfg.Groups.Change(ctx, ops)), nil
}

func encodeSizes(sizes map[record.PartitionID]int64) []byte {
	ids := slices.SortedFunc(maps.Keys(sizes), record.PartitionID.Compare)
	return appendList([]byte{helloVersion}, ids, func(b []byte, id record.PartitionID) []byte {
		return binary.AppendVarint(appendPartitionID(b, id), sizes[id])
	})
}

func decodeSizes(b []byte) (map[record.PartitionID]int64, error) {
	c := &cursor{b: b}
	c.hello()
	sizes := map[record.PartitionID]int64{}
	list(c, func(c *cursor) struct{} {
		id := decodePartitionID(c)
		sizes[id] = c.varint()
		return struct{}{}
	})
	return sizes, c.end()
}

func (c *Controller) handleSizes(context.Context, int32, []byte) ([]byte, error) {
	return encodeSizes(c.cfg.Sizes()), nil
}

// sizes asks a broker, maybe this one, for the bytes of what it leads.
func (c *Controller) sizes(ctx context.Context, node int32) (map[record.PartitionID]int64, error) {
	if node == c.cfg.Node {
		return c.cfg.Sizes(), nil
	}
	b, err := c.callNode(ctx, node, MethodSizes, nil)
	if err != nil {
		return nil, err
	}
	return decodeSizes(b)
}

// statuses asks a broker, maybe this one, for groups that it leads.
func (c *Controller) statuses(ctx context.Context, node int32, ids []record.PartitionID) ([]GroupStatus, error) {
	if node == c.cfg.Node {
		return c.cfg.Groups.Status(ctx, ids), nil
	}
	b, err := c.callNode(ctx, node, MethodGroups, encodeIDs(ids))
	if err != nil {
		return nil, err
	}
	return decodeStatuses(b)
}

// changeGroups has a broker, maybe this one, carry out ops on groups it leads.
func (c *Controller) changeGroups(ctx context.Context, node int32, ops []GroupOp) ([]error, error) {
	if node == c.cfg.Node {
		return c.cfg.Groups.Change(ctx, ops), nil
	}
	b, err := c.callNode(ctx, node, MethodChange, encodeOps(ops))
	if err != nil {
		return nil, err
	}
	errs, err := decodeTexts(b)
	if err == nil && len(errs) != len(ops) {
		err = fmt.Errorf("%w: %d answers to %d changes", ErrFormat, len(errs), len(ops))
	}
	return errs, err
}

// callNode waits a little longer than the other side works.
func (c *Controller) callNode(ctx context.Context, node int32, m Method, request []byte) ([]byte, error) {
	if c.cfg.Peers == nil {
		return nil, fmt.Errorf("%w: %d", ErrUnknownBroker, node)
	}
	ctx, stop := context.WithTimeout(ctx, 2*attemptTimeout)
	defer stop()
	b, err := c.cfg.Peers.Call(ctx, node, m, request)
	if err != nil {
		return nil, fmt.Errorf("call broker %d: %w", node, err)
	}
	return b, nil
}
