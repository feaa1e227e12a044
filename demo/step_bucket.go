package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

const bucketName = "tidewater"

// archiveTimeout bounds the wait for sealed segments to arrive in the bucket.
const archiveTimeout = 90 * time.Second

// store opens the bucket as anybody with read-only credentials could.
func (d *demo) store() (*minio.Client, error) {
	return minio.New(d.ports.s3, &minio.Options{
		Creds: credentials.NewStaticV4(readOnlyAccessKey, readOnlySecretKey, ""), Region: "us-east-1",
	})
}

// kinds are the objects of a cluster, by their keys (docs/formats/bucket.md).
var kinds = []struct {
	name string
	is   func(key string) bool
}{
	{"segments", func(k string) bool { return strings.HasSuffix(k, ".segment") }},
	{"offset indexes", func(k string) bool { return strings.HasSuffix(k, ".index") }},
	{"manifests", func(k string) bool { return strings.Contains(k, "/manifest/") && !strings.Contains(k, "/tail/") }},
	{"tail objects", func(k string) bool { return strings.Contains(k, "/tail/") && !strings.Contains(k, "/manifest/") }},
	{"data files of the table", func(k string) bool { return strings.HasSuffix(k, ".parquet") }},
}

// bucket lists what has arrived, until each kind is there.
func bucket(ctx context.Context, d *demo) error {
	s, err := d.store()
	if err != nil {
		return err
	}
	count, size := map[string]int{}, map[string]int64{}
	b := newBar("kinds of objects", int64(len(kinds)))
	err = wait(ctx, archiveTimeout, "every kind of object in the bucket", func() (bool, error) {
		clear(count)
		clear(size)
		for o := range s.ListObjects(ctx, bucketName, minio.ListObjectsOptions{Recursive: true}) {
			if o.Err != nil {
				return false, fmt.Errorf("list the bucket: %w", o.Err)
			}
			for _, k := range kinds {
				if k.is(o.Key) {
					count[k.name]++
					size[k.name] += o.Size
				}
			}
		}
		b.at(int64(len(count)))
		return len(count) == len(kinds), nil
	})
	if err != nil {
		return err
	}
	b.end(int64(len(count)))
	for _, k := range kinds {
		say("%-24s %4d  %10d bytes", k.name, count[k.name], size[k.name])
	}
	return nil
}
