package debug_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"html"
	"iter"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/debug"
	"github.com/cachetrip/cachetrip/store"
)

// A page of a large store takes no longer to make than a page of a small one.
// All pages together have each entry once. Entries of a host are found even if
// few have it.
func TestPages(t *testing.T) {
	memory := store.NewMemory(1 << 30)
	const n = 4_000
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
	next := regexp.MustCompile(`href="\?([^"]*)"[^>]*>(?:Next page|Search further)`)
	collect := func(query string) (map[string]int, int) {
		got, pages := map[string]int{}, 0
		for {
			r := httptest.NewRequest(http.MethodGet, "/?"+query, nil)
			r.RemoteAddr, r.Host = "127.0.0.1:1", "localhost"
			w := httptest.NewRecorder()
			counting.yielded = 0
			handler.ServeHTTP(w, r)
			if query == "view=stored" && counting.yielded > 3000 {
				t.Errorf("%d entries were read for one page", counting.yielded)
			}
			page := w.Body.String()
			rows := keyLink.FindAllStringSubmatch(page, -1)
			if len(rows) > 50+64 {
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
	got, pages := collect("view=stored")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}
	if pages < n/150 {
		t.Errorf("%d entries on %d pages", n, pages)
	}
	got, _ = collect("view=stored&q=few.example")
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

// listed is a page of stored responses as JSON.
type listed struct {
	Sort           string
	Matching       int
	First          int
	Examined       int
	Next, Previous string
	Entries        []struct {
		Key, URL string
		Status   int
		Bytes    int64
		Variant  []string
		Age      int64  `json:"age_seconds"`
		TTL      *int64 `json:"ttl_seconds"`
		LastUse  string `json:"last_use"`
	}
}

// fetchJSON fetches a page as JSON, as a program that accepts only that.
func fetchJSON(t *testing.T, handler http.Handler, query string, into any) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/?"+query, nil)
	r.RemoteAddr, r.Host = "127.0.0.1:1", "localhost"
	r.Header.Set("Accept", "application/json")
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	if got := w.Header().Get("Content-Type"); got != "application/json" || w.Code != http.StatusOK {
		t.Fatalf("?%s: %d, Content-Type %s:\n%s", query, w.Code, got, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
		t.Fatalf("?%s: %v", query, err)
	}
}

// sortable returns the page of a cache in memory, and how many entries that has.
func sortable(t *testing.T) (handler http.Handler, total int) {
	t.Helper()
	memory := store.NewMemory(1 << 30)
	const keys = 230
	for i := range keys {
		rawURL := fmt.Sprintf("https://h/%d?secret=%d", i%100, i) // 100 URLs as they are shown
		key := fmt.Sprintf("%x", sha256.Sum256([]byte(rawURL)))
		var entries []*store.Entry
		for v := range 1 + i%3 {
			length := int64(1 + i%7)
			draft, err := memory.Create(t.Context(), key, length)
			if err != nil {
				t.Fatal(err)
			}
			draft.Write(make([]byte, length))
			blob, err := draft.Commit()
			if err != nil {
				t.Fatal(err)
			}
			draft.Close()
			entries = append(entries, &store.Entry{
				Key: key, URL: rawURL, Method: http.MethodGet, Status: 200 + i%5, Length: length, Selecting: map[string]string{"Accept": fmt.Sprint(v)},
				Parts:       []store.Part{{Length: length, Blob: blob}},
				RequestTime: time.Now(), ResponseTime: time.Now().Add(-time.Duration(i%50) * time.Hour), Header: http.Header{"Cache-Control": {fmt.Sprintf("max-age=%d", i*1000)}},
			})
			total++
		}
		if err := memory.Update(t.Context(), key, func([]*store.Entry) []*store.Entry { return entries }); err != nil {
			t.Fatal(err)
		}
	}
	return debug.New(&cachetrip.Transport{Store: memory}, debug.Options{}), total
}

// Sorted pages have each entry once and in order, forwards and backwards. Pages
// are made in bubbles, because a busy machine can take longer than the page
// allows itself for a list.
func TestSorted(t *testing.T) {
	for order, inOrder := range map[string]func(p *listed, i int) bool{
		"url":     func(p *listed, i int) bool { return p.Entries[i-1].URL <= p.Entries[i].URL },
		"-url":    func(p *listed, i int) bool { return p.Entries[i-1].URL >= p.Entries[i].URL },
		"status":  func(p *listed, i int) bool { return p.Entries[i-1].Status <= p.Entries[i].Status },
		"-size":   func(p *listed, i int) bool { return p.Entries[i-1].Bytes >= p.Entries[i].Bytes },
		"age":     func(p *listed, i int) bool { return p.Entries[i-1].Age <= p.Entries[i].Age },
		"-fresh":  func(p *listed, i int) bool { return *p.Entries[i-1].TTL >= *p.Entries[i].TTL },
		"used":    func(*listed, int) bool { return true }, // a Memory does not record that
		"-status": func(p *listed, i int) bool { return p.Entries[i-1].Status >= p.Entries[i].Status },
	} {
		t.Run(order, inBubble(func(t *testing.T) {
			handler, total := sortable(t)
			seen := map[string]bool{}
			var pages, back []listed
			for query := "view=stored&sort=" + order; ; {
				var p listed
				fetchJSON(t, handler, query, &p)
				if p.Matching != total || p.First != len(seen)+1 || p.Examined != total {
					t.Fatalf("entries %d to … of %d, %d examined, want %d to … of %d", p.First, p.Matching, p.Examined, len(seen)+1, total)
				}
				for i, e := range p.Entries {
					seen[e.Key+e.Variant[0]] = true
					if i > 0 && !inOrder(&p, i) {
						t.Errorf("entry %d and %d of page %d: %v, %v", i-1, i, len(pages), p.Entries[i-1], e)
					}
				}
				pages = append(pages, p)
				if p.Next == "" {
					break
				}
				query = strings.TrimPrefix(p.Next, "?")
			}
			if len(seen) != total || len(pages) != (total+49)/50 {
				t.Errorf("%d entries on %d pages, want %d", len(seen), len(pages), total)
			}
			for previous := pages[len(pages)-1].Previous; previous != ""; {
				var p listed
				fetchJSON(t, handler, strings.TrimPrefix(previous, "?"), &p)
				back = append([]listed{p}, back...)
				previous = p.Previous
			}
			ignoreLinks := cmp.FilterPath(func(p cmp.Path) bool {
				name := p.Last().String()
				return name == ".Next" || name == ".Previous" || name == ".Age" || name == ".TTL"
			}, cmp.Ignore())
			if diff := cmp.Diff(pages[:len(pages)-1], back, ignoreLinks); diff != "" {
				t.Errorf("backwards (-want +got):\n%s", diff)
			}
		}))
	}
	t.Run("search", inBubble(func(t *testing.T) {
		handler, total := sortable(t)
		var p listed
		if fetchJSON(t, handler, "view=stored&sort=url&q=h/7*", &p); p.Matching == 0 || p.Matching == total {
			t.Errorf("%d entries match a pattern", p.Matching)
		}
		for _, e := range p.Entries {
			if !strings.HasPrefix(e.URL, "https://h/7") {
				t.Errorf("%s matches h/7*", e.URL)
			}
		}
		// A search cannot find out what is hidden.
		var none listed
		if fetchJSON(t, handler, "view=stored&sort=url&q=secret%3D1", &none); len(none.Entries) != 0 || none.Examined != total {
			t.Errorf("%d entries are found by what is hidden", len(none.Entries))
		}
	}))
}

// inBubble returns a test in which no time passes while something is computed.
func inBubble(f func(t *testing.T)) func(t *testing.T) {
	return func(t *testing.T) { synctest.Test(t, f) }
}

// The overview as JSON has what the page has, and its outcomes add up to its
// requests.
func TestOverviewAsJSON(t *testing.T) {
	s := newSite(t, debug.Options{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
	})
	for range 3 {
		s.get(s.origin.URL + "/a")
	}
	if resp, err := s.cache.RoundTrip(httptest.NewRequest(http.MethodGet, "http://127.0.0.1:1/", nil)); err == nil {
		t.Fatal(resp.Status)
	}
	type outcome struct {
		Name  string
		Count int
	}
	type facts struct {
		Type, Dir string
		Bytes     int64
		Max       int64 `json:"max_bytes"`
	}
	type decision struct{ Outcome, URL, Key string }
	var got struct {
		Requests  int
		Outcomes  []outcome
		Store     facts
		Faults    []any `json:"store_faults"`
		Decisions []decision
	}
	fetchJSON(t, s.page.Config.Handler, "", &got)
	disk := s.cache.Store.(*store.Disk)
	wantOutcomes := []outcome{{"hit", 2}, {"stale hit", 0}, {"revalidated", 0}, {"collapsed", 0}, {"miss", 1}, {"refused", 0}, {"failed or under way", 1}}
	if diff := cmp.Diff(wantOutcomes, got.Outcomes); diff != "" || got.Requests != 4 {
		t.Errorf("%d requests (-want +got):\n%s", got.Requests, diff)
	}
	if diff := cmp.Diff(facts{"store.Disk", s.dir, disk.Bytes(), store.DefaultMaxBytes}, got.Store); diff != "" || got.Store.Bytes == 0 {
		t.Errorf("the store (-want +got):\n%s", diff)
	}
	if len(got.Decisions) != 3 || got.Faults == nil {
		t.Fatalf("decisions %v, faults %v", got.Decisions, got.Faults)
	}
	for _, d := range got.Decisions {
		var entry struct{ Entries []struct{ URL string } }
		fetchJSON(t, s.page.Config.Handler, "key="+d.Key, &entry)
		if len(entry.Entries) != 1 || entry.Entries[0].URL != s.origin.URL+"/a" {
			t.Errorf("%v leads to %v", d, entry)
		}
	}
}
