package rest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"tidewater/catalog"
)

// errTokenRefused: a new token may help.
var errTokenRefused = fmt.Errorf("%w: the token was refused", catalog.ErrDenied)

// refused turns an error answer into the catalog's kinds.
func refused(r request, status int, body []byte) error {
	var answer struct {
		Error struct {
			Message string `json:"message"`
			Type    string `json:"type"`
		} `json:"error"`
	}
	_ = json.Unmarshal(body, &answer) // a proxy may answer something else
	what := fmt.Errorf("%s %s: %d %s: %s", r.method, r.path, status, answer.Error.Type, answer.Error.Message)
	if answer.Error.Type == "" && answer.Error.Message == "" {
		what = fmt.Errorf("%s %s: %d %s", r.method, r.path, status, http.StatusText(status))
	}
	return fmt.Errorf("%w: %w", kindOf(r, status, answer.Error.Type), what)
}

func kindOf(r request, status int, kind string) error {
	switch status {
	case http.StatusUnauthorized, 419:
		return errTokenRefused
	case http.StatusForbidden:
		return catalog.ErrDenied
	case http.StatusNotFound:
		if strings.Contains(kind, "Namespace") {
			return catalog.ErrNoNamespace
		}
		if strings.Contains(kind, "Table") || strings.Contains(r.path, "/tables/") {
			return catalog.ErrNoTable
		}
		if strings.HasPrefix(r.path, "namespaces/") {
			return catalog.ErrNoNamespace
		}
		return catalog.ErrInvalid
	case http.StatusConflict:
		switch {
		case strings.Contains(kind, "NotEmpty"):
			return catalog.ErrNotEmpty
		case strings.Contains(kind, "AlreadyExists"):
			return catalog.ErrExists
		case r.changes && strings.Contains(r.path, "/tables/"):
			return catalog.ErrConflict
		}
		return catalog.ErrExists
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return catalog.ErrUnavailable // the specification: not done, wait and retry
	}
	if status >= http.StatusInternalServerError {
		if r.changes {
			return catalog.ErrUnknown
		}
		return catalog.ErrUnavailable
	}
	return catalog.ErrInvalid
}
