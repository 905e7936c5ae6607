// Package layers type-checks the files of a package for tests of its layers:
// which files refer to what.
package layers

import (
	"go/ast"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Check type-checks files as the package path, whose directory is the current
// one. The result has every use of an identifier. Check skips t if there is no
// go command.
func Check(t testing.TB, path string, fset *token.FileSet, files []*ast.File) (*types.Package, *types.Info) {
	t.Helper()
	info := &types.Info{Uses: make(map[*ast.Ident]types.Object)}
	config := types.Config{Importer: importer.ForCompiler(fset, "gc", exportData(t))}
	pkg, err := config.Check(path, fset, files, info)
	if err != nil {
		t.Fatal(err)
	}
	return pkg, info
}

// exportData returns what opens the export data of the packages that the
// package in the current directory depends on.
func exportData(t testing.TB) func(path string) (io.ReadCloser, error) {
	t.Helper()
	files, err := exportFiles()
	if err != nil {
		t.Skipf("there is no go command that could list the packages: %v", err)
	}
	return func(path string) (io.ReadCloser, error) { return os.Open(files[path]) }
}

// exportFiles returns the files of export data by package. All tests of a
// package run in one directory, so the go command is asked once.
var exportFiles = sync.OnceValues(func() (map[string]string, error) {
	out, err := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}", ".").Output()
	files := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		files[path] = file
	}
	return files, err
})

// clock has the functions that read a clock or wait for one.
var clock = []string{"Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Sleep"}

// UsesClock reports whether object is a function of package time that reads a
// clock or waits for one.
func UsesClock(object types.Object) bool {
	function, ok := object.(*types.Func)
	return ok && function.Signature().Recv() == nil &&
		object.Pkg().Path() == "time" && slices.Contains(clock, object.Name())
}
