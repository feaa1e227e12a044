// Command tidewater is the broker and the tools to work with it: one binary,
// one file here per command. A command reads its flags, opens what it needs
// from the packages below, and closes it; it holds no logic of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kerr"

	"tidewater/internal/disk"
	"tidewater/internal/objstore"
)

// Exit codes that scripts may rely on.
const (
	exitFailed     = 1 // the command could not do what was asked
	exitUsage      = 2 // the command line is wrong
	exitDifference = 3 // verify found that log and table differ
)

// errDifference is verify's own failure: everything worked, and the answer is no.
var errDifference = errors.New("log and table differ")

// usageError marks what is wrong with the command line itself.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := rootCommand().ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "tidewater:", explain(ctx, err))
	}
	stop()
	os.Exit(exitCode(err))
}

// explain adds what to do next to errors that many commands share.
func explain(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return errors.New("interrupted")
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return fmt.Errorf("%w (see 'tidewater topic list')", err)
	case errors.Is(err, kerr.OffsetOutOfRange):
		return fmt.Errorf("%w (see 'tidewater topic describe')", err)
	case errors.Is(err, kerr.GroupIDNotFound):
		return fmt.Errorf("%w (see 'tidewater group list')", err)
	case errors.Is(err, disk.ErrLocked):
		return fmt.Errorf("%w (end that process, or choose another directory with --data-dir)", err)
	case errors.Is(err, objstore.ErrDenied):
		return fmt.Errorf("%w (check the bucket's name, --bucket-access-key and --bucket-secret-key)", err)
	}
	return err
}

func exitCode(err error) int {
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errDifference):
		return exitDifference
	case errors.As(err, &usage):
		return exitUsage
	}
	return exitFailed
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "tidewater",
		Short: "Streams that keep for ever and are tables: a Kafka-API broker, an object-store archive, an Iceberg catalog",
		Long: `Tidewater is a broker for any Kafka client. Topics keep for ever in object storage,
and a topic with tidewater.iceberg.mode set is an Iceberg table that any engine reads.

Start here:
  tidewater dev                                 a broker, a bucket and a catalog on this machine
  tidewater topic create orders --tiered        a topic that keeps for ever
  echo hello | tidewater produce orders         one record per line
  tidewater consume orders --from earliest

Exit codes: 0 done, 1 failed, 2 wrong command line, 3 verify found a difference.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w (see '%s --help')", err, c.CommandPath())}
	})
	root.PersistentFlags().String("format", "table", "output: table or json (one object per line)")
	cluster, partition := clusterCommand(), partitionCommand()
	root.AddCommand(devCommand(), brokerCommand(), cluster, partition, topicCommand(), groupCommand(), produceCommand(), consumeCommand(),
		tableCommand(), verifyCommand(), replicaCommand(), restoreCommand(), s3Command(), featuresCommand(), versionCommand())
	shortOutput(root, cluster, partition)
	markUsage(root)
	return root
}

// markUsage has everything that is wrong with a command line found before the
// command runs, as a usage error, for exit code 2.
func markUsage(c *cobra.Command) {
	for _, sub := range c.Commands() {
		markUsage(sub)
	}
	if c.HasSubCommands() {
		c.DisableFlagsInUseLine = true
		c.Args = func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q (see '%s --help')", args[0], c.CommandPath())}
			}
			return nil
		}
		c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
		return
	}
	check := c.Args
	c.Args = func(c *cobra.Command, args []string) error {
		err := check(c, args)
		if err == nil {
			err = errors.Join(c.ValidateRequiredFlags(), c.ValidateFlagGroups())
		}
		if err != nil {
			return usageError{fmt.Errorf("%w (usage: %s)", err, c.UseLine())}
		}
		return checkFormat(c)
	}
}
