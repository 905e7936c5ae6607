package debug_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"html"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/debug"
	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/storetest"
)

// site is a cache before an origin, with a page about it.
type site struct {
	t      *testing.T
	dir    string
	cache  *cachetrip.Transport
	origin *httptest.Server
	page   *httptest.Server
}

func newSite(t *testing.T, opts debug.Options, handler http.HandlerFunc) *site {
	t.Helper()
	dir := t.TempDir()
	disk, err := store.OpenDisk(dir, store.DiskOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { disk.Close() })
	s := &site{t: t, dir: dir, cache: &cachetrip.Transport{Store: disk}}
	s.origin = httptest.NewServer(handler)
	s.page = httptest.NewServer(debug.New(s.cache, opts))
	t.Cleanup(s.origin.Close)
	t.Cleanup(s.page.Close)
	t.Cleanup(func() { s.cache.Close() })
	return s
}

// get fetches a URL through the cache.
func (s *site) get(rawURL string, fields ...string) {
	s.t.Helper()
	req, err := http.NewRequest(http.MethodGet, rawURL, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	resp, err := s.cache.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		s.t.Fatal(err)
	}
}

// show fetches a page.
func (s *site) show(query string) (int, string) {
	s.t.Helper()
	resp, err := http.Get(s.page.URL + "/any/path?" + query)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// checkSecret fails the test if a secret is in a page, or in the name or
// content of a file in the store.
func (s *site) checkSecret(secret string, pages ...string) {
	s.t.Helper()
	for _, page := range pages {
		if strings.Contains(page, secret) {
			s.t.Errorf("%s is shown:\n%s", secret, page)
		}
	}
	files := 0
	err := filepath.WalkDir(s.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		files++
		content, err := os.ReadFile(path)
		if strings.Contains(path, secret) || bytes.Contains(content, []byte(secret)) {
			s.t.Errorf("%s is in %s", secret, path)
		}
		return err
	})
	if err != nil || files == 0 {
		s.t.Errorf("%d files in the store, %v", files, err)
	}
}

// Credentials are neither stored nor shown. Credentials that an origin sent are
// not even on a page that shows all other fields.
func TestSecrets(t *testing.T) {
	for _, unredacted := range []bool{false, true} {
		s := newSite(t, debug.Options{Unredacted: unredacted}, func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Set("Cache-Control", "max-age=600")
			h.Set("Vary", "Accept-Language, X-Api-Key, Authorization")
			h.Set("X-Auth-Token", "RESPSECRET-1")
			h.Set("Set-Cookie", "a=RESPSECRET-2")
			h.Set("Content-Location", "http://u:pa%zzRESPSECRET-3@h/?q=QUERY")
			h.Set("Link", "<http://u:RESPSECRET-4@h/?q=QUERY>; rel=next")
		})
		s.get(s.origin.URL + "/anyone")
		s.get(strings.Replace(s.origin.URL, "//", "//me:REQSECRET-1@", 1)+"/page?q=QUERY", "X-Api-Key", "REQSECRET-2", "Cookie", "REQSECRET-3", "Private-Token", "REQSECRET-4")
		s.get(s.origin.URL+"/page?q=QUERY", "Authorization", "REQSECRET-5")
		_, page := s.show("")
		pages := []string{page}
		for _, link := range keyLink.FindAllStringSubmatch(page, -1) {
			_, page := s.show(link[1])
			pages = append(pages, page)
		}
		_, page = s.show("explain=" + url.QueryEscape(strings.Replace(s.origin.URL, "//", "//me:REQSECRET-6@", 1)+"/page?q=QUERY"))
		pages = append(pages, page)
		if len(pages) < 5 {
			t.Fatalf("%d pages", len(pages))
		}
		s.checkSecret("REQSECRET", pages...)
		all := strings.Join(pages, "")
		if strings.Contains(all, "RESPSECRET") {
			t.Errorf("unredacted %v: a secret of the origin is shown:\n%s", unredacted, text(all))
		}
		if strings.Contains(all, "QUERY") != unredacted {
			t.Errorf("unredacted %v: queries are shown: %v", unredacted, !unredacted)
		}
	}
}

var tags = regexp.MustCompile(`<style>[^<]*</style>|<[^>]*>`)

