// Package scan reads a table of ours: counts, groups, highest offsets, rows.
//
// It stands over iceberg-go's scan (planning by column bounds, delete files,
// schema evolution by field id), so that what it shows is what any engine
// shows. It serves `tidewater table`, verify, and the committer where it must
// look at what a table holds.
//
// A Table is one snapshot of one instant; nothing is cached. Memory is bounded
// by a few record batches, and for Group by GroupsMax.
package scan
