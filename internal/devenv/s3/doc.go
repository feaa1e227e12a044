// Package s3 is the development object store: an S3 endpoint on a directory,
// for `tidewater dev`, `tidewater s3` and tests. It is not a product; a real
// cluster uses a real store. Why it is our own:
// docs/decisions/0001-development-store.md.
//
// It speaks what our brokers and SQL engines ask of a bucket, path-style: get
// (whole, range, conditional), head, put (If-None-Match: *, If-Match), delete
// (one, many), list (both versions), copy, uploads in parts, signature version
// 4 with plain, unsigned and chunked bodies, checksums in headers and trailers.
//
// An object is a file under its key:
//
//	DIR/.lock             held while the store is open
//	DIR/.staging/N        a body on its way in, or the parts of an upload
//	DIR/tidewater/a/b/c   the object a/b/c of the bucket tidewater
//
// A body is staged, synced and then renamed to its key under the publish lock,
// where If-None-Match and If-Match are judged: a reader sees a whole object or
// none, also after kill -9, and of racing conditional writers one wins. What
// was staged when the process died is removed at the next Open, uploads begun
// included.
//
// Two credentials exist. The read-only one is let through for GET and HEAD and
// for nothing else.
//
// Not kept: user metadata, content type, tags, versions, access lists. Not
// checked: the signatures of single chunks (the request's own is, and so are
// checksums). A key must not be another key's directory (a and a/b). Presigned
// URLs and virtual-host addressing are not served.
//
// Loops: one goroutine accepts, net/http makes one per connection; Close ends
// them. The publish lock is held over a stat, a mkdir and a rename, so
// publishing is one at a time: cheap on a local file system, and simpler than
// a lock per key.
package s3
