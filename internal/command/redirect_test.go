package command

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestRedirects follows redirects that lead somewhere, and ones that do not.
func TestRedirects(t *testing.T) {
	url, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		to, status := "", http.StatusFound
		switch r.URL.Path {
		case "/first":
			to, status = "/second", http.StatusMovedPermanently
		case "/second":
			w.Header().Set("X-Hop", "2")
			to = "/page"
		case "/circle":
			to = "/circle"
		case "/longer":
			to = "/longer?" + r.URL.RawQuery + "x"
		case "/ftp":
			to = "ftp://example.com/x"
		case "/gone":
			to = "http://127.0.0.1:1/x"
		default:
			io.WriteString(w, "page\n")
			return
		}
		w.Header().Set("Location", to)
		w.WriteHeader(status)
	})
	for _, test := range []struct {
		path   string
		code   int
		stdout []string
		stderr string
	}{
		{"/first", exitDone, []string{"HTTP/1.1 301 ", "Location: /second\r\n", "\r\nHTTP/1.1 302 ", "X-Hop: 2\r\n", "\r\nHTTP/1.1 200 OK\r\n", "\r\n\r\npage\n"}, "200 OK, 5 B; " + url + "/page after 2 redirects"},
		{"/circle", exitFailed, nil, "cachetrip: " + url + "/circle: the redirects go in a circle: " + url + "/circle redirects to " + url + "/circle again\n"},
		{"/longer", exitFailed, nil, "cachetrip: " + url + "/longer: stopped after 10 redirects; the next one leads to " + url + "/longer?xxxxx\n"},
		{"/ftp", exitFailed, nil, "cachetrip: " + url + "/ftp: redirected to ftp://example.com/x, which is not an http or https URL\n"},
		{"/gone", exitFailed, nil, "cachetrip: " + url + "/gone: redirected to http://127.0.0.1:1/x: dial tcp"},
	} {
		code, stdout, stderr := command(t, "get", "-i", url+test.path)
		if code != test.code || !strings.HasPrefix(stderr, test.stderr) || test.stdout == nil && stdout != "" {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q, want %d, %q", test.path, code, stdout, stderr, test.code, test.stderr)
		}
		rest, found := stdout, true
		for _, want := range test.stdout {
			if _, rest, found = strings.Cut(rest, want); !found {
				t.Errorf("%s: %q is missing in %q", test.path, want, stdout)
			}
		}
	}
	_, stdout, _ := command(t, "get", "-I", url+"/first")
	if n := strings.Count(stdout, "HTTP/1.1 "); n != 3 {
		t.Errorf("-I writes %d headers, want 3:\n%s", n, stdout)
	}
}

// TestNoResponse checks what a user is told if there is no response.
func TestNoResponse(t *testing.T) {
	plain, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {})
	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	for url, want := range map[string]string{
		strings.Replace(plain, "http:", "https:", 1) + "/": ": the server speaks http, not https; write http:// before the host\n",
		secure.URL + "/":                    "; -k does without verification, and stores nothing\n",
		"http://nobody.invalid/?key=sesame": `: there is no host "nobody.invalid"` + "\n",
	} {
		code, _, stderr := command(t, "get", url)
		if code != exitFailed || !strings.HasPrefix(stderr, "cachetrip: "+url+": ") || !strings.HasSuffix(stderr, want) || strings.Contains(stderr, "Get \"") {
			t.Errorf("%s: exit code %d, stderr %q, want %q", url, code, stderr, want)
		}
	}
}
