// Package docs checks the documents in the root of the repository that describe
// the code itself: the map and what stands beside it.
package docs

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	root   = "../.."
	module = "github.com/cachetrip/cachetrip"
	begin  = "<!-- packages:begin -->\n"
	end    = "<!-- packages:end -->\n"
)

var update = flag.Bool("update", false, "write the picture of the packages into ARCHITECTURE.md")

// documents are the files that these tests read.
var documents = []string{"ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "RELEASING.md"}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// ARCHITECTURE.md shows which package imports which. go test ./tests/docs
// -update writes that.
func TestPackages(t *testing.T) {
	text := read(t, "ARCHITECTURE.md")
	before, rest, found := strings.Cut(text, begin)
	shown, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("ARCHITECTURE.md lacks the lines %q and %q", begin, end)
	}
	want := picture(t)
	if shown == want {
		return
	}
	if !*update {
		t.Fatalf("the packages have changed; write them with: go test ./tests/docs -update\n%s", cmp.Diff(shown, want))
	}
	if err := os.WriteFile(filepath.Join(root, "ARCHITECTURE.md"), []byte(before+begin+want+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// picture returns the packages of the root module in layers, each with what it
// imports of the others.
func picture(t *testing.T) string {
	t.Helper()
	imports := packages(t)
	layers := make(map[string]int)
	var layer func(name string) int
	layer = func(name string) int {
		if n, ok := layers[name]; ok {
			return n
		}
		n := 0
		for _, below := range imports[name] {
			n = max(n, layer(below)+1)
		}
		layers[name] = n
		return n
	}
	var byLayer [][]string
	width := 0
	for name := range imports {
		n := layer(name)
		for len(byLayer) <= n {
			byLayer = append(byLayer, nil)
		}
		byLayer[n] = append(byLayer[n], name)
		width = max(width, len(name))
	}
	var b strings.Builder
	b.WriteString("```text\n")
	for n, names := range slices.Backward(byLayer) {
		slices.Sort(names)
		for i, name := range names {
			label := " "
			if i == 0 {
				label = fmt.Sprint(n)
			}
			line := fmt.Sprintf("%s  %-*s", label, width, name)
			if len(imports[name]) > 0 {
				line += "  → " + strings.Join(imports[name], ", ")
			}
			b.WriteString(strings.TrimRight(line, " ") + "\n")
		}
	}
	b.WriteString("```\n")
	return b.String()
}

// packages returns what each package of the root module imports of the others.
func packages(t *testing.T) map[string][]string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,GoFiles", "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	short := func(path string) string {
		if path == module {
			return "cachetrip"
		}
		return strings.TrimPrefix(path, module+"/")
	}
	imports := make(map[string][]string)
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
			GoFiles    []string
		}
		if err := decoder.Decode(&p); err == io.EOF {
			return imports
		} else if err != nil {
			t.Fatal(err)
		}
		if len(p.GoFiles) == 0 || strings.HasPrefix(short(p.ImportPath), "tests/") {
			continue
		}
		name := short(p.ImportPath)
		imports[name] = []string{}
		for _, path := range p.Imports {
			if path == module || strings.HasPrefix(path, module+"/") {
				imports[name] = append(imports[name], short(path))
			}
		}
		slices.Sort(imports[name])
	}
}

// Each file that ARCHITECTURE.md names is there, in the root if it stands
// without a directory, or in the directory that the table above it is about.
func TestFiles(t *testing.T) {
	name := regexp.MustCompile("`([\\w/]+\\.go)`")
	dir := ""
	for i, line := range strings.Split(read(t, "ARCHITECTURE.md"), "\n") {
		if found := regexp.MustCompile("^\\| .*\\bfile in `([\\w/]+)` \\|$").FindStringSubmatch(line); found != nil {
			dir = found[1]
		} else if line == "" {
			dir = ""
		}
		for _, found := range name.FindAllStringSubmatch(line, -1) {
			if _, err := os.Stat(filepath.Join(root, dir, found[1])); err != nil {
				t.Errorf("ARCHITECTURE.md:%d: there is no file %s", i+1, filepath.Join(dir, found[1]))
			}
		}
	}
}

