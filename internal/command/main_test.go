package command

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/store"
)

// command runs the command line in the test's cache directory.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), append([]string{"cachetrip"}, args...), &out, &errs)
	if len(args) > 0 && args[0] != "get" { // get prints bodies of origins
		for line := range strings.Lines(out.String()) {
			if strings.HasSuffix(line, " \n") {
				t.Errorf("%q prints a line that ends with a space: %q", args, line)
			}
		}
	}
	return code, out.String(), errs.String()
}

// serve starts an origin that counts its requests, and sets a cache directory
// for the test.
func serve(t *testing.T, handler http.HandlerFunc) (url string, requests *int) {
	t.Helper()
	t.Setenv("CACHETRIP_DIR", filepath.Join(t.TempDir(), "cache"))
	requests = new(int)
	var mu sync.Mutex
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		*requests++
		mu.Unlock()
		handler(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL, requests
}

// soon waits until a condition holds, for longer than any machine needs.
func soon(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !happened(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("still waiting: %s", what)
			return
		}
	}
}

// waitForOutput waits until get has written so many bytes to the only file in
// dir.
func waitForOutput(t *testing.T, dir string, size int) {
	t.Helper()
	soon(t, "the body is being written", func() bool {
		files, _ := os.ReadDir(dir)
		if len(files) != 1 {
			return false
		}
		info, err := files[0].Info()
		return err == nil && info.Size() >= int64(size)
	})
}

func TestGetStoresAndServes(t *testing.T) {
	url, requests := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=86400")
		io.WriteString(w, "hello\n")
	})
	for i, want := range []string{
		"200 OK, 6 B; not in the cache: fetched and stored\n",
		"200 OK, 6 B; fresh for another ",
	} {
		code, stdout, stderr := command(t, "get", url)
		if code != exitDone || stdout != "hello\n" || !strings.HasPrefix(stderr, want) {
			t.Errorf("run %d: exit code %d, stdout %q, stderr %q, want %q", i+1, code, stdout, stderr, want)
		}
	}
	if *requests != 1 {
		t.Errorf("%d requests reached the origin, want 1", *requests)
	}
}

