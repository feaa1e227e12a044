package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// featureName is the one feature of a cluster, as Kafka's tools name it.
const featureName = "tidewater.version"

func featuresCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "features",
		Short: "Show and raise the feature level, the last step of an upgrade",
	}
	addBrokers(c)
	c.AddCommand(featuresShow(), featuresRaise())
	return c
}

func featuresShow() *cobra.Command {
	return &cobra.Command{
		Use:     "show",
		Short:   "Show the cluster's feature level and what each broker's build can",
		Example: "  tidewater features show -b broker-1:9092",
		Args:    cobra.NoArgs,
		RunE: onCluster(func(c *cobra.Command, adm *kadm.Client, _ []string) error {
			levels, err := askFeatures(c, adm)
			if err != nil {
				return err
			}
			r, err := newRows(c, "Broker", "Level", "Lowest", "Highest")
			if err != nil {
				return err
			}
			for _, l := range levels {
				if err := r.add(l.broker, l.now, l.least, l.most); err != nil {
					return err
				}
			}
			return r.flush()
		}),
	}
}

func featuresRaise() *cobra.Command {
	return &cobra.Command{
		Use:   "raise [LEVEL]",
		Short: "Let the brokers use what their new build brings; there is no way back",
		Long: `Raise the cluster's feature level, to the highest that all brokers can if none is named.
Until then a broker can be started again with the build before; from then on such a
build is refused. Do it when all brokers run the new build and you want to stay with it.`,
		Example: "  tidewater features raise\n  tidewater features raise 2",
		Args:    cobra.MaximumNArgs(1),
		RunE: onCluster(func(c *cobra.Command, adm *kadm.Client, args []string) error {
			level := int16(0)
			if len(args) > 0 {
				n, err := strconv.ParseInt(args[0], 10, 16)
				if err != nil || n < 1 {
					return usageError{fmt.Errorf("level %q: want a number from 1 on", args[0])}
				}
				level = int16(n)
			} else {
				levels, err := askFeatures(c, adm)
				if err != nil {
					return err
				}
				for i, l := range levels {
					if i == 0 || l.most < level {
						level = l.most
					}
				}
			}
			if err := raiseFeatures(c, level); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "feature level %d\n", level)
			return nil
		}),
	}
}

// brokerLevels is what one broker says of feature levels.
type brokerLevels struct {
	broker           int32
	now, least, most int16
}

func askFeatures(c *cobra.Command, adm *kadm.Client) ([]brokerLevels, error) {
	answers, err := adm.ApiVersions(c.Context())
	if err != nil {
		return nil, fmt.Errorf("ask brokers what they can: %w", err)
	}
	var levels []brokerLevels
	for _, a := range answers.Sorted() {
		if a.Err != nil {
			return nil, fmt.Errorf("ask broker %d what it can: %w", a.NodeID, a.Err)
		}
		l := brokerLevels{broker: a.NodeID}
		for _, f := range a.Raw().SupportedFeatures {
			if f.Name == featureName {
				l.least, l.most = f.MinVersion, f.MaxVersion
			}
		}
		for _, f := range a.Raw().FinalizedFeatures {
			if f.Name == featureName {
				l.now = f.MaxVersionLevel
			}
		}
		if l.most == 0 {
			return nil, fmt.Errorf("broker %d has no feature %s", a.NodeID, featureName)
		}
		levels = append(levels, l)
	}
	return levels, nil
}

// raiseFeatures sends the request itself: kadm drops the text that says which
// broker keeps the cluster from the level.
func raiseFeatures(c *cobra.Command, level int16) error {
	k, err := client(c)
	if err != nil {
		return err
	}
	defer k.Close()
	req := kmsg.NewPtrUpdateFeaturesRequest()
	one := kmsg.NewUpdateFeaturesRequestFeatureUpdate()
	one.Feature, one.MaxVersionLevel, one.UpgradeType = featureName, level, 1
	req.FeatureUpdates = append(req.FeatureUpdates, one)
	said, err := req.RequestWith(c.Context(), k)
	if err == nil {
		err = kerr.ErrorForCode(said.ErrorCode)
	}
	if err != nil && said != nil && said.ErrorMessage != nil {
		err = fmt.Errorf("%s: %w", *said.ErrorMessage, err)
	}
	if err != nil {
		return fmt.Errorf("raise the feature level to %d: %w", level, err)
	}
	return nil
}
