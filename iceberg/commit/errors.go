package commit

import (
	"errors"
	"fmt"
	"strings"

	"tidewater/catalog"
)

// ErrMoved: another committer moved the offsets first; the work was dropped and
// the next round starts from theirs. It is no fault: retry.
var ErrMoved = errors.New("another committer moved the table's offsets")

// Choice is what a person decides about a stopped table.
type Choice string

// The choices of a stopped table.
const (
	// Retranslate takes the table's rows as the truth: the offsets go back to
	// what the rows reach, and the log is translated from there.
	Retranslate Choice = "re-translate"
	// Accept takes the offsets as the truth: rows that somebody took out of
	// the table stay out.
	Accept Choice = "accept"
)

// StoppedError: the table does not fit its log, and only a person can say what
// is meant. Nothing is committed until Resolve; without choices the
// configuration must change.
type StoppedError struct {
	Table   catalog.Ident
	Reason  string
	Choices []Choice
}

func (e *StoppedError) Error() string {
	s := fmt.Sprintf("table %s is stopped: %s", e.Table, e.Reason)
	if len(e.Choices) == 0 {
		return s
	}
	words := make([]string, len(e.Choices))
	for i, c := range e.Choices {
		words[i] = string(c)
	}
	return s + ": choose " + strings.Join(words, " or ")
}
