package command

import (
	"strings"
	"testing"
)

// TestHabits types what users of other programs type.
func TestHabits(t *testing.T) {
	for line, want := range map[string]string{
		"-X POST":                "get has no -X; get sends GET, and HEAD with -I",
		"-XPOST":                 "get has no -X in -XPOST; get sends GET",
		"-sd a=b":                "get has no -d in -sd; get sends no content",
		"--data a=b":             "get has no --data; get sends no content",
		"-u me:pw":               "write USER:PASSWORD@ before the host",
		"--user me:pw":           "-H 'Authorization: ...'",
		"-b a=b":                 "-H 'Cookie: NAME=VALUE'",
		"-e http://a/":           "-H 'Referer: URL'",
		"-w %{http_code}":        "-v tells",
		"-m 5":                   "--timeout",
		"--max-time=5":           "--timeout",
		"-qO-":                   "in -qO-, -O takes no name; use -o -",
		"--retry-delay 1":        "leave it out",
		"--no-check-certificate": "use -k",
		"--bogus":                "unknown flag --bogus\nRun 'cachetrip get --help'",
		"--ofline":               "did you mean --offline?",
	} {
		code, stdout, stderr := command(t, append(append([]string{"get"}, strings.Fields(line)...), "http://127.0.0.1:1/")...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q, want %q", line, code, stdout, stderr, want)
		}
		if !strings.Contains(want, "unknown") && !strings.Contains(want, "mean") && strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: %q is more than a line", line, stderr)
		}
	}
	// Only get has such users.
	if _, _, stderr := command(t, "ls", "-X"); !strings.Contains(stderr, "unknown flag -X") {
		t.Error(stderr)
	}
	// No advice is for a flag that get has.
	f := &flags{of: getCommand()}
	for names := range habits {
		for name := range strings.FieldsSeq(names) {
			if known, _ := f.find(name); known {
				t.Errorf("get has the flag %s", name)
			}
		}
	}
}
