package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
)

func groupCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "group",
		Short: "List, describe, seek and delete consumer groups",
	}
	addBrokers(c)
	c.AddCommand(groupList(), groupDescribe(), groupSeek(), groupDelete())
	return c
}

func groupList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List consumer groups with their state",
		Args:  cobra.NoArgs,
		RunE: onCluster(func(c *cobra.Command, adm *kadm.Client, _ []string) error {
			groups, err := adm.ListGroups(c.Context())
			if err != nil {
				return fmt.Errorf("list groups: %w", err)
			}
			r, err := newRows(c, "Group", "State", "Coordinator")
			if err != nil {
				return err
			}
			for _, g := range groups.Sorted() {
				if err := r.add(g.Group, g.State, g.Coordinator); err != nil {
					return err
				}
			}
			return r.flush()
		}),
	}
}

func groupDescribe() *cobra.Command {
	return &cobra.Command{
		Use:               "describe GROUP",
		ValidArgsFunction: completeGroups,
		Short:             "Show a group's committed offsets, lag and members",
		Args:              cobra.ExactArgs(1),
		RunE: onCluster(func(c *cobra.Command, adm *kadm.Client, args []string) error {
			lags, err := adm.Lag(c.Context(), args[0])
			if err != nil {
				return fmt.Errorf("describe group %s: %w", args[0], err)
			}
			group := lags[args[0]]
			if err := group.Error(); err != nil {
				return fmt.Errorf("describe group %s: %w", args[0], err)
			}
			r, err := newRows(c, "Topic", "Partition", "Committed", "End", "Lag", "Member", "State")
			if err != nil {
				return err
			}
			for _, l := range group.Lag.Sorted() {
				member := "-"
				if l.Member != nil {
					member = l.Member.MemberID
				}
				if err := r.add(l.Topic, l.Partition, l.Commit.At, l.End.Offset, l.Lag, member, group.State); err != nil {
					return err
				}
			}
			return r.flush()
		}),
	}
}

func groupSeek() *cobra.Command {
	var to string
	c := &cobra.Command{
		Use:               "seek GROUP TOPIC --to POSITION",
		ValidArgsFunction: completeGroups,
		Short:             "Move a group's committed offsets in a topic; the group must have no members",
		Example: `  tidewater group seek billing orders --to earliest
  tidewater group seek billing orders --to 2026-01-31T06:00:00Z
  tidewater group seek billing orders --to 1200`,
		Args: cobra.ExactArgs(2),
		RunE: onCluster(func(c *cobra.Command, adm *kadm.Client, args []string) error {
			offsets, err := seekTarget(c, adm, args[1], to)
			if err != nil {
				return err
			}
			if err := adm.CommitAllOffsets(c.Context(), args[0], offsets); err != nil {
				return fmt.Errorf("seek group %s: %w", args[0], err)
			}
			r, err := newRows(c, "Topic", "Partition", "Committed")
			if err != nil {
				return err
			}
			for _, o := range offsets.Sorted() {
				if err := r.add(o.Topic, o.Partition, o.At); err != nil {
					return err
				}
			}
			return r.flush()
		}),
	}
	c.Flags().StringVar(&to, "to", "", "earliest, latest, an offset (the nearest that a partition has), or a time (RFC 3339)")
	_ = c.MarkFlagRequired("to")
	return c
}

// seekTarget turns a position into one offset per partition.
func seekTarget(c *cobra.Command, adm *kadm.Client, topic, to string) (kadm.Offsets, error) {
	ctx := c.Context()
	var listed kadm.ListedOffsets
	var err error
	switch to {
	case "earliest":
		listed, err = adm.ListStartOffsets(ctx, topic)
	case "latest":
		listed, err = adm.ListEndOffsets(ctx, topic)
	default:
		if at, isTime := time.Parse(time.RFC3339, to); isTime == nil {
			listed, err = adm.ListOffsetsAfterMilli(ctx, at.UnixMilli(), topic)
			break
		}
		offset, bad := strconv.ParseInt(to, 10, 64)
		if bad != nil || offset < 0 {
			return nil, usageError{fmt.Errorf("--to %q: want earliest, latest, an offset from 0, or a time such as 2026-01-31T06:00:00Z", to)}
		}
		listed, err = nearest(ctx, adm, topic, offset)
	}
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list offsets of %s: %w", topic, err)
	}
	return listed.Offsets(), nil
}

// nearest is an offset in every partition of a topic, or, where a partition
// does not reach it, the partition's first or next offset.
func nearest(ctx context.Context, adm *kadm.Client, topic string, offset int64) (kadm.ListedOffsets, error) {
	starts, err := adm.ListStartOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	ends, err := adm.ListEndOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	ends.Each(func(l kadm.ListedOffset) {
		first, _ := starts.Lookup(topic, l.Partition)
		l.Offset = max(first.Offset, min(offset, l.Offset))
		ends[topic][l.Partition] = l
	})
	return ends, nil
}

func groupDelete() *cobra.Command {
	return &cobra.Command{
		Use:               "delete GROUP...",
		ValidArgsFunction: completeGroups,
		Short:             "Delete groups and their committed offsets; they must have no members",
		Args:              cobra.MinimumNArgs(1),
		RunE: onCluster(func(c *cobra.Command, adm *kadm.Client, names []string) error {
			answers, err := adm.DeleteGroups(c.Context(), names...)
			if err != nil {
				return fmt.Errorf("delete groups: %w", err)
			}
			for _, a := range answers.Sorted() {
				if a.Err != nil {
					return fmt.Errorf("delete group %s: %w", a.Group, a.Err)
				}
			}
			return nil
		}),
	}
}
