package s3

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	uploadPrefix = "upload-"
	partNumbers  = 10000
)

// upload gives the directory of the upload the request names.
func (f *front) upload(r *http.Request) (string, error) {
	id := r.URL.Query().Get("uploadId")
	if id == "" || strings.ContainsAny(id, "/\x00") {
		return "", noSuchUpload()
	}
	dir := filepath.Join(f.dir.path, stagingDir, uploadPrefix+id)
	if _, err := os.Stat(dir); err != nil {
		return "", noSuchUpload()
	}
	return dir, nil
}

func partFile(upload string, number int) string {
	return filepath.Join(upload, fmt.Sprintf("part-%05d", number))
}

// beginUpload makes a directory for the parts.
func (f *front) beginUpload(w http.ResponseWriter, r *http.Request, bucket, key string) error {
	if _, err := f.dir.object(bucket, key); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Join(f.dir.path, stagingDir), uploadPrefix)
	if err != nil {
		return err
	}
	writeXML(w, r, http.StatusOK, struct {
		XMLName  xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ InitiateMultipartUploadResult"`
		Bucket   string
		Key      string
		UploadId string
	}{Bucket: bucket, Key: key, UploadId: strings.TrimPrefix(filepath.Base(dir), uploadPrefix)})
	return nil
}

// putPart keeps one part; a part of the same number is replaced.
func (f *front) putPart(w http.ResponseWriter, r *http.Request) error {
	dir, err := f.upload(r)
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(r.URL.Query().Get("partNumber"))
	if err != nil || number < 1 || number > partNumbers {
		return invalid("InvalidArgument", "partNumber is not between 1 and 10000.")
	}
	if r.Header.Get("X-Amz-Copy-Source") != "" {
		return notImplemented("copies of parts")
	}
	body, err := newBody(r)
	if err != nil {
		return err
	}
	staged, err := f.dir.stage(body)
	if err != nil {
		return err
	}
	defer staged.Close()
	if err := os.Rename(staged.Name(), partFile(dir, number)); err != nil {
		_ = os.Remove(staged.Name())
		return noSuchUpload() // aborted meanwhile
	}
	info, err := staged.Stat()
	if err != nil {
		return err
	}
	w.Header().Set("ETag", etagOf(info))
	return nil
}

type partXML struct {
	PartNumber   int
	ETag         string
	Size         int64
	LastModified time.Time
}

// completeUpload joins the named parts into the object.
func (f *front) completeUpload(w http.ResponseWriter, r *http.Request, bucket, key string) error {
	file, err := f.dir.object(bucket, key)
	if err != nil {
		return err
	}
	dir, err := f.upload(r)
	if err != nil {
		return err
	}
	var asked struct {
		Part []struct {
			PartNumber int
			ETag       string
		}
	}
	if err := readXML(r, &asked); err != nil {
		return err
	}
	var parts []io.Reader
	for i, p := range asked.Part {
		if i > 0 && asked.Part[i-1].PartNumber >= p.PartNumber {
			return invalid("InvalidPartOrder", "The parts are not in ascending order.")
		}
		part, err := os.Open(partFile(dir, p.PartNumber))
		if err != nil {
			return invalid("InvalidPart", fmt.Sprintf("Part %d was not uploaded.", p.PartNumber))
		}
		defer part.Close()
		info, err := part.Stat()
		if err != nil || strings.Trim(p.ETag, `"`) != strings.Trim(etagOf(info), `"`) {
			return invalid("InvalidPart", fmt.Sprintf("Part %d has another ETag.", p.PartNumber))
		}
		parts = append(parts, part)
	}
	staged, err := f.dir.stage(io.MultiReader(parts...))
	if err != nil {
		return err
	}
	info, err := f.dir.publishAs(staged, file, conditions{r.Header.Get("If-Match"), r.Header.Get("If-None-Match")})
	if err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	writeXML(w, r, http.StatusOK, struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CompleteMultipartUploadResult"`
		Bucket  string
		Key     string
		ETag    string
	}{Bucket: bucket, Key: key, ETag: etagOf(info)})
	return nil
}

// abortUpload forgets an upload and its parts.
func (f *front) abortUpload(w http.ResponseWriter, r *http.Request) error {
	dir, err := f.upload(r)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// listUploads gives none: keys of uploads are not kept, and what is left over
// goes at the next start.
func (f *front) listUploads(w http.ResponseWriter, r *http.Request, bucket string) error {
	writeXML(w, r, http.StatusOK, struct {
		XMLName     xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListMultipartUploadsResult"`
		Bucket      string
		IsTruncated bool
	}{Bucket: bucket})
	return nil
}

// listParts gives the parts an upload has so far.
func (f *front) listParts(w http.ResponseWriter, r *http.Request, bucket, key string) error {
	dir, err := f.upload(r)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(dir) // sorted by name, and so by number
	if err != nil {
		return noSuchUpload()
	}
	after, _ := strconv.Atoi(r.URL.Query().Get("part-number-marker"))
	out := struct {
		XMLName              xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListPartsResult"`
		Bucket, Key          string
		UploadId             string
		NextPartNumberMarker int
		MaxParts             int
		IsTruncated          bool
		Part                 []partXML
	}{Bucket: bucket, Key: key, UploadId: r.URL.Query().Get("uploadId"), MaxParts: 1000}
	for _, e := range entries {
		number, err := strconv.Atoi(strings.TrimPrefix(e.Name(), "part-"))
		info, statErr := e.Info()
		if err != nil || statErr != nil || number <= after {
			continue
		}
		if len(out.Part) == out.MaxParts {
			out.IsTruncated = true
			break
		}
		out.Part = append(out.Part, partXML{number, etagOf(info), info.Size(), info.ModTime().UTC()})
		out.NextPartNumberMarker = number
	}
	writeXML(w, r, http.StatusOK, out)
	return nil
}
