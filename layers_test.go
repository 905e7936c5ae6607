package cachetrip

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip/internal/layers"
)

// ruleFiles are the files of rules. Rules take values and return values. They
// refer to no declaration in another kind of file, and use no clock, context or
// store.
var ruleFiles = []string{
	"alike.go", "audience.go", "credentials.go", "decide.go", "digests.go", "freshness.go", "invalidate.go", "key.go",
	"merge.go", "message.go", "policy.go", "ranges.go", "revalidate.go", "storable.go", "ties.go", "validators.go", "vary.go", "vary_values.go",
}

// ruleImports are the packages that rules may import. Of net/http that is for
// its types.
var ruleImports = []string{
	"cmp", "crypto/sha256", "encoding/hex", "fmt", "maps", "net/http", "net/url", "slices", "strconv", "strings", "time", "unicode/utf8",
	"github.com/cachetrip/cachetrip/internal/digest", "github.com/cachetrip/cachetrip/internal/field", "github.com/cachetrip/cachetrip/internal/head",
	"github.com/cachetrip/cachetrip/internal/redact", "github.com/cachetrip/cachetrip/internal/span",
	"github.com/cachetrip/cachetrip/internal/urlpattern", "github.com/cachetrip/cachetrip/internal/urlsearch",
}

// mechanisms are the internal packages that the Transport and the stores are
// built upon, each with those of the others that it may import.
var mechanisms = map[string][]string{
	"internal/digest":     {"internal/span"},
	"internal/download":   {"internal/digest", "internal/patience", "internal/prefix", "internal/span", "internal/stack", "internal/straggler"},
	"internal/background": {},
	"internal/content":    {"internal/straggler"},
	"internal/duration":   {},
	"internal/eventlog":   {},
	"internal/field":      {},
	"internal/guard":      {"internal/patience", "store"},
	"internal/head":       {},
	"internal/inflight":   {"internal/patience", "internal/stack", "internal/straggler"},
	"internal/memo":       {},
	"internal/patience":   {},
	"internal/pending":    {"internal/patience"},
	"internal/prefix":     {},
	"internal/redact":     {"internal/field"},
	"internal/span":       {},
	"internal/stack":      {},
	"internal/stored":     {"internal/digest", "internal/span", "store"},
	"internal/straggler":  {},
	"internal/urlpattern": {},
	"internal/urlsearch":  {},

	"store/internal/entryset":  {},
	"store/internal/golden":    {"store", "store/internal/fill"},
	"store/internal/fill":      {},
	"store/internal/leasewait": {},
	"store/internal/subject":   {"store", "store/storetest"},
	"store/internal/wire":      {},
}

// users are the other internal packages: programs and tests, which are built
// upon the Transport.
var users = []string{"internal/command", "internal/crashtest", "internal/harness", "internal/layers", "internal/testtier"}

// TestRules checks that each file of rules can be read, tested and replaced
// without knowing the rest.
func TestRules(t *testing.T) {
	fset := token.NewFileSet()
	files := parseFiles(t, fset)
	for _, name := range ruleFiles {
		if _, err := os.Stat(name); err != nil {
			t.Error(err)
		}
	}
	for _, violation := range ruleViolations(t, fset, files, ruleFiles) {
		t.Error(violation)
	}
}

// parseFiles parses the files of the package, without tests.
func parseFiles(t *testing.T, fset *token.FileSet) (files []*ast.File) {
	t.Helper()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}

// check checks the types of files of the package.
func check(t *testing.T, fset *token.FileSet, files []*ast.File) (*types.Package, *types.Info) {
	t.Helper()
	return layers.Check(t, "github.com/cachetrip/cachetrip", fset, files)
}

// ruleViolations lists what files of rules refer to that they must not.
func ruleViolations(t *testing.T, fset *token.FileSet, files []*ast.File, rules []string) (found []string) {
	t.Helper()
	pkg, info := check(t, fset, files)
	isRule := func(file string) bool { return slices.Contains(rules, filepath.Base(file)) }
	for ident, object := range info.Uses {
		at := fset.Position(ident.Pos())
		if !isRule(at.Filename) || object.Pkg() == nil {
			continue
		}
		declared := fset.Position(object.Pos()).Filename
		switch {
		case object.Pkg() == pkg && !isRule(declared):
			found = append(found, fmt.Sprintf("%s: a rule refers to %s, which %s declares", at, object.Name(), declared))
		case layers.UsesClock(object):
			found = append(found, fmt.Sprintf("%s: a rule calls time.%s", at, object.Name()))
		}
	}
	for _, file := range files {
		if at := fset.Position(file.Pos()); isRule(at.Filename) {
			for _, spec := range file.Imports {
				if path := strings.Trim(spec.Path.Value, `"`); !slices.Contains(ruleImports, path) {
					found = append(found, fmt.Sprintf("%s: a rule imports %s", at, path))
				}
			}
		}
	}
	slices.Sort(found)
	return found
}

