package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tidewater/broker"
)

func clusterCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "cluster",
		Short: "Look after a cluster: its state, maintenance, brokers that come and go",
	}
	addAdmin(c)
	c.AddCommand(clusterStatus(), clusterBrokers(), clusterMaintenance(), clusterDecommission())
	return c
}

func clusterStatus() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Say in a page whether the cluster is well: controller, brokers, partitions, balance",
		Long: `Say in a page whether the cluster is well, as the broker that is asked sees it.
What is wrong is told on standard error, with what to do. Exit code 0 says that the
question was answered, not that all is well: look at the numbers.`,
		Example: "  tidewater cluster status\n  tidewater cluster status -o json | jq .lost_majority",
		Args:    cobra.NoArgs,
		RunE: onAdmin(func(c *cobra.Command, a *adminClient, _ []string) error {
			var s broker.ClusterStatus
			if err := a.get(c.Context(), "/v1/cluster", &s); err != nil {
				return fmt.Errorf("ask for the cluster: %w", err)
			}
			if err := printStatus(c, &s); err != nil {
				return err
			}
			for _, line := range advice(&s) {
				fmt.Fprintln(c.ErrOrStderr(), line)
			}
			return nil
		}),
	}
}

// printStatus shows the whole as one object, or a line and a table.
func printStatus(c *cobra.Command, s *broker.ClusterStatus) error {
	if done, err := printJSON(c, s); done {
		return err
	}
	w := c.OutOrStdout()
	controller := fmt.Sprintf("broker %d", s.Controller)
	if s.Controller < 0 {
		controller = "none"
	}
	b := &s.Balance
	balance := "even"
	if !b.Even {
		balance = fmt.Sprintf("%d moves under way, %d replicas to move", b.Moves, b.Waiting)
	}
	fmt.Fprintf(w, "Cluster     %s, incarnation %d, feature level %d (seen by broker %d)\nController  %s\n", s.Cluster, s.Incarnation, s.FeatureLevel, s.Asked, controller)
	fmt.Fprintf(w, "Partitions  %d of %d topics; %d under-replicated, %d leaderless, %d without a majority\n", s.Partitions, s.Topics, s.UnderReplicated, s.Leaderless, s.Lost)
	fmt.Fprintf(w, "Balance     %s; %d to %d replicas and %d to %d preferred leaders per broker\n\n", balance, b.ReplicasMin, b.ReplicasMax, b.LedMin, b.LedMax)
	return printBrokers(c, s.Brokers)
}

func printBrokers(c *cobra.Command, brokers []broker.BrokerStatus) error {
	r, err := newRows(c, "Broker", "State", "Replicas", "Leaders", "Rack", "Build", "Kafka", "RPC", "Offline since")
	if err != nil {
		return err
	}
	for i := range brokers {
		b := &brokers[i]
		since := ""
		if b.OfflineSince != nil {
			since = b.OfflineSince.Format(time.RFC3339)
		}
		if err := r.add(b.ID, b.State, b.Replicas, b.Led, b.Rack, b.Build, b.Kafka, b.RPC, since); err != nil {
			return err
		}
	}
	return r.flush()
}

// advice says what is wrong and what to do about it, worst first.
func advice(s *broker.ClusterStatus) []string {
	var down []string
	for i := range s.Brokers {
		if !s.Brokers[i].Up {
			down = append(down, strconv.Itoa(int(s.Brokers[i].ID)))
		}
	}
	brokers := "brokers " + strings.Join(down, " and ")
	var out []string
	if s.Controller < 0 {
		out = append(out, "no controller: nothing can be changed before a majority of the brokers is back")
	}
	if s.Lost > 0 {
		out = append(out, fmt.Sprintf("%d partitions have lost a majority of their replicas: start %s again. Only if their disks are gone for good, 'tidewater partition unsafe-recover --help'", s.Lost, brokers))
	}
	if s.Leaderless > s.Lost {
		out = append(out, fmt.Sprintf("%d partitions have no leader now: if that lasts longer than some seconds, 'tidewater partition list --leaderless' and the brokers' logs", s.Leaderless-s.Lost))
	}
	if s.UnderReplicated > 0 && len(down) > 0 {
		out = append(out, fmt.Sprintf("%d partitions miss replicas: %s do not answer; start them again, or wait for their replicas to be made anew elsewhere (15 minutes)", s.UnderReplicated, brokers))
	}
	return out
}

func clusterBrokers() *cobra.Command {
	return &cobra.Command{
		Use:     "brokers",
		Aliases: []string{"nodes", "list"},
		Short:   "List the brokers with their state and load",
		Args:    cobra.NoArgs,
		RunE: onAdmin(func(c *cobra.Command, a *adminClient, _ []string) error {
			var s broker.ClusterStatus
			if err := a.get(c.Context(), "/v1/cluster", &s); err != nil {
				return fmt.Errorf("ask for the cluster: %w", err)
			}
			return printBrokers(c, s.Brokers)
		}),
	}
}

// brokerID reads a broker's id from the command line.
func brokerID(text string) (int32, error) {
	id, err := strconv.ParseInt(text, 10, 32)
	if err != nil || id < 0 {
		return 0, usageError{fmt.Errorf("broker %q: want a broker's id, as 'tidewater cluster brokers' lists them", text)}
	}
	return int32(id), nil
}

// followEvery is how often progress is asked for.
const followEvery = 500 * time.Millisecond

