// Package recipes_test has the code of docs/recipes.md, and runs it.
package recipes_test

import (
	"os"
	"strings"
	"testing"

	"github.com/cachetrip/cachetrip/internal/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// TestPage tests that each piece of code in the page stands in recipes_test.go
// as well, where it is run. Only the indentation may differ. Whole programs are
// left to the test of all documentation.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/recipes.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("recipes_test.go")
	if err != nil {
		t.Fatal(err)
	}
	code := flush(string(source))
	blocks := strings.Split(strings.ReplaceAll(string(page), "\r\n", "\n"), "```go\n")[1:]
	if len(blocks) < 10 {
		t.Errorf("only %d pieces of code", len(blocks))
	}
	for _, block := range blocks {
		block, _, _ = strings.Cut(block, "```")
		if !strings.HasPrefix(block, "package ") && !strings.Contains(code, "\n"+flush(block)) {
			t.Errorf("not in recipes_test.go:\n%s", block)
		}
	}
}

// flush removes the indentation of all lines.
func flush(code string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.ReplaceAll(code, "\r\n", "\n")) {
		b.WriteString(strings.TrimLeft(line, " \t"))
	}
	return b.String()
}
