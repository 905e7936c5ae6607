package command

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestSchemeIsGuessed fetches from the user's own machine without a scheme.
func TestSchemeIsGuessed(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello\n") })
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(url, "http://"))
	for _, host := range []string{"127.0.0.1", "localhost"} {
		code, stdout, stderr := command(t, "get", host+":"+port+"/x?a=b")
		if code != exitDone || stdout != "hello\n" {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", host, code, stdout, stderr)
		}
	}
}

// TestCurlsFlags has flags that users of curl type without thinking.
func TestCurlsFlags(t *testing.T) {
	var got *http.Request
	url, requests := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Header().Set("X-Auth-Token", "theirs")
		if r.URL.Path == "/missing" {
			w.WriteHeader(http.StatusNotFound)
		}
		io.WriteString(w, "hello\n")
	})
	out := t.TempDir()
	if code, stdout, stderr := command(t, "get", "-sSfLO", "--output-dir", out, "-A", "me/1", url+"/x"); code != exitDone || stdout+stderr != "" || got.UserAgent() != "me/1" {
		t.Errorf("-sSfLO: exit code %d, stdout %q, stderr %q, User-Agent %q", code, stdout, stderr, got.UserAgent())
	}
	checkFile(t, filepath.Join(out, "x"), "hello\n")
	code, stdout, stderr := command(t, "get", "-i", url+"/x")
	if code != exitDone || !strings.HasPrefix(stdout, "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(stdout, "\r\n\r\nhello\n") || !strings.Contains(stdout, "\r\nX-Auth-Token: theirs\r\n") {
		t.Errorf("-i: exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	if *requests != 1 {
		t.Errorf("-i: %d requests, want 1", *requests)
	}
	code, stdout, stderr = command(t, "get", "-I", url+"/head")
	if code != exitDone || !strings.HasPrefix(stdout, "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(stdout, "\r\n\r\n") || got.Method != "HEAD" {
		t.Errorf("-I: exit code %d, method %s, stdout %q, stderr %q", code, got.Method, stdout, stderr)
	}
	for flags, want := range map[string]string{"-sS": "hello\n", "-fsS": "", "-fi": ""} {
		if code, stdout, _ := command(t, "get", flags, url+"/missing"); code != exitHTTP || stdout != want {
			t.Errorf("%s of a missing page: exit code %d, stdout %q", flags, code, stdout)
		}
	}
	head := filepath.Join(out, "head")
	if code, _, _ := command(t, "get", "-Io", head, url+"/missing"); code != exitHTTP {
		t.Errorf("-I of a missing page: exit code %d", code)
	}
	if _, err := os.Stat(head); err == nil {
		t.Error("-I wrote the header of a 404 to the file")
	}
}

// TestGetMaxAge accepts a stored response up to an age.
func TestGetMaxAge(t *testing.T) {
	url, requests := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Header().Set("Age", "600")
	})
	for i, limit := range []string{"1h", "3600", "5m", "1h"} {
		if code, _, stderr := command(t, "get", "--max-age", limit, url); code != exitDone {
			t.Errorf("exit code %d, %s", code, stderr)
		}
		if want := []int{1, 1, 2, 2}[i]; *requests != want {
			t.Errorf("run %d, --max-age %s: %d requests, want %d", i+1, limit, *requests, want)
		}
	}
	for limit, want := range map[string]string{"1h": "nothing is sent", "300": "asks the origin"} {
		if code, stdout, _ := command(t, "explain", "--max-age", limit, url); code != exitDone || !strings.Contains(stdout, want) {
			t.Errorf("explain --max-age %s: exit code %d, no %q in\n%s", limit, code, want, stdout)
		}
	}
}

// TestGetInsecure fetches from a server with an unknown certificate. Nothing of
// that may be served to a run that verifies certificates.
func TestGetInsecure(t *testing.T) {
	serve(t, func(http.ResponseWriter, *http.Request) {})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		io.WriteString(w, "hello\n")
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	for range 2 {
		if code, _, stderr := command(t, "get", "--retry", "5", server.URL); code != exitFailed || !strings.Contains(stderr, "certificate") || strings.Contains(stderr, "trying again") {
			t.Errorf("exit code %d, stderr %q", code, stderr)
		}
		if code, stdout, stderr := command(t, "get", "-k", server.URL); code != exitDone || stdout != "hello\n" {
			t.Errorf("-k: exit code %d, stdout %q, stderr %q", code, stdout, stderr)
		}
	}
	if code, _, _ := command(t, "show", server.URL); code != exitNotCached {
		t.Errorf("-k: the response is stored: exit code of show %d", code)
	}
}

