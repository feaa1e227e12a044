// Package topicconfig knows every property a topic can have: Kafka's own, with
// Kafka's names, types and defaults, and those of tiering and tables. It turns
// a map of strings, as clients send it, into typed Settings, and says what is
// wrong with each property that does not fit, with the values that would.
//
// It stands between the controller (which refuses a topic with faults), the
// Kafka API (DescribeConfigs lists Definitions) and the packages that act on
// Settings: partition, archive, translate, commit.
//
// Names have one canonical form. Redpanda's names are aliases: they are
// accepted wherever a name is, and stored under the canonical one, so that no
// other package meets them.
//
// It is a leaf without state: no goroutine, no lock, nothing to survive a
// crash. Parse is a pure function, but its rules may grow from version to
// version: replicated state machines store strings and never call it.
package topicconfig
