package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// journalEndFile says how far the journal had come at the last start, or at the
// clean stop after it. It stands beside the journal's directory, so that a
// journal that was emptied, or replaced by an older copy, is told from the one
// whose promises the broker gave.
const journalEndFile = "journal.json"

// journalEnd is what journalEndFile holds.
type journalEnd struct {
	Version int   `json:"version"`
	End     int64 `json:"end"` // a journal position
}

const journalEndVersion = 1

// loadJournalEnd gives the position, 0 where none was noted.
func loadJournalEnd(dir string) (int64, error) {
	path := filepath.Join(dir, journalEndFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	var e journalEnd
	if err := json.Unmarshal(text, &e); err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	if e.Version != journalEndVersion || e.End < 0 {
		return 0, fmt.Errorf("%s has version %d and position %d, this build reads version %d: use the build that wrote it", path, e.Version, e.End, journalEndVersion)
	}
	return e.End, nil
}

// saveJournalEnd notes a position that is durable in the journal.
func saveJournalEnd(dir string, end int64) error {
	text, err := json.Marshal(journalEnd{Version: journalEndVersion, End: end})
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, journalEndFile), append(text, '\n'))
}
