package main

import (
	"path/filepath"
	"slices"
	"testing"

	"tidewater/broker"
)

// Each broker of a development cluster has further directories of its own.
func TestNodesHaveFurtherDirectoriesOfTheirOwn(t *testing.T) {
	cfg := broker.Default()
	cfg.MoreDataDirs = []string{"/b", "/c"}
	all, err := planNodes(cfg, 3)
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range all {
		want := []string{filepath.Join("/b", filepath.Base(n.DataDir)), filepath.Join("/c", filepath.Base(n.DataDir))}
		if !slices.Equal(n.MoreDataDirs, want) {
			t.Errorf("broker %d has %v, want %v", i+1, n.MoreDataDirs, want)
		}
	}
}
