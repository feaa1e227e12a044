package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

const (
	accessKey         = "tidewater"
	secretKey         = "tidewater"
	readOnlyAccessKey = "tidewater-readonly"
	readOnlySecretKey = "tidewater"
)

func (d *demo) bucketURL() string {
	return fmt.Sprintf("s3://tidewater?endpoint=http://%s&region=us-east-1", d.ports.s3)
}

// start brings up the store as a process of its own (the bucket is somebody
// else's machine: it survives everything below), then the broker on it.
func start(ctx context.Context, d *demo) error {
	p, err := d.spawn("store", "s3", "--data-dir", filepath.Join(d.dir, "bucket"), "--addr", d.ports.s3)
	if err != nil {
		return err
	}
	err = wait(ctx, readyTimeout, "the store", func() (bool, error) {
		if p.gone() {
			return false, errors.New("the store has ended")
		}
		return listens(d.ports.s3), nil
	})
	if err != nil {
		return err
	}
	say("development store   http://%s  (a process of its own)", d.ports.s3)
	at := time.Now()
	if _, err := d.startBroker(ctx, "node1"); err != nil {
		return err
	}
	say("broker              %s", d.ports.kafka)
	say("catalog             http://%s", d.ports.catalog)
	say("ready in %s from the start of the process", round(time.Since(at)))
	return nil
}

// startBroker runs `tidewater dev` on a data directory of the given name.
func (d *demo) startBroker(ctx context.Context, name string) (*process, error) {
	p, err := d.spawn(name, "dev", "--data-dir", filepath.Join(d.dir, name),
		"--bucket", d.bucketURL(), "--kafka-addr", d.ports.kafka, "--admin-addr", d.ports.admin, "--catalog-addr", d.ports.catalog)
	if err != nil {
		return nil, err
	}
	return p, p.ready(ctx, d.ports.admin)
}

// hints prints what to paste to go on by hand.
func (d *demo) hints() {
	fmt.Printf(`
Go on by hand:
   tidewater topic describe flights -b %[1]s
   tidewater consume flights -b %[1]s --from earliest --count 3
   kcat -b %[1]s -t flights -C -o beginning -c 3
`, d.ports.kafka)
	d.engineHints()
}

// engineHints prints the lines for SQL engines.
func (d *demo) engineHints() {
	fmt.Printf(`
   DuckDB     INSTALL iceberg; LOAD iceberg;
              ATTACH '' AS tidewater (TYPE iceberg, ENDPOINT 'http://%[1]s', AUTHORIZATION_TYPE 'none');
              SELECT carrier, count(*) FROM tidewater.topics.flights GROUP BY 1 ORDER BY 2 DESC;
   PyIceberg  from pyiceberg.catalog import load_catalog
              load_catalog("tidewater", type="rest", uri="http://%[1]s").load_table("topics.flights").scan().to_arrow()
   Trino      connector.name=iceberg
              iceberg.catalog.type=rest
              iceberg.rest-catalog.uri=http://%[1]s
              fs.native-s3.enabled=true
              s3.endpoint=http://%[2]s
              s3.path-style-access=true
              s3.region=us-east-1
              s3.aws-access-key=%[3]s
              s3.aws-secret-key=%[4]s
   Spark      --conf spark.sql.catalog.tidewater=org.apache.iceberg.spark.SparkCatalog
              --conf spark.sql.catalog.tidewater.type=rest
              --conf spark.sql.catalog.tidewater.uri=http://%[1]s
              --conf spark.sql.catalog.tidewater.io-impl=org.apache.iceberg.aws.s3.S3FileIO
`, d.ports.catalog, d.ports.s3, readOnlyAccessKey, readOnlySecretKey)
}
