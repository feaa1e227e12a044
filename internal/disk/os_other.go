//go:build !linux

package disk

import (
	"math"
	"os"
)

// openDirect is 0 where there is no flag of direct I/O: the page cache serves.
const openDirect = 0

func dataSync(f *os.File) error { return f.Sync() }

// freeBytes claims no bound where it cannot be asked; a full disk still shows
// as ErrFull at the write.
func freeBytes(string) (int64, error) { return math.MaxInt64, nil }

// hugePages does nothing where they cannot be asked for.
func hugePages([]byte) {}
