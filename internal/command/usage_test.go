package command

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// openAndClose creates a cache in the test's directory.
func openAndClose(t *testing.T) {
	t.Helper()
	c, err := openCache(os.Getenv("CACHETRIP_DIR"), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestBadUsage(t *testing.T) {
	t.Setenv("CACHETRIP_DIR", t.TempDir())
	openAndClose(t)
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"gte"}, `there is no command "gte"; did you mean "get"?`},
		{[]string{"EXPLAINS"}, `there is no command "EXPLAINS"; did you mean "explain"?`},
		{[]string{"pur"}, `there is no command "pur"; did you mean "purge"?`},
		{[]string{"verfy"}, `there is no command "verfy"; did you mean "verify"?`},
		{[]string{"shot"}, `there is no command "shot"; did you mean "show"?`},
		{[]string{"frob"}, `there is no command "frob"; 'cachetrip help' lists all commands`},
		{[]string{"--nonsense"}, "--help"},
		{[]string{"help", "nonsense"}, "'nonsense'; 'cachetrip help' lists the commands"},
		{[]string{"get"}, "one URL or more"},
		{[]string{"get", "-o", "x", "http://a/", "http://b/"}, "-O names a file for each"},
		{[]string{"get", "-O", "http://a/x", "http://b/x"}, "would both be written to x"},
		{[]string{"get", "-O", "http://a/%2e%2e"}, "no name for a file"},
		{[]string{"get", "-O", "http://a/.profile"}, "no name for a file"},
		{[]string{"get", "-O", "http://a/%5cx"}, "no name for a file"},
		{[]string{"get", "-j", "2", "http://a/x", "http://b/x"}, "-j needs -O"},
		{[]string{"get", "-j", "0", "http://a/x"}, "at least one"},
		{[]string{"get", "-j", "x", "http://a/x"}, `-j: "x" is not a number` + "\nRun "},
		{[]string{"get", "--retry", "x", "http://a/x"}, `--retry: "x" is not a number` + "\nRun 'cachetrip get --help'"},
		{[]string{"get", "--retry=99999999999999999999", "http://a/x"}, `--retry: "99999999999999999999" is too large a number`},
		{[]string{"get", "--offline=maybe", "http://a/x"}, "--offline takes no value\nRun "},
		{[]string{"get", "--offline", "--refresh", "http://a/x"}, "exclude each other"},
		{[]string{"get", "--max-stale", "long", "http://a/x"}, "not a duration"},
		{[]string{"get", "--max-size", "much", "http://a/x"}, "not a size"},
		{[]string{"show"}, "one URL or id, not 0"},
		{[]string{"explain", "/x"}, "it has no host"},
		{[]string{"ls", "--fresh", "--stale"}, "exclude each other"},
		{[]string{"ls", "--sort", "colour"}, "url, size, age and use"},
		{[]string{"purge"}, "cachetrip clear"},
		{[]string{"prune"}, "--max-size"},
		{[]string{"verify", "x"}, "no arguments"},
		{[]string{"get", "--nonsense", "http://a/"}, "cachetrip get --help"},
		{[]string{"get", "http://a/", "-o"}, "cachetrip get --help"},
		{[]string{"get", "file:///etc/passwd"}, "not an http or https URL"},
		{[]string{"get", "http://a b/"}, `"http://a b/" is not a URL: the host contains " "; enter`},
		{[]string{"get", "http://a:x/"}, "the port is not a number"},
		{[]string{"get", "http://a/%zz?b=c"}, `"http://a/%zz?b=c" is not a URL: "%zz" is no escape`},
		{[]string{"get", "http://[::1/"}, "the ] after the address is missing"},
		{[]string{"get", "http:///x"}, "it has no host"},
		{[]string{"get", "mailto:me@example.com"}, "not an http or https URL"},
		{[]string{"get", "--bogus", "http://a/"}, "unknown flag --bogus\nRun "},
		{[]string{"get", "--ofline", "http://a/"}, "unknown flag --ofline; did you mean --offline?"},
		{[]string{"get", "-vY", "http://a/"}, "unknown flag -Y in -vY\n"},
		{[]string{"get", "-o", "a", "--output", "b", "http://a/"}, "-o is given 2 times"},
		{[]string{"get", "-vj"}, "-j needs a value"},
		{[]string{"get", "--timeout", "soon", "http://a/"}, "--timeout: \"soon\" is not a duration"},
		{[]string{"get", "--retry", "-1", "http://a/"}, "--retry -1"},
		{[]string{"get", "--timeout", "-1", "http://a/"}, "--timeout: \"-1\" is not a duration"},
		{[]string{"get", "--max-age", "NaN", "http://a/"}, "--max-age: \"NaN\" is not a duration"},
		{[]string{"get", "-k", "--offline", "http://a/"}, "--offline and -k exclude each other"},
		{[]string{"get", "--input-file", "/nowhere", "http://a/"}, "/nowhere"},
		{[]string{"ls", "--bogus"}, "unknown flag --bogus\nRun 'cachetrip ls --help'"},
		{[]string{"get", "-H", "nonsense", "http://a/"}, "Name: value"},
		{[]string{"get", "-H", "a b: c", "http://a/"}, "Name: value"},
		{[]string{"get", "-H", "a: b\r\nc: d", "http://a/"}, "Name: value"},
		{[]string{"get", "-o", t.TempDir(), "http://a/"}, "is a directory"},
		{[]string{"demo", "nonsense"}, "no arguments"},
		{[]string{"http://me:pw@a/x"}, "there is no command \"http://a/x\"; did you mean 'cachetrip get http://a/x'?"},
		{[]string{"completion", "tcsh"}, `there is no script for "tcsh"; the shells are bash, zsh, fish and powershell`},
	} {
		code, stdout, stderr := command(t, test.args...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, test.want) || !strings.HasPrefix(stderr, "cachetrip: ") {
			t.Errorf("%q: exit code %d, stdout %q, stderr %q, want %q", test.args, code, stdout, stderr, test.want)
		}
	}
}

