package topicconfig

import (
	"fmt"
	"strconv"
	"strings"
)

// PartitionTerm is one field of a table's partition spec: a transform of a
// column. N is the transform's number (buckets, width), 0 where it has none.
type PartitionTerm struct {
	Transform string
	N         int
	Column    string
}

func (t PartitionTerm) String() string {
	switch {
	case t.Transform == "identity":
		return t.Column
	case t.N > 0:
		return fmt.Sprintf("%s(%d, %s)", t.Transform, t.N, t.Column)
	}
	return fmt.Sprintf("%s(%s)", t.Transform, t.Column)
}

// partitionTermsMax bounds a spec; engines are slow well before it.
const partitionTermsMax = 16

// ParsePartitionSpec reads a comma-separated list of columns and transforms,
// with or without parentheses around the whole:
//
//	spec  = [ "(" ] [ term { "," term } ] [ ")" ]
//	term  = column | ( "identity" | "year" | "month" | "day" | "hour" ) "(" column ")"
//	      | ( "bucket" | "truncate" ) "(" number "," column ")"
func ParsePartitionSpec(spec string) ([]PartitionTerm, error) {
	spec = strings.TrimSpace(spec)
	if strings.HasPrefix(spec, "(") && strings.HasSuffix(spec, ")") {
		spec = spec[1 : len(spec)-1]
	}
	var terms []PartitionTerm
	for rest := strings.TrimSpace(spec); rest != ""; {
		text, after, err := cutTerm(rest)
		if err != nil {
			return nil, err
		}
		t, err := parseTerm(text)
		if err != nil {
			return nil, err
		}
		if terms = append(terms, t); len(terms) > partitionTermsMax {
			return nil, fmt.Errorf("more than %d partition fields", partitionTermsMax)
		}
		rest = after
	}
	return terms, nil
}

// cutTerm splits the first term off at the comma outside parentheses.
func cutTerm(s string) (term, rest string, err error) {
	depth := 0
	for i, c := range s {
		switch c {
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			if depth == 0 {
				rest = strings.TrimSpace(s[i+1:])
				if rest == "" {
					return "", "", fmt.Errorf("partition field missing after the last comma")
				}
				return s[:i], rest, nil
			}
		}
		if depth < 0 || depth > 1 {
			return "", "", fmt.Errorf("parentheses do not match in %q", s)
		}
	}
	if depth != 0 {
		return "", "", fmt.Errorf("parentheses do not match in %q", s)
	}
	return s, "", nil
}

func parseTerm(text string) (PartitionTerm, error) {
	text = strings.TrimSpace(text)
	name, args, call := strings.Cut(text, "(")
	if !call {
		return PartitionTerm{Transform: "identity", Column: text}, checkColumn(text)
	}
	if !strings.HasSuffix(args, ")") {
		return PartitionTerm{}, fmt.Errorf("parentheses do not match in %q", text)
	}
	t := PartitionTerm{Transform: strings.ToLower(strings.TrimSpace(name))}
	args = args[:len(args)-1]
	switch t.Transform {
	case "identity", "year", "month", "day", "hour":
		t.Column = strings.TrimSpace(args)
	case "bucket", "truncate":
		number, column, ok := strings.Cut(args, ",")
		n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 32)
		if !ok || err != nil || n < 1 {
			return t, fmt.Errorf("%s needs a number above 0 and a column, as in %s(16, kafka_key)", t.Transform, t.Transform)
		}
		t.N, t.Column = int(n), strings.TrimSpace(column)
	default:
		return t, fmt.Errorf("unknown transform %q", name)
	}
	return t, checkColumn(t.Column)
}

// checkColumn accepts a column, or a field of one by dots.
func checkColumn(c string) error {
	for _, part := range strings.Split(c, ".") {
		if !identifier(part) {
			return fmt.Errorf("%q is not a column name", c)
		}
	}
	return nil
}

// identifier reports whether s is letters, digits, '_' and '-', at least one.
func identifier(s string) bool {
	for _, c := range s {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-') {
			return false
		}
	}
	return s != ""
}
