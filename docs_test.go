package cachetrip_test

import (
	"bytes"
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip/internal/testtier"
)

// Code in the documentation is compiled and, where possible, run.
//
// A block marked "go" that begins with a package clause is a program. The test
// runs it. If a block marked "text" follows before the next heading or program,
// the output must be equal to it. Any other block is a fragment. It is wrapped
// in a function with the docParameters, and gets the docImports that it
// mentions. "go before" marks code for other modules, which is parsed but not
// compiled. docs/clients has a module and a test of its own. tests/recipes runs
// the fragments of docs/recipes.md.

// docParameters are what fragments may use without declaring it.
var docParameters = map[string]string{
	"ctx": "context.Context", "dir": "string", "url": "string", "key": "[]byte", "tokens": "oauth2.TokenSource", "registry": "prometheus.Registerer",
	"mux": "*http.ServeMux", "cache": "*cachetrip.Transport", "client": "*http.Client", "resp": "*http.Response",
	"req": "*http.Request", "disk": "*store.Disk", "lru": "gregjones.Cache",
}

var docImports = map[string]string{
	"cachetrip": "github.com/cachetrip/cachetrip", "store": "github.com/cachetrip/cachetrip/store",
	"encrypted": "github.com/cachetrip/cachetrip/store/encrypted", "redisstore": "github.com/cachetrip/cachetrip/store/redisstore",
	"gregjones": "github.com/cachetrip/cachetrip/store/gregjones",
	"storetest": "github.com/cachetrip/cachetrip/store/storetest", "debug": "github.com/cachetrip/cachetrip/debug",
	"otelcachetrip": "github.com/cachetrip/cachetrip/otelcachetrip", "prometheus": "github.com/prometheus/client_golang/prometheus", "expvar": "expvar", "oauth2": "golang.org/x/oauth2",
	"retryablehttp": "github.com/hashicorp/go-retryablehttp", "otelhttp": "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp", "rate": "golang.org/x/time/rate",
	"bytes": "bytes", "context": "context", "errors": "errors", "fmt": "fmt", "io": "io", "json": "encoding/json", "log": "log", "slog": "log/slog",
	"http": "net/http", "os": "os", "filepath": "path/filepath", "strings": "strings", "testing": "testing", "time": "time",
}

// docModules are the modules of this repository that the documentation uses,
// and modules with requirements that it uses.
var docModules = []string{".", "otelcachetrip", "store/encrypted", "store/redisstore", "internal/oauthtest", "examples/layers", "examples/metrics"}

// docBlock is a fenced block.
type docBlock struct {
	file string
	line int // of its first line of content
	mark string
	text string
	want *docBlock // its output
}

func (b *docBlock) String() string { return fmt.Sprintf("%s:%d", b.file, b.line) }

// docFiles returns the files of the documentation.
func docFiles(t *testing.T) []string {
	t.Helper()
	files := []string{"README.md", "SECURITY.md"}
	more, err := filepath.Glob("docs/*.md")
	if err != nil || len(more) == 0 {
		t.Fatalf("no documentation: %v", err)
	}
	return append(files, more...)
}

// docBlocks returns the fenced blocks of a file.
func docBlocks(t *testing.T, file string) []*docBlock {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var blocks []*docBlock
	var block, program *docBlock
	for i, line := range strings.Split(string(content), "\n") {
		fence := strings.HasPrefix(line, "```")
		switch {
		case block == nil && fence:
			block = &docBlock{file: file, line: i + 2, mark: strings.TrimPrefix(line, "```")}
		case block == nil && strings.HasPrefix(line, "#"):
			program = nil
		case block != nil && fence:
			switch {
			case block.isProgram():
				program = block
			case block.mark == "text" && program != nil:
				program.want, program = block, nil
			}
			blocks, block = append(blocks, block), nil
		case block != nil:
			block.text += line + "\n"
		}
	}
	if block != nil {
		t.Errorf("%s is not closed", block)
	}
	return blocks
}

