package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// All calls must lead to a page, and each process must make the same calls.
func TestToolsLeadSomewhere(t *testing.T) {
	for name, makeTool := range tools {
		made := makeTool()
		if !slices.Equal(made.calls, makeTool().calls) || len(made.calls) < 100 {
			t.Errorf("%s: two makings differ, or ask for nothing", name)
		}
		for _, c := range made.calls {
			path := c.path
			for range 10 {
				p := made.pages[path]
				if p == nil {
					t.Fatalf("%s: %s leads to %s, which does not exist", name, c.path, path)
				}
				if p.location == nil {
					path = ""
					break
				}
				path, _, _ = strings.Cut(p.location(c.at), "?")
			}
			if path != "" {
				t.Fatalf("%s: %s leads nowhere", name, c.path)
			}
		}
	}
	if n := toolOf("chezmoi").ideal().asked; n != 862 {
		t.Errorf("chezmoi makes %d requests, want 862", n)
	}
}

func TestIdealOfTools(t *testing.T) {
	const minute = time.Minute
	page1 := func(p page) map[string]*page { p.size = 100; return map[string]*page{"a": &p} }
	at := func(minutes ...int) (calls []call) {
		for _, m := range minutes {
			calls = append(calls, call{at: time.Duration(m) * minute, path: "a", accept: "x", token: "t"})
		}
		return calls
	}
	changed := []time.Duration{5 * minute}
	twoOf := func(change func(*call)) []call {
		calls := at(0, 1, 2, 3)
		change(&calls[1])
		change(&calls[3])
		return calls
	}
	for _, test := range []struct {
		name  string
		pages map[string]*page
		calls []call
		want  transfer
	}{
		{"fresh for a minute", page1(page{cacheControl: "max-age=60", tag: strongTag}), append(at(0, 0), at(1)...), transfer{3, 2, 1, 100}},
		{"fresh, but max-age=0", page1(page{cacheControl: "max-age=600", tag: strongTag}), twoOf(func(c *call) { c.directive = "max-age=0" }), transfer{4, 3, 2, 100}},
		{"changed", page1(page{tag: weakTag, changes: changed}), at(0, 4, 6, 7), transfer{4, 4, 2, 100 + 117}},
		{"by date", page1(page{dated: true, changes: changed}), at(0, 4, 6, 7), transfer{4, 4, 2, 100 + 117}},
		{"tag without quotes", page1(page{tag: bareTag}), at(0, 1), transfer{2, 2, 1, 100}},
		{"tag with -gzip", page1(page{tag: gzipTag, dated: true}), at(0, 1), transfer{2, 2, 0, 200}},
		{"no validator", page1(page{}), at(0, 1), transfer{2, 2, 0, 200}},
		{"not to be stored", page1(page{cacheControl: "no-store", tag: strongTag}), at(0, 1), transfer{2, 2, 0, 200}},
		{"two tokens, one tag", page1(page{tag: strongTag, vary: []string{"Authorization"}, cacheControl: "max-age=600"}),
			twoOf(func(c *call) { c.token = "u" }), transfer{4, 2, 1, 100}},
		{"two tokens, their tags", page1(page{tag: tokenTag, vary: []string{"Authorization"}, cacheControl: "max-age=600"}),
			twoOf(func(c *call) { c.token = "u" }), transfer{4, 2, 0, 200}},
		{"two media types", page1(page{tag: strongTag, vary: []string{"Accept"}, byAccept: true, cacheControl: "max-age=600"}),
			twoOf(func(c *call) { c.accept = "y" }), transfer{4, 2, 0, 200}},
		{"a redirect that is kept", map[string]*page{"a": {status: 301, cacheControl: "max-age=90", location: func(time.Duration) string { return "b" }}, "b": {size: 100, tag: strongTag}},
			at(0, 1, 2), transfer{6, 5, 2, 100}},
		{"a page that does not exist", page1(page{status: 404, cacheControl: "no-cache"}), at(0, 1), transfer{2, 2, 0, 200}},
	} {
		if got := (&tool{pages: test.pages, calls: test.calls}).ideal(); got != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
}

func TestWhatACacheMayGive(t *testing.T) {
	p := &page{cacheControl: "max-age=60", changes: []time.Duration{10 * time.Minute}}
	for _, test := range []struct {
		version   int
		at        time.Duration
		directive string
		want      bool
	}{
		{0, 9 * time.Minute, "", true}, {1, 9 * time.Minute, "", false}, {1, 11 * time.Minute, "", true},
		{0, 10*time.Minute + 59*time.Second, "", true}, {0, 10*time.Minute + 59*time.Second, "max-age=0", false},
		{0, 12 * time.Minute, "", false}, {2, 12 * time.Minute, "", false},
	} {
		if got := p.allows(test.version, call{at: test.at, directive: test.directive}); got != test.want {
			t.Errorf("version %d at %v %s: %v, want %v", test.version, test.at, test.directive, got, test.want)
		}
	}
}

// The servers must have the quirks that they are said to have.
func TestServersOfTools(t *testing.T) {
	p := map[string]*page{}
	tools["test"] = func() *tool { return &tool{pages: p} }
	defer delete(tools, "test")
	o := newTestOrigin(t)
	get := func(path string, header ...string) (*http.Response, string) {
		req, err := http.NewRequest(http.MethodGet, o.url+"/servers/tool/test/"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(sinceField, "0")
		req.Header.Set(nowField, strconv.FormatInt(time.Now().UnixNano(), 10))
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(b)
	}
	for name, style := range map[string]struct {
		page
		confirmed int
	}{
		"strong": {page{tag: strongTag}, 304}, "weak": {page{tag: weakTag}, 304}, "bare": {page{tag: bareTag}, 304},
		"gzip": {page{tag: gzipTag, dated: true}, 200}, "chatty": {page{tag: strongTag, chatty: true}, 304},
		"no-validator": {page{}, 200},
	} {
		p[name] = &style.page
		first, body := get(name)
		tag := first.Header.Get("Etag")
		second, again := get(name, "If-None-Match", tag, "If-Modified-Since", first.Header.Get("Last-Modified"))
		if first.StatusCode != 200 || len(body) < labelSize || second.StatusCode != style.confirmed || (style.confirmed == 304) != (again == "") {
			t.Errorf("%s: %d with tag %s, then %d with %d bytes; want 200, then %d", name, first.StatusCode, tag, second.StatusCode, len(again), style.confirmed)
		}
		if strings.Contains(tag, `"`) != (style.tag != bareTag && style.tag != noTag) || strings.HasPrefix(tag, "W/") != (style.tag == weakTag) {
			t.Errorf("%s: the tag is %s", name, tag)
		}
	}
	p["mine"] = &page{tag: tokenTag}
	mine, _ := get("mine", "Authorization", "a")
	if other, _ := get("mine", "Authorization", "b", "If-None-Match", mine.Header.Get("Etag")); other.StatusCode != 200 {
		t.Errorf("another token's tag was recognised: %s", other.Status)
	}
	if same, _ := get("mine", "Authorization", "a", "If-None-Match", `"x", `+mine.Header.Get("Etag")); same.StatusCode != 304 {
		t.Errorf("the token's own tag was not recognised: %s", same.Status)
	}
	w := httptest.NewRecorder()
	if serveTool(w, httptest.NewRequest("GET", "/", nil), "test/none", new(tally)); w.Code != http.StatusNotFound {
		t.Errorf("a path without a page has status %d", w.Code)
	}
}

// With a cache that does all that it may, the origin counts the ideal. Hours
// pass at once.
func TestToolsAreReplayed(t *testing.T) {
	h := &harness{dir: t.TempDir(), origin: newTestOrigin(t), log: t.Output(), results: make(map[string]map[string]map[string][]float64)}
	for _, name := range []string{"chezmoi", "go-github"} {
		w := &workload{name: "tool-" + name, kind: "tool", Params: Params{Name: name}, subjects: []string{limit, cachetripDisk, noCache}}
		if err := runTool(t.Context(), h, w); err != nil {
			t.Fatal(err)
		}
		of := h.results[w.name]
		for _, metric := range []string{"bytes", "requests", "hits", "reused"} {
			ideal, got, plain := of[metric][limit], of[metric][cachetripDisk], of[metric][noCache]
			if !slices.Equal(got, ideal) || len(got) != 1 || slices.Equal(plain, ideal) {
				t.Errorf("%s: %s %v, without a cache %v, ideal %v", name, metric, got, plain, ideal)
			}
		}
	}
	if len(h.faults) > 0 {
		t.Errorf("faults: %+v", h.faults)
	}
}

func TestWrongAnswersToToolsAreFound(t *testing.T) {
	made := &tool{pages: map[string]*page{"a": {size: 100, changes: []time.Duration{time.Minute}}}}
	wrong := func(c content) *toolContestant {
		return &toolContestant{job: &job{Origin: "http://bench.example", Tag: "x", Params: Params{Name: "test"}}, tool: made,
			cache: &cache{RoundTripper: roundTripper(func(req *http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: 200, Header: make(http.Header), Body: io.NopCloser(c.reader()), Request: req}, nil
			})}}
	}
	now := call{at: 2 * time.Minute, path: "a"}
	for _, test := range []struct {
		name     string
		content  content
		outdated bool
		fails    bool
	}{
		{"right", made.pages["a"].content("a", "", 1), false, false},
		{"the version before", made.pages["a"].content("a", "", 0), true, false},
		{"another page", made.pages["a"].content("b", "", 1), false, true},
	} {
		c := wrong(test.content)
		outdated, err := c.call(&http.Client{Transport: c}, now)
		if outdated != test.outdated || (err != nil) != test.fails || c.asked.Load() != 1 {
			t.Errorf("%s: outdated %v, %v", test.name, outdated, err)
		}
	}
}
