package topicconfig

import (
	"fmt"
	"maps"
	"slices"
)

// Fault is one property that cannot be accepted.
type Fault struct {
	Name  string
	Value string
	// Reason says what is wrong, Allowed which values are accepted; Allowed is
	// empty when no value would help (an unknown name).
	Reason  string
	Allowed string
}

func (f Fault) Error() string {
	s := f.Name
	if f.Value != "" {
		s += "=" + shorten(f.Value)
	}
	s += ": " + f.Reason
	if f.Allowed != "" {
		s += "; allowed: " + f.Allowed
	}
	return s
}

// valueShownMax bounds how much of a bad value an error message repeats.
const valueShownMax = 80

func shorten(v string) string {
	if len(v) <= valueShownMax {
		return v
	}
	return v[:valueShownMax] + "…"
}

// Parse turns properties into Settings. Every fault is reported, sorted by
// name; with faults the Settings hold the defaults of the faulty properties
// and must not be acted on.
func Parse(props map[string]string) (Settings, []Fault) {
	canonical, faults := Normalize(props)
	s := Settings{}
	for _, d := range definitions() {
		value, ok := canonical[d.Name]
		if ok && !d.check(value) {
			faults = append(faults, Fault{Name: d.Name, Value: value, Reason: reason(d, value), Allowed: d.Allowed})
			ok = false
		}
		if !ok {
			value = d.Default
		}
		d.apply(&s, value)
	}
	if len(faults) == 0 {
		faults = check(&s, canonical)
	}
	resolveLocal(&s)
	sortFaults(faults)
	return s, faults
}

// Normalize gives the properties under their canonical names. Unknown names,
// and two names of one property with different values, are faults.
func Normalize(props map[string]string) (map[string]string, []Fault) {
	out := make(map[string]string, len(props))
	from := make(map[string]string, len(props))
	var faults []Fault
	for _, name := range slices.Sorted(maps.Keys(props)) {
		value := props[name]
		d, ok := Lookup(name)
		canonical := d.Name
		if !ok {
			faults = append(faults, Fault{Name: name, Reason: "unknown topic property"})
			continue
		}
		if other, seen := from[canonical]; seen && !d.same(out[canonical], value) {
			faults = append(faults, Fault{Name: name, Value: value, Reason: fmt.Sprintf(
				"%s and %s are two names of %s and have different values", other, name, canonical)})
			continue
		}
		out[canonical], from[canonical] = value, name
	}
	return out, faults
}

// same reports whether two texts of a property mean the same.
func (d Definition) same(a, b string) bool {
	return a == b || d.Type == Bool && boolText(a) == boolText(b)
}

// resolveLocal replaces Kafka's -2 ("as the whole log") in the local bounds.
func resolveLocal(s *Settings) {
	if s.LocalRetention == sameAsTotal {
		s.LocalRetention = s.Retention
	}
	if s.LocalRetentionBytes == sameAsTotal {
		s.LocalRetentionBytes = s.RetentionBytes
	}
}

func sortFaults(faults []Fault) {
	slices.SortFunc(faults, func(a, b Fault) int {
		if a.Name < b.Name {
			return -1
		}
		if a.Name > b.Name {
			return 1
		}
		return 0
	})
}