func (b *docBlock) isProgram() bool { return b.mark == "go" && strings.HasPrefix(b.text, "package ") }

// source returns the block as a file of Go.
func (b *docBlock) source() (string, error) {
	if b.isProgram() {
		return b.text, nil
	}
	declarations := regexp.MustCompile(`^(// .*\n)*(func|type|var|const) `).MatchString(b.text)
	body := b.text
	if !declarations {
		body = "func _() error {\n" + b.text + "\nreturn nil\n}\n"
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), "", "package p\n"+body, 0)
	if err != nil {
		return "", err
	}
	mentioned, declared := map[string]bool{}, map[string]bool{}
	ast.Inspect(parsed, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for _, left := range n.Lhs {
				if name, ok := left.(*ast.Ident); ok && n.Tok == token.DEFINE {
					declared[name.Name] = true
				}
			}
		case *ast.Ident:
			mentioned[n.Name] = true
		}
		return true
	})
	if !declarations {
		var parameters, uses []string
		for _, name := range slices.Sorted(maps.Keys(docParameters)) {
			if mentioned[name] {
				parameters = append(parameters, name+" "+docParameters[name])
				pkg, _, _ := strings.Cut(strings.TrimPrefix(docParameters[name], "*"), ".")
				mentioned[pkg] = true
			}
		}
		// Variables at the end of a fragment count as used.
		last := parsed.Decls[0].(*ast.FuncDecl)
		for _, statement := range last.Body.List {
			if assign, ok := statement.(*ast.AssignStmt); ok && assign.Tok == token.DEFINE {
				for _, left := range assign.Lhs {
					if name := left.(*ast.Ident).Name; name != "_" {
						uses = append(uses, "_ = "+name)
					}
				}
			}
		}
		end := "return nil"
		if n := len(last.Body.List); n > 1 {
			if _, returns := last.Body.List[n-2].(*ast.ReturnStmt); returns {
				end = "" // vet would find what follows unreachable
			}
		}
		body = "func _(" + strings.Join(parameters, ", ") + ") error {\n{\n" + b.text + strings.Join(uses, "\n") + "\n}\n" + end + "\n}\n"
	}
	var imports strings.Builder
	for _, name := range slices.Sorted(maps.Keys(docImports)) {
		if mentioned[name] && !declared[name] {
			fmt.Fprintf(&imports, "import %q\n", docImports[name])
		}
	}
	return "package fragment\n\n" + imports.String() + "\n" + body, nil
}

