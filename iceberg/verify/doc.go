// Package verify proves that a topic's table holds its log: every committed
// data record below the table's offsets is in exactly one of table and
// dead-letter table, once, with the values it has in the log, and nothing else
// is (invariant 7).
//
//	log   --Records--> schema.Builder --canonical columns--> row hash --.
//	                                                                     compare per window of offsets
//	table --scan-----> Arrow ---------canonical columns--> row hash --'
//
// Row hashes are added up per window of offsets, which does not depend on
// order, so that memory is about 50 bytes per WindowOffsets offsets and one
// pass over each side is enough when they agree. Windows that disagree are read
// again, row by row, to name the first differences.
//
// In mode json the values are worked out anew from the log by the topic's
// schema as it is now. Two things are allowed for rows older than the schema: a
// column added later may be null, and a record may be a row or a dead letter as
// an earlier schema judged it.
//
// It runs in its caller's goroutine, changes nothing, and may run beside a
// committer: it looks at one snapshot of each table.
package verify
