package commit

import (
	"fmt"
	"strings"

	ice "github.com/apache/iceberg-go"
)

// specText is a parsed tidewater.iceberg.partition.spec: "(day(ts), carrier,
// bucket(16, id))". Columns of structs are given by a dotted path.
type specText []specField

type specField struct{ transform, column string }

func parseSpec(s string) (specText, error) {
	body := strings.TrimSpace(s)
	if strings.HasPrefix(body, "(") {
		if !strings.HasSuffix(body, ")") {
			return nil, fmt.Errorf("partition spec %q: no closing parenthesis", s)
		}
		body = strings.TrimSpace(body[1 : len(body)-1])
	}
	var out specText
	for body != "" {
		word := body
		depth := 0
		for i, r := range body {
			if r == '(' {
				depth++
			} else if r == ')' {
				depth--
			}
			if r == ',' && depth == 0 {
				word = body[:i]
				break
			}
		}
		body = strings.TrimSpace(strings.TrimPrefix(body[len(word):], ","))
		f, err := parseSpecField(strings.TrimSpace(word))
		if err != nil {
			return nil, fmt.Errorf("partition spec %q: %w", s, err)
		}
		out = append(out, f)
	}
	return out, nil
}

func parseSpecField(s string) (specField, error) {
	name, args, ok := strings.Cut(s, "(")
	if !ok {
		if s == "" {
			return specField{}, fmt.Errorf("an empty field")
		}
		return specField{transform: "identity", column: s}, nil
	}
	args, ok = strings.CutSuffix(args, ")")
	if !ok {
		return specField{}, fmt.Errorf("%q: no closing parenthesis", s)
	}
	name = strings.ToLower(strings.TrimSpace(name))
	column := strings.TrimSpace(args)
	if name == "bucket" || name == "truncate" {
		n, rest, ok := strings.Cut(args, ",")
		if !ok {
			return specField{}, fmt.Errorf("%q: write %s(N, column)", s, name)
		}
		name, column = fmt.Sprintf("%s[%s]", name, strings.TrimSpace(n)), strings.TrimSpace(rest)
	}
	transform, err := ice.ParseTransform(name)
	if _, unknown := transform.(ice.UnknownTransform); unknown || err != nil {
		return specField{}, fmt.Errorf("%q: use year, month, day, hour, bucket(N, column), truncate(N, column) or a column", s)
	}
	return specField{transform: name, column: column}, nil
}

// bind makes the spec for a table of schema sc; nil is unpartitioned.
func (s specText) bind(sc *ice.Schema) (*ice.PartitionSpec, error) {
	if len(s) == 0 {
		return nil, nil
	}
	var opts []ice.PartitionOption
	for _, f := range s {
		transform, err := ice.ParseTransform(f.transform)
		if err != nil {
			return nil, fmt.Errorf("partition spec: %w", err)
		}
		field, ok := sc.FindFieldByName(f.column)
		if !ok {
			return nil, fmt.Errorf("partition spec: the table has no column %s", f.column)
		}
		name := f.column
		if f.transform != "identity" {
			kind, _, _ := strings.Cut(f.transform, "[")
			name = f.column + "_" + map[string]string{"truncate": "trunc"}[kind]
			if kind != "truncate" {
				name = f.column + "_" + kind
			}
		}
		opts = append(opts, ice.AddPartitionFieldBySourceID(field.ID, name, transform, sc, nil))
	}
	spec, err := ice.NewPartitionSpecOpts(opts...)
	if err != nil {
		return nil, fmt.Errorf("partition spec: %w", err)
	}
	return &spec, nil
}
