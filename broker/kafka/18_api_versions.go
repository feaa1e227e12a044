package kafka

import (
	"context"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ApiVersions (key 18): v0-v4.
//
// Behaviour decided:
//   - A version above ours is answered in v0 with UNSUPPORTED_VERSION and the
//     range of this API alone (KIP-511); the client tries again on the same
//     connection.
//   - Only what is served is listed. Produce is listed from v0 (00_produce.go).
//   - One feature: the level that the cluster's brokers work at
//     (57_update_features.go). Its epoch is the controller's log.
//
// Versions:
//   - v1 throttle time
//   - v3 flexible (the answer's header stays v0); client software name and
//     version, checked as Kafka does; features
//   - v4 features may have minimum version 0
func (s *Server) apiVersions(_ context.Context, r *request, m *kmsg.ApiVersionsRequest) kmsg.Response {
	resp := m.ResponseKind().(*kmsg.ApiVersionsResponse)
	resp.FinalizedFeaturesEpoch = -1
	if m.Version >= 3 && !(softwareName(m.ClientSoftwareName) && softwareName(m.ClientSoftwareVersion)) {
		resp.ErrorCode, _ = s.code(r, refuse(kerr.InvalidRequest, "client software name or version has other characters than letters, digits, '-' and '.'"))
		return resp
	}
	s.features(resp)
	for _, key := range slices.Sorted(maps.Keys(s.apis)) {
		resp.ApiKeys = append(resp.ApiKeys, versionRange(s.apis[key]))
	}
	return resp
}

func versionRange(a *api) kmsg.ApiVersionsResponseApiKey {
	k := kmsg.NewApiVersionsResponseApiKey()
	k.ApiKey, k.MinVersion, k.MaxVersion = a.key, a.min, a.max
	return k
}

func unsupportedApiVersions(a *api) kmsg.Response {
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.ErrorCode = kerr.UnsupportedVersion.Code
	resp.ApiKeys = append(resp.ApiKeys, versionRange(a))
	return resp
}

// softwareName is Kafka's rule: letters, digits, '-' and '.', the latter two
// not at the ends.
func softwareName(s string) bool {
	for i := range len(s) {
		c := s[i]
		alnum := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		inner := i > 0 && i < len(s)-1 && (c == '-' || c == '.')
		if !alnum && !inner {
			return false
		}
	}
	return s != ""
}
