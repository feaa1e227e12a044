// Package s3 is the development object store: an S3 endpoint on a directory,
// for `tidewater dev`, `tidewater s3` and tests. It is not a product; a real
// cluster uses a real store.
//
// versitygw's S3 front answers the requests (signatures, streamed bodies and
// their checksums, errors, access policy). Behind it stands a backend of our
// own, because versitygw's posix backend changes the working directory of the
// whole process and serves one directory per process
// (docs/decisions/0001-development-store.md).
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
// Not kept: user metadata, content type, tags, versions. A key must not be
// another key's directory (a and a/b), as in versitygw.
//
// Loops: one goroutine serves (the front's); Close ends it. The publish lock
// is held over a stat, a mkdir and a rename, so publishing is one at a time:
// cheap on a local file system, and simpler than a lock per key.
package s3
