// Package archive puts a partition's log into the bucket.
package archive