// TestBadEnvironment has a value that no flag could have.
func TestBadEnvironment(t *testing.T) {
	t.Setenv("CACHETRIP_DIR", t.TempDir())
	t.Setenv("CACHETRIP_SHOW_QUERY", "yes")
	for _, args := range [][]string{{"ls"}, {"stats"}, {"get", "http://a/"}, {"version"}} {
		code, stdout, stderr := command(t, args...)
		if want := "cachetrip: CACHETRIP_SHOW_QUERY: \"yes\" is neither 1 nor 0\n"; code != exitUsage || stdout != "" || stderr != want {
			t.Errorf("%q: exit code %d, stdout %q, stderr %q, want %q", args, code, stdout, stderr, want)
		}
	}
}

func TestHelp(t *testing.T) {
	for _, test := range []struct {
		args []string
		want []string
	}{
		{nil, []string{"get ", "ls ", "show ", "explain ", "stats ", "verify ", "prune ", "purge ", "clear ", "demo ", "completion ", "Exit codes", "NO_COLOR"}},
		{[]string{"--help"}, []string{"get ", "demo "}},
		{[]string{"help", "get"}, []string{"-H FIELD", "-o FILE", "CACHETRIP_DIR"}},
		{[]string{"get", "--help"}, []string{"-H FIELD"}},
		{[]string{"demo", "-h"}, []string{"--dir DIR"}},
		{[]string{"--version"}, []string{version()}},
		{[]string{"-v"}, []string{version()}},
		{[]string{"completion", "bash"}, []string{"cachetrip"}},
	} {
		code, stdout, stderr := command(t, test.args...)
		if code != exitDone || stderr != "" {
			t.Errorf("%q: exit code %d, stderr %q", test.args, code, stderr)
		}
		for _, want := range test.want {
			if !strings.Contains(stdout, want) {
				t.Errorf("%q: %q is not in\n%s", test.args, want, stdout)
			}
		}
	}
}

func TestUnusableDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"get", "--dir", file, "http://127.0.0.1/"}, {"demo", "--dir", filepath.Join(file, "below")}} {
		code, stdout, stderr := command(t, args...)
		if code != exitFailed || stdout != "" || !strings.Contains(stderr, file) || !strings.Contains(stderr, "--dir") {
			t.Errorf("%q: exit code %d, stdout %q, stderr %q", args, code, stdout, stderr)
		}
	}
}
