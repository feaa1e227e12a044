package s3

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/auth"
	gateway "github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/s3err"
	"github.com/versity/versitygw/s3response"
)

const stagingDir = ".staging"

// backend keeps objects as files. What it does not override is answered as
// not implemented.
type backend struct {
	gateway.BackendUnsupported
	dir string
	cfg Config

	// publish is held while a name below a bucket comes, goes or is judged by
	// a condition.
	publish sync.Mutex
	// stamped is the newest modification time given out, in nanoseconds;
	// guarded by publish. Times never repeat, so an ETag made of one is unique.
	stamped int64
}

func openBackend(dir string, cfg Config) (*backend, error) {
	staging := filepath.Join(dir, stagingDir)
	if err := os.RemoveAll(staging); err != nil {
		return nil, fmt.Errorf("open development store: %w", err)
	}
	for _, d := range []string{staging, filepath.Join(dir, Bucket)} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, fmt.Errorf("open development store: %w", err)
		}
	}
	return &backend{dir: dir, cfg: cfg}, nil
}

// String names the backend in the front's messages.
func (b *backend) String() string { return "tidewater development store" }

func deref[T any](p *T) T {
	if p == nil {
		return *new(T)
	}
	return *p
}

// bucketPath gives the directory of a bucket that exists.
func (b *backend) bucketPath(bucket *string) (string, error) {
	name := deref(bucket)
	dir := filepath.Join(b.dir, name)
	if name == "" || strings.HasPrefix(name, ".") || strings.ContainsAny(name, "/\x00") {
		return "", s3err.GetBucketErr(s3err.ErrNoSuchBucket, name)
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return "", s3err.GetBucketErr(s3err.ErrNoSuchBucket, name)
	}
	return dir, nil
}

// objectPath gives the file of a key in a bucket that exists.
func (b *backend) objectPath(bucket, key *string) (string, error) {
	dir, err := b.bucketPath(bucket)
	if err != nil {
		return "", err
	}
	name, err := fileName(deref(key))
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, filepath.FromSlash(name)), nil
}

// stat gives the file of an object, or ErrNoSuchKey.
func stat(file string) (fs.FileInfo, error) {
	info, err := os.Stat(file)
	if err == nil && info.IsDir() || errors.Is(err, fs.ErrNotExist) || isNotDirectory(err) {
		return nil, s3err.GetAPIError(s3err.ErrNoSuchKey)
	}
	return info, err
}

// etagOf names this content of this file. Modification times are unique
// within the store, so no digest has to be kept beside the file.
func etagOf(info fs.FileInfo) string {
	return fmt.Sprintf("\"%016x-%d\"", info.ModTime().UnixNano(), info.Size())
}

// stamp gives a time later than any before. The caller holds publish.
func (b *backend) stamp() time.Time {
	b.stamped = max(time.Now().UnixNano(), b.stamped+1)
	return time.Unix(0, b.stamped)
}

// ListBuckets gives the directories.
func (b *backend) ListBuckets(_ context.Context, in s3response.ListBucketsInput) (s3response.ListAllMyBucketsResult, error) {
	result := s3response.ListAllMyBucketsResult{Owner: s3response.CanonicalUser{ID: b.cfg.AccessKey}, Prefix: in.Prefix}
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return result, err
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name() < entries[j].Name() })
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !e.IsDir() || strings.HasPrefix(e.Name(), ".") || !strings.HasPrefix(e.Name(), in.Prefix) {
			continue
		}
		result.Buckets.Bucket = append(result.Buckets.Bucket, s3response.ListAllMyBucketsEntry{
			Name: e.Name(), BucketRegion: Region, CreationDate: info.ModTime()})
	}
	return result, nil
}

// HeadBucket tells whether the bucket exists.
func (b *backend) HeadBucket(_ context.Context, in *s3.HeadBucketInput) (*s3.HeadBucketOutput, error) {
	if _, err := b.bucketPath(in.Bucket); err != nil {
		return nil, err
	}
	region := Region
	return &s3.HeadBucketOutput{BucketRegion: &region}, nil
}

// CreateBucket makes a directory.
func (b *backend) CreateBucket(_ context.Context, in *s3.CreateBucketInput, _ []byte) error {
	err := os.Mkdir(filepath.Join(b.dir, deref(in.Bucket)), 0o755)
	if errors.Is(err, fs.ErrExist) {
		return s3err.GetBucketErr(s3err.ErrBucketAlreadyOwnedByYou, deref(in.Bucket))
	}
	return err
}

// DeleteBucket removes an empty directory.
func (b *backend) DeleteBucket(_ context.Context, bucket string) error {
	dir, err := b.bucketPath(&bucket)
	if err != nil {
		return err
	}
	if err := os.Remove(dir); err != nil {
		return s3err.GetBucketErr(s3err.ErrBucketNotEmpty, bucket)
	}
	return nil
}

// GetBucketAcl names the owner of every bucket: the credential that may do everything.
func (b *backend) GetBucketAcl(_ context.Context, in *s3.GetBucketAclInput) ([]byte, error) {
	if _, err := b.bucketPath(in.Bucket); err != nil {
		return nil, err
	}
	return json.Marshal(auth.ACL{Owner: b.cfg.AccessKey})
}

// GetBucketPolicy is what the front asks before it lets the read-only credential through.
func (b *backend) GetBucketPolicy(_ context.Context, bucket string) ([]byte, error) {
	return readOnlyPolicy(bucket, b.cfg.ReadOnlyKey)
}

// GetBucketVersioning says that objects have no versions.
func (b *backend) GetBucketVersioning(context.Context, string) (s3response.GetBucketVersioningOutput, error) {
	return s3response.GetBucketVersioningOutput{}, nil
}

// GetBucketCors says that there is none.
func (b *backend) GetBucketCors(_ context.Context, bucket string) ([]byte, error) {
	return nil, s3err.GetBucketErr(s3err.ErrNoSuchCORSConfiguration, bucket)
}

// GetObjectLockConfiguration says that there is none.
func (b *backend) GetObjectLockConfiguration(_ context.Context, bucket string) ([]byte, error) {
	return nil, s3err.GetBucketErr(s3err.ErrObjectLockConfigurationNotFound, bucket)
}

// GetBucketOwnershipControls says that the owner owns everything.
func (b *backend) GetBucketOwnershipControls(context.Context, string) (types.ObjectOwnership, error) {
	return types.ObjectOwnershipBucketOwnerEnforced, nil
}

// GetBucketTagging says that there are none.
func (b *backend) GetBucketTagging(_ context.Context, bucket string) (map[string]string, error) {
	return nil, s3err.GetBucketErr(s3err.ErrBucketTaggingNotFound, bucket)
}
