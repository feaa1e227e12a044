package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sort"
	"strings"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"

	"tidewater/catalog"
)

// pagesMax bounds a listing of tables.
const pagesMax = 1000

func namespacePath(n catalog.Namespace) string {
	return "namespaces/" + url.PathEscape(strings.Join(n, "\x1f"))
}

func tablePath(i catalog.Ident) string {
	return namespacePath(i.Namespace) + "/tables/" + url.PathEscape(i.Name)
}

// loadedJSON is the answer to load, create and commit.
type loadedJSON struct {
	Location string            `json:"metadata-location"`
	Metadata json.RawMessage   `json:"metadata"`
	Config   map[string]string `json:"config"`
}

func (c *Client) table(ident catalog.Ident, answer loadedJSON) (*catalog.Table, error) {
	m, err := table.ParseMetadataBytes(answer.Metadata)
	if err != nil {
		return nil, fmt.Errorf("read metadata of table %s: %w", ident, err)
	}
	return &catalog.Table{Ident: ident, Metadata: m, MetadataLocation: answer.Location, Config: merged(c.config, answer.Config)}, nil
}

// LoadTable gives the current metadata.
func (c *Client) LoadTable(ctx context.Context, ident catalog.Ident) (*catalog.Table, error) {
	if err := ident.Validate(); err != nil {
		return nil, err
	}
	var answer loadedJSON
	if err := c.read(ctx, tablePath(ident), &answer); err != nil {
		return nil, fmt.Errorf("load table %s: %w", ident, err)
	}
	return c.table(ident, answer)
}

// CreateTable makes an empty table.
func (c *Client) CreateTable(ctx context.Context, r catalog.CreateRequest) (*catalog.Table, error) {
	if err := r.Ident.Validate(); err != nil {
		return nil, err
	}
	body := struct {
		Name       string                 `json:"name"`
		Location   string                 `json:"location,omitempty"`
		Schema     *iceberg.Schema        `json:"schema"`
		Spec       *iceberg.PartitionSpec `json:"partition-spec,omitempty"`
		Order      *table.SortOrder       `json:"write-order,omitempty"`
		Properties iceberg.Properties     `json:"properties,omitempty"`
	}{r.Ident.Name, r.Location, r.Schema, r.Spec, r.SortOrder, r.Properties}
	var answer loadedJSON
	err := c.do(ctx, request{method: http.MethodPost, path: namespacePath(r.Ident.Namespace) + "/tables", body: body, into: &answer, changes: true})
	if err != nil {
		return nil, fmt.Errorf("create table %s: %w", r.Ident, err)
	}
	return c.table(r.Ident, answer)
}

// CommitTable sends the commit once.
func (c *Client) CommitTable(ctx context.Context, ident catalog.Ident, requirements []table.Requirement, updates []table.Update) (table.Metadata, string, error) {
	if err := ident.Validate(); err != nil {
		return nil, "", err
	}
	type identJSON struct {
		Namespace []string `json:"namespace"`
		Name      string   `json:"name"`
	}
	body := struct {
		Identifier   identJSON           `json:"identifier"`
		Requirements []table.Requirement `json:"requirements"`
		Updates      []table.Update      `json:"updates"`
	}{identJSON{ident.Namespace, ident.Name}, append([]table.Requirement{}, requirements...), append([]table.Update{}, updates...)}
	var answer loadedJSON
	if err := c.do(ctx, request{method: http.MethodPost, path: tablePath(ident), body: body, into: &answer, changes: true}); err != nil {
		return nil, "", fmt.Errorf("commit table %s: %w", ident, err)
	}
	t, err := c.table(ident, answer)
	if err != nil {
		return nil, "", fmt.Errorf("%w: committed, but %w", catalog.ErrUnknown, err)
	}
	return t.Metadata, t.MetadataLocation, nil
}

// DropTable drops the table.
func (c *Client) DropTable(ctx context.Context, ident catalog.Ident, purge bool) error {
	if err := ident.Validate(); err != nil {
		return err
	}
	path := fmt.Sprintf("%s?purgeRequested=%t", tablePath(ident), purge)
	if err := c.do(ctx, request{method: http.MethodDelete, path: path, changes: true}); err != nil {
		return fmt.Errorf("drop table %s: %w", ident, err)
	}
	return nil
}

// EnsureNamespace makes the namespace and its parents unless they exist.
func (c *Client) EnsureNamespace(ctx context.Context, n catalog.Namespace, properties map[string]string) error {
	if err := n.Validate(); err != nil {
		return err
	}
	for depth := 1; depth <= len(n); depth++ {
		body := map[string]any{"namespace": n[:depth], "properties": map[string]string{}}
		if depth == len(n) && properties != nil {
			body["properties"] = properties
		}
		if err := c.read(ctx, namespacePath(n[:depth]), nil); err == nil {
			continue
		} else if !errors.Is(err, catalog.ErrNoNamespace) {
			return fmt.Errorf("look up namespace %s: %w", n[:depth], err)
		}
		err := c.do(ctx, request{method: http.MethodPost, path: "namespaces", body: body, changes: true})
		if err != nil && !errors.Is(err, catalog.ErrExists) {
			return fmt.Errorf("create namespace %s: %w", n[:depth], err)
		}
	}
	return nil
}

// ListTables gives the tables right in the namespace, sorted by name.
func (c *Client) ListTables(ctx context.Context, n catalog.Namespace) ([]catalog.Ident, error) {
	if err := n.Validate(); err != nil {
		return nil, err
	}
	var out []catalog.Ident
	token := ""
	for range pagesMax {
		var page struct {
			Next        string `json:"next-page-token"`
			Identifiers []struct {
				Namespace []string `json:"namespace"`
				Name      string   `json:"name"`
			} `json:"identifiers"`
		}
		path := namespacePath(n) + "/tables"
		if token != "" {
			path += "?pageToken=" + url.QueryEscape(token)
		}
		if err := c.read(ctx, path, &page); err != nil {
			return nil, fmt.Errorf("list tables of %s: %w", n, err)
		}
		for _, i := range page.Identifiers {
			out = append(out, catalog.Ident{Namespace: i.Namespace, Name: i.Name})
		}
		if token = page.Next; token == "" {
			break
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}
