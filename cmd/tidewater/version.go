package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Say which build this is",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			version, revision, modified := buildFacts()
			r, err := newRows(c, "Version", "Revision", "Modified", "Go", "Platform")
			if err != nil {
				return err
			}
			if err := r.add(version, revision, modified, runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH); err != nil {
				return err
			}
			return r.flush()
		},
	}
}

// buildName is how brokers call their build to each other: the version, or the
// revision of one that has none.
func buildName() string {
	version, revision, _ := buildFacts()
	if version == "(devel)" && revision != "unknown" {
		return revision[:min(len(revision), 12)]
	}
	return version
}

// buildFacts reads what the Go toolchain stamped into the binary.
func buildFacts() (version, revision string, modified bool) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown", "unknown", false
	}
	version, revision = info.Main.Version, "unknown"
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value
		case "vcs.modified":
			modified = s.Value == "true"
		}
	}
	return version, revision, modified
}