func TestGetRevalidates(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=0")
		w.Header().Set("ETag", `"1"`)
		if r.Header.Get("If-None-Match") == `"1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		io.WriteString(w, "hello\n")
	})
	command(t, "get", url)
	code, stdout, stderr := command(t, "get", "-v", "-H", "Authorization: Bearer sesame", url)
	if code != exitDone || stdout != "hello\n" {
		t.Errorf("with other credentials: exit code %d, stdout %q", code, stdout)
	}
	if !strings.Contains(stderr, "> Authorization: Bearer (not shown)\n") {
		t.Errorf("no word of the credentials in the verbose output:\n%s", stderr)
	}
	checkSecret(t, "sesame", stderr)
	if strings.Contains(stderr, "If-None-Match") {
		t.Errorf("a response was shared between identities:\n%s", stderr)
	}

	code, stdout, stderr = command(t, "get", "-v", url)
	if code != exitDone || stdout != "hello\n" {
		t.Errorf("exit code %d, stdout %q", code, stdout)
	}
	for _, want := range []string{
		"* cache directory: " + os.Getenv("CACHETRIP_DIR") + "\n",
		"> GET " + url + "\n",
		"> If-None-Match: \"1\"\n",
		"< HTTP/1.1 304 Not Modified\n",
		"= HTTP/1.1 200 OK\n",
		"= Cache-Status: cachetrip; fwd=stale; fwd-status=304",
		"\n200 OK, 6 B; stale: the origin confirmed it (304), served from the cache\n",
	} {
		if !strings.Contains(stderr, want) {
			t.Errorf("verbose output without %q:\n%s", want, stderr)
		}
	}
	if noise := regexp.MustCompile(`=""|=-?[\d.]+(m|µ|n)s\b|=\d+\.\d+s`).FindString(stderr); noise != "" {
		t.Errorf("%s in verbose output:\n%s", noise, stderr)
	}
}

// TestGetStale has an origin that fails after its first response, in two ways.
func TestGetStale(t *testing.T) {
	for name, test := range map[string]struct {
		fail func(w http.ResponseWriter)
		want string
	}{
		"status": {func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) },
			"200 OK, 6 B; stale: the origin answered 503, served from the cache, because the origin failed (stale-if-error; RFC 5861, section 4)\n"},
		"connection": {func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
			"200 OK, 6 B; stale: the origin could not be reached, served from the cache, because the origin failed (stale-if-error; RFC 5861, section 4)\n"},
	} {
		t.Run(name, func(t *testing.T) {
			failing := false
			url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if failing {
					test.fail(w)
					return
				}
				failing = true
				w.Header().Set("Cache-Control", "max-age=60, stale-if-error=3600")
				w.Header().Set("Age", "100")
				io.WriteString(w, "hello\n")
			})
			command(t, "get", url)
			code, stdout, stderr := command(t, "get", url)
			if code != exitDone || stdout != "hello\n" || stderr != test.want {
				t.Errorf("exit code %d, stdout %q, stderr %q, want %q", code, stdout, stderr, test.want)
			}
			code, stdout, stderr = command(t, "get", "-H", "Cache-Control: max-stale", url)
			want := regexp.MustCompile(`^200 OK, 6 B; stale by (\d+m)?\d+s: served from the cache anyway, because the request accepts stale responses \(max-stale; RFC 9111, section 5\.2\.1\.2\)\n$`)
			if code != exitDone || stdout != "hello\n" || !want.MatchString(stderr) {
				t.Errorf("with max-stale: exit code %d, stdout %q, stderr %q", code, stdout, stderr)
			}
		})
	}
}

func TestGetOnlyIfCached(t *testing.T) {
	url, requests := serve(t, func(w http.ResponseWriter, r *http.Request) {})
	code, _, stderr := command(t, "get", "-H", "Cache-Control: only-if-cached", url)
	if code != exitNotCached || !strings.HasPrefix(stderr, "cachetrip: "+url+" is not in the cache, ") {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
	if *requests != 0 {
		t.Errorf("%d requests reached the origin", *requests)
	}
}

// TestGetSaysWhyNotStored checks the reason in the verbose output.
func TestGetSaysWhyNotStored(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
	})
	_, _, stderr := command(t, "get", "-v", url)
	if !regexp.MustCompile(`(?m)^\* .*not stored.*no-store`).MatchString(stderr) {
		t.Errorf("no reason in:\n%s", stderr)
	}
}

func TestGetFollowsRedirects(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/old" {
			w.Header().Set("Cache-Control", "max-age=3600")
			http.Redirect(w, r, "/new", http.StatusMovedPermanently)
			return
		}
		io.WriteString(w, "hello\n")
	})
	for i, redirect := range []string{"from the origin", "from the cache"} {
		code, stdout, stderr := command(t, "get", "-v", url+"/old")
		if want := "\n200 OK, 6 B; " + url + "/new after 1 redirect (" + redirect + "): "; !strings.Contains(stderr, want) {
			t.Errorf("run %d: no %q in stderr:\n%s", i+1, want, stderr)
		}
		if code != exitDone || stdout != "hello\n" || !strings.Contains(stderr, "\n= HTTP/1.1 301 Moved Permanently\n") {
			t.Errorf("exit code %d, stdout %q, stderr:\n%s", code, stdout, stderr)
		}
	}
	code, _, stderr := command(t, "get", "-v", "-H", "Cookie: a=sesame", url+"/old")
	if code != exitDone || strings.Contains(stderr, "> GET "+url+"/old") {
		t.Errorf("exit code %d, stderr:\n%s", code, stderr)
	}
	checkSecret(t, "sesame", stderr)
}

func TestGetSendsFields(t *testing.T) {
	var got http.Header
	var host string
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) { got, host = r.Header, r.Host })
	code, _, stderr := command(t, "get", url,
		"-H", "Accept: text/html, text/plain;q=0.5", "-H", "X-Twice: 1", "--header", "x-twice:2", "-H", "Host: example.com", "-H", "User-Agent: me")
	if code != exitDone {
		t.Fatalf("exit code %d, stderr %q", code, stderr)
	}
	for name, want := range map[string]string{"Accept": "text/html, text/plain;q=0.5", "X-Twice": "1|2", "User-Agent": "me"} {
		if value := strings.Join(got[name], "|"); value != want {
			t.Errorf("%s: %q, want %q", name, value, want)
		}
	}
	if host != "example.com" {
		t.Errorf("Host: %q, want %q", host, "example.com")
	}
}

func TestGetStreams(t *testing.T) {
	proceed := make(chan struct{})
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "first ")
		w.(http.Flusher).Flush()
		<-proceed
		io.WriteString(w, "second")
	})
	r, w := io.Pipe()
	done := make(chan int)
	go func() {
		code := run(t.Context(), []string{"cachetrip", "get", url}, w, io.Discard)
		w.Close()
		done <- code
	}()
	first := make([]byte, len("first "))
	if _, err := io.ReadFull(r, first); err != nil {
		t.Fatal(err)
	}
	close(proceed) // the origin continues only now
	rest, err := io.ReadAll(r)
	if err != nil || string(rest) != "second" {
		t.Errorf("the rest is %q, %v", rest, err)
	}
	if code := <-done; code != exitDone {
		t.Errorf("exit code %d", code)
	}
}

// TestGetResumes breaks off a transfer. The next run requests only the rest.
func TestGetResumes(t *testing.T) {
	page := strings.Repeat("0123456789", 10_000)
	var working atomic.Bool
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		if !working.Load() { // the cache retries a few times by itself
			if r.Header.Get("Range") != "" {
				panic(http.ErrAbortHandler)
			}
			w.Header().Set("Accept-Ranges", "bytes")
			w.Header().Set("Content-Length", strconv.Itoa(len(page)))
			io.WriteString(w, page[:len(page)/2])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(page))
	})
	if code, _, stderr := command(t, "get", url); code != exitFailed || !strings.Contains(stderr, "unexpected EOF") {
		t.Errorf("broken off: exit code %d, stderr %q", code, stderr)
	}
	working.Store(true)
	code, stdout, stderr := command(t, "get", "-v", url)
	if code != exitDone || stdout != page || !strings.HasSuffix(stderr, "\n200 OK, 100.0 kB; only a part in the cache: the rest fetched\n") {
		t.Errorf("exit code %d, %d bytes, stderr:\n%s", code, len(stdout), stderr)
	}
	code, stdout, stderr = command(t, "get", "-v", url)
	if code != exitDone || stdout != page || !strings.HasSuffix(stderr, "\n200 OK, 100.0 kB; stale: the origin confirmed it (304), served from the cache\n") {
		t.Errorf("then: exit code %d, %d bytes, stderr:\n%s", code, len(stdout), stderr)
	}
}

// TestWhatIsStoredIsOffered has an origin that does not answer. The message
// offers the stored response only if --offline would get it.
func TestWhatIsStoredIsOffered(t *testing.T) {
	t.Setenv("CACHETRIP_DIR", filepath.Join(t.TempDir(), "cache"))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Age", "100")
		w.Header().Set("Cache-Control", r.URL.Query().Get("send"))
		if r.URL.Path == "/moved" {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		}
	}))
	url := server.URL
	paths := []struct {
		path                     string
		stored, offered, limited bool // limited: --max-stale would get it
	}{
		{"/stale?send=max-age=0", true, true, true},
		{"/strict?send=no-cache", true, true, false},
		{"/strict?send=must-revalidate,max-age=10", true, true, false},
		{"/moved?send=max-age=600", true, false, false}, // its target is not stored
		{"/nothing", false, false, false},
	}
	for _, p := range paths {
		if p.stored {
			command(t, "get", url+p.path)
		}
	}
	command(t, "purge", url+"/elsewhere")
	server.Close()
	for _, p := range paths {
		code, _, stderr := command(t, "get", "--refresh", url+p.path)
		if code != exitFailed || strings.Contains(stderr, "; add --offline to get the stored response\n") != p.offered {
			t.Errorf("%s: exit code %d, stderr %q, want an offer: %v", p.path, code, stderr, p.offered)
		}
		code, _, stderr = command(t, "get", "--offline", "--max-stale", "10s", url+p.path)
		if code != exitNotCached || strings.Contains(stderr, "; --offline alone accepts any age\n") != p.offered {
			t.Errorf("%s, offline with a limit: exit code %d, stderr %q, want an offer: %v", p.path, code, stderr, p.offered)
		}
		if code, _, stderr = command(t, "get", "--offline", "--max-stale", "1h", url+p.path); (code == exitDone) != p.limited {
			t.Errorf("%s, offline with a high limit: exit code %d, stderr %q", p.path, code, stderr)
		}
		for _, more := range [][]string{nil, {"--max-stale", "any"}} {
			if code, _, stderr = command(t, append([]string{"get", "--offline", url + p.path}, more...)...); (code == exitDone) != p.offered {
				t.Errorf("%s %s: exit code %d, stderr %q, what was said of it: %v", p.path, more, code, stderr, p.offered)
			}
		}
	}
}

func TestGetInterrupted(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	dir := t.TempDir()
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		io.WriteString(w, "first ")
		w.(http.Flusher).Flush()
		waitForOutput(t, dir, len("first "))
		interrupt()
		<-r.Context().Done()
	})
	file := filepath.Join(dir, "file")
	var stderr bytes.Buffer
	code := run(ctx, []string{"cachetrip", "get", "-o", file, url}, io.Discard, &stderr)
	if want := "cachetrip: interrupted; nothing is kept, because the server does not announce ranges (Accept-Ranges: bytes)\n"; code != exitInterrupted || stderr.String() != want {
		t.Errorf("exit code %d, stderr %q", code, stderr.String())
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestExplainFetchFails has the request of explain --fetch fail half-way. The
// stored part is explained all the same. The part is larger than get's size
// limit. explain has no limit, because the cache may belong to another program.
func TestExplainFetchFails(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Accept-Ranges", "bytes")
		w.Header().Set("Content-Length", strconv.Itoa(store.DefaultMaxBytes))
		w.Write(make([]byte, 100_000))
		panic(http.ErrAbortHandler)
	})
	command(t, "get", "-o", os.DevNull, url)
	if code, _, _ := command(t, "ls", url+"/"); code != exitNotCached {
		t.Errorf("get: exit code of ls %d, want %d", code, exitNotCached)
	}
	code, stdout, stderr := command(t, "explain", "--fetch", url)
	for _, want := range []string{"The request was made just now, and failed.", "One response is stored", "Range: bytes=100000-"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is not in\n%s", want, stdout)
		}
	}
	if code != exitFailed || !strings.HasPrefix(stderr, "cachetrip: ") {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
}
