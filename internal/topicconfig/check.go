package topicconfig

import (
	"encoding/json"
	"strings"
)

// check finds what is wrong between properties that are right one by one.
func check(s *Settings, props map[string]string) []Fault {
	var faults []Fault
	add := func(name, reason, allowed string) {
		faults = append(faults, Fault{Name: name, Value: props[name], Reason: reason, Allowed: allowed})
	}
	if s.MinCompactionLag > s.MaxCompactionLag {
		add("min.compaction.lag.ms", "is above max.compaction.lag.ms", "at most max.compaction.lag.ms")
	}
	if s.Tiered {
		checkTiered(s, add)
	}
	checkIceberg(s, add)
	return faults
}

func checkTiered(s *Settings, add func(name, reason, allowed string)) {
	if s.CleanupCompact {
		add("cleanup.policy", "a tiered topic cannot be compacted", "delete, while remote.storage.enable=true")
	}
	if exceeds(int64(s.LocalRetention), int64(s.Retention)) {
		add("local.retention.ms", "is longer than retention.ms", "-2 or at most retention.ms")
	}
	if exceeds(s.LocalRetentionBytes, s.RetentionBytes) {
		add("local.retention.bytes", "is larger than retention.bytes", "-2 or at most retention.bytes")
	}
}

// exceeds reports whether a local bound is above the total one.
func exceeds(local, total int64) bool {
	if local == sameAsTotal || total == Unlimited {
		return false
	}
	return local == Unlimited || local > total
}

func checkIceberg(s *Settings, add func(name, reason, allowed string)) {
	if !s.Iceberg.On() {
		return
	}
	const mode = "tidewater.iceberg.mode"
	if !s.Tiered && s.ReadReplica == "" {
		add(mode, "a table is fed from what the bucket holds, so its topic must be tiered", "any, with remote.storage.enable=true")
	}
	if s.ReadReplica != "" {
		add(mode, "a read replica's table belongs to the source cluster", string(ModeDisabled))
	}
	if s.CleanupCompact {
		add("cleanup.policy", "a topic with a table cannot be compacted", "delete")
	}
	if s.Iceberg.Mode == ModeJSON && s.Iceberg.JSONSchema == "" {
		add(mode, "mode json needs the values' JSON Schema in tidewater.iceberg.json.schema", "json, with tidewater.iceberg.json.schema")
	}
}

// CheckChange finds what is wrong with going from one state to another of an
// existing topic, when both are right by themselves.
func CheckChange(old, now Settings) []Fault {
	var faults []Fault
	if old.Tiered && !now.Tiered && !now.RemoteDeleteOnDisable {
		faults = append(faults, Fault{Name: "remote.storage.enable", Value: "false",
			Reason: "switching tiering off gives up the records that are only in the bucket",
			Allowed: "true (with remote.log.copy.disable=true to stop uploading), " +
				"or false with remote.log.delete.on.disable=true"})
	}
	if old.ReadReplica != now.ReadReplica {
		faults = append(faults, Fault{Name: "tidewater.readreplica", Value: now.ReadReplica,
			Reason: "is fixed when the topic is created", Allowed: quoteOrEmpty(old.ReadReplica)})
	}
	if old.Iceberg.On() && now.Iceberg.On() && old.Iceberg.Namespace != now.Iceberg.Namespace {
		faults = append(faults, Fault{Name: "tidewater.iceberg.namespace", Value: now.Iceberg.Namespace,
			Reason: "is fixed while the topic has a table", Allowed: old.Iceberg.Namespace})
	}
	return faults
}

func quoteOrEmpty(s string) string {
	if s == "" {
		return "no value"
	}
	return s
}

// reason says why a single value is refused, in the most helpful way known.
func reason(d Definition, value string) string {
	if d.Name == "tidewater.iceberg.mode" && strings.HasPrefix(value, "value_schema_") {
		return "modes that take the schema from the registry are not built yet"
	}
	if d.Name == "tidewater.iceberg.json.schema" {
		return "is not a JSON object"
	}
	return "is not a valid " + d.Type.String() + " for this property"
}

// jsonObject reports whether v is one JSON object.
func jsonObject(v string) bool {
	var m map[string]json.RawMessage
	return json.Unmarshal([]byte(v), &m) == nil && m != nil
}
