package main

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// addBrokers declares the flag that says where the cluster is.
func addBrokers(c *cobra.Command) {
	c.PersistentFlags().StringP("brokers", "b", "127.0.0.1:9092", "brokers to ask first, host:port, comma-separated")
}

// client opens a Kafka client on --brokers.
func client(c *cobra.Command, opts ...kgo.Opt) (*kgo.Client, error) {
	brokers, err := c.Flags().GetString("brokers")
	if err != nil {
		return nil, err
	}
	k, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(strings.Split(brokers, ",")...),
		kgo.ClientID("tidewater-cli"),
	}, opts...)...)
	if err != nil {
		return nil, usageError{fmt.Errorf("--brokers %s: %w", brokers, err)}
	}
	if err := k.Ping(c.Context()); err != nil {
		k.Close()
		return nil, unreachable(brokers, err)
	}
	return k, nil
}

// unreachable says what to do when no broker answers.
func unreachable(brokers string, err error) error {
	var dial *net.OpError
	if errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &dial) {
		return fmt.Errorf("no broker answers at %s: start one with 'tidewater dev', or name yours with --brokers: %w", brokers, err)
	}
	return fmt.Errorf("ask brokers at %s: %w", brokers, err)
}

// onCluster makes a command of work with an open admin client.
func onCluster(do func(c *cobra.Command, adm *kadm.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		k, err := client(c)
		if err != nil {
			return err
		}
		defer k.Close()
		return do(c, kadm.NewClient(k), args)
	}
}
