package debug_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/debug"
)

// Only requests from this machine that were meant for it are answered.
func TestAllow(t *testing.T) {
	handler := debug.New(&cachetrip.Transport{}, debug.Options{})
	open := debug.New(&cachetrip.Transport{}, debug.Options{Allow: func(*http.Request) bool { return true }})
	for _, test := range []struct {
		name, remote, host string
		fields             http.Header
		want               int
	}{
		{"loopback", "127.0.0.1:4711", "127.0.0.1:6060", nil, 200},
		{"loopback by name", "127.3.2.1:4711", "LocalHost:6060", nil, 200},
		{"loopback, IPv6", "[::1]:4711", "[::1]:6060", nil, 200},
		{"another machine", "192.0.2.7:4711", "localhost:6060", nil, 403},
		{"another machine, IPv6", "[2001:db8::1]:4711", "localhost", nil, 403},
		{"a name that a web site made point here", "127.0.0.1:4711", "evil.example:6060", nil, 403},
		{"a name that begins like ours", "127.0.0.1:4711", "localhost.evil.example", nil, 403},
		{"no name", "127.0.0.1:4711", "", nil, 403},
		{"forwarded by a proxy", "127.0.0.1:4711", "localhost", http.Header{"X-Forwarded-For": {"192.0.2.7"}}, 403},
		{"forwarded by a standard proxy", "127.0.0.1:4711", "localhost", http.Header{"Forwarded": {"for=192.0.2.7"}}, 403},
		{"a Unix socket", "@", "localhost", nil, 403},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr, r.Host = test.remote, test.host
			for name, values := range test.fields {
				r.Header[name] = values
			}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code != test.want {
				t.Errorf("got %d, want %d", w.Code, test.want)
			}
			w = httptest.NewRecorder()
			open.ServeHTTP(w, r)
			if w.Code != http.StatusOK {
				t.Errorf("got %d where all are allowed, want 200", w.Code)
			}
		})
	}
}

// A program that asks for JSON also gets a refusal as JSON.
func TestRefusedAsJSON(t *testing.T) {
	handler := debug.New(&cachetrip.Transport{}, debug.Options{})
	for _, test := range []struct {
		method, remote string
		code           int
		want           string
	}{
		{http.MethodPost, "127.0.0.1:4711", 405, "use GET or HEAD"},
		{http.MethodGet, "192.0.2.7:4711", 403, "set Options.Allow"},
	} {
		r := httptest.NewRequest(test.method, "http://localhost/?format=json", nil)
		r.RemoteAddr = test.remote
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		var got struct{ Error string }
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != test.code || !strings.Contains(got.Error, test.want) {
			t.Errorf("%s from %s: got %d and %q, %v, want %d and %q", test.method, test.remote, w.Code, w.Body, err, test.code, test.want)
		}
	}
}

// The page can only be read: it answers no other method, and loads nothing but
// its own style and script.
func TestReadOnly(t *testing.T) {
	s := newSite(t, debug.Options{}, func(http.ResponseWriter, *http.Request) {})
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions, "PURGE"} {
		req, err := http.NewRequest(method, s.page.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: got %d, want 405", method, resp.StatusCode)
		}
	}
	if _, pattern := http.DefaultServeMux.Handler(httptest.NewRequest(http.MethodGet, "/debug/cache/", nil)); pattern != "" {
		t.Errorf("the import registered %q", pattern)
	}

	resp, err := http.Get(s.page.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	hash := func(element string) string {
		found := regexp.MustCompile("(?s)<" + element + ">(.*)</" + element + ">").FindSubmatch(b)
		if found == nil {
			t.Fatalf("no %s", element)
		}
		sum := sha256.Sum256(found[1])
		return base64.StdEncoding.EncodeToString(sum[:])
	}
	want := "default-src 'none'; style-src 'sha256-" + hash("style") + "'; script-src 'sha256-" + hash("script") +
		"'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
	if got := resp.Header.Get("Content-Security-Policy"); got != want {
		t.Errorf("Content-Security-Policy: %s, want %s", got, want)
	}
	if regexp.MustCompile(`(?i)<script |\sstyle=|\son[a-z]+=`).Match(b) || bytes.Count(b, []byte("<script")) != 1 {
		t.Error("the page has what its policy forbids")
	}
	if got := resp.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control: %s, want no-store", got)
	}
}

// Text from origins and callers is shown as text.
func TestHostile(t *testing.T) {
	const attack = `"><script>alert(1)</script><img/src=x/onerror=alert(1)>'{{.}}`
	s := newSite(t, debug.Options{Unredacted: true}, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "max-age=600, "+attack)
		h.Set("Etag", `"</style><script>alert(1)</script>"`)
		h.Set("Vary", "X-Variant, javascript:alert(1)")
		h.Set("X-Attack", attack)
		h.Set("Location", "javascript:alert(1)")
		h.Set("Set-Cookie", "s3cret=1")
		fmt.Fprint(w, attack)
	})
	s.get(s.origin.URL+"/"+url.PathEscape(attack)+"?"+attack, "X-Variant", attack)
	check := func(query string) string {
		t.Helper()
		_, page := s.show(query)
		if strings.Count(page, "<script") != 1 || strings.Contains(page, "<img") || strings.Contains(page, `href="javascript`) {
			t.Errorf("?%s: what was sent became markup:\n%s", query, page)
		}
		if strings.Contains(page, "s3cret=1") {
			t.Errorf("?%s: a cookie is shown", query)
		}
		return page
	}
	check("")
	page := check("view=stored")
	link := keyLink.FindStringSubmatch(page)
	if link == nil {
		t.Fatalf("nothing is linked:\n%s", text(page))
	}
	if !strings.Contains(check(link[1]), "X-Attack") {
		t.Error("a field is missing")
	}
	check("q=" + url.QueryEscape(attack))
	check("view=stored&q=" + url.QueryEscape(attack))
	check("view=stored&sort=" + url.QueryEscape(attack))
	check("view=stored&sort=url")
	check("view=decisions&refresh=" + url.QueryEscape(attack))
	check("explain=" + url.QueryEscape("http://"+attack))
	check("explain=" + url.QueryEscape("http://user:s3cret=1@h/"+attack))
	check("explain=" + url.QueryEscape("javascript:alert(1)"))
}
