package layers_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip/internal/layers"
)

// TestCheck finds the uses of the clock in a file. Methods of the same name are
// none.
func TestCheck(t *testing.T) {
	const source = `package p
import "time"
var a, b = time.Now(), time.Unix(0, 0).After(time.Time{})
func f() { time.Sleep(time.Second); g := time.AfterFunc; _ = g }
func Now() {}
`
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, "p.go", source, 0)
	if err != nil {
		t.Fatal(err)
	}
	pkg, info := layers.Check(t, "p", fset, []*ast.File{file})
	if pkg.Scope().Lookup("f") == nil {
		t.Error("the package has no function f")
	}
	var got []string
	for _, object := range info.Uses {
		if layers.UsesClock(object) {
			got = append(got, object.Name())
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{"AfterFunc", "Now", "Sleep"}, got); diff != "" {
		t.Errorf("functions of the clock (-want +got):\n%s", diff)
	}
}
