package objstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// S3 is a bucket of any S3-compatible store. Payloads are sent unsigned (the
// cheapest by far); what is stored is checked by the checksums inside our own
// formats when it is read.
//
// Every request is tried up to Config.Attempts times here and nowhere else.
type S3 struct {
	cfg    Config
	core   *minio.Core
	client *http.Client // for nothing but closing idle connections
	prefix string       // "" or ends in a slash
}

var _ Store = (*S3)(nil)

// OpenS3 makes a client; it asks the store nothing. Close releases its
// connections.
func OpenS3(cfg Config) (*S3, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	u, err := url.Parse(cfg.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("parse endpoint %q: %w", cfg.Endpoint, err)
	}
	var creds *credentials.Credentials
	if cfg.AccessKey != "" {
		creds = credentials.NewStaticV4(cfg.AccessKey, cfg.SecretKey, cfg.SessionToken)
	} else {
		creds = credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.EnvMinio{}, &credentials.FileAWSCredentials{}, &credentials.IAM{},
		})
	}
	lookup := minio.BucketLookupPath
	if cfg.VirtualHost {
		lookup = minio.BucketLookupDNS
	}
	transport := newTransport()
	core, err := minio.NewCore(u.Host, &minio.Options{
		Creds: creds, Secure: u.Scheme == "https", Region: cfg.Region,
		BucketLookup: lookup, Transport: dateKeeper{transport}, MaxRetries: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", cfg, err)
	}
	s := &S3{cfg: cfg, core: core, client: &http.Client{Transport: transport}}
	if cfg.Prefix != "" {
		s.prefix = cfg.Prefix + "/"
	}
	return s, nil
}

// Close drops idle connections. Calls under way go on.
func (s *S3) Close() error {
	s.client.CloseIdleConnections()
	return nil
}

// Config is the configuration in use, defaults filled in.
func (s *S3) Config() Config { return s.cfg }

func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   5 * time.Second,
		MaxIdleConns:          128,
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       60 * time.Second,
		ExpectContinueTimeout: time.Second,
		WriteBufferSize:       64 << 10,
		ReadBufferSize:        64 << 10,
		DisableCompression:    true, // ranges are of the stored bytes
	}
}

// dateKeeper hands the Date header of a reply to the request that asked for it
// by dateKey in its context.
type dateKeeper struct{ http.RoundTripper }

type dateKey struct{}

func (d dateKeeper) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := d.RoundTripper.RoundTrip(r)
	if at, ok := r.Context().Value(dateKey{}).(*string); ok && resp != nil {
		*at = resp.Header.Get("Date")
	}
	return resp, err
}

// Put implements Store.
func (s *S3) Put(ctx context.Context, key string, body []byte) error {
	return s.retry(ctx, "put", key, len(body), func(ctx context.Context, _ bool) error {
		return s.putOnce(ctx, key, body, false)
	})
}

// PutIfAbsent implements Store. When an earlier attempt of this call may have
// been stored although its reply was lost, an object with the same bytes
// counts as ours.
func (s *S3) PutIfAbsent(ctx context.Context, key string, body []byte) error {
	return s.retry(ctx, "put", key, len(body), func(ctx context.Context, again bool) error {
		err := s.putOnce(ctx, key, body, true)
		if !again || !errors.Is(err, ErrExists) {
			return err
		}
		there, gerr := s.getOnce(ctx, key, 0, -1)
		if gerr != nil {
			return gerr
		}
		if bytes.Equal(there, body) {
			return nil
		}
		return err
	})
}

func (s *S3) putOnce(ctx context.Context, key string, body []byte, absent bool) error {
	opts := minio.PutObjectOptions{DisableContentSha256: true, ContentType: "application/octet-stream"}
	if absent {
		opts.SetMatchETagExcept("*")
	}
	_, err := s.core.PutObject(ctx, s.cfg.Bucket, s.prefix+key, bytes.NewReader(body), int64(len(body)), "", "", opts)
	return classify(err)
}

