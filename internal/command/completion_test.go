package command

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// proposals returns what is proposed for a line, without descriptions.
func proposals(t *testing.T, line string) (words []string, all string) {
	t.Helper()
	args := strings.Fields(line)
	if line == "" || strings.HasSuffix(line, " ") {
		args = append(args, "")
	}
	last := len(args) - 1
	code, stdout, stderr := command(t, append(append([]string{completeWord}, args[:last]...), "="+args[last])...)
	if code != exitDone || stderr != "" {
		t.Errorf("%q: exit code %d, stderr %q", line, code, stderr)
	}
	for l := range strings.Lines(stdout) {
		word, _, _ := strings.Cut(strings.TrimSuffix(l, "\n"), "\t")
		words = append(words, word)
	}
	return words, stdout
}

// fillForCompletion stores responses of one host, some with names that are no
// proposals.
func fillForCompletion(t *testing.T) (host string) {
	t.Helper()
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Cache-Control", "max-age=3600") })
	for _, path := range []string{"/a", "/ab", "/b/c", "/a?key=sesame", "/a;rm", "/$(rm)", "/a'b"} {
		if code, _, stderr := command(t, "get", url+path); code != exitDone {
			t.Fatal(stderr)
		}
	}
	return strings.TrimPrefix(url, "http://")
}