// text returns the text of a page, with one line for each row of a table.
func text(page string) string {
	var lines []string
	for line := range strings.SplitSeq(strings.ReplaceAll(strings.ReplaceAll(page, "\n", " "), "<tr>", "\n"), "\n") {
		lines = append(lines, strings.Join(strings.Fields(html.UnescapeString(tags.ReplaceAllString(line, " "))), " "))
	}
	return strings.Join(lines, "\n")
}

var keyLink = regexp.MustCompile(`"\?(key=[0-9a-f]{64})"`)

func TestOverview(t *testing.T) {
	s := newSite(t, debug.Options{}, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/fresh":
			w.Header().Set("Cache-Control", "max-age=600")
			w.Header().Set("Vary", "Accept-Language, X-Api-Key")
		case "/checked":
			w.Header().Set("Cache-Control", "no-cache")
			w.Header().Set("Etag", `"1"`)
			if r.Header.Get("If-None-Match") != "" {
				w.WriteHeader(http.StatusNotModified)
				return
			}
		case "/never":
			w.Header().Set("Cache-Control", "no-store")
		}
		fmt.Fprint(w, strings.Repeat("x", 1234))
	})
	s.get(s.origin.URL+"/fresh?q=hidden-1", "Accept-Language", "de", "X-Api-Key", "hidden-2")
	s.get(s.origin.URL+"/fresh?q=hidden-1", "Accept-Language", "de", "X-Api-Key", "hidden-2")
	s.get(s.origin.URL + "/checked")
	s.get(s.origin.URL + "/checked")
	s.get(s.origin.URL + "/never")
	s.get(s.origin.URL+"/offline", "Cache-Control", "only-if-cached")

	code, page := s.show("")
	if code != http.StatusOK {
		t.Fatalf("status %d", code)
	}
	got := text(page)
	for _, want := range []string{
		" hit 1 revalidated 1 miss 3 refused 1 requests 6 hits 1 17 % of all ",
		" refused " + s.origin.URL + "/offline 504 nothing is stored for the URL\n",
		" not stored " + s.origin.URL + "/never 200 no-store forbids storing it ",
		" revalidated " + s.origin.URL + "/checked 200 no-cache requires validation before each use ",
		" hit " + s.origin.URL + "/fresh?q=xxxxx 200\n",
		s.origin.URL + "/checked filter one for all 200 1.23 kB 0s to be validated: no-cache 0s ago",
		s.origin.URL + "/fresh?q=xxxxx filter Accept-Language: de X-Api-Key: (a digest) 200 1.23 kB 0s for 9m 59s 0s ago",
	} {
		want = strings.ReplaceAll(want, "\n", "")
		if !strings.Contains(got, strings.TrimSpace(want)) {
			t.Errorf("the page does not say %q, but:\n%s", want, got)
		}
	}
	if strings.Contains(page, "hidden") {
		t.Errorf("a secret is shown:\n%s", page)
	}

	links := keyLink.FindAllStringSubmatch(page, -1)
	if len(links) != 2 {
		t.Fatalf("%d entries are linked, want 2", len(links))
	}
	_, page = s.show(links[1][1])
	got = text(page)
	for _, want := range []string{
		"/fresh?q=xxxxx", "lifetime 10m by max-age", "body 1.23 kB",
		"Stored response 1 is for another value of X-Api-Key", // unknown
		"Cache-Control max-age=600", "Vary Accept-Language, X-Api-Key",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("what is stored is explained without %q:\n%s", want, got)
		}
	}
	_, page = s.show(links[0][1])
	if want := `It is sent with If-None-Match: "1".`; !strings.Contains(text(page), want) {
		t.Errorf("the next request is not explained by %q:\n%s", want, text(page))
	}
	_, page = s.show("explain=" + url.QueryEscape(s.origin.URL+"/never?token=hidden"))
	if got := text(page); !strings.Contains(got, "Nothing is stored for this URL.") || strings.Contains(page, "hidden") {
		t.Errorf("a URL of which nothing is stored is explained by:\n%s", got)
	}
}

