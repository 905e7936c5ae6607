package store

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// pureFiles take values and return values. They know no Disk, open no files and read no clock.
var pureFiles = []string{"cause.go", "entry_codec.go", "evict_plan.go", "key_file.go", "limits.go"}

// impureImports are the packages that pure files must not import.
var impureImports = []string{"context", "math/rand/v2", "os", "path/filepath"}

// impureFunctions give another result each time.
var impureFunctions = []string{"time.Now", "time.Since", "time.Until", "time.Sleep", "time.After", "time.NewTimer"}

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
	info := &types.Info{Uses: make(map[*ast.Ident]types.Object)}
	config := types.Config{Importer: importer.ForCompiler(fset, "gc", exportData(t))}
	pkg, err := config.Check("github.com/cachetrip/cachetrip/store", fset, files, info)
	if err != nil {
		t.Fatal(err)
	}
	for ident, object := range info.Uses {
		if at := fset.Position(ident.Pos()); slices.Contains(pureFiles, at.Filename) {
			if why := impurity(pkg, object); why != "" {
				t.Errorf("%s: %s", at, why)
			}
		}
	}
}

// impurity says why a pure file must not refer to object. It is empty if it may.
func impurity(pkg *types.Package, object types.Object) string {
	if object.Pkg() == nil {
		return ""
	}
	if name := object.Pkg().Name() + "." + object.Name(); slices.Contains(impureFunctions, name) {
		if f, ok := object.(*types.Func); ok && f.Signature().Recv() == nil {
			return "calls " + name
		}
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

// exportData returns what opens the export data of the packages that this one depends on.
func exportData(t *testing.T) func(path string) (io.ReadCloser, error) {
	t.Helper()
	out, err := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}", ".").Output()
	if err != nil {
		t.Skipf("there is no go command that could list the packages: %v", err)
	}
	files := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		files[path] = file
	}
	return func(path string) (io.ReadCloser, error) { return os.Open(files[path]) }
}
