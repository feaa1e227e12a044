// Package catalog is what the tree needs of an Iceberg catalog, and nothing
// else: load, create, commit, drop and list tables, and make a namespace.
//
// It stands between the table committer and whoever keeps the table pointers:
//
//	iceberg/commit --Catalog--> catalog/server  our own, in this process
//	                       '--> catalog/rest    any REST catalog, ours included
//
// A commit carries its own requirements (table uuid, main's snapshot, schema
// id); an implementation applies all updates of a commit or none, checks the
// requirements against the metadata it replaces, and never repeats a commit on
// its own against newer metadata: the caller reloads and decides. One suite in
// catalogtest runs on every implementation.
//
// The package holds types only: no goroutine, no lock, no state.
package catalog