func TestDocumentation(t *testing.T) {
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// A work space has the checkout's modules as they are, with the versions
	// that they require.
	work := "go 1.26.0\n\nuse ./docs\n"
	for _, module := range docModules {
		if _, err := os.Stat(filepath.Join(module, "go.mod")); err != nil {
			t.Skip("not a checkout: what a module proxy has of this module lacks those within it")
		}
		work += fmt.Sprintf("use %q\n", filepath.ToSlash(filepath.Join(root, module)))
	}
	write("go.work", work)
	write("docs/go.mod", "module docs.example\n\ngo 1.26.0\n")
	command := func(ctx context.Context, name string, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Dir = filepath.Join(dir, "docs")
		cmd.Env = append(os.Environ(), "GOWORK="+filepath.Join(dir, "go.work"), "GOFLAGS=-mod=readonly", "TMPDIR="+t.TempDir())
		return cmd
	}

	blocks := map[string]*docBlock{} // by directory
	for _, file := range docFiles(t) {
		for _, block := range docBlocks(t, file) {
			if file == "docs/recipes.md" && !block.isProgram() {
				continue
			}
			switch block.mark {
			case "go":
				source, err := block.source()
				if err != nil {
					t.Errorf("%s: %v", block, err)
					continue
				}
				name := fmt.Sprintf("%s_%d", regexp.MustCompile(`\W+`).ReplaceAllString(file, "_"), block.line)
				blocks[name] = block
				write("docs/"+name+"/main.go", source)
			case "go before":
				if _, err := parser.ParseFile(token.NewFileSet(), "", "package p\nfunc _() {\n"+block.text+"\n}", 0); err != nil {
					t.Errorf("%s: %v", block, err)
				}
			}
		}
	}
	if len(blocks) < 10 {
		t.Fatalf("only %d blocks of Go are found", len(blocks))
	}
	testtier.LongOnly(t, "builds a program from each block")
	// -o with a directory has all programs built at once.
	bin := t.TempDir()
	for _, args := range [][]string{{"vet", "./..."}, {"build", "-o", bin + string(filepath.Separator), "./..."}} {
		out, err := command(t.Context(), "go", args...).CombinedOutput()
		if err != nil {
			text := string(out)
			if strings.Contains(text, "dial tcp") || strings.Contains(text, "disabled by GOPROXY=off") {
				t.Skipf("modules that are not here can't be fetched: %s", text)
			}
			for name, block := range blocks {
				text = strings.ReplaceAll(text, name+string(filepath.Separator)+"main.go", block.String()+" (wrapped)")
			}
			t.Fatalf("go %s: %v\n%s", args[0], err, text)
		}
	}
	for name, block := range blocks {
		if !block.isProgram() {
			continue
		}
		t.Run(block.String(), func(t *testing.T) {
			if runtime.GOOS == "windows" {
				name += ".exe"
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var stderr bytes.Buffer
			cmd := command(ctx, filepath.Join(bin, name))
			cmd.Dir, cmd.Stderr = t.TempDir(), &stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v\n%s%s", err, out, stderr.Bytes())
			}
			if block.want != nil {
				if diff := cmp.Diff(block.want.text, string(out)); diff != "" {
					t.Errorf("prints (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// docCommands are the lines of blocks marked "sh" that are not run, with the
// reason.
var docCommands = []struct{ prefix, reason string }{
	{"git clone ", "needs the network"},
	{"go get ", "needs the network"},
	{"go install ", "needs the network"},
	{"cachetrip get ", "needs the network"},
	{"go test ", "would run this test"},
	{"CACHETRIP_SIMULATION=", "takes an hour"},
	{"bash .ci/run", "would run this test"},
	{"go run ./examples/large", ".ci/run does: it takes 1 GiB"},
	{"go run ./examples/debug", "it serves until it is stopped"},
	{"curl -H 'Accept: application/json' ", "it needs a program that serves the page"},
	{"go run ./conformance", ".ci/run does: it takes the suite's data"},
	{"go run . ", "is for the benchmarks, which take long"},
	{"cd ", "changes nothing"},
}

// Commands that need nothing but the checkout are run, in order, on one cache
// directory.
func TestDocumentedCommands(t *testing.T) {
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	bin, home, cacheDir := t.TempDir(), t.TempDir(), t.TempDir()
	run := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "cachetrip"), args...)
		cmd.Env = append(os.Environ(), "CACHETRIP_DIR="+cacheDir, "HOME="+home, "XDG_CACHE_HOME="+home, "LocalAppData="+home)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("cachetrip %s: %v\n%s", args, err, out)
		}
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip(err)
	}
	if out, err := exec.Command("go", "build", "-ldflags=-s -w", "-o", bin+string(filepath.Separator), "./cmd/cachetrip").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	run("demo", "--dir", cacheDir) // for there to be something
	ran := 0
	for _, file := range docFiles(t) {
		for _, block := range docBlocks(t, file) {
			if block.mark != "sh" {
				continue
			}
			for line := range strings.Lines(block.text) {
				line, _, _ = strings.Cut(strings.TrimSpace(line), "  #")
				if line == "" || strings.HasPrefix(line, "#") {
					continue
				}
				args := strings.Fields(line)
				if args[0] == "go" && args[1] == "run" && strings.HasPrefix(args[2], "./") && file == "README.md" {
					if fi, err := os.Stat(filepath.Join(root, args[2])); err != nil || !fi.IsDir() {
						t.Errorf("%s: %s: there is no such directory", block, line)
					}
				}
				if slices.ContainsFunc(docCommands, func(c struct{ prefix, reason string }) bool { return strings.HasPrefix(line+" ", c.prefix) }) {
					continue
				}
				switch {
				case strings.HasPrefix(line, "go run ./cmd/cachetrip "):
					args = args[3:]
				case args[0] == "cachetrip":
					args = args[1:]
				default:
					t.Errorf("%s: %s: neither known nor to be left out", block, line)
					continue
				}
				for i := range args {
					args[i] = strings.Trim(args[i], `'"`)
				}
				run(args...)
				ran++
			}
		}
	}
	if ran == 0 {
		t.Error("no command was run")
	}
}

// Links within the repository lead somewhere, headings included.
func TestDocumentationLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)|(?:src|srcset)="([^"]+)"`)
	for _, file := range docFiles(t) {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range link.FindAllStringSubmatch(string(content), -1) {
			target := found[1] + found[2]
			if strings.Contains(target, "://") {
				continue
			}
			path, heading, _ := strings.Cut(target, "#")
			full := file
			if path != "" {
				full = filepath.Join(filepath.Dir(file), path)
			}
			linked, err := os.ReadFile(full)
			if fi, serr := os.Stat(full); serr == nil && fi.IsDir() {
				continue
			}
			if err != nil {
				t.Errorf("%s links to %s: %v", file, target, err)
			} else if heading != "" && !slices.Contains(headings(string(linked)), heading) {
				t.Errorf("%s links to %s: there is no such heading, but %s", file, target, headings(string(linked)))
			}
		}
	}
}

