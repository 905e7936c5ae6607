package validation_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
)

// searchOrigin answers GETs with a No-Vary-Search field.
func searchOrigin(field string, more ...string) http.HandlerFunc {
	return harness.Tagged(`"1"`, "page", append([]string{"Cache-Control", "max-age=60", "No-Vary-Search", field}, more...)...)
}

const (
	equalPage = "200 page | hit; detail=no-vary-search"
	newPage   = "200 page | fwd=uri-miss; fwd-status=200; stored"
)

// TestNoVarySearchVectors stores a response and requests another URL, for each
// case of the vectors that net/http can send.
func TestNoVarySearchVectors(t *testing.T) {
	data, err := os.ReadFile("../../internal/urlsearch/testdata/no-vary-search.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Source, Field, Stored, Presented string
		Expect                           bool
	}
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	harness.EachWorld(t, func(w *harness.World) {
		for i, c := range cases {
			w.Handle(searchOrigin(c.Field))
			stored, presented := fmt.Sprintf("/%d?%s", i, c.Stored), fmt.Sprintf("/%d?%s", i, c.Presented)
			if c.Stored == "" {
				stored = strings.TrimSuffix(stored, "?")
			}
			if c.Presented == "" && !strings.HasPrefix(c.Source, "draft") {
				presented = strings.TrimSuffix(presented, "?")
			}
			if strings.ContainsAny(stored+presented, " ") {
				stored, presented = strings.ReplaceAll(stored, " ", "%20"), strings.ReplaceAll(presented, " ", "%20")
			}
			w.Get(stored)
			w.Asked()
			w.Get(presented)
			if hit := len(w.Asked()) == 0; hit != c.Expect {
				w.Errorf("No-Vary-Search: %s\n%s for %s: hit is %t, want %t", c.Field, stored, presented, hit, c.Expect)
			}
		}
	})
}

// TestNoVarySearch follows an equivalent URL through the life of a response.
func TestNoVarySearch(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		w.Handle(searchOrigin(`params=("utm")`))
		w.WantGet(newPage, "/?q=1&utm=a")
		w.WantGet("200 page | hit", "/?q=1&utm=a")
		w.WantGet(equalPage, "/?utm=b&q=1")
		w.WantGet(equalPage, "/?q=1")
		w.WantGet(newPage, "/?q=2")
		w.WantGet(newPage, "/other?q=1")
		w.WantGet("504 cachetrip: only-if-cached, and nothing stored can be used\n | fwd=uri-miss; generated", "/?q=3", "Cache-Control", "only-if-cached")
		w.Asked()

		time.Sleep(61 * time.Second)
		w.WantGet("200 page | fwd=stale; fwd-status=304; stored", "/?q=1&utm=c")
		w.WantAsked([]string{"If-None-Match"}, `GET /?q=1&utm=c If-None-Match: "1"`)
		w.WantGet(equalPage, "/?q=1&utm=d")
		w.WantGet("200 page | hit", "/?q=1&utm=a") // it was updated

		time.Sleep(61 * time.Second)
		w.Handle(harness.Tagged(`"2"`, "news", "Cache-Control", "max-age=60")) // without the field
		w.WantGet("200 news | fwd=stale; fwd-status=200; stored", "/?q=1&utm=e")
		w.WantGet("200 news | hit", "/?q=1&utm=e")
		w.WantGet("200 news | fwd=stale; fwd-status=200; stored", "/?q=1&utm=f") // the old one is still equivalent, and stale
		w.WantGet("200 news | fwd=stale; fwd-status=200; stored", "/?q=1&utm=a")
	})
}

