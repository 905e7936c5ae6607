package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
)

func TestParseDurationAndSize(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "1h30m": 90 * time.Minute, "2d": 48 * time.Hour, "0.5d": 12 * time.Hour, "1w": 168 * time.Hour,
		"": -1, "x": -1, "-1h": -1, "-1d": -1, "NaNd": -1, "1e300w": -1, "d": -1,
	} {
		got, err := parseDuration(text)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for text, want := range map[string]int64{
		"0": 0, "10": 10, "10b": 10, "1kB": 1000, "1 MB": 1e6, "1.5GB": 15e8, "2GiB": 2 << 30, "1tib": 1 << 40,
		"": -1, "x": -1, "-1": -1, "NaN": -1, "1e300": -1, "1XB": -1, "kB": -1,
	} {
		got, err := parseSize(text)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
}

func TestPrintable(t *testing.T) {
	if got := printable("a\x1b[31mb\x00\tc\u009bd ü"); strings.ContainsAny(got, "\x1b\x00\u009b") || !strings.Contains(got, "ü") {
		t.Errorf("%q", got)
	}
}

// TestGetParallel fetches many URLs, some of which fail.
func TestGetParallel(t *testing.T) {
	var now, most atomic.Int64
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(20 * time.Millisecond) // for more than should come
		soon(t, "another request comes meanwhile", func() bool { return most.Load() > 1 })
		w.Header().Set("Cache-Control", "max-age=86400")
		switch r.URL.Path {
		case "/missing":
			w.WriteHeader(http.StatusNotFound)
		case "/cut":
			w.Header().Set("Content-Length", "100")
		}
		fmt.Fprintf(w, "this is %s", r.URL.Path)
	})
	out := t.TempDir()
	args := []string{"get", "-O", "--output-dir", out, "-j", "4"}
	for i := range 12 {
		args = append(args, fmt.Sprintf("%s/dir/%d?q", url, i))
	}
	code, stdout, stderr := command(t, args...)
	if code != exitDone || stdout != "" || strings.Count(stderr, "fetched and stored\n") != 12 || !strings.Contains(stderr, "\n12 URLs in ") {
		t.Errorf("exit code %d, stdout %q, stderr:\n%s", code, stdout, stderr)
	}
	for i := range 12 {
		checkFile(t, filepath.Join(out, fmt.Sprint(i)), fmt.Sprintf("this is /dir/%d", i))
	}
	if n := most.Load(); n < 2 || n > 4 {
		t.Errorf("%d requests at a time, want up to 4", n)
	}
	for _, test := range []struct {
		paths string
		code  int
		says  string
	}{
		{"/missing /a", exitHTTP, "404 Not Found"},
		{"/a /cut /missing", exitFailed, "/cut: after 12 B of the body: unexpected EOF"},
	} {
		args := []string{"get", "-q", "-O", "--output-dir", out, "-j", "2"}
		for path := range strings.FieldsSeq(test.paths) {
			args = append(args, url+path)
		}
		code, _, stderr := command(t, args...)
		if code != test.code || !strings.Contains(stderr, test.says) || strings.Contains(stderr, "URLs in") {
			t.Errorf("%s: exit code %d, stderr %q, want %d, %q", test.paths, code, stderr, test.code, test.says)
		}
	}
}

