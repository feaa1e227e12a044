// Package rest is a catalog.Catalog over any Iceberg REST catalog: ours,
// Polaris, Lakekeeper, Unity and others.
//
// iceberg-go has a client too; this one is smaller and differs where it matters
// to the committer: it never repeats a commit, and it tells apart commits that
// were not done (ErrConflict, ErrUnavailable), and those that may have been
// (ErrUnknown: a timeout, a broken connection or a 5xx after the request was
// sent). Reads are repeated a few times.
//
// Authorization is a fixed bearer token, or OAuth2 client credentials; a token
// is fetched when the first request needs it, again shortly before it expires,
// and once more after a 401.
//
// No loops. One mutex guards the token in memory; it is not held over a request.
package rest