// TestNoVarySearchOfOthers: a response found under an equivalent URL passes the
// same rules as one that is stored for the very URL.
func TestNoVarySearchOfOthers(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(searchOrigin("params", "Vary", "Accept-Language"))
		w.WantGet(newPage, "/?1", "Authorization", "Bearer token-of-alice", "Accept-Language", "de")
		w.WantGet(equalPage, "/?2", "Authorization", "Bearer token-of-alice", "Accept-Language", "de")
		w.WantGet(newPage, "/?2", "Authorization", "Bearer token-of-alice", "Accept-Language", "en")
		w.WantGet(equalPage, "/?3", "Authorization", "Bearer token-of-alice", "Accept-Language", "en")
		w.WantGet(newPage, "/?3", "Authorization", "Bearer token-of-bob", "Accept-Language", "de")
		w.WantGet(newPage, "/?4", "Accept-Language", "de")
		w.WantGet(strings.Replace(equalPage, "200", "206", 1), "/?5", "Accept-Language", "de", "Range", "bytes=0-3")
		w.WantGet("200 page | fwd=request; fwd-status=304; stored; detail=no-cache", "/?4", "Accept-Language", "de", "Cache-Control", "no-cache")
		w.Do(w.Request("HEAD", "/?6", "Accept-Language", "de"))
		w.WantGet("304  | hit; detail=no-vary-search", "/?7", "Accept-Language", "de", "If-None-Match", `"1"`)
	})
}

// TestNoVarySearchOfQueries: a QUERY is answered under an equivalent URL, if
// the content is the same, and never answers a GET.
func TestNoVarySearchOfQueries(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(searchOrigin("params"))
		query := func(want, path, content string) {
			w.Helper()
			req := w.Request("QUERY", path, "Content-Type", "text/plain")
			req.Body = io.NopCloser(strings.NewReader(content))
			w.WantDo(want, req)
		}
		query(newPage, "/?1", "a")
		query(equalPage, "/?2", "a")
		query(newPage, "/?2", "b")
		w.WantGet(newPage, "/?2")
		w.WantGet(equalPage, "/?1")
		query(equalPage, "/?3", "b")
		w.Do(w.Request("POST", "/?4"))
		query("200 page | fwd=stale; fwd-status=200; stored; detail=conditions-refused", "/?1", "a") // the handler knows conditional GETs only
		w.WantGet(invalidPage, "/?2")
	})
}

// TestNoVarySearchInvalidation changes one URL in each way. All equivalent ones
// are concerned, for every identity, also after the cache lost what it knew of
// them.
func TestNoVarySearchInvalidation(t *testing.T) {
	for _, change := range []struct {
		name    string
		removes bool
		make    func(w *harness.World)
	}{
		{"POST", false, func(w *harness.World) { w.Do(w.Request("POST", "/?q=1&utm=z")) }},
		{"Content-Location", false, func(w *harness.World) { w.Do(w.Request("POST", "/write")) }},
		{"Invalidate", false, func(w *harness.World) {
			if err := w.Transport.Invalidate(w.Context(), w.URL+"/?q=1&utm=z"); err != nil {
				w.Error(err)
			}
		}},
		{"Purge", true, func(w *harness.World) {
			if err := w.Transport.Purge(w.Context(), w.URL+"/?q=1&utm=z"); err != nil {
				w.Error(err)
			}
		}},
		{"lost notes", false, removeNotes},
	} {
		t.Run(change.name, func(t *testing.T) {
			harness.EachWorld(t, func(w *harness.World) {
				w.Handle(func(rw http.ResponseWriter, r *http.Request) {
					if r.Method == "POST" {
						rw.Header().Set("Content-Location", "/?utm=y&q=1")
						return
					}
					searchOrigin(`key-order, params=("utm")`)(rw, r)
				})
				users := []string{"", "Bearer token-of-alice"}
				get := func(want, path string) {
					w.Helper()
					for _, user := range users {
						req := w.Request("GET", path)
						if user != "" {
							req.Header.Set("Authorization", user)
						}
						w.WantDo(want, req)
					}
				}
				get(newPage, "/?q=1&utm=a")
				get(newPage, "/?q=2&utm=a")
				change.make(w)
				if change.removes {
					get(newPage, "/?q=1&utm=a")
				} else {
					get(invalidPage, "/?q=1&utm=a")
				}
				get(equalPage, "/?utm=b&q=1")
				if change.name == "lost notes" {
					get(invalidPage, "/?q=2&utm=a")
				} else {
					get("200 page | hit", "/?q=2&utm=a")
				}
				change.make(w)
				if change.name != "lost notes" { // then nothing is found
					if change.removes {
						get(newPage, "/?q=1")
					} else {
						get(invalidPage, "/?q=1")
					}
				}
			})
		})
	}
}