// TestVerifyFindsDamage changes a byte in each file of a cache.
func TestVerifyFindsDamage(t *testing.T) {
	url, requests := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=86400")
		w.Write(make([]byte, 100_000))
	})
	command(t, "get", url)
	if code, stdout, _ := command(t, "verify"); code != exitDone || !strings.HasSuffix(stdout, ", all intact.\n") {
		t.Errorf("exit code %d, %q", code, stdout)
	}
	err := filepath.WalkDir(filepath.Join(os.Getenv("CACHETRIP_DIR"), "v1", "data"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		b[len(b)/2] ^= 1
		return os.WriteFile(path, b, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := command(t, "verify")
	if code != exitDamaged || !strings.HasSuffix(stdout, "1 URL was damaged and removed.\n") || stderr != "" {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	if code, _, _ := command(t, "get", url); code != exitDone || *requests != 2 {
		t.Errorf("exit code %d, %d requests", code, *requests)
	}
}

// TestOtherProgramsCache lists the cache of a program that has several users
// and is running.
func TestOtherProgramsCache(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=86400")
		io.WriteString(w, "for "+r.Header.Get("User"))
	})
	disk, err := store.OpenDisk(os.Getenv("CACHETRIP_DIR"), store.DiskOptions{MaxBytes: 4 << 30})
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	program := &cachetrip.Transport{Store: disk, Identity: func(r *http.Request) string { return r.Header.Get("User") }}
	ask := func(user string) cachetrip.Status {
		req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("User", user)
		if host, ok := strings.CutPrefix(user, "host "); ok {
			req.Host = host
		}
		resp, err := program.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		io.Copy(io.Discard, resp.Body)
		return cachetrip.StatusOf(resp)
	}
	ask("alice")
	ask("bob")

	_, stdout, _ := command(t, "ls", "--json")
	identities := make(map[string]bool)
	for line := range strings.Lines(stdout) {
		var r row
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		identities[r.Identity] = true
	}
	if len(identities) != 2 || identities[""] {
		t.Errorf("identities %v", identities)
	}
	if _, stdout, _ := command(t, "explain", url); !strings.Contains(stdout, "2 responses are stored for other") {
		t.Errorf("for nobody: %s", stdout)
	}
	if _, stdout, _ := command(t, "explain", "--identity", "bob", url); !strings.Contains(stdout, "nothing is sent") {
		t.Errorf("for bob: %s", stdout)
	}
	if _, stdout, _ := command(t, "show", "--identity", "alice", "--body", "--variant", "1", url); stdout != "for alice" {
		t.Errorf("the body for alice: %q", stdout)
	}
	if code, stdout, _ := command(t, "purge", "--invalidate", url); code != exitDone || stdout != "2 responses invalidated.\n" {
		t.Errorf("exit code %d, %q", code, stdout)
	}
	if s := ask("alice"); s.Detail != "invalidated" {
		t.Errorf("after invalidating: %+v", s)
	}
	// A response to a request with another Host field is listed under that
	// host.
	if s := ask("host other.example"); s.Fwd != "uri-miss" {
		t.Errorf("with another Host: %+v", s)
	}
	if code, stdout, _ := command(t, "purge", "--invalidate", "--host", "other.example"); code != exitDone || stdout != "1 response invalidated.\n" {
		t.Errorf("exit code %d, %q", code, stdout)
	}
	if s := ask("host other.example"); s.Detail != "invalidated" {
		t.Errorf("with another Host, after invalidating: %+v", s)
	}
	if code, stdout, _ := command(t, "purge", strings.ToUpper(url[:4])+url[4:]+"/#fragment"); code != exitDone || stdout != "2 responses removed.\n" {
		t.Errorf("exit code %d, %q", code, stdout)
	}
	if s := ask("bob"); s.Fwd != "uri-miss" {
		t.Errorf("after purging: %+v", s)
	}
	if code, _, _ := command(t, "clear"); code != exitDone {
		t.Errorf("exit code %d", code)
	}
	if s := ask("bob"); s.Fwd != "uri-miss" || !s.Stored {
		t.Errorf("after clearing: %+v", s)
	}
}

// TestLookingIsNoUse checks that listing and explaining a response do not count
// as uses.
func TestLookingIsNoUse(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Cache-Control", "max-age=86400") })
	command(t, "get", url)
	long := time.Now().Add(-100 * time.Hour)
	err := filepath.WalkDir(filepath.Join(os.Getenv("CACHETRIP_DIR"), "v1", "data"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			err = os.Chtimes(path, long, long)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"ls"}, {"show", url}, {"show", "--body", url}, {"explain", url}, {"stats"}, {"verify"}} {
		if code, _, stderr := command(t, args...); code != exitDone {
			t.Errorf("%q: exit code %d, %s", args, code, stderr)
		}
	}
	if code, stdout, stderr := command(t, "ls", "--unused-for", "99h"); code != exitDone || !strings.Contains(stdout, url) {
		t.Errorf("looking counted as use: exit code %d, %s%s", code, stdout, stderr)
	}
	if code, stdout, stderr := command(t, "prune", "--unused-for", "4d"); code != exitDone || !strings.HasPrefix(stdout, "1 URL removed") {
		t.Errorf("exit code %d, %s%s", code, stdout, stderr)
	}
}

// TestTally has several runs count at the same time.
func TestTally(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := addTally(dir, cachetrip.Stats{Requests: 2, Hits: 1, BytesServed: 10}, time.Now()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := loadTally(dir); got.Runs != 20 || got.Requests != 40 || got.Hits != 20 || got.BytesServed != 200 || got.Since.IsZero() {
		t.Errorf("%+v", got)
	}
	if err := os.WriteFile(filepath.Join(dir, tallyName), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := addTally(dir, cachetrip.Stats{Requests: 1}, time.Now()); err != nil || loadTally(dir).Requests != 1 {
		t.Errorf("after damage: %+v, %v", loadTally(dir), err)
	}
	if err := forgetTally(dir); err != nil || loadTally(dir).Runs != 0 {
		t.Errorf("after forgetting: %+v, %v", loadTally(dir), err)
	}
}

// TestInterruptedCause cancels a run as a signal does.
func TestInterruptedCause(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		cancel(fmt.Errorf("a signal"))
		<-r.Context().Done()
	})
	var stderr strings.Builder
	if code := run(ctx, []string{"cachetrip", "get", url}, io.Discard, &stderr); code != exitInterrupted {
		t.Errorf("exit code %d, %s", code, stderr.String())
	}
}

// TestListWithoutScheme lists and purges a URL that is named without its
// scheme, as get takes it.
func TestListWithoutScheme(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CACHETRIP_DIR", dir)
	cache, err := openCache(dir, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	cache.Base = answers(func(req *http.Request) *http.Response {
		header := http.Header{"Cache-Control": {"max-age=3600"}, "Date": {time.Now().UTC().Format(http.TimeFormat)}}
		return &http.Response{StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: header, Body: http.NoBody, Request: req}
	})
	for _, url := range []string{"https://example.com/a%20b", "https://example.com/a", "https://example.com/a/b", "http://localhost/c"} {
		resp, err := cache.Client().Get(url)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	cache.Close()
	for arg, want := range map[string]string{
		"example.com/a":         "https://example.com/a",
		"https://example.com/a": "https://example.com/a",
		"EXAMPLE.com/a":         "https://example.com/a",
		"example.com:443/a":     "https://example.com/a",
		"example.com/a#part":    "https://example.com/a",
		"example.com/a b":       "https://example.com/a%20b",
		"example.com/a/b":       "https://example.com/a/b",
		"localhost:80/c":        "http://localhost/c",
		"example.com:80/a":      "",
		"example.com:8443/a":    "",
		"example.com/nothing":   "",
	} {
		for _, args := range [][]string{{"ls", "--json"}, {"purge", "--dry-run"}} {
			code, stdout, _ := command(t, append(args, arg)...)
			if want == "" && code != exitNotCached || want != "" && (code != exitDone || strings.Count(stdout, "://") != 1 || !strings.Contains(stdout, want)) {
				t.Errorf("%s %s: exit code %d, %s, want %q", args[0], arg, code, stdout, want)
			}
		}
	}
}

// answers is a transport that answers by itself.
type answers func(*http.Request) *http.Response

func (a answers) RoundTrip(req *http.Request) (*http.Response, error) { return a(req), nil }
