package lint

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var rewriteNotice = flag.Bool("rewrite-notice", false, "write NOTICE anew from the licence files of the module cache")

// noticeHead stands above the table of NOTICE.
const noticeHead = `Tidewater
Licensed under the Apache License, Version 2.0 (see LICENSE).

bin/tidewater contains code of the modules below, each under its own licence;
the texts are in the modules' sources. Written by
go test ./internal/lint -run TestNotice -rewrite-notice

`

// licences tells a licence, by its SPDX name, from words that its text has.
var licences = []struct {
	spdx, words string
	not         string // words that the text of another licence has
}{
	{"Apache-2.0", "Apache License, Version 2.0", ""},
	{"Apache-2.0", "Apache License Version 2.0, January 2004", ""},
	{"BSD-2-Clause", "Redistribution and use in source and binary forms", "to endorse or promote products"},
	{"BSD-3-Clause", "to endorse or promote products", ""},
	{"ISC", "Permission to use, copy, modify, and/or distribute this software for any purpose", ""},
	{"MIT", "Permission is hereby granted, free of charge", ""},
	{"MPL-2.0", "Mozilla Public License, version 2.0", ""},
	{"MPL-2.0", "Mozilla Public License Version 2.0", ""},
}

// apacheHead is how a file begins that is the Apache License; behind its end
// such files tell of sources that were taken in under others.
const apacheHead = "Apache License Version 2.0, January 2004"

// refusedLicences would bind those who pass the binary on.
var refusedLicences = []string{"GNU GENERAL PUBLIC", "GNU AFFERO", "GNU LESSER", "Business Source License", "Server Side Public License"}

// TestNotice shows that NOTICE names every module linked into bin/tidewater,
// and no other, with the licence that the module's own files state.
func TestNotice(t *testing.T) {
	list := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Dir}}{{end}}{{end}}", "tidewater/cmd/tidewater")
	list.Env = append(os.Environ(), "CGO_ENABLED=0") // as `make build` has it
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	modules := strings.Fields(strings.TrimSpace(string(out)))
	lines := map[string]string{}
	width := 0
	for i := 0; i+1 < len(modules); i += 2 {
		spdx, err := licenceOf(modules[i+1])
		if err != nil {
			t.Errorf("module %s: %v", modules[i], err)
		}
		lines[modules[i]] = spdx
		width = max(width, len(modules[i]))
	}
	var want strings.Builder
	want.WriteString(noticeHead)
	var names []string
	for name := range lines {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&want, "%-*s  %s\n", width, name, lines[name])
	}
	path := filepath.Join(root, "NOTICE")
	if *rewriteNotice {
		if err := os.WriteFile(path, []byte(want.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := firstDifference(want.String(), string(got)); diff != "" {
		t.Errorf("NOTICE %s; look at the licence, then: go test ./internal/lint -run TestNotice -rewrite-notice", diff)
	}
}

// licenceOf works out the licence of a module from the files beside its go.mod.
func licenceOf(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	found := []string{}
	for _, e := range entries {
		name := strings.ToUpper(e.Name())
		if e.IsDir() || !strings.HasPrefix(name, "LICEN") && !strings.HasPrefix(name, "COPYING") {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return "", err
		}
		here, err := licencesIn(string(text))
		if err != nil {
			return "", fmt.Errorf("%s: %w", e.Name(), err)
		}
		found = append(found, here...)
	}
	if len(found) == 0 {
		return "", errors.New("no licence file")
	}
	slices.Sort(found)
	return strings.Join(slices.Compact(found), " AND "), nil
}

func licencesIn(text string) ([]string, error) {
	line := strings.Join(strings.Fields(text), " ")
	if strings.HasPrefix(line, apacheHead) {
		return []string{"Apache-2.0"}, nil
	}
	var found []string
	for _, l := range licences {
		if strings.Contains(line, l.words) && (l.not == "" || !strings.Contains(line, l.not)) {
			found = append(found, l.spdx)
		}
	}
	if len(found) > 0 {
		return found, nil
	}
	for _, name := range refusedLicences {
		if strings.Contains(strings.ToUpper(line), strings.ToUpper(name)) {
			return nil, fmt.Errorf("%s: not for this binary", name)
		}
	}
	return nil, errors.New("a licence that internal/lint does not know: read it, then teach it")
}

// firstDifference words the first line in which two texts differ.
func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		switch {
		case i >= len(g):
			return fmt.Sprintf("lacks %q", w[i])
		case i >= len(w):
			return fmt.Sprintf("has too much: %q", g[i])
		case w[i] != g[i]:
			return fmt.Sprintf("line %d is %q, want %q", i+1, g[i], w[i])
		}
	}
	return ""
}
