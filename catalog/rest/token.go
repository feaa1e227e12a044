package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"tidewater/catalog"
)

// tokenMargin is how long before its end a token is replaced.
const tokenMargin = time.Minute

// bearer gives a token that is good for now, fetching one if need be. Two
// callers may fetch at once; both tokens are good.
func (c *Client) bearer(ctx context.Context) (string, error) {
	if c.cfg.Credential == "" {
		return c.cfg.Token, nil
	}
	c.mu.Lock()
	token, expires := c.token, c.expires
	c.mu.Unlock()
	if token != "" && (expires.IsZero() || c.cfg.Now().Before(expires)) {
		return token, nil
	}
	token, life, err := c.fetchToken(ctx)
	if err != nil {
		return "", fmt.Errorf("fetch token: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token, c.expires = token, time.Time{}
	if life > 0 {
		c.expires = c.cfg.Now().Add(max(life-tokenMargin, life/2))
	}
	return token, nil
}

func (c *Client) forget(token string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token == token {
		c.token = ""
	}
}

func (c *Client) fetchToken(ctx context.Context) (string, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	id, secret, both := strings.Cut(c.cfg.Credential, ":")
	if !both {
		id, secret = "", c.cfg.Credential
	}
	scope, uri := c.cfg.Scope, c.cfg.TokenURI
	if scope == "" {
		scope = "catalog"
	}
	if uri == "" {
		uri = c.cfg.URI + "/v1/oauth/tokens"
	}
	form := url.Values{"grant_type": {"client_credentials"}, "client_secret": {secret}, "scope": {scope}}
	if id != "" {
		form.Set("client_id", id)
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, uri, strings.NewReader(form.Encode()))
	if err != nil {
		return "", 0, fmt.Errorf("%w: %w", catalog.ErrInvalid, err)
	}
	q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := c.cfg.HTTP.Do(q)
	if err != nil {
		return "", 0, fmt.Errorf("%w: %w", catalog.ErrUnavailable, err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil || answer.StatusCode >= http.StatusInternalServerError {
		return "", 0, fmt.Errorf("%w: token endpoint answers %d", catalog.ErrUnavailable, answer.StatusCode)
	}
	var token struct {
		Token   string `json:"access_token"`
		Seconds int64  `json:"expires_in"`
	}
	if answer.StatusCode != http.StatusOK || json.Unmarshal(b, &token) != nil || token.Token == "" {
		return "", 0, fmt.Errorf("%w: token endpoint answers %d", catalog.ErrDenied, answer.StatusCode)
	}
	return token.Token, time.Duration(token.Seconds) * time.Second, nil
}
