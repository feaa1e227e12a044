package topicconfig

import "slices"

// Type is a property's type, numbered as in Kafka's DescribeConfigs.
type Type int8

// The types in use.
const (
	Bool   Type = 1
	String Type = 2
	Int    Type = 3
	Long   Type = 5
	Double Type = 6
	List   Type = 7
)

func (t Type) String() string {
	switch t {
	case Bool:
		return "boolean"
	case String:
		return "string"
	case Int:
		return "int"
	case Long:
		return "long"
	case Double:
		return "double"
	case List:
		return "list"
	}
	return "unknown"
}

// Importance is Kafka's hint on how likely a user is to need a property.
type Importance string

// Kafka's three grades.
const (
	High   Importance = "high"
	Medium Importance = "medium"
	Low    Importance = "low"
)

// Definition describes one topic property.
type Definition struct {
	Name string
	Type Type
	// Default is the value when neither topic nor broker names one.
	Default    string
	Importance Importance
	// Doc is one or more whole sentences for DescribeConfigs and the manual.
	Doc string
	// Allowed says in words which values are accepted.
	Allowed string
	// Aliases are other accepted names for the same property.
	Aliases []string
	// Synonyms are the broker properties that give the topic's default,
	// strongest first. log.retention.ms before log.retention.minutes.
	Synonyms []Synonym
	// NoEffect marks a property of Kafka that is accepted and described, and
	// changes nothing here; Doc says why.
	NoEffect bool

	check func(value string) bool
	apply func(s *Settings, value string)
}

// Synonym is a broker property that stands for a topic property.
type Synonym struct {
	Name string
	// Scale turns the broker property's unit into the topic property's: 1,
	// or 60,000 for a value in minutes. Negative values are not scaled.
	Scale int64
}

// Definitions lists every property, sorted by name. The slice is the caller's.
func Definitions() []Definition { return slices.Clone(definitions()) }

// Lookup finds a property by its name or one of its aliases.
func Lookup(name string) (Definition, bool) {
	for _, d := range definitions() {
		if d.Name == name {
			return d, true
		}
		for _, a := range d.Aliases {
			if a == name {
				return d, true
			}
		}
	}
	return Definition{}, false
}

// Canonical gives the one stored name of a property; false if there is none.
func Canonical(name string) (string, bool) {
	d, ok := Lookup(name)
	return d.Name, ok
}
