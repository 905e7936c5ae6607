package debug_test

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip/debug"
	"github.com/cachetrip/cachetrip/store"
)

// crowded returns a site whose cache has 5,000 entries and more than a page of
// decisions.
func crowded(t *testing.T) *site {
	t.Helper()
	s := newSite(t, debug.Options{}, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/a/rather/long/path/which/has/to/be/cut/somewhere/in/the/middle/checked.json":
			w.Header().Set("Cache-Control", "no-cache")
			w.Header().Set("Etag", `"1"`)
			if r.Header.Get("If-None-Match") != "" {
				w.WriteHeader(http.StatusNotModified)
				return
			}
		case "/never":
			w.Header().Set("Cache-Control", "no-store")
		case "/stale":
			w.Header().Set("Cache-Control", "max-age=0, stale-while-revalidate=600")
		default:
			w.Header().Set("Cache-Control", "max-age=600")
			w.Header().Set("Vary", "Accept-Language")
		}
		fmt.Fprint(w, strings.Repeat("x", 1234))
	})
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 5000 {
		words := make([]string, 1+r.IntN(9))
		for j := range words {
			words[j] = []string{"packages", "releases", "v2", "download", "archive", "blobs", "repositories"}[r.IntN(7)]
		}
		entryURL := fmt.Sprintf("https://registry-%d.example.com/%s/%d.tar.gz?token=%d", r.IntN(5), strings.Join(words, "/"), i, i)
		key := fmt.Sprintf("%x", sha256.Sum256([]byte(entryURL)))
		born := time.Now().Add(-time.Duration(r.IntN(100_000)) * time.Second)
		e := &store.Entry{
			Key: key, URL: entryURL, Method: http.MethodGet, Status: []int{200, 200, 200, 301, 404}[r.IntN(5)], RequestTime: born, ResponseTime: born,
			Header: http.Header{"Cache-Control": {fmt.Sprintf("max-age=%d", r.IntN(200_000))}, "Content-Type": {"application/gzip"}}, Proto: "HTTP/2.0",
		}
		if i%10 == 0 {
			e.Selecting = map[string]string{"Accept-Language": "de"}
		}
		if err := s.cache.Store.Update(t.Context(), key, func([]*store.Entry) []*store.Entry { return []*store.Entry{e} }); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 12 {
		s.get(s.origin.URL+"/a/rather/long/path/which/has/to/be/cut/somewhere/in/the/middle/checked.json", "Accept-Language", "de")
		s.get(s.origin.URL + "/never")
		s.get(s.origin.URL + fmt.Sprintf("/fresh?q=%d", i/2))
		s.get(s.origin.URL + "/stale")
		s.get(s.origin.URL+"/offline", "Cache-Control", "only-if-cached")
	}
	return s
}

// screen is the height of a telephone with a width of 390 pixels.
const screen = 844

// The pages fit the screens that they are read on, with 5,000 entries, in light
// and dark colours, and can be used with the keyboard alone.
func TestInBrowser(t *testing.T) {
	pictures := os.Getenv("CACHETRIP_SCREENSHOTS")
	if pictures == "" {
		t.Skip("CACHETRIP_SCREENSHOTS names a directory for pictures of the page; this test makes them with Chromium")
	}
	browser := startChromium(t)
	if err := os.MkdirAll(pictures, 0o755); err != nil {
		t.Fatal(err)
	}
	s := crowded(t)
	_, listed := s.show("view=stored&sort=-age")
	for _, page := range []struct {
		name, query string
		screens     float64 // how many of a telephone's it may fill
	}{
		{"overview", "", 3},
		{"decisions", "view=decisions", 5},
		{"stored", "view=stored", 5},
		{"sorted", "view=stored&sort=-age&q=registry-3", 5},
		{"entry", keyLink.FindStringSubmatch(listed)[1], 2.5},
		{"explained", "explain=" + s.origin.URL + "/fresh?q=1", 2.5},
		{"error", "explain=example.com", 1},
	} {
		for _, width := range []int{390, 1280} {
			browser.open(s.page.URL+"/debug/cache/?"+page.query, width, screen)
			check(t, browser, page.name, width, page.screens)
			for _, scheme := range []string{"light", "dark"} {
				browser.prefer(scheme)
				browser.shoot(filepath.Join(pictures, fmt.Sprintf("%s-%d-%s.png", page.name, width, scheme)))
				var faint []string
				browser.eval(faintTexts, &faint)
				for _, text := range faint {
					t.Errorf("%s, %s: too little contrast: %s", page.name, scheme, text)
				}
			}
		}
	}
	checkKeyboard(t, browser, s)
	browser.shoot(filepath.Join(pictures, "focus-390-dark.png"))
	checkRefresh(t, browser, s)
}

