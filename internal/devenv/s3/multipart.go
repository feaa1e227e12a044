package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/versity/versitygw/s3api/utils"
	"github.com/versity/versitygw/s3err"
	"github.com/versity/versitygw/s3response"
)

const uploadPrefix = "upload-"

// uploadPath gives the directory of an upload that was begun and not ended.
func (b *backend) uploadPath(id *string) (string, error) {
	name := deref(id)
	dir := filepath.Join(b.dir, stagingDir, uploadPrefix+name)
	if name == "" || strings.ContainsAny(name, "/\x00") {
		return "", s3err.GetNoSuchUploadErr(name)
	}
	if _, err := os.Stat(dir); err != nil {
		return "", s3err.GetNoSuchUploadErr(name)
	}
	return dir, nil
}

func partPath(upload string, number int32) string {
	return filepath.Join(upload, fmt.Sprintf("part-%05d", number))
}

// CreateMultipartUpload begins an upload: a directory for its parts.
func (b *backend) CreateMultipartUpload(_ context.Context, in s3response.CreateMultipartUploadInput) (s3response.InitiateMultipartUploadResult, error) {
	if _, err := b.objectPath(in.Bucket, in.Key); err != nil {
		return s3response.InitiateMultipartUploadResult{}, err
	}
	dir, err := os.MkdirTemp(filepath.Join(b.dir, stagingDir), uploadPrefix)
	if err != nil {
		return s3response.InitiateMultipartUploadResult{}, diskError(err)
	}
	return s3response.InitiateMultipartUploadResult{Bucket: deref(in.Bucket), Key: deref(in.Key),
		UploadId: strings.TrimPrefix(filepath.Base(dir), uploadPrefix)}, nil
}

// UploadPart keeps one part; a part of the same number is replaced.
func (b *backend) UploadPart(_ context.Context, in *s3.UploadPartInput) (*s3.UploadPartOutput, error) {
	upload, err := b.uploadPath(in.UploadId)
	if err != nil {
		return nil, err
	}
	r, err := checked(in.Body, map[utils.HashType]*string{
		utils.HashTypeCRC32: in.ChecksumCRC32, utils.HashTypeCRC32C: in.ChecksumCRC32C, utils.HashTypeSha1: in.ChecksumSHA1,
		utils.HashTypeSha256: in.ChecksumSHA256, utils.HashTypeCRC64NVME: in.ChecksumCRC64NVME})
	if err != nil {
		return nil, err
	}
	staged, err := b.stage(r)
	if err != nil {
		return nil, err
	}
	defer staged.Close()
	if err := os.Rename(staged.Name(), partPath(upload, deref(in.PartNumber))); err != nil {
		_ = os.Remove(staged.Name())
		return nil, s3err.GetNoSuchUploadErr(deref(in.UploadId))
	}
	info, err := staged.Stat()
	if err != nil {
		return nil, err
	}
	return &s3.UploadPartOutput{ETag: pointer(etagOf(info))}, nil
}

// CompleteMultipartUpload joins the named parts into the object.
func (b *backend) CompleteMultipartUpload(_ context.Context, in *s3.CompleteMultipartUploadInput) (s3response.CompleteMultipartUploadResult, string, error) {
	var none s3response.CompleteMultipartUploadResult
	file, err := b.objectPath(in.Bucket, in.Key)
	if err != nil {
		return none, "", err
	}
	upload, err := b.uploadPath(in.UploadId)
	if err != nil {
		return none, "", err
	}
	staged, err := b.join(upload, deref(in.UploadId), in.MultipartUpload.Parts)
	if err != nil {
		return none, "", err
	}
	info, err := b.publishAs(staged, file, in.IfMatch, in.IfNoneMatch)
	if err != nil {
		return none, "", err
	}
	if err := os.RemoveAll(upload); err != nil {
		return none, "", err
	}
	return s3response.CompleteMultipartUploadResult{Bucket: in.Bucket, Key: in.Key, ETag: pointer(etagOf(info))}, "", nil
}

// join stages the parts, in the order given, as one body.
func (b *backend) join(upload, id string, parts []types.CompletedPart) (*os.File, error) {
	var readers []io.Reader
	for _, part := range parts {
		f, err := os.Open(partPath(upload, deref(part.PartNumber)))
		if err != nil {
			return nil, s3err.GetInvalidPartErr(id, deref(part.PartNumber), deref(part.ETag))
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		if strings.Trim(deref(part.ETag), `"`) != strings.Trim(etagOf(info), `"`) {
			return nil, s3err.GetInvalidPartErr(id, deref(part.PartNumber), deref(part.ETag))
		}
		readers = append(readers, f)
	}
	return b.stage(io.MultiReader(readers...))
}

// AbortMultipartUpload forgets an upload and its parts.
func (b *backend) AbortMultipartUpload(_ context.Context, in *s3.AbortMultipartUploadInput) error {
	upload, err := b.uploadPath(in.UploadId)
	if err != nil {
		return err
	}
	return os.RemoveAll(upload)
}

// ListMultipartUploads gives none: keys of uploads are not kept, and what is
// left over goes at the next start.
func (b *backend) ListMultipartUploads(_ context.Context, in *s3.ListMultipartUploadsInput) (s3response.ListMultipartUploadsResult, error) {
	return s3response.ListMultipartUploadsResult{Bucket: deref(in.Bucket), Prefix: deref(in.Prefix),
		Delimiter: deref(in.Delimiter), MaxUploads: int(deref(in.MaxUploads))}, nil
}

// ListParts gives the parts an upload has so far.
func (b *backend) ListParts(_ context.Context, in *s3.ListPartsInput) (s3response.ListPartsResult, error) {
	upload, err := b.uploadPath(in.UploadId)
	if err != nil {
		return s3response.ListPartsResult{}, err
	}
	entries, err := os.ReadDir(upload)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s3response.ListPartsResult{}, err
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name() < entries[j].Name() })
	after, _ := strconv.Atoi(deref(in.PartNumberMarker))
	result := s3response.ListPartsResult{Bucket: deref(in.Bucket), Key: deref(in.Key), UploadID: deref(in.UploadId),
		PartNumberMarker: after, MaxParts: int(deref(in.MaxParts)), StorageClass: types.StorageClassStandard}
	for _, e := range entries {
		number, err := strconv.Atoi(strings.TrimPrefix(e.Name(), "part-"))
		if err != nil || number <= after {
			continue
		}
		if len(result.Parts) >= result.MaxParts {
			result.IsTruncated = true
			break
		}
		info, err := e.Info()
		if err != nil {
			continue
		}
		result.Parts = append(result.Parts, s3response.Part{PartNumber: number, ETag: etagOf(info), Size: info.Size(), LastModified: info.ModTime()})
		result.NextPartNumberMarker = number
	}
	return result, nil
}