// The page explains the stored response of a variant or an identity, if it can
// make such a request.
func TestVariants(t *testing.T) {
	s := newSite(t, debug.Options{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		w.Header().Set("Vary", "Accept-Language")
	})
	s.get(s.origin.URL+"/v", "Accept-Language", "DE, en;q=0.50")
	s.get(s.origin.URL+"/mine", "Authorization", "Bearer hidden")
	_, page := s.show("")
	if strings.Contains(page, "hidden") {
		t.Error("a token is shown")
	}
	links := keyLink.FindAllStringSubmatch(page, -1)
	if len(links) != 2 {
		t.Fatalf("%d entries are linked, want 2", len(links))
	}
	_, page = s.show(links[1][1])
	if want := "The next request is answered from the cache"; !strings.Contains(text(page), want) {
		t.Errorf("a request for the variant is not said to select it:\n%s", text(page))
	}
	_, page = s.show(links[0][1])
	if want := "It is stored for an identity"; !strings.Contains(text(page), want) {
		t.Errorf("what is another's is not said to be:\n%s", text(page))
	}
}

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

// The page can only be read: it answers no other method, and loads nothing but
// its own style.
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
	for _, test := range []struct {
		query string
		want  int
	}{
		{"key=..", 404}, {"key=" + strings.Repeat("0", 64), 404}, {"key=" + strings.Repeat("g", 64), 404},
		{"at=x", 400}, {"after=..", 400}, {"at=" + strings.Repeat("0", 65), 400}, {"explain=:", 400}, {"explain=file:///etc/passwd", 400},
	} {
		if code, _ := s.show(test.query); code != test.want {
			t.Errorf("?%s: got %d, want %d", test.query, code, test.want)
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
	style := regexp.MustCompile(`(?s)<style>(.*)</style>`).FindSubmatch(b)
	if style == nil {
		t.Fatal("no style")
	}
	sum := sha256.Sum256(style[1])
	want := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
	if got := resp.Header.Get("Content-Security-Policy"); got != want {
		t.Errorf("Content-Security-Policy: %s, want %s", got, want)
	}
	if regexp.MustCompile(`(?i)<script|\sstyle=|\son[a-z]+=`).Match(b) {
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
		h.Set("Set-Cookie", "hidden=1")
		fmt.Fprint(w, attack)
	})
	s.get(s.origin.URL+"/"+url.PathEscape(attack)+"?"+attack, "X-Variant", attack)
	check := func(query string) string {
		t.Helper()
		_, page := s.show(query)
		if strings.Contains(page, "<script") || strings.Contains(page, "<img") || strings.Contains(page, `href="javascript`) {
			t.Errorf("?%s: what was sent became markup:\n%s", query, page)
		}
		if strings.Contains(page, "hidden=1") {
			t.Errorf("?%s: a cookie is shown", query)
		}
		return page
	}
	page := check("")
	link := keyLink.FindStringSubmatch(page)
	if link == nil {
		t.Fatalf("nothing is linked:\n%s", text(page))
	}
	if !strings.Contains(check(link[1]), "X-Attack") {
		t.Error("a field is missing")
	}
	check("host=" + url.QueryEscape(attack))
	check("explain=" + url.QueryEscape("http://"+attack))
	check("explain=" + url.QueryEscape("http://user:hidden=1@h/"+attack))
	check("explain=" + url.QueryEscape("javascript:alert(1)"))
}