// TestCompletion asks for completions as the scripts do.
func TestCompletion(t *testing.T) {
	host := fillForCompletion(t)
	for line, want := range map[string]string{
		"p":                             "prune purge",
		"help s":                        "show stats",
		"-":                             "--help",
		"nosuch ":                       "",
		"get --of":                      "--offline",
		"get --outp":                    "--output --output-dir",
		"get -o ":                       "",
		"get -vo ":                      "",
		"get -- -":                      "",
		"get --he":                      "--header --head --help",
		"ls --sort ":                    "url size age use",
		"ls --sort=u":                   "--sort=url --sort=use",
		"ls --host ":                    host,
		"ls --host=1":                   "--host=" + host,
		"ls " + host[:12]:               host,
		"purge --stale " + host[:12]:    host,
		"ls --dir /nowhere ":            "",
		"ls --dir=/nowhere ":            "",
		"ls --store redis://localhost ": "",
		"show " + host[:12]:             host + "/",
		"get " + host + "/":             host + "/a " + host + "/ab " + host + "/b/c",
		"explain http://" + host + "/b": "http://" + host + "/b/c",
		"show https://" + host + "/":    "",
		"completion p":                  "powershell",
		"stats ":                        "",
		"prune --dr":                    "--dry-run",
		"get --offline --max-stale a":   "any",
		"ls --dir " + os.Getenv("HOME") + " --sort si": "size",
	} {
		got, _ := proposals(t, line)
		if strings.HasSuffix(line, "/") { // in the order of the keys, which is random
			got = slices.Sorted(slices.Values(got))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
	// Ids have the URL as their description, without its secrets.
	for _, line := range []string{"ls ", "show "} {
		words, all := proposals(t, line)
		if len(words) != 8 || strings.Count(all, "\tGET http://"+host) != 7 || !strings.Contains(all, "/a?key=xxxxx\n") {
			t.Errorf("%q: %s", line, all)
		}
	}
	_, stdout, _ := command(t, "ls", "--json", "*/b/c")
	id := stdout[strings.Index(stdout, `"id":"`)+len(`"id":"`):][:idShown]
	for _, n := range []int{1, 4, 7} {
		if words, _ := proposals(t, "purge "+id[:n]); !strings.Contains(strings.Join(words, " "), id) {
			t.Errorf("purge %s: %q, want %s", id[:n], words, id)
		}
	}
	if words, all := proposals(t, ""); len(words) < 12 || strings.Contains(all, "`") {
		t.Errorf("commands: %s", all)
	}
	// All flags of all commands are offered, by their long names.
	for _, c := range newCommand(io.Discard, io.Discard).Commands {
		words, all := proposals(t, c.Name+" -")
		if n := len(c.VisibleFlags()) + 1; len(words) != n || strings.Contains("\n"+all, "\n-v\t") || strings.Contains(all, "`") {
			t.Errorf("%s: %d flags, want %d:\n%s", c.Name, len(words), n, all)
		}
	}
}

// TestCompletionWithoutCache proposes nothing from a cache that does not exist,
// makes none, and has no errors.
func TestCompletionWithoutCache(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	t.Setenv("CACHETRIP_DIR", dir)
	for _, line := range []string{"ls ", "show x/", "ls --host ", "ls abcdef"} {
		if words, _ := proposals(t, line); len(words) > 0 {
			t.Errorf("%q: %q", line, words)
		}
	}
	if code, stdout, stderr := command(t, completeWord); code != exitDone || stdout+stderr != "" {
		t.Errorf("no words: exit code %d, %q, %q", code, stdout, stderr)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("it made a cache")
	}
}

// inShell runs a script in a shell that finds the command, and returns its
// output.
func inShell(t *testing.T, script string, shell ...string) string {
	t.Helper()
	path, err := exec.LookPath(shell[0])
	if err != nil {
		t.Skip(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, "cachetrip")); err != nil {
		t.Skip(err)
	}
	cmd := exec.CommandContext(t.Context(), path, append(shell[1:], script)...)
	cmd.Env = append(os.Environ(), "CACHETRIP_TEST_COMMAND=1", "PATH="+dir+":"+os.Getenv("PATH"))
	cmd.WaitDelay = time.Minute
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Errorf("%v, %s", err, stderr.String())
	}
	return string(out)
}

// TestCompletionInBash runs the script in the shell.
func TestCompletionInBash(t *testing.T) {
	host := fillForCompletion(t)
	port := host[strings.Index(host, ":")+1:]
	got := inShell(t, fmt.Sprintf(`
source <(cachetrip completion bash)
complete_line() {
	COMP_LINE=$1 COMP_POINT=${#1} COMPREPLY=()
	_cachetrip
	echo "${COMPREPLY[@]}"
}
complete_line 'cachetrip pr'
complete_line 'cachetrip get --outp'
complete_line 'cachetrip ls --sort=u'
complete_line 'cachetrip show http://%[1]s/b'
complete_line 'cachetrip get "http://a/?b=$(echo bad >&2)" --offl'
COMP_TYPE=63 complete_line 'cachetrip p'
complete -p cachetrip
`, host), "bash", "--norc", "-c")
	// bash replaces only what comes after the last colon.
	want := "prune\n--output --output-dir\nurl use\n" + port + "/b/c\n--offline\n"
	if rest, found := strings.CutPrefix(got, want); !found || !strings.HasPrefix(rest, "prune  (make room:") || !strings.HasSuffix(rest, "-F _cachetrip cachetrip\n") {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestCompletionInFish runs the script in the shell.
func TestCompletionInFish(t *testing.T) {
	host := fillForCompletion(t)
	got := inShell(t, fmt.Sprintf(`
cachetrip completion fish | source
complete -C 'cachetrip pr'
complete -C 'cachetrip ls %[1]s'
complete -C 'cachetrip show http://%[1]s/b'
complete -C 'cachetrip get "http://a/?b=(echo bad >&2)" --offl'
`, host), "fish", "--no-config", "-c")
	for _, want := range []string{"prune\tmake room", "\n" + host + "\n", "\nhttp://" + host + "/b/c\n", "\n--offline\t"} {
		if !strings.Contains("\n"+got, want) {
			t.Errorf("%q is missing in %q", want, got)
		}
	}
}

// TestCompletionInZsh has the shell read the script, and complete a line with
// stand-ins for its own functions, which need a terminal.
func TestCompletionInZsh(t *testing.T) {
	host := fillForCompletion(t)
	got := inShell(t, fmt.Sprintf(`
compdef() { echo "compdef $@" }
_files() { echo files }
_describe() { echo "${1}: ${(P)2} ${@[3,-1]}" }
source <(cachetrip completion zsh)
complete_line() { words=("$@"); CURRENT=$#; PREFIX=${@[-1]}; _cachetrip }
complete_line cachetrip pr
complete_line cachetrip show 127
complete_line cachetrip show http://%[1]s/b
complete_line cachetrip get '"http://a/?b=$(echo bad >&2)"' --offl
complete_line cachetrip get -o ''
`, host), "zsh", "-f", "-c")
	escaped := strings.ReplaceAll(host, ":", `\:`)
	for _, want := range []string{"compdef _cachetrip cachetrip\n", "value: prune:make room: ", "host: " + escaped + "/ -S \n", `value: http\://` + escaped + "/b/c \n", "value: --offline:", "\nfiles\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in %q", want, got)
		}
	}
}
