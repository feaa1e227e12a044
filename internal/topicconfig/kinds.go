package topicconfig

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// sameAsTotal is Kafka's -2 in local.retention.*: as the whole log.
const sameAsTotal = -2

// The makers below give a Definition its type, check and typed setter; the
// tables in kafka.go and tidewater.go add names, docs and synonyms.

func boolean(set func(*Settings, bool)) Definition {
	return Definition{Type: Bool, Allowed: "true, false",
		check: func(v string) bool { return boolText(v) == "true" || boolText(v) == "false" },
		apply: func(s *Settings, v string) { set(s, boolText(v) == "true") },
	}
}

// boolText is v as Kafka reads a boolean: case and outer spaces do not matter.
func boolText(v string) string { return strings.ToLower(strings.TrimSpace(v)) }

func number(t Type, min, max int64, set func(*Settings, int64)) Definition {
	return Definition{Type: t, Allowed: rangeText(min, max),
		check: func(v string) bool {
			n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			return err == nil && n >= min && n <= max
		},
		apply: func(s *Settings, v string) {
			n, _ := strconv.ParseInt(strings.TrimSpace(v), 10, 64) // checked before
			set(s, n)
		},
	}
}

func integer(min int64, set func(*Settings, int64)) Definition {
	return number(Int, min, math.MaxInt32, set)
}

func long(min int64, set func(*Settings, int64)) Definition {
	return number(Long, min, math.MaxInt64, set)
}

// millis is a long that becomes a duration; negative values stay as they are,
// being marks (-1 without end, -2 as the whole log).
func millis(min int64, set func(*Settings, time.Duration)) Definition {
	return long(min, func(s *Settings, ms int64) { set(s, duration(ms)) })
}

func duration(ms int64) time.Duration {
	switch {
	case ms < 0:
		return time.Duration(ms)
	case ms > math.MaxInt64/int64(time.Millisecond):
		return math.MaxInt64
	}
	return time.Duration(ms) * time.Millisecond
}

func ratio(set func(*Settings, float64)) Definition {
	parse := func(v string) (float64, error) { return strconv.ParseFloat(strings.TrimSpace(v), 64) }
	return Definition{Type: Double, Allowed: "0 to 1",
		check: func(v string) bool { f, err := parse(v); return err == nil && f >= 0 && f <= 1 },
		apply: func(s *Settings, v string) { f, _ := parse(v); set(s, f) },
	}
}

func oneOf(values []string, set func(*Settings, string)) Definition {
	return Definition{Type: String, Allowed: strings.Join(values, ", "),
		check: func(v string) bool { return slices.Contains(values, v) },
		apply: set,
	}
}

func text(allowed string, check func(string) bool, set func(*Settings, string)) Definition {
	return Definition{Type: String, Allowed: allowed, check: check, apply: set}
}

// list splits at commas; spaces around items do not matter, an empty value is
// an empty list.
func list(allowed []string, set func(*Settings, []string)) Definition {
	d := Definition{Type: List,
		check: func(v string) bool {
			for _, item := range SplitList(v) {
				if item == "" || allowed != nil && !slices.Contains(allowed, item) {
					return false
				}
			}
			return true
		},
		apply: func(s *Settings, v string) { set(s, SplitList(v)) },
	}
	if d.Allowed = "a comma-separated list"; allowed != nil {
		d.Allowed = "a comma-separated list of " + strings.Join(allowed, ", ")
	}
	return d
}

// SplitList splits the value of a List property; an empty value has no items.
func SplitList(v string) []string {
	if strings.TrimSpace(v) == "" {
		return nil
	}
	items := strings.Split(v, ",")
	for i := range items {
		items[i] = strings.TrimSpace(items[i])
	}
	return items
}

func rangeText(min, max int64) string {
	if max == math.MaxInt64 || max == math.MaxInt32 {
		return fmt.Sprintf("%d or more", min)
	}
	return fmt.Sprintf("%d to %d", min, max)
}

// ignored takes the effect from a definition: the value is checked only.
func ignored(d Definition) Definition {
	d.NoEffect = true
	d.apply = func(*Settings, string) {}
	return d
}

// named fills in what the makers leave open.
func (d Definition) named(name, def string, imp Importance, doc string, synonyms ...Synonym) Definition {
	d.Name, d.Default, d.Importance, d.Doc, d.Synonyms = name, def, imp, doc, synonyms
	return d
}

func (d Definition) alias(names ...string) Definition {
	d.Aliases = names
	return d
}

// same is a broker synonym in the same unit.
func same(name string) Synonym { return Synonym{Name: name, Scale: 1} }
