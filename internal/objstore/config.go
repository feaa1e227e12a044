package objstore

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Config says where a bucket is and how to ask it.
type Config struct {
	// Endpoint is the store's base URL (http://127.0.0.1:9000,
	// https://minio.example). Empty is AWS.
	Endpoint string
	// Region is signed into every request. Empty is us-east-1, which stores
	// without regions accept.
	Region string
	Bucket string
	// Prefix is put before every key, with a slash between; empty for none.
	Prefix string
	// AccessKey empty: the environment (AWS_… or MINIO_… variables), the AWS
	// credentials file, or the machine's role.
	AccessKey, SecretKey, SessionToken string
	// VirtualHost puts the bucket into the host name; default is the path,
	// which works on every store.
	VirtualHost bool
	// AttemptTimeout bounds one request that moves no data to speak of; one
	// that does gets another second per MiB. 0 is 10 s.
	AttemptTimeout time.Duration
	// Attempts is how often a request is tried in all. 0 is 4.
	Attempts int
	// Jitter gives numbers in [0,1) for the waits between attempts; nil draws
	// from math/rand/v2.
	Jitter func() float64
}

const (
	defaultAttemptTimeout = 10 * time.Second
	defaultAttempts       = 4
	defaultRegion         = "us-east-1"
)

// Parse reads s3://bucket/prefix?endpoint=URL&region=R&style=path|virtual.
// Keys are no part of it: a URL ends up in logs.
func Parse(raw string) (Config, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return Config{}, fmt.Errorf("parse bucket %q: %w", raw, err)
	}
	if u.Scheme != "s3" {
		return Config{}, fmt.Errorf("parse bucket %q: scheme is %q, want s3://bucket/prefix?endpoint=…&region=…", raw, u.Scheme)
	}
	if u.User != nil {
		return Config{}, fmt.Errorf("parse bucket s3://…@%s: keys do not belong in the URL; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", u.Host)
	}
	q := u.Query()
	c := Config{Bucket: u.Host, Prefix: strings.Trim(u.Path, "/"), Endpoint: q.Get("endpoint"), Region: q.Get("region")}
	switch q.Get("style") {
	case "", "path":
	case "virtual":
		c.VirtualHost = true
	default:
		return Config{}, fmt.Errorf("parse bucket %q: style is %q, want path or virtual", raw, q.Get("style"))
	}
	for k := range q {
		switch k {
		case "endpoint", "region", "style":
		default:
			return Config{}, fmt.Errorf("parse bucket %q: unknown setting %q; known are endpoint, region, style", raw, k)
		}
	}
	if c.Endpoint != "" && !strings.Contains(c.Endpoint, "://") {
		c.Endpoint = "https://" + c.Endpoint
	}
	return c, c.Validate()
}

// String is the bucket as Parse reads it; it holds no keys.
func (c Config) String() string {
	u := url.URL{Scheme: "s3", Host: c.Bucket}
	if c.Prefix != "" {
		u.Path = "/" + c.Prefix
	}
	q := url.Values{}
	if c.Endpoint != "" {
		q.Set("endpoint", c.Endpoint)
	}
	if c.Region != "" {
		q.Set("region", c.Region)
	}
	if c.VirtualHost {
		q.Set("style", "virtual")
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// Validate collects everything wrong with c.
func (c Config) Validate() error {
	var faults []error
	if c.Bucket == "" {
		faults = append(faults, errors.New("bucket name is empty"))
	}
	if c.Endpoint != "" {
		u, err := url.Parse(c.Endpoint)
		switch {
		case err != nil:
			faults = append(faults, fmt.Errorf("endpoint: %w", err))
		case u.Scheme != "http" && u.Scheme != "https", u.Host == "", strings.Trim(u.Path, "/") != "":
			faults = append(faults, fmt.Errorf("endpoint %q is not http(s)://host:port", c.Endpoint))
		}
	}
	if (c.AccessKey == "") != (c.SecretKey == "") {
		faults = append(faults, errors.New("access key and secret key go together"))
	}
	if c.Attempts < 0 || c.AttemptTimeout < 0 {
		faults = append(faults, errors.New("attempts and timeout are not negative"))
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("bucket configuration: %w", err)
	}
	return nil
}

func (c Config) withDefaults() Config {
	if c.AttemptTimeout == 0 {
		c.AttemptTimeout = defaultAttemptTimeout
	}
	if c.Attempts == 0 {
		c.Attempts = defaultAttempts
	}
	if c.Region == "" {
		c.Region = defaultRegion
	}
	if c.Endpoint == "" {
		c.Endpoint = "https://s3." + c.Region + ".amazonaws.com"
	}
	c.Prefix = strings.Trim(c.Prefix, "/")
	return c
}
