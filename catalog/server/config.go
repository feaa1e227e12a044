package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"tidewater/catalog"
	"tidewater/internal/objstore"
)

const (
	// tablesCachedMax bounds the tables whose metadata is kept in memory; at
	// 100 KiB each that is 50 MiB at the very most.
	tablesCachedMax = 500
	// attemptsMax bounds how often a commit that lost a race is checked anew.
	attemptsMax = 5
	// bodyBytesMax bounds a request; the largest are commits that carry a
	// schema or many properties.
	bodyBytesMax = 16 << 20
	// metadataBytesMax bounds a metadata file that is read.
	metadataBytesMax = 256 << 20

	defaultFreshenWait = 2 * time.Second
)

// Config says where the catalog lives and what it tells its clients.
type Config struct {
	Store objstore.Store
	// Root is the URI of the store's empty key: s3://bucket, or
	// s3://bucket/prefix if the store adds one.
	Root string
	// Prefix is the warehouse: the folder below Root that holds pointers and
	// tables. Empty means "warehouse".
	Prefix string
	// Warehouse is the name by which clients may ask for this catalog; they
	// may also leave it out or give its URI. Empty means "tidewater".
	Warehouse string
	// ClusterID and Incarnation stand in every object written. A server never
	// writes over a pointer of a higher incarnation.
	ClusterID   string
	Incarnation uint64
	// ClientConfig goes to clients with /v1/config and every table: s3.endpoint,
	// s3.access-key-id, s3.secret-access-key, s3.path-style-access, s3.region.
	ClientConfig map[string]string
	// Token, when set, must be carried by every request as a bearer token. The
	// token endpoint gives it to whoever has it as client secret.
	Token string

	// Freshen brings a table up to date; it is called when a client loads the
	// table over HTTP, with a context that ends after FreshenWait (2 s if 0).
	// It returns at once if nothing is pending. Nil is never called.
	Freshen     func(ctx context.Context, ident catalog.Ident) error
	FreshenWait time.Duration
	// FreshenPerTable and FreshenTotal bound calls of Freshen per second for
	// one table and for all; bursts of twice that are let through. Zero means
	// 1 and 20.
	FreshenPerTable, FreshenTotal float64

	Now  func() time.Time
	UUID func() uuid.UUID
	Log  *slog.Logger
}

// S3Client builds the ClientConfig for an S3 store.
func S3Client(endpoint, region, accessKey, secretKey string) map[string]string {
	config := map[string]string{"s3.region": region, "client.region": region, "s3.path-style-access": "true"}
	if endpoint != "" {
		config["s3.endpoint"] = endpoint
	}
	if accessKey != "" {
		config["s3.access-key-id"], config["s3.secret-access-key"] = accessKey, secretKey
	}
	return config
}

func (c Config) withDefaults() Config {
	c.Root = strings.TrimSuffix(c.Root, "/")
	c.Prefix = strings.Trim(c.Prefix, "/")
	if c.Prefix == "" {
		c.Prefix = "warehouse"
	}
	if c.Warehouse == "" {
		c.Warehouse = "tidewater"
	}
	if c.FreshenWait == 0 {
		c.FreshenWait = defaultFreshenWait
	}
	if c.FreshenPerTable == 0 {
		c.FreshenPerTable = 1
	}
	if c.FreshenTotal == 0 {
		c.FreshenTotal = 20
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.UUID == nil {
		c.UUID = uuid.New
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate tells every fault of the configuration.
func (c Config) Validate() error {
	var faults []error
	if c.Store == nil {
		faults = append(faults, errors.New("catalog: no store given"))
	}
	u, err := url.Parse(c.Root)
	if err != nil || u.Scheme == "" || u.Host == "" {
		faults = append(faults, fmt.Errorf("catalog: root %q is not a URI like s3://bucket", c.Root))
	}
	if c.FreshenWait < 0 || c.FreshenPerTable < 0 || c.FreshenTotal < 0 {
		faults = append(faults, errors.New("catalog: bounds of freshen must not be negative"))
	}
	return errors.Join(faults...)
}

// key gives the store's key of a URI below Root.
func (c Config) key(uri string) (string, error) {
	// s3a and s3n name the same objects as s3 (Hadoop's clients).
	for _, alias := range []string{"s3a://", "s3n://"} {
		if rest, ok := strings.CutPrefix(uri, alias); ok && strings.HasPrefix(c.Root, "s3://") {
			uri = "s3://" + rest
		}
	}
	key, ok := strings.CutPrefix(uri, c.Root+"/")
	if !ok || key == "" {
		return "", fmt.Errorf("%w: location %q is not below %s/", catalog.ErrInvalid, uri, c.Root)
	}
	return key, nil
}

func (c Config) uri(key string) string { return c.Root + "/" + key }
