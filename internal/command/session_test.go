package command

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write what the sessions say to testdata")

// session is a user's session: it runs every command on one cache directory.
// HOST stands for the origin, OUT for a directory.
var session = []string{
	"ls",
	"get HOST/fresh",
	"get HOST/fresh",
	"get -H Accept-Language:de HOST/language",
	"get -H Accept-Language:en HOST/language",
	"get HOST/checked?key=sesame&page=2",
	"get HOST/checked?key=sesame&page=2",
	"get HOST/no-store",
	"get HOST/missing",
	"get -O --output-dir OUT HOST/a.bin HOST/b.bin HOST/fresh",
	"get --offline HOST/fresh",
	"get --offline HOST/checked?key=sesame&page=2",
	"get --offline --max-stale any HOST/checked?key=sesame&page=2",
	"get --refresh HOST/fresh",
	"get --offline HOST/nothing",
	"ls",
	"ls --stale",
	"ls --show-query --host 127.0.0.1 127.0.0.1*/che*",
	"ls --json */fresh",
	"ls nothing.example",
	"show HOST/language",
	"show --body HOST/language",
	"show --body -H Accept-Language:de HOST/language",
	"show --body --variant 2 HOST/language",
	"show HOST/nothing",
	"explain HOST/fresh",
	"explain HOST/checked?key=sesame&page=2",
	"explain -H Accept-Language:fr HOST/language",
	"explain HOST/no-store",
	"explain --fetch HOST/no-store",
	"stats",
	"verify",
	"purge --dry-run */language",
	"purge --invalidate HOST/fresh",
	"explain HOST/fresh",
	"purge HOST/language",
	"purge HOST/language",
	"prune --stale",
	"prune --max-size 0",
	"stats",
	"clear",
	"ls",
	"stats --json",
}

// changing matches text that differs from run to run, with its replacement.
// Column widths stay the same.
var changing = []struct {
	is     *regexp.Regexp
	stands string
}{
	{regexp.MustCompile(`\x1b`), "␛"},
	{regexp.MustCompile(`\r\n`), "\n"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "HOST:12345"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "2000-01-01T00:00:00Z"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`), "2000-01-01 00:00:00"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d`), "2000-01-01 00:00"},
	{regexp.MustCompile(`since \d{4}-\d\d-\d\d`), "since 2000-01-01"},
	{regexp.MustCompile(`Date: .* GMT`), "Date: Sat, 01 Jan 2000 00:00:00 GMT"},
	{regexp.MustCompile(`User-Agent: cachetrip/.*`), "User-Agent: cachetrip/VERSION"},
	{regexp.MustCompile(`in \d+(\.\d+)?m?s:`), "in 0s:"},
	{regexp.MustCompile(`\b\d+s\b`), "0s"},
	{regexp.MustCompile(`So it has been stale for 0s\.`), "So it is stale."}, // on a busy machine
	{regexp.MustCompile(`, by 0s`), ""},                                      // within the first second of a response that is stale at once
	{regexp.MustCompile(`"age_seconds":\d+`), `"age_seconds":0`},
	{regexp.MustCompile(`stale by 0s`), "at the end of its lifetime"},
	{regexp.MustCompile(`at the end of its lifetime: served from the cache anyway`), "at the end of its lifetime: served from the cache"},
	{regexp.MustCompile(`0s   (stale|2000)`), "0s   $1"},
	{regexp.MustCompile(`[\d.]+ .?B on disk, [\d.]+ .?B before`), "SIZE on disk, SIZE before"},
	{regexp.MustCompile(`(on disk *␛\S*|on disk) +[\d.]+ .?B`), "$1 SIZE"},
	{regexp.MustCompile(`"disk_bytes": \d+`), `"disk_bytes": SIZE`},
	{regexp.MustCompile(`removed, [\d.]+ .?B\.`), "removed, SIZE."},
}

// playSession has play run every command of the session and return its output.
// It compares all output with a golden file.
func playSession(t *testing.T, golden string, play func(args []string) (code int, seen string)) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/plain")
		switch r.URL.Path {
		case "/fresh":
			h.Set("Cache-Control", "max-age=90000")
		case "/language":
			h.Set("Cache-Control", "max-age=90000")
			h.Set("Vary", "Accept-Language")
			io.WriteString(w, r.Header.Get("Accept-Language")+": ")
		case "/checked":
			h.Set("Cache-Control", "max-age=0")
			h.Set("ETag", `"1"`)
			if r.Header.Get("If-None-Match") == `"1"` {
				w.WriteHeader(http.StatusNotModified)
				return
			}
		case "/no-store":
			h.Set("Cache-Control", "no-store")
		case "/a.bin", "/b.bin":
			h.Set("Cache-Control", "max-age=90000")
			w.Write(bytes.Repeat([]byte(r.URL.Path), 20_000))
			return
		default:
			h.Set("Cache-Control", "no-store")
			w.WriteHeader(http.StatusNotFound)
		}
		io.WriteString(w, "this is "+r.URL.Path+"\n")
	}))
	defer server.Close()
	dir, out := filepath.Join(t.TempDir(), "cache"), t.TempDir()
	t.Setenv("CACHETRIP_DIR", dir)

	var all strings.Builder
	for _, line := range session {
		args := strings.Fields(line)
		for i := range args {
			args[i] = strings.NewReplacer("HOST", server.URL, "OUT", out).Replace(args[i])
		}
		code, seen := play(append([]string{"cachetrip"}, args...))
		if !strings.Contains(line, "--show-query") && strings.Contains(seen, "sesame") {
			t.Errorf("%s shows the values of a query:\n%s", line, seen)
		}
		fmt.Fprintf(&all, "$ cachetrip %s\n%s", line, seen)
		if code != exitDone {
			fmt.Fprintf(&all, "(exit code %d)\n", code)
		}
		fmt.Fprintln(&all)
	}
	got := strings.NewReplacer(dir, "DIR", strings.ReplaceAll(dir, `\`, `\\`), "DIR", out, "OUT").Replace(all.String())
	for _, c := range changing {
		got = c.is.ReplaceAllString(got, c.stands)
	}
	for _, name := range []string{"a.bin", "b.bin", "fresh"} {
		if _, err := os.Stat(filepath.Join(out, name)); err != nil {
			t.Error(err)
		}
	}
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(strings.ReplaceAll(string(want), "\r\n", "\n"), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s (-want +got; -update writes it anew):\n%s", golden, diff)
	}
}

// TestSession plays the session into a pipe, which gets plain text.
func TestSession(t *testing.T) {
	playSession(t, filepath.Join("testdata", "session.txt"), func(args []string) (int, string) {
		var seen bytes.Buffer
		code := run(t.Context(), args, &seen, &seen)
		if strings.Contains(seen.String(), "\x1b") {
			t.Errorf("%q: escape sequences in what goes to a pipe", args)
		}
		return code, seen.String()
	})
}
