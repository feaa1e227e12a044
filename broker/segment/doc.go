// Package segment keeps the committed entries of one partition in files of
// its own, behind the journal: the hot tier of the log.
//
// In the flow it stands after the commit: partition hands over committed
// entries in large pieces, each of which becomes one chunk of the active
// segment; once Sync has returned, the journal and the memory of the group let
// go of them. Reads of what is no longer in memory, the archive and the
// rebuilding of producer state come from here.
//
//	| header block | chunk ......... pad | chunk .. pad | chunk ...
//	               ^ block    chunk = header, other entries, whole batches
//
// Invariants:
//   - Only committed entries come here, so a segment is never cut back. The
//     one exception is a torn last chunk, which recovery drops: nobody was
//     told that it is there.
//   - A block once written and synced is never written again.
//   - Entries are contiguous by Index, batches by Offset, across chunks and
//     files.
//   - Every chunk says which bytes of its file were durable when it was
//     written. Damage below that point is corruption and is reported with
//     file, position, what was read and what was expected; damage above it is
//     a torn tail.
//   - What a start finds and neither a chunk nor the mark calls durable is
//     written again, as it was checked, by the first Sync (doubt.go).
//   - What is read is checked; damage is noted (Damaged). A damaged segment is
//     made anew in a file of the next generation (Rebuild, Use), which counts
//     once its index is there.
//   - An index file is a cache: it is written when a segment is sealed, and
//     built again from the segment when it is missing or does not check.
//
// There is no goroutine. One caller at a time may call Append, Sync, Roll,
// RemoveBefore, Close and Remove; reads (Read, Find, Scan, Entries, Segments,
// End) are safe beside it and beside each other. Log.mu guards what readers
// and the appender share and is never held across a disk call. A Cache is
// shared by many logs and holds the open files and the indexes of sealed
// segments within bounds, so that an idle log costs a few kilobytes; its mutex
// is taken inside no other.
//
// What survives a crash: everything up to the last Sync that returned nil.
// Formats: docs/formats/segment.md.
package segment