// TestNoCycles checks that no two files of the package need each other, so that
// one can be read after another.
func TestNoCycles(t *testing.T) {
	fset := token.NewFileSet()
	files := parseFiles(t, fset)
	_, info := check(t, fset, files)
	needs := make(map[string]map[string]string) // by file: the files that it needs, with a name that they declare
	for ident, object := range info.Uses {
		from, to := fset.Position(ident.Pos()).Filename, fset.Position(object.Pos()).Filename
		if !slices.ContainsFunc(files, func(f *ast.File) bool { return fset.Position(f.Pos()).Filename == to }) || from == to {
			continue
		}
		if needs[from] == nil {
			needs[from] = make(map[string]string)
		}
		needs[from][to] = object.Name()
	}
	done := make(map[string]bool)
	var visit func(file string, path []string)
	visit = func(file string, path []string) {
		if i := slices.Index(path, file); i >= 0 {
			cycle := append(path[i:len(path):len(path)], file)
			text := cycle[0]
			for i, to := range cycle[1:] {
				text += fmt.Sprintf(" needs %s of %s, which", needs[cycle[i]][to], to)
			}
			t.Errorf("%s closes a cycle", text)
			return
		}
		if done[file] {
			return
		}
		for _, to := range slices.Sorted(maps.Keys(needs[file])) {
			visit(to, append(path, file))
		}
		done[file] = true
	}
	for _, file := range slices.Sorted(maps.Keys(needs)) {
		visit(file, nil)
	}
}

// TestRuleViolationsAreFound has rules refer to plumbing in each way that they
// could.
func TestRuleViolationsAreFound(t *testing.T) {
	fset := token.NewFileSet()
	var files []*ast.File
	for name, source := range map[string]string{
		"rule.go": `package cachetrip
import ("context"; "time")
type rule struct{ p plumbing; ctx context.Context }
func (r rule) f() bool { return r.p.works() && time.Now().IsZero() && r.p.field && constant && other(1) }
`,
		"other.go": `package cachetrip
func other(int) bool { return true }
`,
		"plumbing.go": `package cachetrip
type plumbing struct { field bool }
func (plumbing) works() bool { return true }
const constant = true
`,
	} {
		file, err := parser.ParseFile(fset, name, source, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	var got []string
	for _, violation := range ruleViolations(t, fset, files, []string{"rule.go", "other.go"}) {
		_, what, _ := strings.Cut(violation, ": ")
		got = append(got, what)
	}
	slices.Sort(got)
	want := []string{
		"a rule calls time.Now",
		"a rule imports context",
		"a rule refers to constant, which plumbing.go declares",
		"a rule refers to field, which plumbing.go declares",
		"a rule refers to plumbing, which plumbing.go declares",
		"a rule refers to works, which plumbing.go declares",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("violations (-want +got):\n%s", diff)
	}
}

// TestMechanisms checks that internal packages look down only.
func TestMechanisms(t *testing.T) {
	const module = "github.com/cachetrip/cachetrip"
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./internal/...", "./store/internal/...").Output()
	if err != nil {
		t.Skipf("there is no go command that could list the packages: %v", err)
	}
	seen := make(map[string]bool)
	for line := range strings.Lines(string(out)) {
		imports := strings.Fields(line)
		path := strings.TrimPrefix(imports[0], module+"/")
		seen[path] = true
		if slices.Contains(users, path) {
			continue
		}
		allowed, known := mechanisms[path]
		if !known {
			t.Errorf("%s is neither among the mechanisms nor among their users", path)
		}
		for _, imported := range imports[1:] {
			rest, ours := strings.CutPrefix(imported, module)
			if rest = strings.TrimPrefix(rest, "/"); ours && !slices.Contains(allowed, rest) {
				t.Errorf("%s imports %s", path, imported)
			}
		}
	}
	for _, path := range slices.Concat(slices.Collect(maps.Keys(mechanisms)), users) {
		if !seen[path] {
			t.Errorf("there is no package %s", path)
		}
	}
}
