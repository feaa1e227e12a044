package topicconfig

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// The table of properties, the settings they make and what is refused with
// which words, as scripts.
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			props := map[string]string{}
			for _, line := range strings.Split(strings.TrimSpace(d.Input), "\n") {
				if name, value, ok := strings.Cut(line, "="); ok {
					props[name] = value
				}
			}
			switch d.Cmd {
			case "definitions":
				return definitionTable()
			case "faults":
				_, faults := Parse(props)
				return faultLines(faults)
			case "change": // lines that begin with + are the new properties
				now := map[string]string{}
				for name, value := range props {
					if new, ok := strings.CutPrefix(name, "+"); ok {
						now[new] = value
						delete(props, name)
					}
				}
				a, _ := Parse(props)
				b, _ := Parse(now)
				return faultLines(CheckChange(a, b))
			case "broker":
				out, faults := BrokerDefaults(props)
				return fmt.Sprintf("%v\n%s", out, faultLines(faults))
			case "partition":
				terms, err := ParsePartitionSpec(strings.TrimSpace(d.Input))
				if err != nil {
					return err.Error() + "\n"
				}
				return fmt.Sprintf("%d fields: %v\n", len(terms), terms)
			}
			d.Fatalf(t, "unknown command %s", d.Cmd)
			return ""
		})
	})
}

func definitionTable() string {
	var out strings.Builder
	for _, d := range Definitions() {
		fmt.Fprintf(&out, "%s %s %q %s (%s)", d.Name, d.Type, d.Default, d.Importance, d.Allowed)
		if len(d.Aliases) > 0 {
			fmt.Fprintf(&out, " aliases=%v", d.Aliases)
		}
		for _, s := range d.Synonyms {
			fmt.Fprintf(&out, " <%s*%d", s.Name, s.Scale)
		}
		if d.NoEffect {
			out.WriteString(" no effect")
		}
		out.WriteString("\n")
	}
	return out.String()
}

func faultLines(faults []Fault) string {
	if len(faults) == 0 {
		return "ok\n"
	}
	var out strings.Builder
	for _, f := range faults {
		fmt.Fprintln(&out, f.Error())
	}
	return out.String()
}

// Every default passes its own check, every property has a document, and no
// name means two things.
func TestTableIsSound(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range Definitions() {
		if !d.check(d.Default) {
			t.Errorf("%s: its default %q is refused", d.Name, d.Default)
		}
		if !strings.HasSuffix(d.Doc, ".") || d.Allowed == "" || d.Importance == "" {
			t.Errorf("%s: document, allowed values or importance is missing", d.Name)
		}
		for _, name := range append([]string{d.Name}, d.Aliases...) {
			if seen[name] {
				t.Errorf("%s is in the table twice", name)
			}
			seen[name] = true
			if c, ok := Canonical(name); !ok || c != d.Name {
				t.Errorf("%s is not found under %s", d.Name, name)
			}
		}
	}
}

// A topic without properties is as in Kafka; properties become typed values.
func TestSettings(t *testing.T) {
	s := Defaults()
	if s.Retention != 7*24*time.Hour || s.SegmentBytes != 1<<30 || !s.CleanupDelete || s.CleanupCompact || !s.CompressionProducer ||
		s.MaxMessageBytes != 1048588 || s.LocalRetention != s.Retention || s.LocalRetentionBytes != Unlimited ||
		s.MaxCompactionLag != math.MaxInt64 || s.Iceberg.On() || s.Iceberg.Namespace != "topics" || s.Tiered {
		t.Errorf("defaults: %+v", s)
	}
	s, faults := Parse(map[string]string{"redpanda.remote.write": "TRUE", "redpanda.remote.read": "true", "retention.ms": "-1",
		"local.retention.ms": "1000", "redpanda.iceberg.mode": "json", "tidewater.iceberg.json.schema": `{"type":"object"}`,
		"tidewater.iceberg.partition.spec": "(hour(kafka_timestamp))", "compression.type": "zstd"})
	if faults = append(faults, must(s.Tiered && s.Retention == Unlimited && s.LocalRetention == time.Second && s.CompressionProducer == false)...); len(faults) > 0 {
		t.Errorf("%v: %+v", faults, s)
	}
	if s.Iceberg.Mode != ModeJSON || len(s.Iceberg.Partition) != 1 || s.Iceberg.Invalid != InvalidToDLQ || s.Iceberg.TargetLag != 5*time.Second {
		t.Errorf("table: %+v", s.Iceberg)
	}
	if _, faults := Normalize(map[string]string{"redpanda.remote.write": "true", "redpanda.remote.read": "false"}); len(faults) != 1 {
		t.Errorf("two names with two values: %v", faults)
	}
}

func must(ok bool) []Fault {
	if ok {
		return nil
	}
	return []Fault{{Name: "settings", Reason: "not as expected"}}
}

func FuzzParsePartitionSpec(f *testing.F) {
	f.Add("(hour(kafka_timestamp), bucket(16, kafka_key))")
	f.Add("a, truncate(3,b.c)")
	f.Fuzz(func(t *testing.T, spec string) {
		terms, err := ParsePartitionSpec(spec)
		if err != nil {
			return
		}
		parts := make([]string, len(terms))
		for i, term := range terms {
			parts[i] = term.String()
		}
		again, err := ParsePartitionSpec(strings.Join(parts, ", "))
		if err != nil || fmt.Sprint(again) != fmt.Sprint(terms) {
			t.Fatalf("%q gives %v, and that %v, %v", spec, terms, again, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, d := range Definitions() {
		f.Add(d.Name, d.Default)
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		s, faults := Parse(map[string]string{name: value})
		for _, fault := range faults {
			if len(fault.Error()) > 1000+len(name) {
				t.Fatalf("a fault of %d bytes", len(fault.Error()))
			}
		}
		if len(faults) == 0 && s.SegmentBytes < 1 {
			t.Fatal("settings without a segment size")
		}
	})
}
