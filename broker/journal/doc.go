// Package journal is the one write before the acknowledgement: the entries,
// hard states, ConfStates and marks of all Raft groups on a disk go to one
// append-only journal, made durable by one flush for all that waits (group
// commit).
//
//	multiraft ▸ Append Append Append … Flush ▸ [block-aligned write, fdatasync] ▸ answered
//	                                   Open  ◂ replay
//
// The journal is a chain of files of zero-filled blocks, used again and again.
// Each use has a number, which is part of every record's checksum. A mark in a
// Write says that the entries up to it are in synced segments; that is what
// frees bytes:
//
//	free ▸ active ▸ live (pinned by entries) ▸ live (unpinned) ▸ states rewritten ▸ free
//
// Entries that stay undecided are written again into the active file (Carry).
//
// Invariants:
//
//   - Flush returns nil only when everything appended before it is on stable
//     storage; flush n+1 begins after flush n ended.
//   - A flush begins on a new block, and no block that holds flushed bytes gets
//     others before its whole file is free.
//   - A file is free only when all entries in it are at or below their group's
//     durable mark and the newest hard state, ConfState and mark of every group
//     stand, durable, in a younger file, together with a note that says so.
//   - In replay the first bad record is a torn tail unless a valid record of
//     the same use, or a younger file, says that it was durable: then it is
//     corruption, and Open fails naming file, position, what was read and what
//     was expected.
//   - After a failed write or sync the journal is dead: what is on the disk is
//     not known, so every later call returns ErrDead. The next Open writes
//     again, byte for byte, what no record says was synced, and the header:
//     what it can read may be what only a cache holds (secure.go).
//
// A cut tail that left anything behind it is never appended to: the journal
// goes on in another file whose header says where the one before it ends.
// Otherwise records of the cut flush could come back behind a later one.
//
// The package starts no goroutine and takes no lock: a Journal belongs to one
// caller (multiraft's journal loop, or the simulation). What Flush promised
// survives a crash at any point; what was appended and not flushed survives as
// a prefix, in order, or not at all. Format: docs/formats/journal.md.
package journal
