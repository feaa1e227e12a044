package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"tidewater/catalog"
)

const (
	// answerBytesMax bounds an answer; the largest is a table's metadata.
	answerBytesMax = 256 << 20
	readTries      = 3
	readPause      = 200 * time.Millisecond
	defaultTimeout = 30 * time.Second
)

// Config says where a catalog is and how to be let in.
type Config struct {
	// URI is the catalog's base, without /v1.
	URI string
	// Warehouse is asked for in /v1/config; many catalogs need one.
	Warehouse string
	// Token is a bearer token. Credential is "id:secret" (or only a secret)
	// for OAuth2 client credentials. At most one is set; none is no authorization.
	Token, Credential string
	// Scope and TokenURI belong to Credential; empty means "catalog" and the
	// catalog's own /v1/oauth/tokens.
	Scope, TokenURI string
	// Header is added to every request, say X-Iceberg-Access-Delegation.
	Header map[string]string
	// Timeout bounds one request; 30 s if 0.
	Timeout time.Duration
	// HTTP replaces the client, for TLS settings and tests.
	HTTP *http.Client
	Now  func() time.Time
}

// Validate tells every fault of the configuration.
func (c Config) Validate() error {
	var faults []error
	if u, err := url.Parse(c.URI); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		faults = append(faults, fmt.Errorf("catalog URI %q is not http(s)://host", c.URI))
	}
	if c.Token != "" && c.Credential != "" {
		faults = append(faults, errors.New("catalog: both a token and a credential are given"))
	}
	return errors.Join(faults...)
}

// Client is a REST catalog.
type Client struct {
	cfg    Config
	base   string // URI/v1/ or URI/v1/prefix/
	config map[string]string

	mu      sync.Mutex
	token   string    // guarded by mu
	expires time.Time // of token; zero is never; guarded by mu
}

var _ catalog.Catalog = (*Client)(nil)

// Open asks the catalog for its configuration, and so proves that it is there
// and lets us in.
func Open(ctx context.Context, cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.URI = strings.TrimSuffix(strings.TrimSuffix(cfg.URI, "/"), "/v1")
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.HTTP == nil {
		cfg.HTTP = &http.Client{}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	c := &Client{cfg: cfg, base: cfg.URI + "/v1/", token: cfg.Token}
	path := "config"
	if cfg.Warehouse != "" {
		path += "?warehouse=" + url.QueryEscape(cfg.Warehouse)
	}
	var answer struct {
		Defaults  map[string]string `json:"defaults"`
		Overrides map[string]string `json:"overrides"`
	}
	if err := c.read(ctx, path, &answer); err != nil {
		return nil, fmt.Errorf("open catalog %s: %w", cfg.URI, err)
	}
	c.config = merged(answer.Defaults, answer.Overrides)
	if prefix := strings.Trim(c.config["prefix"], "/"); prefix != "" {
		c.base += prefix + "/"
	}
	return c, nil
}

func merged(maps ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range maps {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

// request is one call of the catalog.
type request struct {
	method, path string
	body         any // JSON; nil for none
	into         any // answer's JSON; nil to ignore it
	// changes: repeating it is not harmless, so a lost answer is ErrUnknown.
	changes bool
}

// read repeats a GET that failed for reasons that may pass.
func (c *Client) read(ctx context.Context, path string, into any) error {
	var err error
	for try := range readTries {
		if try > 0 {
			select {
			case <-ctx.Done():
				return err
			case <-time.After(readPause):
			}
		}
		err = c.do(ctx, request{method: http.MethodGet, path: path, into: into})
		if !errors.Is(err, catalog.ErrUnavailable) {
			return err
		}
	}
	return err
}

// do sends a request; after a 401 it sends it once more with a new token.
func (c *Client) do(ctx context.Context, r request) error {
	token, err := c.bearer(ctx)
	if err != nil {
		return err
	}
	err = c.send(ctx, r, token)
	if errors.Is(err, errTokenRefused) && c.cfg.Credential != "" {
		c.forget(token)
		if token, err = c.bearer(ctx); err != nil {
			return err
		}
		err = c.send(ctx, r, token)
	}
	return err
}

func (c *Client) send(ctx context.Context, r request, token string) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	var body io.Reader
	if r.body != nil {
		b, err := json.Marshal(r.body)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	q, err := http.NewRequestWithContext(ctx, r.method, c.base+r.path, body)
	if err != nil {
		return fmt.Errorf("%w: %w", catalog.ErrInvalid, err)
	}
	if r.changes {
		// net/http repeats a request on a new connection only if it knows a way
		// to read the body again; a commit is sent once.
		q.GetBody = nil
	}
	if r.body != nil {
		q.Header.Set("Content-Type", "application/json")
	}
	for k, v := range c.cfg.Header {
		q.Header.Set(k, v)
	}
	if token != "" {
		q.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := c.cfg.HTTP.Do(q)
	if err != nil {
		return lost(r, err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(io.LimitReader(answer.Body, answerBytesMax))
	if err != nil {
		return lost(r, err)
	}
	if answer.StatusCode >= 300 {
		return refused(r, answer.StatusCode, b)
	}
	if r.into == nil {
		return nil
	}
	if err := json.Unmarshal(b, r.into); err != nil {
		return lost(r, fmt.Errorf("answer to %s %s: %w", r.method, r.path, err))
	}
	return nil
}

// lost is a request without an answer. If no connection was made it was not done.
func lost(r request, err error) error {
	op := new(net.OpError)
	unsent := errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &op) && op.Op == "dial"
	if r.changes && !unsent {
		return fmt.Errorf("%w: %w", catalog.ErrUnknown, err)
	}
	return fmt.Errorf("%w: %w", catalog.ErrUnavailable, err)
}