// Each test that docs/windows.md leaves out exists.
func TestLeftOutUnderWine(t *testing.T) {
	var tests strings.Builder
	for _, dir := range []string{".", "store", "store/storetest", "tests/stores"} {
		files, _ := filepath.Glob(filepath.Join(root, dir, "*.go"))
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			tests.Write(b)
		}
	}
	rows := regexp.MustCompile("(?m)^\\| `(Test[^`/]*)(?:/\\.\\*/([^`]*))?` \\|").FindAllStringSubmatch(read(t, "docs/windows.md"), -1)
	if len(rows) == 0 {
		t.Fatal("docs/windows.md leaves no tests out")
	}
	for _, row := range rows {
		if !strings.Contains(tests.String(), "func "+row[1]+"(t *testing.T)") {
			t.Errorf("docs/windows.md: there is no %s", row[1])
		}
		if part := strings.ReplaceAll(row[2], "_", " "); !strings.Contains(tests.String(), part) {
			t.Errorf("docs/windows.md: no test has a part %q", part)
		}
	}
}

// Each file of the root package and of store has a place in the table of its
// directory. A star in a name of the table stands for the rest of a name.
func TestEachFileHasAPlace(t *testing.T) {
	for _, table := range []struct{ heading, dir string }{
		{"file in the root package |\n", "."},
		{"file in `store` |\n", "store"},
	} {
		_, rows, found := strings.Cut(read(t, "ARCHITECTURE.md"), table.heading)
		if !found {
			t.Fatalf("ARCHITECTURE.md has no table with %q", table.heading)
		}
		rows, _, _ = strings.Cut(rows, "\n\n")
		var names []string
		for row := range strings.Lines(rows) {
			last := row[strings.LastIndex(strings.TrimRight(row, " |\n"), "|")+1:]
			for _, name := range regexp.MustCompile("`([\\w*]+\\.go)`").FindAllStringSubmatch(last, -1) {
				names = append(names, name[1])
			}
		}
		files, err := filepath.Glob(filepath.Join(root, table.dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", table.dir, len(files), err)
		}
		for _, file := range files {
			file := filepath.Base(file)
			places := func(name string) bool { matches, err := filepath.Match(name, file); return err == nil && matches }
			if !strings.HasSuffix(file, "_test.go") && !slices.ContainsFunc(names, places) {
				t.Errorf("ARCHITECTURE.md: the table of %s does not name %s", table.dir, file)
			}
		}
	}
}

// Each name of the code that ARCHITECTURE.md has in its glossary is one.
func TestGlossary(t *testing.T) {
	declared := make(map[string]bool)
	for _, pattern := range []string{"*.go", "internal/*/*.go", "store/*.go"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, found := range regexp.MustCompile(`(?m)^(?:type|func(?: \([^)]*\))?|\t?\w+,?) (\w+)`).FindAllSubmatch(b, -1) {
				declared[string(found[1])] = true
			}
		}
	}
	_, glossary, found := strings.Cut(read(t, "ARCHITECTURE.md"), "## Glossary\n")
	if !found {
		t.Fatal("ARCHITECTURE.md has no glossary")
	}
	glossary, _, _ = strings.Cut(glossary, "\n## ")
	rows := 0
	for line := range strings.Lines(glossary) {
		word, _, ok := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
		if !ok || !strings.HasPrefix(line, "| ") {
			continue
		}
		rows++
		for _, name := range regexp.MustCompile("`(?:\\w+\\.)?(\\w+)`").FindAllStringSubmatch(word, -1) {
			if !declared[name[1]] {
				t.Errorf("the glossary explains %s, which is declared nowhere", name[0])
			}
		}
	}
	if rows < 20 {
		t.Errorf("the glossary has %d rows", rows)
	}
}

// Links within the repository lead somewhere, headings included.
func TestLinks(t *testing.T) {
	for _, document := range documents {
		for _, found := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(read(t, document), -1) {
			if strings.Contains(found[1], "://") {
				continue
			}
			path, heading, _ := strings.Cut(found[1], "#")
			if path == "" {
				path = document
			}
			b, err := os.ReadFile(filepath.Join(root, path))
			if err != nil {
				if fi, serr := os.Stat(filepath.Join(root, path)); serr != nil || !fi.IsDir() {
					t.Errorf("%s links to %s: %v", document, found[1], err)
				}
				continue
			}
			if heading != "" && !slices.Contains(anchors(string(b)), heading) {
				t.Errorf("%s links to %s: there is no such heading, but %s", document, found[1], anchors(string(b)))
			}
		}
	}
}

// anchors returns the anchors of a document's headings.
func anchors(text string) []string {
	var all []string
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		anchor := regexp.MustCompile(`[^\w\- ]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		all = append(all, strings.ReplaceAll(anchor, " ", "-"))
	}
	return all
}
