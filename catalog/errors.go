package catalog

import "errors"

// What a caller does differs by kind; implementations wrap these.
var (
	// ErrNoTable: the table does not exist. The committer creates it.
	ErrNoTable = errors.New("table does not exist")
	// ErrNoNamespace: the namespace does not exist. EnsureNamespace makes it.
	ErrNoNamespace = errors.New("namespace does not exist")
	// ErrExists: a table or namespace of that name exists already. Load it.
	ErrExists = errors.New("exists already")
	// ErrNotEmpty: a namespace still holds tables or namespaces.
	ErrNotEmpty = errors.New("namespace is not empty")
	// ErrConflict: a requirement of the commit does not hold, or another
	// commit came first. Nothing was done: load again and decide anew.
	ErrConflict = errors.New("commit conflicts with the table's current state")
	// ErrUnknown: the commit may have happened, or may happen yet. Load the
	// table and look for the own snapshot; keep the files.
	ErrUnknown = errors.New("outcome of the commit is unknown")
	// ErrUnavailable: the catalog or its store does not answer now. Nothing
	// was done: retry later.
	ErrUnavailable = errors.New("catalog is unavailable")
	// ErrDenied: credentials are wrong or lack the right. Retrying does not help.
	ErrDenied = errors.New("access to the catalog was denied")
	// ErrInvalid: the catalog refuses the request as it stands. Retrying does not help.
	ErrInvalid = errors.New("invalid catalog request")
)
