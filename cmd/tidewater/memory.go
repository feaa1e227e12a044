package main

import (
	"bufio"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// memoryBase is what a broker takes beside its budget: code's own tables,
// stacks, the garbage between two collections.
const memoryBase = 256 << 20

// settle bounds the heap by the budget and gives back what only the start
// needed: garbage of the libraries' initialization, and the pages of code and
// tables that it touched (about 60 MB of the binary; what is used again is
// mapped again from the page cache).
func settle(budget int64) {
	debug.SetMemoryLimit(budget + memoryBase)
	debug.FreeOSMemory()
	dropCodePages()
}

// dropCodePages unmaps the resident pages of this executable's read-only
// mappings. It is a saving, not a need: where the kernel tells nothing, nothing
// is done.
func dropCodePages() {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer maps.Close()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) != 6 || f[5] != self || strings.Contains(f[1], "w") {
			continue
		}
		from, to, ok := strings.Cut(f[0], "-")
		lo, err := strconv.ParseUint(from, 16, 64)
		hi, err2 := strconv.ParseUint(to, 16, 64)
		if !ok || err != nil || err2 != nil || hi <= lo {
			continue
		}
		// The mapping is private, read-only and backed by the executable.
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(lo), uintptr(hi-lo), unix.MADV_DONTNEED)
	}
}
