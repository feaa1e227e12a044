package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	gateway "github.com/versity/versitygw/backend"
	"github.com/versity/versitygw/s3api/middlewares"
	"github.com/versity/versitygw/s3api/utils"
	"github.com/versity/versitygw/s3err"
	"github.com/versity/versitygw/s3response"
)

// copyBufferBytes is the memory of one running PUT.
const copyBufferBytes = 128 << 10

func isNotDirectory(err error) bool { return errors.Is(err, syscall.ENOTDIR) }

// diskError turns a full disk into what clients understand.
func diskError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return s3err.GetAPIError(s3err.ErrNoSpaceLeftOnDevice)
	}
	return err
}

// checked wraps the body so that a checksum the client gave in a header is
// compared when the body ends. Those in a trailer the front compares itself.
func checked(r io.Reader, sums map[utils.HashType]*string) (io.Reader, error) {
	if trailed, ok := r.(middlewares.ChecksumReader); ok && trailed.Algorithm() != "" {
		return r, nil
	}
	for kind, sum := range sums {
		if deref(sum) != "" {
			return utils.NewHashReader(r, *sum, kind)
		}
	}
	return r, nil
}

// stage writes a body to a file of its own, whole and synced, or leaves nothing.
func (b *backend) stage(r io.Reader) (_ *os.File, err error) {
	f, err := os.CreateTemp(filepath.Join(b.dir, stagingDir), "body-")
	if err != nil {
		return nil, diskError(err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
			err = diskError(err)
		}
	}()
	if r == nil {
		r = strings.NewReader("")
	}
	if _, err = io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{r}, make([]byte, copyBufferBytes)); err != nil {
		return nil, err
	}
	return f, b.sync(f)
}

func (b *backend) sync(f *os.File) error {
	if b.cfg.NoSync {
		return nil
	}
	return f.Sync()
}

// publishAs gives a staged file its key, if the conditions hold at that
// instant. It takes the staged file: afterwards it is published or removed.
func (b *backend) publishAs(staged *os.File, file string, ifMatch, ifNoneMatch *string) (fs.FileInfo, error) {
	defer staged.Close()
	info, err := b.rename(staged, file, ifMatch, ifNoneMatch)
	if err != nil {
		_ = os.Remove(staged.Name())
		return nil, diskError(err)
	}
	if b.cfg.NoSync {
		return info, nil
	}
	return info, syncDirectory(filepath.Dir(file))
}

func (b *backend) rename(staged *os.File, file string, ifMatch, ifNoneMatch *string) (fs.FileInfo, error) {
	b.publish.Lock()
	defer b.publish.Unlock()
	old, err := os.Stat(file)
	exists := err == nil && !old.IsDir()
	etag := ""
	if exists {
		etag = etagOf(old)
	}
	if err := gateway.EvaluateObjectPutPreconditions(etag, ifMatch, ifNoneMatch, exists); err != nil {
		return nil, err
	}
	if err == nil && old.IsDir() {
		return nil, s3err.GetAPIError(s3err.ErrExistingObjectIsDirectory)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		if isNotDirectory(err) {
			return nil, s3err.GetAPIError(s3err.ErrObjectParentIsFile)
		}
		return nil, err
	}
	if err := os.Chtimes(staged.Name(), time.Time{}, b.stamp()); err != nil {
		return nil, err
	}
	if err := os.Rename(staged.Name(), file); err != nil {
		return nil, err
	}
	return staged.Stat()
}

func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a delete came right after
	}
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// PutObject writes a whole object.
func (b *backend) PutObject(_ context.Context, in s3response.PutObjectInput) (s3response.PutObjectOutput, error) {
	file, err := b.objectPath(in.Bucket, in.Key)
	if err != nil {
		return s3response.PutObjectOutput{}, err
	}
	r, err := checked(in.Body, map[utils.HashType]*string{
		utils.HashTypeCRC32: in.ChecksumCRC32, utils.HashTypeCRC32C: in.ChecksumCRC32C, utils.HashTypeSha1: in.ChecksumSHA1,
		utils.HashTypeSha256: in.ChecksumSHA256, utils.HashTypeCRC64NVME: in.ChecksumCRC64NVME})
	if err != nil {
		return s3response.PutObjectOutput{}, err
	}
	staged, err := b.stage(r)
	if err != nil {
		return s3response.PutObjectOutput{}, err
	}
	info, err := b.publishAs(staged, file, in.IfMatch, in.IfNoneMatch)
	if err != nil {
		return s3response.PutObjectOutput{}, err
	}
	return s3response.PutObjectOutput{ETag: etagOf(info), Size: pointer(info.Size())}, nil
}

// CopyObject writes an object from another one's bytes.
func (b *backend) CopyObject(_ context.Context, in s3response.CopyObjectInput) (s3response.CopyObjectOutput, error) {
	bucket, key, _, err := gateway.ParseCopySource(deref(in.CopySource))
	if err != nil {
		return s3response.CopyObjectOutput{}, err
	}
	from, err := b.objectPath(&bucket, &key)
	if err != nil {
		return s3response.CopyObjectOutput{}, err
	}
	to, err := b.objectPath(in.Bucket, in.Key)
	if err != nil {
		return s3response.CopyObjectOutput{}, err
	}
	if _, err := stat(from); err != nil {
		return s3response.CopyObjectOutput{}, err
	}
	source, err := os.Open(from)
	if err != nil {
		return s3response.CopyObjectOutput{}, err
	}
	defer source.Close()
	staged, err := b.stage(source)
	if err != nil {
		return s3response.CopyObjectOutput{}, err
	}
	info, err := b.publishAs(staged, to, nil, nil)
	if err != nil {
		return s3response.CopyObjectOutput{}, err
	}
	return s3response.CopyObjectOutput{CopyObjectResult: &s3response.CopyObjectResult{
		ETag: pointer(etagOf(info)), LastModified: pointer(info.ModTime())}}, nil
}

// DeleteObject removes an object; a missing one is no error.
func (b *backend) DeleteObject(_ context.Context, in *s3.DeleteObjectInput) (*s3.DeleteObjectOutput, error) {
	file, err := b.objectPath(in.Bucket, in.Key)
	if err != nil {
		return nil, err
	}
	return &s3.DeleteObjectOutput{}, b.remove(deref(in.Bucket), file)
}

// DeleteObjects removes many.
func (b *backend) DeleteObjects(_ context.Context, in *s3.DeleteObjectsInput) (s3response.DeleteResult, error) {
	var result s3response.DeleteResult
	for _, object := range in.Delete.Objects {
		file, err := b.objectPath(in.Bucket, object.Key)
		if err == nil {
			err = b.remove(deref(in.Bucket), file)
		}
		if err != nil {
			result.Error = append(result.Error, types.Error{Key: object.Key, Code: pointer("InternalError"), Message: pointer(err.Error())})
			continue
		}
		result.Deleted = append(result.Deleted, types.DeletedObject{Key: object.Key})
	}
	return result, nil
}

// remove deletes the file and the directories it leaves empty.
func (b *backend) remove(bucket, file string) error {
	b.publish.Lock()
	defer b.publish.Unlock()
	info, err := os.Stat(file)
	if err != nil || info.IsDir() {
		return nil // nothing there to delete
	}
	if err := os.Remove(file); err != nil {
		return fmt.Errorf("delete object: %w", err)
	}
	root := filepath.Join(b.dir, bucket)
	for dir := filepath.Dir(file); dir != root; dir = filepath.Dir(dir) {
		if os.Remove(dir) != nil {
			break // not empty
		}
	}
	return nil
}
