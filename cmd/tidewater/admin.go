package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// adminTimeout bounds one request; the broker waits up to 20 s for a
// controller.
const adminTimeout = 30 * time.Second

// adminTokenEnv names the file with the admin token, for brokers and for these
// commands.
const adminTokenEnv = "TIDEWATER_ADMIN_TOKEN_FILE"

// adminClient asks the brokers' admin addresses, the first that answers.
type adminClient struct {
	urls  []string // scheme://host:port
	token string   // empty: none is sent
	http  http.Client
}

// addAdmin declares the flags of commands that use the admin address.
func addAdmin(c *cobra.Command) {
	f := c.PersistentFlags()
	f.StringP("admin", "a", "127.0.0.1:9644", "brokers' admin addresses (--admin-addr), comma-separated; the first that answers is asked. https://HOST:PORT for those with TLS")
	f.String("token-file", "", "file with the brokers' admin token (--admin-token-file); $"+adminTokenEnv+" if empty")
	f.String("admin-ca", "", "PEM file: who may sign the certificates at https:// addresses; the machine's authorities if empty")
}

func newAdminClient(c *cobra.Command) (*adminClient, error) {
	text, err := c.Flags().GetString("admin")
	if err != nil {
		return nil, err
	}
	a := &adminClient{}
	for _, addr := range strings.Split(text, ",") {
		addr = strings.TrimSuffix(strings.TrimSpace(addr), "/")
		switch {
		case addr == "":
		case strings.HasPrefix(addr, "http://"), strings.HasPrefix(addr, "https://"):
			a.urls = append(a.urls, addr)
		default:
			a.urls = append(a.urls, "http://"+addr)
		}
	}
	if len(a.urls) == 0 {
		return nil, usageError{errors.New("--admin: want host:port")}
	}
	if err := a.readToken(c); err != nil {
		return nil, err
	}
	return a, a.trust(c)
}

// readToken takes the token from the file that the flag or the environment names.
func (a *adminClient) readToken(c *cobra.Command) error {
	path, err := c.Flags().GetString("token-file")
	if err != nil {
		return err
	}
	if path == "" {
		path = os.Getenv(adminTokenEnv)
	}
	if path == "" {
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the admin token: %w", err)
	}
	if a.token = strings.TrimSpace(string(text)); a.token == "" {
		return fmt.Errorf("read the admin token: %s is empty", path)
	}
	return nil
}

// trust has brokers with TLS checked by the authorities of a file.
func (a *adminClient) trust(c *cobra.Command) error {
	path, err := c.Flags().GetString("admin-ca")
	if err != nil || path == "" {
		return err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("--admin-ca: %w", err)
	}
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(text) {
		return fmt.Errorf("--admin-ca: %s holds no certificate in PEM", path)
	}
	a.http.Transport = &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: trusted}}
	return nil
}

// errAdmin is what a broker answered instead.
type errAdmin struct {
	status int
	text   string
}

func (e *errAdmin) Error() string { return e.text }

// get and put read the answer of the first broker that answers into into.
func (a *adminClient) get(ctx context.Context, path string, into any) error {
	return a.do(ctx, http.MethodGet, path, nil, into)
}

func (a *adminClient) put(ctx context.Context, path string, body, into any) error {
	return a.do(ctx, http.MethodPut, path, body, into)
}

func (a *adminClient) do(ctx context.Context, method, path string, body, into any) error {
	var sent []byte
	if body != nil {
		var err error
		if sent, err = json.Marshal(body); err != nil {
			return err
		}
	}
	var unreachable []error
	for _, addr := range a.urls {
		err := a.once(ctx, method, addr, path, sent, into)
		var said *errAdmin
		if err == nil || errors.As(err, &said) || ctx.Err() != nil {
			return err
		}
		unreachable = append(unreachable, err)
	}
	return fmt.Errorf("no broker answers at the admin address %s: name that of a running one with --admin: %w",
		strings.Join(a.urls, ", "), errors.Join(unreachable...))
}

func (a *adminClient) once(ctx context.Context, method, addr, path string, body []byte, into any) error {
	ctx, stop := context.WithTimeout(ctx, adminTimeout)
	defer stop()
	req, err := http.NewRequestWithContext(ctx, method, addr+path, bytes.NewReader(body))
	if err != nil {
		return usageError{fmt.Errorf("--admin %q: want host:port", addr)}
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if a.token != "" {
		req.Header.Set("Authorization", "Bearer "+a.token)
	}
	res, err := a.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", addr, err)
	}
	if res.StatusCode != http.StatusOK {
		var said struct {
			Error string `json:"error"`
		}
		if json.Unmarshal(text, &said) != nil || said.Error == "" {
			said.Error = fmt.Sprintf("%s answers %s: is it a broker's admin address?", addr, res.Status)
		}
		return &errAdmin{res.StatusCode, said.Error}
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("read the answer of %s: %w (is it a broker's admin address?)", addr, err)
	}
	return nil
}

// onAdmin makes a command of work with an admin client.
func onAdmin(do func(c *cobra.Command, a *adminClient, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		a, err := newAdminClient(c)
		if err != nil {
			return err
		}
		return do(c, a, args)
	}
}

// shortOutput gives commands -o, the short form of --format. Not all have it:
// consume's is the offset.
func shortOutput(root *cobra.Command, commands ...*cobra.Command) {
	format := root.PersistentFlags().Lookup("format")
	for _, c := range commands {
		c.PersistentFlags().VarP(format.Value, "output", "o", "the same as --format")
	}
}
