package broker

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"tidewater/broker/cluster"
	"tidewater/catalog"
	"tidewater/catalog/server"
	"tidewater/iceberg/commit"
	"tidewater/internal/objstore"
	"tidewater/tiering/manifest"
)

// takeTables takes the tables of every topic over from a broker that may still
// run: from then on it commits nothing to them.
func (r *restorer) takeTables(ctx context.Context, l manifest.Layout, blob []byte) error {
	v, err := cluster.DecodeView(blob)
	if err != nil {
		return fmt.Errorf("read cluster metadata: %w", err)
	}
	var names []catalog.Ident
	for _, t := range v.Topics() {
		if ident, _, err := TableOf(t.Name, t.Configs); err == nil { // others have no table
			dead := ident
			dead.Name += commit.DeadSuffix
			names = append(names, ident, dead)
		}
	}
	s3, err := objstore.Parse(r.cfg.Bucket)
	if err != nil {
		return fmt.Errorf("bucket: %w", err)
	}
	tables, err := server.New(server.Config{
		Store: r.store, Root: warehouseRoot(s3), Prefix: l.Warehouse(), ClusterID: clusterName(l.ClusterID), Incarnation: uint64(l.Incarnation),
		Now: time.Now, UUID: uuid.New,
	})
	if err != nil {
		return fmt.Errorf("open catalog: %w", err)
	}
	return tables.TakeOver(ctx, names...)
}

// warehouseRoot is the location of the bucket's empty key.
func warehouseRoot(s3 objstore.Config) string {
	root := "s3://" + s3.Bucket
	if s3.Prefix != "" {
		root += "/" + strings.Trim(s3.Prefix, "/")
	}
	return root
}
