package topicconfig

import (
	"math"
	"strconv"
	"strings"
)

// BrokerDefaults gives the topic defaults that broker properties stand for:
// log.retention.hours=24 becomes retention.ms=86400000. Broker properties that
// are no synonym are left out; bad values are faults under the broker's name.
func BrokerDefaults(broker map[string]string) (map[string]string, []Fault) {
	out := map[string]string{}
	var faults []Fault
	for _, d := range definitions() {
		for _, s := range d.Synonyms {
			value, ok := broker[s.Name]
			if !ok {
				continue
			}
			scaled, ok := s.scaled(value)
			if !ok || !d.check(scaled) {
				faults = append(faults, Fault{Name: s.Name, Value: value,
					Reason: "is not a valid " + d.Type.String() + " for this property", Allowed: d.Allowed})
			} else {
				out[d.Name] = scaled
			}
			break
		}
	}
	sortFaults(faults)
	return out, faults
}

func (s Synonym) scaled(value string) (string, bool) {
	if s.Scale == 1 {
		return value, true
	}
	n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
	if err != nil || n > math.MaxInt64/s.Scale {
		return "", false
	}
	if n > 0 {
		n *= s.Scale
	}
	return strconv.FormatInt(n, 10), true
}

// Merge lays a topic's own properties over defaults, both under canonical
// names, for Parse.
func Merge(defaults, own map[string]string) map[string]string {
	out := make(map[string]string, len(defaults)+len(own))
	for k, v := range defaults {
		out[k] = v
	}
	for k, v := range own {
		out[k] = v
	}
	return out
}
