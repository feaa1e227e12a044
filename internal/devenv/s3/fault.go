package s3

import (
	"encoding/xml"
	"errors"
	"net/http"
	"syscall"
)

// fault is an error in S3's words.
type fault struct {
	Status  int
	Code    string
	Message string
}

func (f *fault) Error() string { return f.Code + ": " + f.Message }

func noSuchKey() error {
	return &fault{http.StatusNotFound, "NoSuchKey", "The specified key does not exist."}
}

func noSuchBucket() error {
	return &fault{http.StatusNotFound, "NoSuchBucket", "The specified bucket does not exist."}
}

func noSuchUpload() error {
	return &fault{http.StatusNotFound, "NoSuchUpload", "The specified upload does not exist, was completed or aborted, or was begun before the store was started again."}
}

func preconditionFailed() error {
	return &fault{http.StatusPreconditionFailed, "PreconditionFailed", "At least one of the preconditions you specified did not hold."}
}

func denied(message string) error {
	return &fault{http.StatusForbidden, "AccessDenied", message}
}

func invalid(code, message string) error {
	return &fault{http.StatusBadRequest, code, message}
}

func notImplemented(what string) error {
	return &fault{http.StatusNotImplemented, "NotImplemented", "The development store does not serve " + what + "."}
}

func isNotDirectory(err error) bool { return errors.Is(err, syscall.ENOTDIR) }

// asFault turns any error into what is answered.
func asFault(err error) *fault {
	var f *fault
	if errors.As(err, &f) {
		return f
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return &fault{http.StatusInsufficientStorage, "InsufficientStorage", "The disk of the development store is full."}
	}
	if errors.Is(err, syscall.ENAMETOOLONG) {
		return &fault{http.StatusBadRequest, "KeyTooLongError", "The key, or a part of it between slashes, is too long."}
	}
	return &fault{http.StatusInternalServerError, "InternalError", err.Error()}
}

func writeFault(w http.ResponseWriter, r *http.Request, err error) {
	f := asFault(err)
	w.Header().Del("ETag")
	writeXML(w, r, f.Status, struct {
		XMLName  xml.Name `xml:"Error"`
		Code     string
		Message  string
		Resource string
	}{Code: f.Code, Message: f.Message, Resource: r.URL.Path})
}

func writeXML(w http.ResponseWriter, r *http.Request, status int, value any) {
	b, err := xml.Marshal(value)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(append([]byte(xml.Header), b...)) // the client went away
	}
}