// TestNoVarySearchOfProcesses uses two Transports on one directory.
func TestNoVarySearchOfProcesses(t *testing.T) {
	w := harness.NewWorld(t, harness.OnDisk, harness.ServeLoopback)
	w.Handle(searchOrigin(`params=("utm")`))
	second := &cachetrip.Transport{Store: harness.OpenDisk(t, w.Dir, storeOptions), Base: w.Transport.Base}
	defer second.Close()
	first := w.Client.Transport
	w.WantGet(newPage, "/?utm=a")
	for i := range 3 {
		w.Client.Transport = second
		w.WantGet(equalPage, fmt.Sprintf("/?utm=b%d", i))
		time.Sleep(time.Millisecond) // processes order events by time
		w.Do(w.Request("POST", "/?utm=c"))
		w.Client.Transport = first
		w.WantGet(invalidPage, "/?utm=a")
	}
}

// TestHostileNoVarySearch stores responses with ever different rules and
// queries. The notes stay small, and no wrong response is served.
func TestHostileNoVarySearch(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("No-Vary-Search", fmt.Sprintf(`params=("p%s" "%s")`, r.URL.Query().Get("i"), strings.Repeat("x", 1000)))
			harness.Answer(rw, 200, r.URL.Query().Get("i"), "Cache-Control", "max-age=60")
		})
		for i := range 50 {
			w.Get(fmt.Sprintf("/?i=%d&%s", i, strings.Repeat("y", 500)))
		}
		for _, e := range notes(w) {
			size := 0
			for _, lines := range e.Header {
				size += len(strings.Join(lines, ""))
			}
			if size > 32<<10 {
				w.Errorf("a note has %d bytes", size)
			}
		}
		for i := range 50 {
			if got, want := w.Get(fmt.Sprintf("/?i=%d&%s&p%d=1", i, strings.Repeat("y", 500), i)).Body, fmt.Sprint(i); got != want {
				w.Errorf("got response %s for %s", got, want)
			}
		}
	})
}

// TestExplainNoVarySearch: an explanation names the URL that a response is
// stored for, and says what the cache will do.
func TestExplainNoVarySearch(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		w.Handle(searchOrigin(`params=("utm")`))
		w.Get("/?q=1&utm=a")
		for _, test := range []struct {
			path, action, equivalent string
			sleep                    time.Duration
		}{
			{"/?q=1&utm=a", "serve", "", 0},
			{"/?utm=b&q=1", "serve", "/?q=1&utm=a", 0},
			{"/?q=2", "fetch", "", 0},
			{"/?q=1", "revalidate", "/?q=1&utm=a", time.Hour},
		} {
			time.Sleep(test.sleep)
			explained, err := w.Transport.Explain(w.Request("GET", test.path))
			if err != nil {
				t.Fatal(err)
			}
			want := test.equivalent
			if want != "" {
				want = w.URL + want
			}
			harness.Check(w, test.path, []string{explained.Action, explained.Equivalent}, []string{test.action, want})
			text := explained.String()
			if says := strings.Contains(text, w.URL+"/?q=xxxxx&utm=xxxxx"); says != (want != "") {
				w.Errorf("%s: the other URL is named: %t\n%s", test.path, says, text)
			}
			w.Asked()
			w.Get(test.path)
			sent := len(w.Asked()) > 0
			harness.Check(w, test.path+" is sent", sent, explained.Sent != nil)
		}
		if got := urls(w); len(got) != 2 {
			w.Errorf("stored URLs: %q, want two", got)
		}
	})
}

// urls lists the URLs of the stored responses.
func urls(w *harness.World) (found []string) {
	for e, err := range w.Transport.Entries(w.Context(), "") {
		if err != nil {
			w.Fatal(err)
		}
		found = append(found, e.URL)
	}
	return found
}

