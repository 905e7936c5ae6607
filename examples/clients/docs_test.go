// Package clients tests the code and tables in docs/clients against the
// examples in this directory.
package clients

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const pages = "../../docs/clients"

// Each block of Go code in a page also stands in a source file of the page's
// example, where it is compiled and run. Only the indentation may differ.
func TestCode(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(pages, "*.md"))
	if err != nil || len(files) < 7 {
		t.Fatalf("%d pages, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".md")
		blocks := goBlocks(read(t, file))
		if name == "README" {
			if len(blocks) > 0 {
				t.Error("README.md has code that no example stands for")
			}
			continue
		}
		if len(blocks) == 0 {
			t.Errorf("%s.md has no code", name)
		}
		sources, err := filepath.Glob(filepath.Join(name, "*.go"))
		if err != nil || len(sources) == 0 {
			t.Fatalf("%s.md has no example: %v", name, err)
		}
		var code strings.Builder
		for _, source := range sources {
			code.WriteString(flush(read(t, source)))
		}
		for _, block := range blocks {
			if !strings.Contains(code.String(), "\n"+flush(block)) {
				t.Errorf("%s.md: not in ./%s:\n%s", name, name, block)
			}
		}
	}
}

// Each example has its page, and README.md leads to it.
func TestPages(t *testing.T) {
	mains, err := filepath.Glob("*/main.go")
	if err != nil || len(mains) == 0 {
		t.Fatalf("%d examples, %v", len(mains), err)
	}
	index := read(t, filepath.Join(pages, "README.md"))
	for _, main := range mains {
		name := filepath.Dir(main)
		if !strings.Contains(index, "("+name+".md)") {
			t.Errorf("README.md does not lead to %s.md", name)
		}
		if page := read(t, filepath.Join(pages, name+".md")); !strings.Contains(page, "$ go run ./"+name+"\n") {
			t.Errorf("%s.md does not show a run", name)
		}
	}
}

// Links of the pages to files of the repository lead somewhere.
func TestLinks(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(pages, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`\]\(([^)\s#]+)[^)]*\)`)
	for _, file := range files {
		for _, found := range link.FindAllStringSubmatch(read(t, file), -1) {
			if strings.Contains(found[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(pages, found[1])); err != nil {
				t.Errorf("%s links to %s: %v", file, found[1], err)
			}
		}
	}
}

func read(t *testing.T, file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(b), "\r\n", "\n")
}

func goBlocks(page string) (blocks []string) {
	for _, part := range strings.Split(page, "```go\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		blocks = append(blocks, block)
	}
	return blocks
}

// flush removes the indentation of all lines.
func flush(code string) string {
	var b strings.Builder
	for line := range strings.Lines(code) {
		b.WriteString(strings.TrimLeft(line, " \t"))
	}
	return b.String()
}
