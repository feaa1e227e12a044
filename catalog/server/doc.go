// Package server is our own Iceberg catalog: the REST specification as engines
// use it, over nothing but a bucket. It is also a catalog.Catalog for callers
// in this process.
//
//	engine --HTTP--> Server --updates, requirements--> metadata file, then pointer
//	committer -----> Server
//
// The truth is in the bucket (docs/formats/catalog.md): per table name a series
// of numbered pointer objects, the highest counts; each names a metadata file.
// A commit writes the metadata file under a name never used before, then the
// pointer N+1 by create-if-absent, then answers. So:
//
//   - a commit that was answered is in the bucket; one that was not may be, and
//     is answered ErrUnknown if that cannot be found out;
//   - of two servers, or two requests, that commit on pointer N one wins; the
//     other reads the new metadata and checks all requirements again, and so
//     gets ErrConflict unless they still hold;
//   - a server that slept while the series went on and was cleaned behind it
//     cannot continue it (see series);
//   - a crash between metadata file and pointer leaves a file nobody names.
//
// A transaction over several tables writes all metadata files first and then
// the pointers one by one. It is all or nothing against failed requirements and
// against everything that happens before the first pointer; if a pointer other
// than the first is lost to a racing commit or the store, the answer is
// ErrUnknown and names the tables that were committed.
//
// The newest metadata of a bounded number of tables is kept in memory, and used
// only after the store said that no newer pointer exists.
//
// Loops and locks: none of its own; requests run on the HTTP server's
// goroutines. The mutexes of cache and bucket guard memory and are never held
// over a call of the store.
package server
