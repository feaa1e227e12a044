package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tidewater/broker/cluster"
)

// featureLevel is the one feature of a cluster: the level that all its brokers
// may rely on of each other.
const featureLevel = "tidewater.version"

// UpdateFeatures (key 57): v0-v2 (KIP-584, KIP-778).
//
// Behaviour decided:
//   - There is one feature, tidewater.version. It is raised when every broker's
//     build can work at the new level, also of brokers that are away, and never
//     lowered: what was written at a level stays. Everything else is
//     INVALID_UPDATE_VERSION with the broker that keeps it from it.
//   - The level that the cluster has already is no error, so that a request may
//     be repeated.
//
// Versions:
//   - v1 kind of update in place of the leave to lower, validate only
//   - v2 no answer per feature: they are all done or none
func (s *Server) updateFeatures(ctx context.Context, r *request, m *kmsg.UpdateFeaturesRequest) kmsg.Response {
	resp := m.ResponseKind().(*kmsg.UpdateFeaturesResponse)
	ctx, cancel := context.WithTimeout(ctx, boundedTimeout(m.TimeoutMillis))
	defer cancel()
	err := s.raise(ctx, m)
	resp.ErrorCode, resp.ErrorMessage = s.message(r, err)
	if m.Version < 2 {
		for _, u := range m.FeatureUpdates {
			one := kmsg.NewUpdateFeaturesResponseResult()
			one.Feature = u.Feature
			one.ErrorCode, one.ErrorMessage = s.message(r, err)
			resp.Results = append(resp.Results, one)
		}
	}
	return resp
}

func (s *Server) raise(ctx context.Context, m *kmsg.UpdateFeaturesRequest) error {
	if len(m.FeatureUpdates) != 1 || m.FeatureUpdates[0].Feature != featureLevel {
		return refuse(kerr.InvalidRequest, fmt.Sprintf("name the feature %s, once: there is no other", featureLevel))
	}
	level := m.FeatureUpdates[0].MaxVersionLevel
	if level < 1 {
		return refuse(kerr.InvalidUpdateVersion, fmt.Sprintf("%s cannot be taken away", featureLevel))
	}
	return s.cfg.Cluster.SetFeatureLevel(ctx, uint32(level), m.ValidateOnly)
}

// features tells clients the range of this build and the cluster's level.
func (s *Server) features(resp *kmsg.ApiVersionsResponse) {
	supported := kmsg.NewApiVersionsResponseSupportedFeature()
	supported.Name, supported.MinVersion, supported.MaxVersion = featureLevel, int16(cluster.FeatureLevelMin), int16(cluster.FeatureLevelMax)
	resp.SupportedFeatures = append(resp.SupportedFeatures, supported)
	level, epoch := s.cfg.View().FeatureLevel(), s.cfg.View().Applied()
	if level == 0 {
		return // the cluster is being founded
	}
	finalized := kmsg.NewApiVersionsResponseFinalizedFeature()
	finalized.Name, finalized.MinVersionLevel, finalized.MaxVersionLevel = featureLevel, int16(level), int16(level)
	resp.FinalizedFeaturesEpoch = int64(epoch)
	resp.FinalizedFeatures = append(resp.FinalizedFeatures, finalized)
}
