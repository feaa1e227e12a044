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
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "tidewater:", err)
	}
	os.Exit(exitCode(err))
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
	root.AddCommand(devCommand(), brokerCommand(), topicCommand(), groupCommand(), produceCommand(), consumeCommand(),
		tableCommand(), verifyCommand(), replicaCommand(), restoreCommand(), s3Command(), versionCommand())
	for _, c := range root.Commands() {
		markUsage(c)
	}
	return root
}

// markUsage turns a wrong number of arguments into a usage error, for exit code 2.
func markUsage(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return usageError{fmt.Errorf("%w (usage: %s)", err, c.UseLine())}
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		markUsage(sub)
	}
}
