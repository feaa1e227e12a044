package peer

import (
	"context"
	"errors"
	"fmt"
)

// Method names what a call or a stream asks for. The package that owns a
// method declares its number; 0 is none.
type Method uint16

// Code is what a caller on another broker can act on.
type Code uint16

// Codes below CodeOwn are this package's; packages that own methods count up
// from CodeOwn on, each in its own range.
const (
	CodeFailed        Code = 1 // the handler failed without a code
	CodeUnknownMethod Code = 2 // nobody handles the method there (yet)
	CodeBusy          Code = 3 // too many calls at once; nothing was done, retriable
	CodeCanceled      Code = 4 // the handler's context was canceled
	CodeDeadline      Code = 5 // the caller's time was up before the handler was done
	CodeTooLarge      Code = 6 // request or answer does not fit a frame
	CodeWrongCluster  Code = 10
	CodeWrongNode     Code = 11
	CodeVersion       Code = 12 // no common version of the connection
	CodeOwn           Code = 100
)

// Error is an error that travels: a handler returns one, wrapped or not, and
// the caller gets an Error with the same code and the whole text. Two match
// under errors.Is when their codes are equal, so that a package declares
// var ErrX = &peer.Error{Code: peer.CodeOwn + n, Text: "..."} for both ends.
type Error struct {
	Code Code
	Text string
}

func (e *Error) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("peer error %d", e.Code)
	}
	return e.Text
}

// Is matches errors of the same code, and those of a context with theirs.
func (e *Error) Is(target error) bool {
	switch e.Code {
	case CodeDeadline:
		if target == context.DeadlineExceeded {
			return true
		}
	case CodeCanceled:
		if target == context.Canceled {
			return true
		}
	}
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// What a caller does about it.
var (
	// ErrDown: there is no connection; nothing was sent. Retriable.
	ErrDown = errors.New("peer is not connected")
	// ErrLost: the connection ended before the answer came: the handler may
	// have run or not.
	ErrLost = errors.New("connection to peer was lost")
	// ErrStalled: the other end of a stream let it stand still; retriable, maybe
	// with another broker.
	ErrStalled = errors.New("stream stands still")
	// ErrClosed: this Network is closed.
	ErrClosed = errors.New("network is closed")
	// ErrBusy: too many calls at once, here or there; nothing was done.
	ErrBusy = &Error{Code: CodeBusy, Text: "too many calls at once"}
	// ErrUnknownMethod: nobody handles the method there.
	ErrUnknownMethod = &Error{Code: CodeUnknownMethod, Text: "unknown method"}
	// ErrTooLarge: request or answer does not fit a frame.
	ErrTooLarge = &Error{Code: CodeTooLarge, Text: "too large for a frame"}
	// ErrWrongCluster, ErrWrongNode, ErrVersion: another broker than the one
	// meant is behind the address, or one that this one cannot talk to.
	ErrWrongCluster = &Error{Code: CodeWrongCluster, Text: "broker belongs to another cluster"}
	ErrWrongNode    = &Error{Code: CodeWrongNode, Text: "broker has another node id"}
	ErrVersion      = &Error{Code: CodeVersion, Text: "no common protocol version"}
	// errFormat: bytes that no broker sends. The connection ends.
	errFormat = errors.New("malformed bytes from peer")
)

// travel makes what is sent of a handler's error.
func travel(err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e) && e.Code != 0:
		return &Error{e.Code, err.Error()}
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{CodeDeadline, err.Error()}
	case errors.Is(err, context.Canceled):
		return &Error{CodeCanceled, err.Error()}
	}
	return &Error{CodeFailed, err.Error()}
}
