package objstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/minio/minio-go/v7"
)

const (
	// waitFirst and waitMax bound the pause between attempts; it doubles and
	// half of it is random, so that many brokers do not come back together.
	waitFirst = 100 * time.Millisecond
	waitMax   = 3 * time.Second
	// bytesPerSecondMin is how slow a transfer may be before it is given up.
	bytesPerSecondMin = 1 << 20
)

// retry calls once until it gives anything but ErrUnavailable, the attempts
// are used up, or ctx ends. again tells once that an earlier attempt may have
// been carried out.
func (s *S3) retry(ctx context.Context, verb, key string, size int, once func(ctx context.Context, again bool) error) error {
	limit := s.cfg.AttemptTimeout + time.Duration(size/bytesPerSecondMin)*time.Second
	var err error
	for n := range s.cfg.Attempts {
		if n > 0 && !s.pause(ctx, n) {
			break
		}
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
			break
		}
		err = func() error {
			attempt, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			return once(attempt, n > 0)
		}()
		if !errors.Is(err, ErrUnavailable) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("%s object %s in bucket %s: %w", verb, key, s.cfg.Bucket, err)
	}
	return nil
}

// pause waits before attempt n (from 1); false when ctx ended.
func (s *S3) pause(ctx context.Context, n int) bool {
	random := s.cfg.Jitter
	if random == nil {
		random = rand.Float64
	}
	wait := min(waitFirst<<(n-1), waitMax)
	wait = wait/2 + time.Duration(random()*float64(wait/2))
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// classify turns the library's error into one of ours.
func classify(err error) error {
	if err == nil {
		return nil
	}
	for _, ours := range []error{ErrNotFound, ErrExists, ErrDenied, ErrUnavailable} {
		if errors.Is(err, ours) {
			return err
		}
	}
	var resp minio.ErrorResponse
	if !errors.As(err, &resp) {
		// No answer at all: no route, refused, reset, timed out, cut short.
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	switch resp.Code {
	case "NoSuchKey", "NoSuchObject":
		return fmt.Errorf("%w: %s", ErrNotFound, resp.Message)
	case "NoSuchBucket":
		return fmt.Errorf("%w: no such bucket %s", ErrDenied, resp.BucketName)
	case "PreconditionFailed":
		return ErrExists
	case "ConditionalRequestConflict", "OperationAborted":
		// Another conditional write is under way: its end decides.
		return fmt.Errorf("%w: %s", ErrUnavailable, resp.Code)
	case "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AllAccessDisabled", "AccountProblem":
		return fmt.Errorf("%w: %s: %s", ErrDenied, resp.Code, resp.Message)
	}
	switch st := resp.StatusCode; {
	case st == http.StatusNotFound:
		return fmt.Errorf("%w: %s", ErrNotFound, resp.Message)
	case st == http.StatusPreconditionFailed:
		return ErrExists
	case st == http.StatusUnauthorized, st == http.StatusForbidden:
		return fmt.Errorf("%w: %s: %s", ErrDenied, resp.Code, resp.Message)
	case st == 0, st >= 500, st == http.StatusTooManyRequests, st == http.StatusRequestTimeout, st == http.StatusConflict:
		return fmt.Errorf("%w: status %d: %s", ErrUnavailable, st, resp.Code)
	}
	return fmt.Errorf("store answers %d %s: %s", resp.StatusCode, resp.Code, resp.Message)
}