// check fails the test if the page that the browser shows is too wide or too
// high, cuts a URL so that its whole is out of reach, or lacks a label.
func check(t *testing.T, browser *chromium, name string, width int, screens float64) {
	t.Helper()
	var page struct {
		Width, Height int
		Faults        []string
	}
	browser.eval(`({
		width: document.documentElement.scrollWidth, height: document.documentElement.scrollHeight,
		faults: [
			...[...document.querySelectorAll("input:not([type=hidden])")].filter(e => !e.labels.length).map(e => "an input without a label: " + e.name),
			...[...document.querySelectorAll("th")].filter(e => !e.scope).map(e => "a heading without a scope: " + e.textContent),
			...[...document.querySelectorAll(".url")].filter(e => e.offsetHeight > 30 || e.getBoundingClientRect().right > e.parentElement.getBoundingClientRect().right + 1 || e.dataset.full !== e.textContent).map(e => "not in one line: " + e.textContent),
			...[...document.querySelectorAll("td:not(.urls)")].filter(e => e.scrollWidth > e.clientWidth + 1).map(e => "too narrow for " + e.textContent),
			...[...document.querySelectorAll("a[href]")].filter(e => !e.textContent.trim()).map(e => "a link without a text: " + e.href),
			...(document.querySelectorAll("h1").length === 1 && document.documentElement.lang && document.querySelector("main") ? [] : ["no landmarks"]),
		],
	})`, &page)
	name = fmt.Sprintf("%s, %d pixels wide", name, width)
	if page.Width > width {
		t.Errorf("%s: the content has %d pixels", name, page.Width)
	}
	if width == 390 && float64(page.Height) > screens*screen {
		t.Errorf("%s: the page fills %.1f screens, want at most %.1f", name, float64(page.Height)/screen, screens)
	}
	for _, fault := range page.Faults {
		t.Errorf("%s: %s", name, fault)
	}
}

// faintTexts lists the texts whose colour has a contrast of less than 4.5 to
// what is behind them (WCAG 2.2, section 1.4.3).
const faintTexts = `(() => {
	const parse = c => (c.match(/[\d.]+/g) || []).map(Number);
	const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
		.reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
	const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length === 3 || c[3] === 1) return c; } return [255, 255, 255]; };
	const ratio = e => { const [a, b] = [parse(getComputedStyle(e).color), behind(e)].map(light); return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); };
	const texts = [...document.body.querySelectorAll("*")].filter(e => e.checkVisibility() && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()));
	if (texts.length < 10) return ["there are only " + texts.length + " texts"];
	return texts.filter(e => ratio(e) < 4.5).map(e => ratio(e).toFixed(1) + " for " + e.textContent.slice(0, 50));
})()`

// checkKeyboard walks through a page with the tabulator key.
func checkKeyboard(t *testing.T, browser *chromium, s *site) {
	t.Helper()
	browser.open(s.page.URL+"/?view=stored&q=registry", 390, screen)
	var got []string
	for range 20 {
		browser.tab()
		var at struct {
			Name, Full     string
			Outline, Shown bool
		}
		browser.eval(`(e => ({
			name: e.name || e.textContent.trim(), outline: getComputedStyle(e).outlineStyle !== "none" && parseFloat(getComputedStyle(e).outlineWidth) >= 2,
			shown: e.getBoundingClientRect().width > 5 && getComputedStyle(e).clipPath === "none",
			full: e.matches(".url") ? getComputedStyle(e, "::after").content : "",
		}))(document.activeElement)`, &at)
		if !at.Outline || !at.Shown {
			t.Errorf("the focus on %q cannot be seen", at.Name)
		}
		if strings.HasPrefix(at.Name, "https://") {
			if !strings.Contains(at.Full, at.Name) {
				t.Errorf("the focus shows %s, want the whole of %s", at.Full, at.Name)
			}
			at.Name = "a stored response"
		}
		got = append(got, at.Name)
	}
	want := []string{
		"Skip to the content", "Overview", "Decisions", "Stored", "JSON", "q", "Search", "explain", "Explain", "Show all",
		"URL", "Status", "Size", "Age", "Fresh", "Last use", "a stored response", "a stored response", "a stored response", "a stored response",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the order of the focus (-want +got):\n%s", diff)
	}
}

// checkRefresh waits until the overview shows a new request by itself.
func checkRefresh(t *testing.T, browser *chromium, s *site) {
	t.Helper()
	browser.open(s.page.URL+"/", 390, screen)
	// The count is read first, because the page may refresh as soon as there is
	// a request.
	var before int
	browser.eval(`document.querySelector("#more").focus(), Number(document.querySelector("[data-requests]").dataset.requests)`, &before)
	s.get(s.origin.URL + "/fresh?q=new")
	var got struct {
		News, Focus string
		Requests    int
	}
	browser.eval(`(async () => {
		const news = document.querySelector("#news");
		for (let i = 0; i < 1200 && !news.textContent; i++) await new Promise(done => setTimeout(done, 100));
		return {news: news.textContent, focus: document.activeElement.id, requests: Number(document.querySelector("[data-requests]").dataset.requests)};
	})()`, &got)
	got.Requests -= before
	if got.Requests != 1 || got.News != "1 more request" || got.Focus != "more" {
		t.Errorf("the page shows %d more requests, says %q, and has the focus on %q", got.Requests, got.News, got.Focus)
	}
	browser.open(s.page.URL+"/?refresh=off", 390, screen)
	var off bool
	browser.eval(`!document.documentElement.dataset.refresh && [...document.querySelectorAll("nav[aria-label=Pages] a")].every(a => a.href.includes("refresh=off"))`, &off)
	if !off {
		t.Error("the refresh cannot be switched off for all pages")
	}
}
