package broker

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tidewater/internal/disk"
)

// Shows that a restore takes no directory that holds anything but what a
// restore that was cut off leaves, and that the message says what is there.
func TestRestoreWantsAnEmptyDirectory(t *testing.T) {
	for name, empty := range map[string]bool{
		disk.LockFile: true, cacheDir: true, restoreFile: true, restoreFile + ".new-17": true, identityFile + ".new-1": true,
		"node": false, "journal": false, "letter.txt": false,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		err := onlyRestored(dir)
		if empty && err != nil || !empty && (err == nil || !strings.Contains(err.Error(), name)) {
			t.Errorf("a directory with %s: %v", name, err)
		}
	}
}