func clusterMaintenance() *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "maintenance on|off BROKER",
		Short: "Take the lead away from a broker before work on it, and give it back after",
		Long: `Take the lead away from a broker before work on it, and give it back after. With 'on' the
command returns when the broker leads nothing that another can lead. Its replicas stay and
follow; it can be stopped then. The mode lasts over restarts until it is taken back.`,
		Example: "  tidewater cluster maintenance on 2\n  tidewater cluster maintenance off 2",
		Args:    cobra.ExactArgs(2),
		RunE: onAdmin(func(c *cobra.Command, a *adminClient, args []string) error {
			if args[0] != "on" && args[0] != "off" {
				return usageError{fmt.Errorf("%q: want on or off", args[0])}
			}
			id, err := brokerID(args[1])
			if err != nil {
				return err
			}
			if err := a.put(c.Context(), fmt.Sprintf("/v1/brokers/%d/maintenance", id), map[string]bool{"on": args[0] == "on"}, nil); err != nil {
				return fmt.Errorf("set maintenance of broker %d: %w", id, err)
			}
			if args[0] == "off" {
				return said(c, id, "active", 0)
			}
			b, err := a.follow(c, id, timeout, "it still leads partitions: those without another replica that is up and to date stay", func(b *broker.BrokerStatus) (bool, string) {
				return b.Led == 0, fmt.Sprintf("broker %d leads %d partitions", id, b.Led)
			})
			if err != nil {
				return fmt.Errorf("broker %d is in maintenance, but: %w", id, err)
			}
			return said(c, id, b.State, b.Replicas)
		}),
	}
	c.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to wait until the broker leads nothing; the mode stays on")
	return c
}

// said is the one line that a change ends with.
func said(c *cobra.Command, id int32, state string, replicas int) error {
	r, err := newRows(c, "Broker", "State", "Replicas")
	if err != nil {
		return err
	}
	if err := r.add(id, state, replicas); err != nil {
		return err
	}
	return r.flush()
}

// follow asks for a broker again and again until ok, and tells each step that
// is new on standard error.
func (a *adminClient) follow(c *cobra.Command, id int32, timeout time.Duration, late string, ok func(*broker.BrokerStatus) (bool, string)) (*broker.BrokerStatus, error) {
	ctx, stop := context.WithTimeout(c.Context(), timeout)
	defer stop()
	last := ""
	for {
		var s broker.ClusterStatus
		err := a.get(ctx, "/v1/cluster", &s)
		for i := range s.Brokers {
			if s.Brokers[i].ID != id {
				continue
			}
			done, step := ok(&s.Brokers[i])
			if step != last {
				fmt.Fprintln(c.ErrOrStderr(), step)
				last = step
			}
			if done {
				return &s.Brokers[i], nil
			}
		}
		select {
		case <-time.After(followEvery):
		case <-ctx.Done():
			if c.Context().Err() != nil {
				return nil, c.Context().Err()
			}
			return nil, errors.Join(fmt.Errorf("not done within %s: %s", timeout, late), err)
		}
	}
}

func clusterDecommission() *cobra.Command {
	var cancel bool
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "decommission BROKER",
		Short: "Move everything off a broker, and take it out of the cluster",
		Long: `Move everything off a broker, and take it out of the cluster. Its replicas are copied to
other brokers first, and the progress is told; then it is unregistered, and its process ends.
Interrupting the command does not stop the copying: run it again to follow, or take it
back with --cancel. A broker that is gone for good is decommissioned the same way: its
replicas are copied from the others'.`,
		Example: "  tidewater cluster decommission 4\n  tidewater cluster decommission 4 --cancel",
		Args:    cobra.ExactArgs(1),
		RunE: onAdmin(func(c *cobra.Command, a *adminClient, args []string) error {
			id, err := brokerID(args[0])
			if err != nil {
				return err
			}
			path := fmt.Sprintf("/v1/brokers/%d/draining", id)
			if err := a.put(c.Context(), path, map[string]bool{"on": !cancel}, nil); err != nil {
				return fmt.Errorf("decommission broker %d: %w", id, err)
			}
			if cancel {
				return said(c, id, "active", 0)
			}
			return a.decommission(c, id, timeout)
		}),
	}
	c.Flags().BoolVar(&cancel, "cancel", false, "keep the broker after all")
	c.Flags().DurationVar(&timeout, "timeout", 24*time.Hour, "how long to follow; the copying goes on after it")
	return c
}

// decommission follows a draining broker until it is empty, and unregisters it.
func (a *adminClient) decommission(c *cobra.Command, id int32, timeout time.Duration) error {
	_, err := a.follow(c, id, timeout, "see 'tidewater partition list --moving'", func(b *broker.BrokerStatus) (bool, string) {
		return b.Replicas == 0, fmt.Sprintf("broker %d has %d replicas left to move", id, b.Replicas)
	})
	if err != nil {
		return fmt.Errorf("broker %d is still being emptied: %w", id, err)
	}
	err = a.do(c.Context(), http.MethodDelete, fmt.Sprintf("/v1/brokers/%d", id), nil, nil)
	var answer *errAdmin
	if errors.As(err, &answer) && answer.status == http.StatusNotFound {
		err = nil // an attempt before this one did it
	}
	if err != nil {
		return fmt.Errorf("broker %d is empty, but could not be unregistered; run the command again: %w", id, err)
	}
	return said(c, id, "unregistered", 0)
}