// headings returns the anchors of a file's headings.
func headings(content string) []string {
	var anchors []string
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(content, -1) {
		anchor := regexp.MustCompile(`[^\w\- ]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		anchors = append(anchors, strings.ReplaceAll(anchor, " ", "-"))
	}
	return anchors
}

// docTable is a row of the table in docs/rfc9111.md: requirement, section,
// file, tests.
var (
	docFile = regexp.MustCompile("`([\\w/]+\\.go)`")
	docTest = regexp.MustCompile("`(Test\\w+)`")
)

// Files and tests that the coverage of the RFC names exist, and each row names
// both or says why not.
func TestCoverageTable(t *testing.T) {
	content, err := os.ReadFile("docs/rfc9111.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]bool{}
	sources, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"internal/*", "store", "store/storetest", "tests/*"} {
		more, err := filepath.Glob(dir + "/*_test.go")
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, more...)
	}
	for _, source := range sources {
		b, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(b, -1) {
			tests[string(found[1])] = true
		}
	}
	rows := 0
	for i, line := range strings.Split(string(content), "\n") {
		if !regexp.MustCompile(`^\| [\d.]+ \|`).MatchString(line) {
			continue
		}
		rows++
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) != 5 {
			t.Errorf("row %d has %d cells, want 5", i+1, len(cells))
			continue
		}
		if level := strings.TrimSpace(cells[1]); !slices.Contains([]string{"MUST", "MUST NOT", "SHOULD", "SHOULD NOT"}, level) {
			t.Errorf("row %d: level %q", i+1, level)
		}
		for _, file := range docFile.FindAllStringSubmatch(line, -1) {
			if _, err := os.Stat(file[1]); err != nil {
				t.Errorf("row %d: %v", i+1, err)
			}
		}
		named := docTest.FindAllStringSubmatch(cells[4], -1)
		for _, test := range named {
			if !tests[test[1]] {
				t.Errorf("row %d: there is no %s", i+1, test[1])
			}
		}
		excused := strings.Contains(cells[3], "net/http") || strings.Contains(cells[3], "not done")
		if !excused && (len(named) == 0 || !docFile.MatchString(cells[3])) {
			t.Errorf("row %d names no file or no test: %s", i+1, line)
		}
	}
	if rows < 50 {
		t.Errorf("%d rows, want all requirements", rows)
	}
}