// A page of a large store takes no longer to make than a page of a small one.
// All pages together have each entry once. Entries of a host are found even if
// few have it.
func TestPages(t *testing.T) {
	memory := store.NewMemory(1 << 30)
	const n = 9_000
	want := map[string]int{}
	for i := range n {
		host := "many.example"
		if i%1000 == 0 {
			host = "few.example"
		}
		rawURL := fmt.Sprintf("https://%s/%d", host, i)
		sum := sha256.Sum256([]byte(rawURL))
		key := fmt.Sprintf("%x", sum)
		variants := 1
		if i%3000 == 0 {
			variants = 64
		}
		var entries []*store.Entry
		for v := range variants {
			entries = append(entries, &store.Entry{
				Key: key, URL: rawURL, Method: http.MethodGet, Status: 200, Length: -1,
				Selecting: map[string]string{"Accept": fmt.Sprint(v)}, ResponseTime: time.Now(), RequestTime: time.Now(),
			})
		}
		if err := memory.Update(t.Context(), key, func([]*store.Entry) []*store.Entry { return entries }); err != nil {
			t.Fatal(err)
		}
		want[key] = variants
	}
	counting := &counting{Store: memory}
	handler := debug.New(&cachetrip.Transport{Store: counting}, debug.Options{})
	next := regexp.MustCompile(`href="\?([^"]*)">Next page`)
	collect := func(query string) (map[string]int, int) {
		got, pages := map[string]int{}, 0
		for {
			r := httptest.NewRequest(http.MethodGet, "/?"+query, nil)
			r.RemoteAddr, r.Host = "127.0.0.1:1", "localhost"
			w := httptest.NewRecorder()
			counting.yielded = 0
			handler.ServeHTTP(w, r)
			if query == "" && counting.yielded > 3000 {
				t.Errorf("%d entries were read for one page", counting.yielded)
			}
			page := w.Body.String()
			rows := keyLink.FindAllStringSubmatch(page, -1)
			if len(rows) > 200 {
				t.Errorf("a page has %d rows", len(rows))
			}
			for _, link := range rows {
				got[strings.TrimPrefix(link[1], "key=")]++
			}
			if pages++; pages > n {
				t.Fatal("the pages have no end")
			}
			link := next.FindStringSubmatch(page)
			if link == nil {
				return got, pages
			}
			query = html.UnescapeString(link[1])
		}
	}
	got, pages := collect("")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}
	if pages < n/200 {
		t.Errorf("%d entries on %d pages", n, pages)
	}
	got, _ = collect("host=few.example")
	if len(got) != n/1000 {
		t.Errorf("%d entries of the host are found, want %d", len(got), n/1000)
	}
}

// counting counts the entries that All yields.
type counting struct {
	store.Store
	yielded int
}

func (c *counting) All(ctx context.Context, prefix string) iter.Seq2[*store.Entry, error] {
	return func(yield func(*store.Entry, error) bool) {
		for e, err := range c.Store.All(ctx, prefix) {
			c.yielded++
			if !yield(e, err) {
				return
			}
		}
	}
}

// A limited number of decisions is kept, shared by concurrent requests. Hooks
// that were set before are still called.
func TestRecent(t *testing.T) {
	var mu sync.Mutex
	told := 0
	cache := &cachetrip.Transport{Store: store.NewMemory(0), Trace: &cachetrip.Trace{Miss: func(cachetrip.AnswerInfo) {
		mu.Lock()
		defer mu.Unlock()
		told++
	}}}
	page := debug.New(cache, debug.Options{Recent: 10})
	origin := httptest.NewServer(http.NotFoundHandler())
	defer origin.Close()
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			req, _ := http.NewRequest(http.MethodGet, fmt.Sprintf("%s/%d", origin.URL, i), nil)
			resp, err := cache.RoundTrip(req)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
		})
	}
	wg.Wait()
	req, _ := http.NewRequest(http.MethodPost, origin.URL+"/last", nil)
	resp, err := cache.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()

	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.RemoteAddr, r.Host = "127.0.0.1:1", "localhost"
	w := httptest.NewRecorder()
	page.ServeHTTP(w, r)
	got := text(w.Body.String())
	if n := strings.Count(got, "\n"); n != 11 {
		t.Errorf("%d rows, want the head and 10 decisions:\n%s", n, got)
	}
	lines := strings.Split(got, "\n")
	if !strings.Contains(lines[2], "POST "+origin.URL+"/last 404 ") {
		t.Errorf("the last decision is %q", lines[2])
	}
	if told != 41 {
		t.Errorf("the hook that was there was called %d times, want 41", told)
	}
}

// The page says when a store fails.
func TestBroken(t *testing.T) {
	handler := debug.New(&cachetrip.Transport{Store: broken{store.NewMemory(0)}}, debug.Options{})
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.RemoteAddr, r.Host = "127.0.0.1:1", "localhost"
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	if !strings.Contains(text(w.Body.String()), "The store cannot be listed: it is gone") {
		t.Errorf("the page says:\n%s", text(w.Body.String()))
	}
	r = httptest.NewRequest(http.MethodGet, "/?key="+storetest.Key(1, 1), nil)
	r.RemoteAddr, r.Host = "127.0.0.1:1", "localhost"
	w = httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	if w.Code != http.StatusInternalServerError {
		t.Errorf("what is stored is shown with %d, want 500", w.Code)
	}
}

type broken struct{ store.Store }

func (broken) All(context.Context, string) iter.Seq2[*store.Entry, error] {
	return func(yield func(*store.Entry, error) bool) { yield(nil, errors.New("it is gone")) }
}
