package store

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cachetrip/cachetrip/internal/layers"
)

// pureFiles take values and return values. They know no Disk, open no files and
// read no clock.
var pureFiles = []string{"arrange.go", "cause.go", "entry_codec.go", "evict_plan.go", "freshened.go", "key_file.go", "limits.go"}

// impureImports are the packages that pure files must not import.
var impureImports = []string{"context", "math/rand/v2", "os", "path/filepath"}

// namesDisk matches the text of a type that mentions Disk.
var namesDisk = regexp.MustCompile(`\bstore\.Disk\b`)

// TestPureFiles checks that pure files can be read, tested and replaced without
// knowing the disk.
func TestPureFiles(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{join .GoFiles " "}}`, ".").Output()
	if err != nil {
		t.Skipf("there is no go command that could list the files: %v", err)
	}
	names := strings.Fields(string(out))
	for _, name := range pureFiles {
		if !slices.Contains(names, name) {
			t.Errorf("there is no file %s", name)
		}
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		file, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
		for _, spec := range file.Imports {
			if path := strings.Trim(spec.Path.Value, `"`); slices.Contains(pureFiles, name) && slices.Contains(impureImports, path) {
				t.Errorf("%s imports %s", name, path)
			}
		}
	}
	pkg, info := layers.Check(t, "github.com/cachetrip/cachetrip/store", fset, files)
	for ident, object := range info.Uses {
		if at := fset.Position(ident.Pos()); slices.Contains(pureFiles, at.Filename) {
			if why := impurity(pkg, object); why != "" {
				t.Errorf("%s: %s", at, why)
			}
		}
	}
}

// impurity says why a pure file must not refer to object. It is empty if it
// may.
func impurity(pkg *types.Package, object types.Object) string {
	if object.Pkg() == nil {
		return ""
	}
	if layers.UsesClock(object) {
		return "calls time." + object.Name()
	}
	if object.Pkg() != pkg {
		return ""
	}
	disk := pkg.Scope().Lookup("Disk").Type()
	mentions := namesDisk.MatchString(types.TypeString(object.Type(), nil))
	switch object := object.(type) {
	case *types.Func:
		if recv := object.Signature().Recv(); recv != nil {
			mentions = mentions || namesDisk.MatchString(types.TypeString(recv.Type(), nil))
		}
	case *types.Var:
		for field := range disk.Underlying().(*types.Struct).Fields() {
			mentions = mentions || field == object
		}
	}
	if mentions {
		return fmt.Sprintf("refers to %s, which knows the Disk", object.Name())
	}
	return ""
}

// removers are the functions that may change a directory by path, and what they
// change. The file of a key they must not change, because they do not count the
// change.
var removers = map[string]string{
	"removeFile":    "that of shardDir is called by remove; that of a path is not called for keys",
	"removeForeign": "files of the whole cache",
	"tag":           "CACHEDIR.TAG",
	"linkNew":       "a temporary file",
	"moveNew":       "files of the whole cache",
	"writeNew":      "its own file, after an error",
	"rename":        "CACHEDIR.TAG",
	"sweepDrafts":   "drafts",
	"sweepFile":     "bodies, and files of no key",
	"sweepTemps":    "temporary files",
	"sweepTree":     "another version of the format",
	"sweepVersions": "another version of the format",
	"renameFile":    "used by shardDir.rename",
}

// changesDirs matches calls that change a directory.
var changesDirs = regexp.MustCompile(`^(os|unix|syscall|windows)\.(Remove|RemoveAll|Rename|Renameat|Renameat2|Unlink|Unlinkat|Link|Linkat|MoveFile|MoveFileEx)$`)

// TestKeyFilesChangeInOnePlace checks that nobody changes the file of a key
// without counting that: only the functions at the end of shard_dir.go call
// those that do, and only removers call the system.
func TestKeyFilesChangeInOnePlace(t *testing.T) {
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	uncounted := []string{"createFile", "appendFile", "appendFileUnlocked", "renameFile", "removeFile"}
	callers := map[string][]string{"createFile": {"create"}, "appendFile": {"append"}, "appendFileUnlocked": {"appendUnlocked"}, "renameFile": {"rename"}, "removeFile": {"remove", "createFile"}}
	byPath := []string{"Close", "loadSecret", "lost"} // they remove a draft, the secret, the counters
	found := 0
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			ast.Inspect(f.Body, func(n ast.Node) bool {
				if id, ok := n.(*ast.Ident); ok && id.Name == "removeFile" && !slices.Contains(byPath, f.Name.Name) && !strings.HasPrefix(name, "shard_dir") {
					t.Errorf("%s: %s calls removeFile", name, f.Name.Name)
				}
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if call := types.ExprString(sel); changesDirs.MatchString(call) && removers[f.Name.Name] == "" {
					t.Errorf("%s: %s calls %s", name, f.Name.Name, call)
				}
				if slices.Contains(uncounted, sel.Sel.Name) {
					found++
					if !slices.Contains(callers[sel.Sel.Name], f.Name.Name) {
						t.Errorf("%s: %s calls %s, which does not count the change", name, f.Name.Name, sel.Sel.Name)
					}
				}
				return true
			})
		}
	}
	if found < len(uncounted) {
		t.Errorf("only %d calls of the functions that change files were found", found)
	}
}
