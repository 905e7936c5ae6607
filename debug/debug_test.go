package debug_test

import (
	"bytes"
	"context"
	"encoding/json"
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
		_, page := s.show("view=stored")
		pages := []string{page}
		for _, query := range []string{"", "format=json", "view=decisions", "view=decisions&format=json", "view=stored&format=json", "view=stored&sort=url"} {
			_, page := s.show(query)
			pages = append(pages, page)
		}
		for _, link := range keyLink.FindAllStringSubmatch(page, -1) {
			for _, format := range []string{"", "&format=json"} {
				_, page := s.show(link[1] + format)
				pages = append(pages, page)
			}
		}
		_, page = s.show("explain=" + url.QueryEscape(strings.Replace(s.origin.URL, "//", "//me:REQSECRET-6@", 1)+"/page?q=QUERY"))
		pages = append(pages, typed.ReplaceAllString(page, ""))
		if len(pages) < 5+7 {
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

// typed matches what the user has typed, in the form and in the link to the
// same page as JSON.
var typed = regexp.MustCompile(`name="explain" type="text" inputmode="url" value="[^"]*"|<a href="[^"]*">JSON</a>`)

var tags = regexp.MustCompile(`(?s)<style>.*?</style>|<script>.*?</script>|<[^>]*>`)

// text returns the text of a page, with one line for each row of a table.
func text(page string) string {
	page = regexp.MustCompile(`\b[1-9][0-9]?s( ago|</td>)`).ReplaceAllString(page, "0s$1") // on a slow machine
	page = regexp.MustCompile(`\b9m [0-9]+s`).ReplaceAllString(page, "9m 59s")
	page = strings.NewReplacer(`</span><span class="tail">`, "", `</span><span class="query">`, "").Replace(page)
	var lines []string
	for line := range strings.SplitSeq(regexp.MustCompile(`<tr[^>]*>`).ReplaceAllString(strings.ReplaceAll(page, "\n", " "), "\n"), "\n") {
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
	s.get(s.origin.URL+"/fresh?q=s3cret-1", "Accept-Language", "de", "X-Api-Key", "s3cret-2")
	s.get(s.origin.URL+"/fresh?q=s3cret-1", "Accept-Language", "de", "X-Api-Key", "s3cret-2")
	s.get(s.origin.URL + "/checked")
	s.get(s.origin.URL + "/checked")
	s.get(s.origin.URL + "/never")
	s.get(s.origin.URL+"/offline", "Cache-Control", "only-if-cached")

	wants := func(query string, wants ...string) string {
		t.Helper()
		code, page := s.show(query)
		if code != http.StatusOK {
			t.Fatalf("?%s: status %d", query, code)
		}
		if strings.Contains(page, "s3cret") {
			t.Errorf("?%s: a secret is shown:\n%s", query, page)
		}
		got := text(page)
		for _, want := range wants {
			if !strings.Contains(got, want) {
				t.Errorf("?%s: the page does not say %q, but:\n%s", query, want, got)
			}
		}
		return page
	}
	overview := wants("",
		"6 requests since 20", " hit 1 17 % stale hit 0 revalidated 1 17 % collapsed 0 miss 3 50 % refused 1 17 % bodies from the cache 2.47 kB ",
		" size limit 1.07 GB ", " directory "+s.dir+" ", "The store has not failed.",
		" refused "+s.origin.URL+"/offline 504 nothing is stored for the URL\n",
		" not stored "+s.origin.URL+"/never 200 no-store forbids storing it ",
		" revalidated "+s.origin.URL+"/checked 200 no-cache requires validation before each use ",
		" hit "+s.origin.URL+"/fresh?q=xxxxx 200\n",
	)
	wants("view=decisions&q=/NEVER", " not stored "+s.origin.URL+"/never 200 ", "The last 100 decisions are kept.")
	wants("view=decisions&q=nowhere", "There are none about such a URL.")
	stored := wants("view=stored",
		s.origin.URL+"/checked one for all 200 1.23 kB 0s to be validated: no-cache 0s ago",
		s.origin.URL+"/fresh?q=xxxxx Accept-Language: de X-Api-Key: (a digest) 200 1.23 kB 0s fresh for 9m 59s 0s ago",
	)

	links := keyLink.FindAllStringSubmatch(stored, -1)
	if len(links) != 2 {
		t.Fatalf("%d entries are linked, want 2", len(links))
	}
	// The decisions about stored responses lead to them.
	jumps := keyLink.FindAllStringSubmatch(overview, -1)
	if diff := cmp.Diff([][]string{links[0], links[0], links[1], links[1]}, jumps); diff != "" {
		t.Errorf("links from decisions (-want +got):\n%s", diff)
	}
	wants(links[1][1],
		"/fresh?q=xxxxx", "lifetime 10m by max-age", "body 1.23 kB",
		"Stored response 1 is for another value of X-Api-Key", // unknown
		"Cache-Control max-age=600", "Vary Accept-Language, X-Api-Key",
	)
	wants(links[0][1], `It is sent with If-None-Match: "1".`)
	code, page := s.show("explain=" + url.QueryEscape(s.origin.URL+"/never?token=s3cret"))
	if got := text(page); code != http.StatusOK || !strings.Contains(got, "Nothing is stored for this URL.") || strings.Contains(typed.ReplaceAllString(page, ""), "s3cret") {
		t.Errorf("a URL of which nothing is stored is explained by:\n%s", got)
	}
	if want := `value="` + s.origin.URL + `/never?token=s3cret"`; !strings.Contains(page, want) {
		t.Errorf("the form lacks %s", want)
	}
}

// Errors say what to enter, on pages and in JSON, and keep the form as it was.
func TestErrors(t *testing.T) {
	s := newSite(t, debug.Options{}, func(http.ResponseWriter, *http.Request) {})
	absent := strings.Repeat("0", 64)
	for _, test := range []struct {
		query string
		code  int
		want  string
	}{
		{"explain=", 400, "Enter an absolute URL, such as https://example.com/."},
		{"explain=:", 400, "Enter an absolute URL, such as https://example.com/."},
		{"explain=example.com/a", 400, "Enter an absolute URL, such as https://example.com/."},
		{"explain=file:///etc/passwd", 400, "Enter an absolute URL, such as https://example.com/."},
		{"key=..", 404, "There is no such entry. Choose one from the stored responses."},
		{"key=" + strings.Repeat("g", 64), 404, "There is no such entry. Choose one from the stored responses."},
		{"key=" + absent, 404, "Nothing is stored there any more"},
		{"view=other", 404, "There is no such view. The views are decisions and stored."},
		{"view=stored&at=x", 400, "There is no such page. Go to the first page"},
		{"view=stored&after=..", 400, "There is no such page. Go to the first page"},
		{"view=stored&back=1", 400, "There is no such page. Go to the first page"},
		{"view=stored&at=" + absent + "0", 400, "There is no such page. Go to the first page"},
		{"view=stored&sort=size&at=x&after=" + absent + ".0", 400, "There is no such page. Go to the first page"},
		{"view=stored&sort=size&at=1&after=" + absent, 400, "There is no such page. Go to the first page"},
		{"view=stored&sort=url&at=x&after=x.0", 400, "There is no such page. Go to the first page"},
		{"view=stored&sort=name", 400, "After sort= enter url, status, size, age, fresh or used"},
		{"view=decisions&before=x", 400, "There is no such page."},
	} {
		code, page := s.show(test.query)
		if code != test.code || !strings.Contains(text(page), test.want) {
			t.Errorf("?%s: got %d and %q, want %d and %q", test.query, code, text(page), test.code, test.want)
		}
		code, page = s.show(test.query + "&format=json")
		var got struct{ Error string }
		if err := json.Unmarshal([]byte(page), &got); err != nil || code != test.code || !strings.HasPrefix(got.Error, test.want) && !strings.Contains(got.Error, test.want) {
			t.Errorf("?%s as JSON: got %d and %q, %v, want %d and %q", test.query, code, page, err, test.code, test.want)
		}
	}
	if _, page := s.show("explain=example.com/a"); !strings.Contains(page, `value="example.com/a"`) {
		t.Error("the form forgets what was entered")
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
	s.get(s.origin.URL+"/mine", "Authorization", "Bearer s3cret")
	_, page := s.show("view=stored")
	if strings.Contains(page, "s3cret") {
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
	page := debug.New(cache, debug.Options{Recent: 9})
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
	if n := strings.Count(got, "\n"); n != 10 {
		t.Errorf("%d rows, want the head and 9 decisions:\n%s", n, got)
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
	r := httptest.NewRequest(http.MethodGet, "/?view=stored", nil)
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
