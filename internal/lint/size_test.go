package lint

import (
	"bufio"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fileLinesMax and funcLinesMax are the longest a file and a function outside
// tests may be: what one head and one screen hold.
const (
	fileLinesMax = 600
	funcLinesMax = 70
)

// coreDirs are the packages that the simulation runs in one goroutine from
// one seed: what they may not call would make a seed unrepeatable.
var coreDirs = []string{
	"broker/journal", "broker/segment", "broker/partition", "broker/multiraft", "broker/group",
	"tiering/manifest", "tiering/archive", "tiering/remote", "tiering/restore",
	"iceberg/translate", "iceberg/commit", "internal/sim",
}

// banned calls in coreDirs, each with what to use instead.
var banned = map[string]string{
	"time.Now":   "take now func() time.Time from the caller",
	"time.Sleep": "let the caller's loop wait",
	"time.After": "let the caller's loop wait",
	"rand.Int":   "take a source from the caller",
	"rand.IntN":  "take a source from the caller",
	"rand.Intn":  "take a source from the caller",
}

const root = "../.."

// TestTree shows that no file or function is too long, no core calls the wall
// clock or global randomness, and no package hides work in init; exceptions
// stand in testdata/allowed.txt, each still needed.
func TestTree(t *testing.T) {
	allow := readAllowed(t)
	used := map[string]bool{}
	fault := func(rule, where, detail string) {
		key := rule + " " + where
		if _, ok := allow[key]; ok {
			used[key] = true
			return
		}
		t.Errorf("%s: %s (%s)", key, detail, "mend it, or list it with its reason in internal/lint/testdata/allowed.txt")
	}
	walk(t, func(path string, f *ast.File, fset *token.FileSet) {
		if n := fset.File(f.Pos()).LineCount(); n > fileLinesMax {
			fault("file-lines", path, fmt.Sprintf("%d lines, at most %d", n, fileLinesMax))
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			name := path + ":" + funcName(fn)
			if n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1; n > funcLinesMax {
				fault("func-lines", name, fmt.Sprintf("%d lines, at most %d", n, funcLinesMax))
			}
			if fn.Recv == nil && fn.Name.Name == "init" {
				fault("init", name, "wire by hand instead")
			}
			if isCore(path) {
				checkCore(fn, name, fault)
			}
		}
	})
	for key := range allow {
		if !used[key] {
			t.Errorf("testdata/allowed.txt: %q is no longer needed: delete the line", key)
		}
	}
}

func checkCore(fn *ast.FuncDecl, name string, fault func(rule, where, detail string)) {
	ast.Inspect(fn, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok {
				if why, bad := banned[x.Name+"."+n.Sel.Name]; bad {
					fault("core-call", name+":"+x.Name+"."+n.Sel.Name, why)
				}
			}
		case *ast.GoStmt:
			fault("core-go", name, "cores start no goroutine; the shell does")
		case *ast.SelectStmt:
			fault("core-select", name, "a select's choice cannot be replayed; the shell selects")
		}
		return true
	})
}

func isCore(path string) bool {
	for _, d := range coreDirs {
		if filepath.Dir(path) == d {
			return true
		}
	}
	return false
}

func funcName(fn *ast.FuncDecl) string {
	if fn.Recv == nil || len(fn.Recv.List) == 0 {
		return fn.Name.Name
	}
	recv := fn.Recv.List[0].Type
	if s, ok := recv.(*ast.StarExpr); ok {
		recv = s.X
	}
	if id, ok := recv.(*ast.Ident); ok {
		return id.Name + "." + fn.Name.Name
	}
	return fn.Name.Name
}

// walk parses every Go file outside tests.
func walk(t *testing.T, visit func(path string, f *ast.File, fset *token.FileSet)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		visit(filepath.ToSlash(rel), f, fset)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// readAllowed reads lines of "rule where # reason".
func readAllowed(t *testing.T) map[string]string {
	t.Helper()
	f, err := os.Open("testdata/allowed.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	allow := map[string]string{}
	for s := bufio.NewScanner(f); s.Scan(); {
		line := strings.TrimSpace(s.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, reason, ok := strings.Cut(line, " # ")
		if !ok || reason == "" {
			t.Errorf("testdata/allowed.txt: %q has no reason", line)
		}
		allow[strings.TrimSpace(key)] = reason
	}
	return allow
}
