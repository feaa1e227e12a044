package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
)

// completeTimeout bounds how long a press of the tab key may take.
const completeTimeout = time.Second

// completeTopics has a shell offer the topics of --brokers for each argument.
func completeTopics(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return complete(c, func(ctx context.Context, adm *kadm.Client) []string {
		topics, _ := adm.ListTopics(ctx) // none is an answer too
		return topics.Names()
	})
}

// completeGroups has a shell offer the consumer groups of --brokers.
func completeGroups(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return complete(c, func(ctx context.Context, adm *kadm.Client) []string {
		groups, _ := adm.ListGroups(ctx)
		return groups.Groups()
	})
}

func complete(c *cobra.Command, ask func(context.Context, *kadm.Client) []string) ([]string, cobra.ShellCompDirective) {
	ctx, stop := context.WithTimeout(c.Context(), completeTimeout)
	defer stop()
	c.SetContext(ctx)
	k, err := client(c)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer k.Close()
	return ask(ctx, kadm.NewClient(k)), cobra.ShellCompDirectiveNoFileComp
}