// TestNoVarySearchGoesForward has a newer response with a shorter lifetime.
// Nobody is served the older one after it.
func TestNoVarySearchGoesForward(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		w.Handle(searchOrigin(`params=("utm")`))
		w.WantGet(newPage, "/?utm=a")
		time.Sleep(10 * time.Second)
		w.Handle(harness.Tagged(`"2"`, "news", "Cache-Control", "max-age=1", "No-Vary-Search", `params=("utm")`))
		w.WantGet("200 news | fwd=request; fwd-status=200; stored; detail=no-cache", "/?utm=b", "Cache-Control", "no-cache")
		time.Sleep(10 * time.Second)
		w.WantGet("200 news | fwd=stale; fwd-status=304; stored", "/?utm=b")
		time.Sleep(10 * time.Second)
		w.WantGet("200 news | fwd=stale; fwd-status=304; stored", "/?utm=c")
	})
}

// TestNoVarySearchAndParts asks for a page of which a part is stored, and all
// under another URL.
func TestNoVarySearchAndParts(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Cache-Control", "max-age=60")
			rw.Header().Set("Etag", `"1"`)
			rw.Header().Set("No-Vary-Search", `params=("utm")`)
			http.ServeContent(rw, r, "", time.Time{}, strings.NewReader("page"))
		})
		w.WantGet("206 ge | fwd=uri-miss; fwd-status=206; stored", "/?utm=a", "Range", "bytes=2-")
		w.WantGet("200 page | fwd=partial; fwd-status=206; stored", "/?utm=a")
		w.WantGet("206 ge | fwd=uri-miss; fwd-status=206; stored", "/b?utm=a", "Range", "bytes=2-")
		w.WantGet("206 pa | fwd=uri-miss; fwd-status=206; stored", "/b?utm=b", "Range", "bytes=0-1")
		w.WantGet("200 page | fwd=uri-miss; fwd-status=200; stored", "/b?utm=c")
		w.WantGet("200 page | hit; detail=no-vary-search", "/b?utm=a")
	})
}

// TestNoVarySearchOfMovedURLs stores responses under URLs whose parameters are
// those of the program, of which the field of the origin says nothing.
func TestNoVarySearchOfMovedURLs(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			body := r.URL.Path + " for " + r.Header.Get("Tenant")
			harness.Answer(rw, 200, body, "Cache-Control", "max-age=60", "No-Vary-Search", "params")
		})
		w.Transport.Policy = func(req *http.Request) cachetrip.Policy {
			u := *req.URL
			u.Path, u.RawQuery = "/", "path="+req.URL.Path+"&tenant="+req.Header.Get("Tenant")
			return cachetrip.Policy{URL: &u}
		}
		for _, want := range []string{"uri-miss", "| hit"} {
			for _, path := range []string{"/", "/a", "/b"} {
				for _, tenant := range []string{"alice", "bob"} {
					got := w.Get(path, "Tenant", tenant)
					harness.Check(w, "body", got.Body, path+" for "+tenant)
					if !strings.Contains(got.String(), want) {
						w.Errorf("%s for %s: %s, want %s", path, tenant, got, want)
					}
				}
			}
		}
	})
}

// TestNoVarySearchWithdrawn has an origin whose pages are all of one date
// withdraw the field. A 304 to a date then says nothing about the page of
// another URL.
func TestNoVarySearchWithdrawn(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		deployed := time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)
		rule := `params=("id")`
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			if r.Header.Get("If-Modified-Since") == deployed {
				rw.WriteHeader(http.StatusNotModified)
				return
			}
			harness.Answer(rw, 200, r.URL.RawQuery, "Cache-Control", "max-age=10", "Last-Modified", deployed, "No-Vary-Search", rule)
		})
		w.WantGet("200 id=1 | fwd=uri-miss; fwd-status=200; stored", "/?id=1")
		w.WantGet("200 id=1 | hit; detail=no-vary-search", "/?id=2")
		time.Sleep(time.Minute)
		rule = "key-order"
		w.WantGet("200 id=2 | fwd=uri-miss; fwd-status=200; stored", "/?id=2")
		w.WantGet("200 id=1 | fwd=stale; fwd-status=304; stored", "/?id=1")
	})
}
