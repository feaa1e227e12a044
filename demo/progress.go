package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// bar is a progress bar on one line of a terminal; elsewhere it prints only its
// end, so that logs stay readable.
type bar struct {
	what     string
	total    int64
	terminal bool
	last     time.Time
}

const barWidth = 30

func newBar(what string, total int64) *bar {
	info, err := os.Stdout.Stat()
	return &bar{what: what, total: total, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0}
}

// at shows that n of total are done.
func (b *bar) at(n int64) {
	if !b.terminal || n < b.total && time.Since(b.last) < 50*time.Millisecond {
		return
	}
	b.last = time.Now()
	b.draw(n, "\r", "")
}

// end shows the last state and leaves the line.
func (b *bar) end(n int64) {
	if b.terminal {
		b.draw(n, "\r", "\n")
		return
	}
	b.draw(n, "", "\n")
}

func (b *bar) draw(n int64, before, after string) {
	full := barWidth
	if b.total > 0 {
		full = int(min(n, b.total) * barWidth / b.total)
	}
	fmt.Printf("%s   %-22s [%s%s] %d/%d%s", before, b.what, strings.Repeat("#", full), strings.Repeat(".", barWidth-full), n, b.total, after)
}
