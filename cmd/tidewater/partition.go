package main

import (
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	"tidewater/broker"
)

func partitionCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "partition",
		Short: "List partitions by their state, change their replicas, recover from a lost majority",
	}
	addAdmin(c)
	c.AddCommand(partitionList(), partitionReplicas(), partitionRecover())
	return c
}

func partitionList() *cobra.Command {
	var under, leaderless, moving, lost bool
	c := &cobra.Command{
		Use:   "list [TOPIC]",
		Short: "List partitions with leader and replicas; by a flag only those in trouble",
		Long: `List partitions with leader and replicas, as the broker that is asked sees them; with
flags only those in one of the states named. It works without a controller, too.`,
		Example: "  tidewater partition list orders\n  tidewater partition list --under-replicated --leaderless -o json",
		Args:    cobra.MaximumNArgs(1),
		RunE: onAdmin(func(c *cobra.Command, a *adminClient, args []string) error {
			path := "/v1/partitions"
			if len(args) > 0 {
				path += "?topic=" + url.QueryEscape(args[0])
			}
			var all []broker.PartitionStatus
			if err := a.get(c.Context(), path, &all); err != nil {
				return fmt.Errorf("ask for partitions: %w", err)
			}
			r, err := newRows(c, "Topic", "Partition", "State", "Leader", "Leader epoch", "Replicas", "Missing", "Adding", "Removing")
			if err != nil {
				return err
			}
			any := !under && !leaderless && !moving && !lost
			for i := range all {
				p := &all[i]
				if any || under && len(p.Missing) > 0 || leaderless && p.Leader < 0 || lost && p.Lost || moving && len(p.Adding)+len(p.Removing) > 0 {
					if err := r.add(p.Topic, p.Partition, partitionState(p), p.Leader, p.Epoch, p.Replicas, p.Missing, p.Adding, p.Removing); err != nil {
						return err
					}
				}
			}
			return r.flush()
		}),
	}
	f := c.Flags()
	f.BoolVar(&under, "under-replicated", false, "those with replicas that do not answer")
	f.BoolVar(&leaderless, "leaderless", false, "those that nobody leads")
	f.BoolVar(&lost, "lost-majority", false, "those that cannot elect a leader before a lost replica is back")
	f.BoolVar(&moving, "moving", false, "those whose replicas are being changed")
	return c
}

// partitionState is a partition's state in words, what is worst first.
func partitionState(p *broker.PartitionStatus) string {
	switch {
	case p.Lost:
		return "lost majority"
	case p.Leader < 0:
		return "leaderless"
	case len(p.Adding)+len(p.Removing) > 0:
		return "moving"
	case len(p.Missing) > 0:
		return "under-replicated"
	}
	return "ok"
}

func partitionReplicas() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "replicas COUNT TOPIC...",
		Short: "Bring topics to a number of replicas, after a cluster has grown or was recovered",
		Long: `Bring topics to a number of replicas: more are placed on brokers and racks that have none
and copied in the background, fewer keep the preferred ones. 'tidewater partition list
--moving' shows the progress.`,
		Example: "  tidewater partition replicas 3 orders\n  tidewater partition replicas 3 --all",
		Args:    cobra.MinimumNArgs(1),
		RunE: onAdmin(func(c *cobra.Command, a *adminClient, args []string) error {
			var count int
			if _, err := fmt.Sscanf(args[0], "%d", &count); err != nil || count < 1 {
				return usageError{fmt.Errorf("COUNT %q: want a number above 0", args[0])}
			}
			topics := args[1:]
			if all != (len(topics) == 0) {
				return usageError{fmt.Errorf("want names of topics, or --all")}
			}
			if all {
				var err error
				if topics, err = a.topics(c); err != nil {
					return err
				}
			}
			return a.setReplicas(c, topics, count)
		}),
	}
	c.Flags().BoolVar(&all, "all", false, "every topic, the cluster's own too")
	return c
}

// topics lists all topics, those of the cluster itself too.
func (a *adminClient) topics(c *cobra.Command) ([]string, error) {
	var all []broker.PartitionStatus
	if err := a.get(c.Context(), "/v1/partitions", &all); err != nil {
		return nil, fmt.Errorf("ask for topics: %w", err)
	}
	var names []string
	for i := range all {
		if n := len(names); n == 0 || names[n-1] != all[i].Topic {
			names = append(names, all[i].Topic)
		}
	}
	return names, nil
}

func (a *adminClient) setReplicas(c *cobra.Command, topics []string, count int) error {
	r, err := newRows(c, "Topic", "Replicas", "Partitions moving")
	if err != nil {
		return err
	}
	for _, name := range topics {
		var answer struct {
			Moving int `json:"moving"`
		}
		if err := a.put(c.Context(), "/v1/topics/"+url.PathEscape(name)+"/replicas", map[string]int{"replicas": count}, &answer); err != nil {
			return fmt.Errorf("set replicas of topic %s: %w", name, err)
		}
		if err := r.add(name, count, answer.Moving); err != nil {
			return err
		}
	}
	return r.flush()
}
