package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// adminTimeout bounds one request; the broker waits up to 20 s for a
// controller.
const adminTimeout = 30 * time.Second

// adminClient asks the brokers' admin addresses, the first that answers.
type adminClient struct{ addrs []string }

// addAdmin declares the flags of commands that use the admin address.
func addAdmin(c *cobra.Command) {
	c.PersistentFlags().StringP("admin", "a", "127.0.0.1:9644", "brokers' admin addresses (--admin-addr), comma-separated; the first that answers is asked")
}

func newAdminClient(c *cobra.Command) (*adminClient, error) {
	text, err := c.Flags().GetString("admin")
	if err != nil {
		return nil, err
	}
	a := &adminClient{}
	for _, addr := range strings.Split(text, ",") {
		if addr = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(addr), "http://"), "/"); addr != "" {
			a.addrs = append(a.addrs, addr)
		}
	}
	if len(a.addrs) == 0 {
		return nil, usageError{errors.New("--admin: want host:port")}
	}
	return a, nil
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
	for _, addr := range a.addrs {
		err := a.once(ctx, method, addr, path, sent, into)
		var said *errAdmin
		if err == nil || errors.As(err, &said) || ctx.Err() != nil {
			return err
		}
		unreachable = append(unreachable, err)
	}
	return fmt.Errorf("no broker answers at the admin address %s: name that of a running one with --admin: %w",
		strings.Join(a.addrs, ", "), errors.Join(unreachable...))
}

func (a *adminClient) once(ctx context.Context, method, addr, path string, body []byte, into any) error {
	ctx, stop := context.WithTimeout(ctx, adminTimeout)
	defer stop()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+addr+path, bytes.NewReader(body))
	if err != nil {
		return usageError{fmt.Errorf("--admin %q: want host:port", addr)}
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultClient.Do(req)
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