// TestURLsFromFiles reads URLs from a file and from standard input.
func TestURLsFromFiles(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.Path+"\n") })
	list := filepath.Join(t.TempDir(), "list")
	text := "# two pages\n" + url + "/a\n\n  " + url + "/b\r\n"
	if err := os.WriteFile(list, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"get -q --input-file FILE", "get -q -", "get -q --input-file - ", "get -q " + url + "/a --input-file FILE", "get -q -o - --timeout 0 --input-file FILE"} {
		stdin, err := os.Open(list)
		if err != nil {
			t.Fatal(err)
		}
		defer stdin.Close()
		old := os.Stdin
		os.Stdin = stdin
		code, stdout, stderr := command(t, strings.Fields(strings.ReplaceAll(args, "FILE", list))...)
		os.Stdin = old
		if code != exitDone || !strings.HasSuffix(stdout, "/a\n/b\n") || stderr != "" {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", args, code, stdout, stderr)
		}
	}
}

// TestBadLists says what is wrong with a list of URLs, and in which line.
func TestBadLists(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.Path+"\n") })
	list := filepath.Join(t.TempDir(), "list")
	for text, want := range map[string]string{
		"":                          "cachetrip: " + list + ": there are no URLs in it\n",
		"\ufeff# none\n\n":          "cachetrip: " + list + ": there are no URLs in it\n",
		"\ufeff" + url + "/a":       "200 OK, ",
		url + "/a\n\nftp://h/\n":    "cachetrip: " + list + ", line 3: \"ftp://h/\" is not an http or https URL; ",
		url + "/a\n" + url + "/%zz": "cachetrip: " + list + ", line 2: \"" + url + "/%zz\" is not a URL: ",
	} {
		if err := os.WriteFile(list, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		code, _, stderr := command(t, "get", "--input-file", list)
		if !strings.HasPrefix(stderr, want) || (code == exitDone) != (want == "200 OK, ") || code != exitDone && code != exitUsage {
			t.Errorf("%q: exit code %d, stderr %q, want %q", text, code, stderr, want)
		}
	}
}

// TestMissingDirectory is one error, however many URLs there are.
func TestMissingDirectory(t *testing.T) {
	url, requests := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello\n") })
	dir := filepath.Join(t.TempDir(), "a", "b")
	args := []string{"get", "-O", "--output-dir", dir}
	for i := range 6 {
		args = append(args, url+"/"+strconv.Itoa(i))
	}
	code, _, stderr := command(t, args...)
	if code != exitFailed || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, dir) || !strings.Contains(stderr, "--create-dirs") || *requests != 0 {
		t.Errorf("exit code %d, %d requests, stderr:\n%s", code, *requests, stderr)
	}
	if code, _, stderr := command(t, append(args, "--create-dirs")...); code != exitDone {
		t.Errorf("--create-dirs: exit code %d, %s", code, stderr)
	}
	checkFile(t, filepath.Join(dir, "5"), "hello\n")
	file := filepath.Join(dir, "5", "x")
	if code, _, stderr := command(t, "get", "-o", file, url); code == exitDone || strings.Count(stderr, "\n") != 1 {
		t.Errorf("a file as a directory: exit code %d, %s", code, stderr)
	}
}

// TestInterruptedPartIsKept interrupts a download. The command says what was
// kept, and the same command fetches only the rest.
func TestInterruptedPartIsKept(t *testing.T) {
	page := strings.Repeat("0123456789", 100_000)
	ctx, interrupt := context.WithCancel(t.Context())
	dir := t.TempDir()
	first := true
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Accept-Ranges", "bytes")
		if first {
			first = false
			w.Header().Set("Content-Length", strconv.Itoa(len(page)))
			io.WriteString(w, page[:len(page)/2])
			w.(http.Flusher).Flush()
			waitForOutput(t, dir, len(page)/2)
			interrupt()
			<-r.Context().Done()
			return
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(page))
	})
	file := filepath.Join(dir, "file")
	args := []string{"cachetrip", "get", "-o", file, url + "/page?a=b"}
	var stderr strings.Builder
	code := run(ctx, args, io.Discard, &stderr)
	if want := "cachetrip: interrupted; 500.0 kB of 1.0 MB are kept, and the same command continues there\n"; code != exitInterrupted || stderr.String() != want {
		t.Errorf("exit code %d, stderr %q, want %q", code, stderr.String(), want)
	}
	stderr.Reset()
	if code := run(t.Context(), args, io.Discard, &stderr); code != exitDone || !strings.Contains(stderr.String(), "only a part in the cache: the rest fetched") {
		t.Errorf("again: exit code %d, stderr %q", code, stderr.String())
	}
	checkFile(t, file, page)
	// Bytes of the resumed body that come from the store are counted as served.
	if got := loadTally(os.Getenv("CACHETRIP_DIR")); got.BytesServed != 500_000 || got.BytesReceived != 1_000_000 {
		t.Errorf("counted: %+v", got)
	}
}

func TestVersion(t *testing.T) {
	code, stdout, _ := command(t, "version")
	if want := "cachetrip version " + version() + "\n"; code != exitDone || !strings.HasPrefix(stdout, want) || !strings.Contains(stdout, runtime.Version()) {
		t.Errorf("exit code %d, %q", code, stdout)
	}
	if _, first, _ := command(t, "--version"); !strings.HasPrefix(stdout, first) {
		t.Errorf("--version says %q", first)
	}
}
