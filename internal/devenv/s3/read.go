package s3

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	gateway "github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/s3err"
)

const contentType = "application/octet-stream"

// body is a part of a file that is closed when it was sent.
type body struct {
	io.Reader
	io.Closer
}

// HeadObject gives size, age and ETag.
func (b *backend) HeadObject(_ context.Context, in *s3.HeadObjectInput) (*s3.HeadObjectOutput, error) {
	file, err := b.objectPath(in.Bucket, in.Key)
	if err != nil {
		return nil, err
	}
	info, err := stat(file)
	if err != nil {
		return nil, err
	}
	etag, modified := etagOf(info), info.ModTime()
	err = gateway.EvaluatePreconditions(etag, modified, gateway.PreConditions{
		IfMatch: in.IfMatch, IfNoneMatch: in.IfNoneMatch,
		IfModSince: in.IfModifiedSince, IfUnmodeSince: in.IfUnmodifiedSince})
	if err != nil {
		return nil, err
	}
	start, length, ranged, err := gateway.ParseObjectRange(info.Size(), deref(in.Range))
	if err != nil {
		return nil, err
	}
	return &s3.HeadObjectOutput{
		AcceptRanges: pointer("bytes"), ContentLength: &length, ContentRange: contentRange(start, length, info.Size(), ranged),
		ContentType: pointer(contentType), ETag: &etag, LastModified: &modified, StorageClass: types.StorageClassStandard,
	}, nil
}

// GetObject gives a whole object or a range of one.
func (b *backend) GetObject(_ context.Context, in *s3.GetObjectInput) (*s3.GetObjectOutput, error) {
	file, err := b.objectPath(in.Bucket, in.Key)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) || isNotDirectory(err) {
		return nil, s3err.GetAPIError(s3err.ErrNoSuchKey)
	}
	if err != nil {
		return nil, err
	}
	out, err := getFrom(f, in)
	if err != nil {
		_ = f.Close()
	}
	return out, err
}

func getFrom(f *os.File, in *s3.GetObjectInput) (*s3.GetObjectOutput, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, s3err.GetAPIError(s3err.ErrNoSuchKey)
	}
	etag, modified := etagOf(info), info.ModTime()
	err = gateway.EvaluatePreconditions(etag, modified, gateway.PreConditions{
		IfMatch: in.IfMatch, IfNoneMatch: in.IfNoneMatch,
		IfModSince: in.IfModifiedSince, IfUnmodeSince: in.IfUnmodifiedSince})
	if err != nil {
		return nil, err
	}
	start, length, ranged, err := gateway.ParseObjectRange(info.Size(), deref(in.Range))
	if err != nil {
		return nil, err
	}
	return &s3.GetObjectOutput{
		AcceptRanges: pointer("bytes"), ContentLength: &length, ContentRange: contentRange(start, length, info.Size(), ranged),
		ContentType: pointer(contentType), ETag: &etag, LastModified: &modified, StorageClass: types.StorageClassStandard,
		Body: body{io.NewSectionReader(f, start, length), f},
	}, nil
}
