package catalog

import (
	"errors"
	"fmt"
	"strings"
)

// levelBytesMax bounds one level of a name, so that the longest object key
// made of it stays below what stores take (1024 bytes).
const levelBytesMax = 200

// namespaceLevelsMax bounds the depth of a namespace, for the same reason.
const namespaceLevelsMax = 4

// Namespace is the path of a namespace, outermost level first. Empty is the root.
type Namespace []string

// Ident names a table.
type Ident struct {
	Namespace Namespace
	Name      string
}

// String joins the levels by dots, for people.
func (n Namespace) String() string { return strings.Join(n, ".") }

// String joins namespace and name by dots, for people.
func (i Ident) String() string {
	if len(i.Namespace) == 0 {
		return i.Name
	}
	return i.Namespace.String() + "." + i.Name
}

// ParseIdent reads "namespace.table", the last dot before the name.
func ParseIdent(s string) (Ident, error) {
	levels := strings.Split(s, ".")
	ident := Ident{Namespace: levels[:len(levels)-1], Name: levels[len(levels)-1]}
	if err := ident.Validate(); err != nil {
		return Ident{}, err
	}
	return ident, nil
}

// Validate checks a namespace other than the root.
func (n Namespace) Validate() error {
	if len(n) == 0 {
		return fmt.Errorf("%w: a namespace needs at least one level", ErrInvalid)
	}
	if len(n) > namespaceLevelsMax {
		return fmt.Errorf("%w: namespace %s has more than %d levels", ErrInvalid, n, namespaceLevelsMax)
	}
	for _, level := range n {
		if err := validateLevel(level); err != nil {
			return fmt.Errorf("%w: namespace %q: %w", ErrInvalid, n.String(), err)
		}
	}
	return nil
}

// Validate checks namespace and name.
func (i Ident) Validate() error {
	if err := i.Namespace.Validate(); err != nil {
		return err
	}
	if err := validateLevel(i.Name); err != nil {
		return fmt.Errorf("%w: table %q: %w", ErrInvalid, i.String(), err)
	}
	return nil
}

func validateLevel(level string) error {
	if level == "" {
		return errors.New("a name must not be empty")
	}
	if len(level) > levelBytesMax {
		return fmt.Errorf("a name must not be longer than %d bytes", levelBytesMax)
	}
	for _, r := range level {
		if r < ' ' || r == 0x7f || r == 0xfffd {
			return fmt.Errorf("a name must not contain the character %U", r)
		}
	}
	return nil
}
