// Package schema turns a topic's JSON Schema into the columns of its table, and
// JSON values into rows of those columns.
//
//	JSON Schema text --Compile--> Value --TableSchema--> Iceberg schema --> the table's creation or Evolve
//	                                |
//	record value ---------------Builder (Value bound to the table's schema) --> leaf columns (values, levels)
//
// A Builder holds one row group as typed leaf columns with Parquet's definition
// and repetition levels. A compiled plan walks the JSON text once, straight
// into the columns: there is no row in between, no map, and nothing allocated
// per record. A row that turns out not to fit is taken back whole, with a reason
// that names the field and the problem; such records are dead letters.
//
// What fits is said in docs/formats/table.md. In short: the types of the schema
// and its required fields are checked; keywords that only restrict values
// (minimum, pattern, enum …) are not; unknown fields are ignored unless
// additionalProperties is false; a field given twice does not fit; null is
// accepted where the field is not required. Value columns are all optional in
// the table, so that a schema may gain and lose required fields, and a null
// value (a tombstone) is a row whose value columns are null.
//
// Everything here is pure: no goroutine, no clock, no I/O. A Builder belongs to
// one caller at a time. Nothing survives a crash; nothing needs to.
package schema
