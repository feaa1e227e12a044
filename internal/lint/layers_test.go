package lint

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// mayImport lists, for each package tree of ours, which other trees of ours
// it may import outside its tests. "internal" stands for every leaf below
// internal/. A package absent from the table fails the test: the table is the
// map of the house.
var mayImport = map[string][]string{
	"cmd":               {"broker", "internal", "iceberg", "tiering", "catalog"},
	"demo":              {"internal", "demo"},
	"bench":             {"internal", "demo"},
	"harness":           {},
	"broker":            {"broker", "tiering", "iceberg", "catalog", "readreplica", "internal", "console"},
	"broker/kafka":      {"broker/group", "broker/cluster", "internal"},
	"broker/http":       {"internal"},
	"broker/group":      {"internal"},
	"broker/cluster":    {"broker/multiraft", "broker/journal", "broker/peer", "internal"},
	"broker/partition":  {"broker/multiraft", "broker/segment", "broker/journal", "internal"},
	"broker/peer":       {"broker/multiraft", "internal"},
	"broker/multiraft":  {"broker/journal", "internal"},
	"broker/journal":    {"internal"},
	"broker/segment":    {"internal"},
	"readreplica":       {"tiering/remote", "tiering/manifest", "internal"},
	"tiering/archive":   {"tiering/manifest", "internal"},
	"tiering/remote":    {"tiering/manifest", "internal"},
	"tiering/restore":   {"tiering/manifest", "tiering/remote", "internal"},
	"tiering/manifest":  {"internal"},
	"iceberg/schema":    {"internal"},
	"iceberg/tablefs":   {"internal"},
	"iceberg/translate": {"iceberg/schema", "iceberg/tablefs", "catalog", "internal"},
	"iceberg/scan":      {"iceberg/schema", "iceberg/tablefs", "catalog", "internal"},
	"iceberg/commit":    {"iceberg/schema", "iceberg/tablefs", "iceberg/translate", "iceberg/scan", "catalog", "internal"},
	"iceberg/verify":    {"iceberg/schema", "iceberg/tablefs", "iceberg/translate", "iceberg/scan", "iceberg/commit", "catalog", "internal"},
	"catalog":           {"internal"},
	"catalog/server":    {"catalog", "internal"},
	"catalog/rest":      {"catalog", "internal"},
	"internal":          {"internal"},
	// Worlds and tools that stand above everything: the simulation runs the
	// real packages, and no package of the product imports it.
	"internal/sim":         {"broker", "tiering", "iceberg", "catalog", "readreplica", "internal"},
	"catalog/catalogtest":  {"catalog", "internal"},
	"iceberg/icebergtest":  {"iceberg", "catalog", "internal"},
	"internal/objstore":    {"internal"},
	"internal/devenv":      {"internal"},
	"internal/topicconfig": {"internal"},
}

type goPackage struct {
	ImportPath string
	Imports    []string
	Doc        string
	Dir        string
	GoFiles    []string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Doc,Dir,GoFiles", "tidewater/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		if len(p.GoFiles) > 0 {
			all = append(all, p)
		}
	}
}

// TestLayers shows that imports only run downward, by the table above.
func TestLayers(t *testing.T) {
	for _, p := range packages(t) {
		from := strings.TrimPrefix(p.ImportPath, "tidewater/")
		rule, ok := longest(mayImport, from)
		if !ok {
			t.Errorf("%s is not in the layer table: say what it may import", from)
			continue
		}
		for _, imp := range p.Imports {
			to, ours := strings.CutPrefix(imp, "tidewater/")
			if ours && to != rule && !allowed(mayImport[rule], to) && !strings.HasPrefix(to, rule+"/") {
				t.Errorf("%s imports %s; %s may import only %v", from, to, rule, mayImport[rule])
			}
		}
	}
}

// TestPackageDocs shows that every package says what it is.
func TestPackageDocs(t *testing.T) {
	for _, p := range packages(t) {
		if p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

// longest finds the rule whose name is the longest prefix of path.
func longest(rules map[string][]string, path string) (string, bool) {
	for p := path; p != ""; {
		if _, ok := rules[p]; ok {
			return p, true
		}
		i := strings.LastIndexByte(p, '/')
		if i < 0 {
			break
		}
		p = p[:i]
	}
	return "", false
}

func allowed(prefixes []string, to string) bool {
	if strings.HasPrefix(to, "internal/sim") {
		return false
	}
	return slices.ContainsFunc(prefixes, func(p string) bool {
		return to == p || strings.HasPrefix(to, p+"/")
	})
}
