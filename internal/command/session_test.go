package command

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/store"
)

var update = flag.Bool("update", false, "write what the sessions say to testdata")

// session is a user's session: it runs every command on one cache directory.
// HOST stands for the origin, OUT for a directory, and ID(PATH) for the id of
// the stored response of a path.
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
	"get --force-cache HOST/checked?key=sesame&page=2",
	"get --no-cache HOST/checked?key=sesame&page=2",
	"get --refresh HOST/fresh",
	"get --reload HOST/fresh",
	"get --no-store HOST/fresh",
	"get --reload --offline --max-stale any HOST/fresh",
	"get --offline HOST/nothing",
	"get -i HOST/fresh",
	"get -I HOST/fresh",
	"get --max-age 1h -qo OUT/copy HOST/fresh",
	"get --bogus HOST/fresh",
	"get -vX HOST/fresh",
	"get -O --output-dir OUT/none HOST/a.bin HOST/b.bin",
	"get -O --output-dir OUT/made --create-dirs HOST/a.bin",
	"get ftp://HOST/fresh",
	"get HOST:x/",
	"get --retry 1 HOST/busy",
	"get HOST/cut",
	"ls",
	"ls --stale",
	"ls --show-query --host 127.0.0.1 127.0.0.1*/che*",
	"ls --json */fresh",
	"ls nothing.example",
	"ls 127.0.0.1",
	"ls ID(/fresh) ID(/checked)",
	"ls 000000000000",
	"get ID(/fresh)",
	"get 000000000000",
	"show ID(/checked)",
	"show HOST/checked?key=xxxxx&page=xxxxx",
	"show HOST/language",
	"show --body HOST/language",
	"show --body -H Accept-Language:de HOST/language",
	"show --body --variant 2 HOST/language",
	"show -n 9 HOST/fresh",
	"show HOST/nothing",
	"explain HOST/fresh",
	"explain HOST/checked?key=sesame&page=2",
	"explain --offline HOST/checked?key=sesame&page=2",
	"explain --reload HOST/fresh",
	"explain --no-store HOST/fresh",
	"explain -H Accept-Language:fr HOST/language",
	"explain ID(/language)",
	"explain HOST/no-store",
	"explain --fetch HOST/no-store",
	"stats",
	"verify",
	"purge --dry-run */language",
	"purge --dry-run ID(/checked)",
	"purge --invalidate HOST/fresh",
	"explain HOST/fresh",
	"purge HOST/language",
	"purge HOST/language",
	"prune --stale --dry-run",
	"prune --stale",
	"prune --max-size 0 --dry-run",
	"prune --max-size 0",
	"stats",
	"clear --dry-run",
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
	{regexp.MustCompile(`\r+\n`), "\n"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "HOST:12345"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "2000-01-01T00:00:00Z"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d(\s+)\d\d:\d\d:\d\d(\s+)[-+]\d{4}`), "2000-01-01${1}00:00:00${2}+0000"},
	{regexp.MustCompile(`…[.\d]*:?\d+/`), "…12345/"}, // of an address in a shortened URL
	{regexp.MustCompile(`Date: .* GMT`), "Date: Sat, 01 Jan 2000 00:00:00 GMT"},
	{regexp.MustCompile(`User-Agent: cachetrip/.*`), "User-Agent: cachetrip/VERSION"},
	{regexp.MustCompile(`[\d.]+ .?B on disk, [\d.]+ .?B before`), "SIZE on disk, SIZE before"},
	{regexp.MustCompile(`(on disk *␛\S*|on disk) +[\d.]+ .?B`), "$1 SIZE"},
	{regexp.MustCompile(`"disk_bytes": \d+`), `"disk_bytes": SIZE`},
	{regexp.MustCompile(`removed, [\d.]+ .?B\.`), "removed, SIZE."},
}

// sessionIDs replaces ids, which differ from run to run.
type sessionIDs struct {
	of     map[string]string // the id of a path
	stands []string          // pairs of an id and its replacement
}

// learn learns the ids of what is stored in dir.
func (s *sessionIDs) learn(t *testing.T, dir string) {
	disk, err := store.OpenDisk(dir, store.DiskOptions{MaxBytes: unbounded})
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	for e, err := range disk.All(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		_, path, _ := strings.Cut(strings.TrimPrefix(e.URL, "http://"), "/")
		name, _, _ := strings.Cut(path, "?")
		id := idOf(e)
		if e.Selecting["Accept-Language"] != "de" { // one of the variants, the same in all runs
			s.of["/"+name] = id[:idShown]
		}
		if slices.Contains(s.stands, id) {
			continue
		}
		sum := sha256.Sum256([]byte(name + e.Selecting["Accept-Language"] + e.Method))
		stable := hex.EncodeToString(sum[:])[:idLength]
		s.stands = append(s.stands, id, stable, id[:idShown], stable[:idShown])
	}
}

// hide replaces the ids in a text by others that depend on the path and the
// variant only.
func (s *sessionIDs) hide(text string) string { return strings.NewReplacer(s.stands...).Replace(text) }

// playSession has play run every command of the session and return its output.
// It compares all output with a golden file. The session is played in a bubble,
// where a command takes no time, however busy the machine is. A second passes
// between two commands.
func playSession(t *testing.T, golden string, play func(ctx context.Context, args []string) (code int, seen string)) {
	synctest.Test(t, func(t *testing.T) { playInBubble(t, golden, play) })
}

func playInBubble(t *testing.T, golden string, play func(ctx context.Context, args []string) (code int, seen string)) {
	const url = "http://127.0.0.1:12345"
	listener := harness.NewPipes()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
		case "/busy":
			h.Set("Retry-After", "0")
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/cut":
			h.Set("ETag", `"1"`)
			h.Set("Accept-Ranges", "bytes")
			h.Set("Content-Length", "100000")
			if r.Header.Get("Range") == "" {
				w.Write(make([]byte, 50_000))
			}
			panic(http.ErrAbortHandler)
		case "/a.bin", "/b.bin":
			h.Set("Cache-Control", "max-age=90000")
			w.Write(bytes.Repeat([]byte(r.URL.Path), 20_000))
			return
		default:
			h.Set("Cache-Control", "no-store")
			w.WriteHeader(http.StatusNotFound)
		}
		io.WriteString(w, "this is "+r.URL.Path+"\n")
	})}
	go server.Serve(listener)
	defer server.Close()
	defer func(before http.RoundTripper) { http.DefaultTransport = before }(http.DefaultTransport)
	http.DefaultTransport = &http.Transport{DialContext: listener.Dial}
	dir, out := filepath.Join(t.TempDir(), "cache"), t.TempDir()
	t.Setenv("CACHETRIP_DIR", dir)

	var all strings.Builder
	ids := sessionIDs{of: make(map[string]string)}
	for _, line := range session {
		args := strings.Fields(line)
		for i := range args {
			args[i] = strings.NewReplacer("ftp://HOST", "ftp://127.0.0.1:1", "HOST", url, "OUT", out).Replace(args[i])
			if path, ok := strings.CutPrefix(args[i], "ID("); ok {
				args[i] = ids.of[strings.TrimSuffix(path, ")")]
			}
		}
		code, seen := play(t.Context(), append([]string{"cachetrip"}, args...))
		time.Sleep(time.Second)
		ids.learn(t, dir)
		if !strings.Contains(line, "--show-query") && !strings.Contains(line, "sesame") && strings.Contains(seen, "sesame") {
			t.Errorf("%s shows the values of a query:\n%s", line, seen)
		}
		fmt.Fprintf(&all, "$ cachetrip %s\n%s", line, seen)
		if code != exitDone {
			fmt.Fprintf(&all, "(exit code %d)\n", code)
		}
		fmt.Fprintln(&all)
	}
	got := strings.NewReplacer(dir, "DIR", strings.ReplaceAll(dir, `\`, `\\`), "DIR", out, "OUT").Replace(ids.hide(all.String()))
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
	playSession(t, filepath.Join("testdata", "session.txt"), func(ctx context.Context, args []string) (int, string) {
		var seen bytes.Buffer
		code := run(ctx, args, &seen, &seen)
		if strings.Contains(seen.String(), "\x1b") {
			t.Errorf("%q: escape sequences in what goes to a pipe", args)
		}
		return code, seen.String()
	})
}
