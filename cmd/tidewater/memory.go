package main

import "runtime/debug"

// memoryBase is what a broker takes beside its budget: code's own tables,
// stacks, the garbage between two collections.
const memoryBase = 256 << 20

// settle bounds the heap by the budget and gives back the garbage of the
// libraries' initialization, which is never used again.
func settle(budget int64) {
	debug.SetMemoryLimit(budget + memoryBase)
	debug.FreeOSMemory()
}