// Get implements Store.
func (s *S3) Get(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	if length == 0 {
		_, err := s.Head(ctx, key)
		return nil, err
	}
	var out []byte
	err := s.retry(ctx, "get", key, int(max(length, 0)), func(ctx context.Context, _ bool) (err error) {
		out, err = s.getOnce(ctx, key, offset, length)
		return err
	})
	return out, err
}

func (s *S3) getOnce(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	var opts minio.GetObjectOptions
	switch {
	case length > 0:
		if err := opts.SetRange(offset, offset+length-1); err != nil {
			return nil, err
		}
	case offset > 0:
		if err := opts.SetRange(offset, 0); err != nil {
			return nil, err
		}
	}
	body, info, _, err := s.core.GetObject(ctx, s.cfg.Bucket, s.prefix+key, opts)
	if err != nil {
		var resp minio.ErrorResponse
		if errors.As(err, &resp) && (resp.Code == "InvalidRange" || resp.StatusCode == http.StatusRequestedRangeNotSatisfiable) {
			return nil, nil
		}
		return nil, classify(err)
	}
	defer body.Close()
	if length > 0 && info.Size > length {
		return nil, fmt.Errorf("store ignores ranges: asked for %d bytes, got %d", length, info.Size)
	}
	out := make([]byte, info.Size)
	if _, err := io.ReadFull(body, out); err != nil {
		return nil, fmt.Errorf("%w: body is cut short: %w", ErrUnavailable, err)
	}
	return out, nil
}

// Head implements Store.
func (s *S3) Head(ctx context.Context, key string) (Info, error) {
	var info minio.ObjectInfo
	err := s.retry(ctx, "head", key, 0, func(ctx context.Context, _ bool) (err error) {
		info, err = s.core.Client.StatObject(ctx, s.cfg.Bucket, s.prefix+key, minio.StatObjectOptions{})
		return classify(err)
	})
	if err != nil {
		return Info{}, err
	}
	return Info{Key: key, Size: info.Size, LastModified: info.LastModified}, nil
}

// List implements Store.
func (s *S3) List(ctx context.Context, prefix, after string, max int) (Page, error) {
	// One key more than wanted tells whether more remain, in one request.
	max = min(pageSize(max), pageKeysMax-1)
	var page Page
	err := s.retry(ctx, "list", prefix, 0, func(ctx context.Context, _ bool) error {
		page = Page{}
		owner := false
		opts := minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true, MaxKeys: max + 1, FetchOwner: &owner}
		if after != "" {
			opts.StartAfter = s.prefix + after
		}
		for o := range s.core.Client.ListObjectsIter(ctx, s.cfg.Bucket, opts) {
			if o.Err != nil {
				return classify(o.Err)
			}
			if len(page.Objects) == max {
				page.More = true
				break
			}
			page.Objects = append(page.Objects, Info{
				Key: strings.TrimPrefix(o.Key, s.prefix), Size: o.Size, LastModified: o.LastModified,
			})
		}
		return classify(ctx.Err())
	})
	return page, err
}

// Delete implements Store.
func (s *S3) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		err := s.retry(ctx, "delete", key, 0, func(ctx context.Context, _ bool) error {
			return classify(s.core.Client.RemoveObject(ctx, s.cfg.Bucket, s.prefix+key, minio.RemoveObjectOptions{}))
		})
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}

// clockKey is asked for by Now; whether it exists makes no difference.
const clockKey = "clock"

// Now implements Store: the Date header of a HEAD request.
func (s *S3) Now(ctx context.Context) (time.Time, error) {
	var date string
	err := s.retry(ctx, "head", clockKey, 0, func(ctx context.Context, _ bool) error {
		ctx = context.WithValue(ctx, dateKey{}, &date)
		_, err := s.core.Client.StatObject(ctx, s.cfg.Bucket, s.prefix+clockKey, minio.StatObjectOptions{})
		return classify(err)
	})
	// A refusal has a date, too; a reader may lack the right to ask for a
	// missing key.
	if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrDenied) {
		return time.Time{}, err
	}
	t, perr := http.ParseTime(date)
	if perr != nil {
		return time.Time{}, fmt.Errorf("read clock of bucket %s: Date header is %q: %w", s.cfg.Bucket, date, ErrUnavailable)
	}
	return t, nil
}
