// Package demotest checks the tables of the examples, and that the pages in
// docs/clients show them.
package demotest

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip/examples/clients/internal/demo"
)

// Run runs an example and returns its table. It checks that each run has the
// same data as the first, which has no cache. It checks that the page
// docs/clients/<name>.md shows the table.
func Run(t *testing.T, name string, run func(dir string) (demo.Table, error)) demo.Table {
	t.Helper()
	table, err := run(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range table[1:] {
		if diff := cmp.Diff(table[0].Data, row.Data); diff != "" {
			t.Errorf("%s: other data than in %q (-want +got):\n%s", row.Name, table[0].Name, diff)
		}
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "clients", name+".md"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(page), "\r\n", "\n")
	_, shown, found := strings.Cut(text, "$ go run ./"+name+"\n")
	if shown, _, _ = strings.Cut(shown, "\n\n"); !found || !alike(shown, table.String()) {
		t.Errorf("docs/clients/%s.md shows\n%s\nwant\n%s", name, shown, table)
	}
	return table
}

// alike reports whether two tables are the same, except for spaces and 3 % of
// the bytes. Compressed bodies have other lengths with other versions of Go.
func alike(a, b string) bool {
	x, y := strings.Fields(a), strings.Fields(b)
	if len(x) != len(y) {
		return false
	}
	for i := range x {
		if x[i] == y[i] {
			continue
		}
		m, err1 := strconv.ParseFloat(x[i], 64)
		n, err2 := strconv.ParseFloat(y[i], 64)
		if err1 != nil || err2 != nil || n < 1000 || math.Abs(m-n) > 0.03*n {
			return false
		}
	}
	return true
}

// Want checks the number of requests and of 304s of all runs. It also checks
// that a run without requests received nothing.
func Want(t *testing.T, table demo.Table, want map[string][2]int) {
	t.Helper()
	got := map[string][2]int{}
	for _, row := range table {
		got[row.Name] = [2]int{row.Requests, row.NotModified}
		if row.Requests == 0 && row.Bytes != 0 {
			t.Errorf("%s: %d bytes without a request", row.Name, row.Bytes)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests and 304s (-want +got):\n%s", diff)
	}
}
