package main

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/spf13/cobra"

	"tidewater/internal/devenv/s3"
)

func s3Command() *cobra.Command {
	cfg := s3.Config{}
	c := &cobra.Command{
		Use:   "s3",
		Short: "Run the development object store alone: an S3 endpoint on a directory, not for production",
		Example: `  tidewater s3 --data-dir bucket --addr 127.0.0.1:9000
  tidewater dev --bucket 's3://tidewater?endpoint=http://127.0.0.1:9000&region=us-east-1'`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			store, err := s3.Open(cfg)
			if err != nil {
				return storeHint(err, "--addr")
			}
			fmt.Fprintf(c.OutOrStdout(), "object store on http://%s, bucket %s, region %s\n  keys %s (read and write) and %s (read only), secret %s\n",
				store.Addr(), s3.Bucket, s3.Region, store.AccessKey(), s3.ReadOnlyKey, devSecret)
			<-c.Context().Done()
			return store.Close()
		},
	}
	c.Flags().StringVar(&cfg.Dir, "data-dir", "tidewater-bucket", "directory that holds the bucket")
	c.Flags().StringVar(&cfg.Addr, "addr", "127.0.0.1:9000", "where to listen, host:port")
	return c
}

// storeHint says which flag mends a port that is taken.
func storeHint(err error, addrFlag string) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w (choose another with %s)", err, addrFlag)
	}
	return err
}
