package origins_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/internal/testtier"
	"github.com/cachetrip/cachetrip/store"
)

// Attacks of an origin on the client and on other origins, through the cache.

// A 304 to one request does not change the response that another request
// selects: its readers, cookies and scripts stay as they are. Fields for
// another caller are not repeated to this one.
func TestNotModifiedForOneVariantLeavesTheOthers(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			origin := r.Header.Get("Origin")
			rw.Header().Set("Vary", "Origin")
			rw.Header().Set("Cache-Control", "max-age=60")
			rw.Header().Set("Access-Control-Allow-Origin", origin)
			if r.Header.Get("If-None-Match") == "" {
				rw.Header().Set("Set-Cookie", "for="+origin+"-0123")
				rw.Header().Set("Content-Security-Policy", "default-src 'none'")
			} else {
				rw.Header().Set("Content-Security-Policy", "default-src *")
				rw.Header().Set("X-Frame-Options", "ALLOWALL")
			}
			harness.Tagged(`"1"`, "the same for all")(rw, r)
		})
		about := func(origin string) string {
			h := w.Get("/", "Origin", origin).Header
			return fmt.Sprint(h["X-From-Cache"], h["Access-Control-Allow-Origin"], h["Set-Cookie"], h["Content-Security-Policy"], h["X-Frame-Options"])
		}
		harness.Check(w, "the first", about("https://a.test"), "[] [https://a.test] [for=https://a.test-0123] [default-src 'none'] []")
		harness.Check(w, "another", about("https://b.test"), "[1] [https://b.test] [] [default-src *] [ALLOWALL]")
		harness.Check(w, "the first again", about("https://a.test"), "[1] [https://a.test] [] [default-src 'none'] []")
		harness.Check(w, "the other again", about("https://b.test"), "[1] [https://b.test] [] [default-src *] [ALLOWALL]")
		harness.Check(w, "requests to the origin", len(w.Asked()), 2)
	})
}

// An entity tag that cannot be sent, or is too long for servers, makes no
// request fail. net/http itself refuses some of these in responses, but another
// Base or ModifyResponse may not.
func TestTagsThatCanNotBeAskedAbout(t *testing.T) {
	for name, tag := range map[string]string{
		"CR":                `"a` + "\r" + `b"`,
		"LF and a field":    "\"a\r\nX-Injected: yes\"",
		"NUL":               "\"a\x00b\"",
		"DEL":               "\"a\x7fb\"",
		"20 KB":             `"` + strings.Repeat("x", 20_000) + `"`,
		"200 KB":            `"` + strings.Repeat("x", 200_000) + `"`,
		"anything":          "*",
		"several":           `"a", "b"`,
		"only commas":       ",,,",
		"a quote that ends": `"a`,
	} {
		t.Run(name, func(t *testing.T) {
			harness.EachWorld(t, func(w *harness.World) {
				body := strings.Repeat("x", 1000)
				w.Handle(func(rw http.ResponseWriter, r *http.Request) {
					for field := range r.Header {
						if field == "X-Injected" {
							t.Error("a field was injected")
						}
					}
					if r.Header.Get("If-None-Match") == "*" {
						t.Error("asked whether anything exists")
					}
					rw.Header().Set("Cache-Control", "max-age=0")
					rw.Header().Set("Accept-Ranges", "bytes")
					harness.Answer(rw, 200, body)
				})
				w.Transport.ModifyResponse = func(resp *http.Response) error {
					resp.Header["Etag"] = []string{tag}
					return nil
				}
				w.Transport.DrainBytes = -1
				for range 3 {
					if r := w.Get("/"); r.Code != 200 || r.Body != body {
						t.Errorf("got %d, %d bytes", r.Code, len(r.Body))
					}
				}
				// The same holds for a request that continues a body.
				for range 2 {
					resp, err := w.Client.Do(w.Request("GET", "/early"))
					if err != nil {
						t.Fatal(err)
					}
					if _, err := io.CopyN(io.Discard, resp.Body, 10); err != nil {
						t.Error(err)
					}
					resp.Body.Close()
				}
				w.Transport.ModifyResponse = nil
				w.Handle(harness.Always(200, "normal", "Cache-Control", "max-age=60"))
				w.WantGet("200 normal | fwd=uri-miss; fwd-status=200; stored", "/next")
			})
		})
	}
}

// heap returns how much memory is in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// With a cache of 8 MiB, no response of an origin takes more, on disk or in
// memory, and later requests work.
func TestNoOriginTakesMoreThanTheBound(t *testing.T) {
	const bound = 8 << 20
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	if _, err := io.CopyN(z, zeros{}, testtier.Pick[int64](20<<20, 50<<20)); err != nil {
		t.Fatal(err)
	}
	z.Close()
	fields := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "X-Field-%d, ", i)
		}
		return b.String()
	}
	for _, test := range []struct {
		name     string
		requests int
		handler  http.HandlerFunc
	}{
		{"a decompression bomb", 2, func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Encoding", "gzip")
			rw.Header().Set("Cache-Control", "max-age=60")
			rw.Write(bomb.Bytes())
		}},
		{"10,000 variants", 10_000, func(rw http.ResponseWriter, r *http.Request) {
			harness.Answer(rw, 200, strings.Repeat("x", 2000), "Cache-Control", "max-age=60", "Vary", "Prefer")
		}},
		{"1,000 variants of one tag", 1_000, func(rw http.ResponseWriter, r *http.Request) {
			harness.Tagged(`"1"`, strings.Repeat("x", 2000), "Cache-Control", "max-age=60", "Vary", "Prefer")(rw, r)
		}},
		{"200 variants of long tags", 200, func(rw http.ResponseWriter, r *http.Request) {
			harness.Tagged(`"`+strings.Repeat(r.Header.Get("Prefer"), 500)+`"`, "x", "Cache-Control", "max-age=60", "Vary", "Prefer")(rw, r)
		}},
		{"a Vary of 200 fields", 200, harness.Always(200, "x", "Cache-Control", "max-age=60", "Vary", fields(200)+"Prefer")},
		{"a Vary of 1,000 fields", 200, harness.Always(200, "x", "Cache-Control", "max-age=60", "Vary", fields(1000)+"Prefer")},
		{"a head of 900 KB", 50, harness.Always(200, "x", "Cache-Control", "max-age=60", "X-Large", strings.Repeat("x", 900<<10))},
		{"304s that add fields each time", 200, func(rw http.ResponseWriter, r *http.Request) {
			harness.Tagged(`"1"`, "x", "Cache-Control", "max-age=0", "X-More-"+r.Header.Get("Prefer"), strings.Repeat("x", 10_000))(rw, r)
		}},
		{"ranges one after the other", 500, func(rw http.ResponseWriter, r *http.Request) {
			harness.Tagged(`"1"`, strings.Repeat("x", 100_000), "Cache-Control", "max-age=60")(rw, r)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for name, keep := range map[string]func(*testing.T) (store.Store, string){
				"disk": func(t *testing.T) (store.Store, string) {
					dir := filepath.Join(t.TempDir(), "cache")
					return harness.OpenDisk(t, dir, store.DiskOptions{MaxBytes: bound, MemoryBytes: 1 << 20}), dir
				},
				"memory": func(t *testing.T) (store.Store, string) { return store.NewMemory(bound), "" },
			} {
				t.Run(name, func(t *testing.T) {
					w := harness.NewWorld(t, keep, harness.ServeLoopback)
					w.Transport.Logger = nil
					w.Handle(test.handler)
					requests := test.requests
					if !testtier.Long() {
						requests = min(requests, max(70, requests/20)) // more than there are variants
					}
					if name == "disk" { // as it takes longer
						requests = min(max(2, test.requests/20), testtier.Pick(200, 500))
					}
					for i := range requests {
						req := w.Request("GET", "/", "Prefer", fmt.Sprint(i))
						if strings.HasPrefix(test.name, "ranges") {
							req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", i*7%99_000, i*7%99_000+3))
						}
						resp, err := w.Client.Do(req)
						if err != nil {
							t.Fatal(err)
						}
						if _, err := io.Copy(io.Discard, resp.Body); err != nil {
							t.Fatal(err)
						}
						resp.Body.Close()
						if i%100 == 0 {
							w.Asked()
						}
					}
					if w.Dir != "" {
						if size := harness.SizeOf(t, w.Dir); size > bound+bound/10 {
							t.Errorf("%d bytes on disk, the bound is %d", size, bound)
						}
					}
					entries := 0
					for e, err := range w.Store.All(t.Context(), "") {
						if err != nil || e == nil {
							t.Fatal(err)
						}
						entries++
					}
					if entries > 64 {
						t.Errorf("%d variants are kept", entries)
					}
					w.Handle(harness.Always(200, "normal", "Cache-Control", "max-age=60"))
					w.WantGet("200 normal | fwd=uri-miss; fwd-status=200; stored", "/next")
					w.WantGet("200 normal | hit", "/next")
				})
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// A bomb takes no memory, either.
func TestDecompressionBombNeedsNoMemory(t *testing.T) {
	size := testtier.Pick(40<<20, 100<<20)
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	if _, err := io.CopyN(z, zeros{}, int64(size)); err != nil {
		t.Fatal(err)
	}
	z.Close()
	w := harness.NewWorld(t, harness.OnDisk, harness.ServeLoopback)
	w.Handle(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Encoding", "gzip")
		rw.Header().Set("Cache-Control", "max-age=60")
		rw.Write(bomb.Bytes())
	})
	before := heap()
	resp, err := w.Client.Get(w.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.CopyN(io.Discard, resp.Body, int64(size*7/10)); err != nil {
		t.Fatal(err)
	}
	if used := heap() - before; used > 16<<20 {
		t.Errorf("%d bytes more in use in the middle of the bomb", used)
	}
}

// otherOrigin is a second server behind the same cache.
func otherOrigin(w *harness.World, handler http.HandlerFunc) (url string) {
	url, base, _ := harness.ServeLoopback(w.T, handler)
	w.Cleanup(base.CloseIdleConnections)
	return url
}

// No origin invalidates, writes or reads the stored responses of another: not
// by Location, Content-Location or redirects.
func TestOriginsAreApart(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		victimAsked := 0
		victim := otherOrigin(w, func(rw http.ResponseWriter, r *http.Request) {
			victimAsked++
			harness.Tagged(`"v"`, "the victim's", "Cache-Control", "max-age=60")(rw, r)
		})
		victim = strings.Replace(victim, "127.0.0.1", "localhost", 1) // to net/http ports do not tell origins apart
		get := func(url, want string) {
			t.Helper()
			resp, err := w.Client.Get(url)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if got := fmt.Sprint(string(b), " ", cachetrip.StatusOf(resp).Hit); got != want {
				t.Errorf("GET %s: got %q, want %q", url, got, want)
			}
		}
		get(victim+"/a", "the victim's false")
		get(victim+"/a", "the victim's true")
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Cache-Control", "max-age=60")
			rw.Header().Set("Location", victim+"/a")
			rw.Header().Set("Content-Location", victim+"/a")
			rw.Header().Set("ETag", `"v"`)
			io.WriteString(rw, "the attacker's")
		})
		for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "GET", "HEAD"} {
			w.Do(w.Request(method, "/a"))
		}
		get(victim+"/a", "the victim's true")

		// The name of the victim, with the attacker's server.
		req := w.Request("GET", "/a")
		req.Host = strings.TrimPrefix(victim, "http://")
		w.Do(req)
		post := w.Request("POST", "/a")
		post.Host = req.Host
		w.Do(post)
		get(victim+"/a", "the victim's true")
		harness.Check(w, "requests to the victim", victimAsked, 1)

		// A stored redirect leads to the stored response of the victim, as it
		// does without a cache.
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Cache-Control", "max-age=60")
			http.Redirect(rw, r, victim+"/a", http.StatusMovedPermanently)
		})
		w.Asked()
		following := &http.Client{Transport: w.Transport}
		for range 2 {
			req := w.Request("GET", "/redirect", "Authorization", "Bearer token-for-the-attacker")
			resp, err := following.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.Request.Header.Get("Authorization") != "" {
				t.Error("the token was sent on")
			}
			harness.Check(w, "after the redirect", string(b), "the victim's")
		}
		// A circle of stored redirects ends as it does without a cache, because
		// a URL that comes again in one chain is validated.
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Cache-Control", "max-age=60")
			http.Redirect(rw, r, "/circle", http.StatusMovedPermanently)
		})
		if resp, err := following.Get(w.URL + "/circle"); err == nil || !strings.Contains(err.Error(), "stopped after 10 redirects") {
			t.Errorf("a circle ends with %v, %v", resp, err)
		}
		harness.Check(w, "requests for redirects", len(w.Asked()), 1+10)
		w.Handle(harness.Always(200, "normal", "Cache-Control", "max-age=60"))
		w.WantGet("200 normal | fwd=uri-miss; fwd-status=200; stored", "/next")
	})
}

// A later response with no-store removes the stored one, although that is used
// this once.
func TestNoStoreInALaterAnswer(t *testing.T) {
	later := map[string]http.HandlerFunc{
		"304": harness.Tagged(`"1"`, "content", "Cache-Control", "no-store"),
		"HEAD": func(rw http.ResponseWriter, r *http.Request) {
			if r.Method == "HEAD" {
				harness.Tagged(`"1"`, "content", "Cache-Control", "no-store")(rw, r)
				return
			}
			harness.Answer(rw, 200, "anew", "Cache-Control", "no-store")
		},
	}
	for name, handler := range later {
		t.Run(name, func(t *testing.T) {
			harness.EachWorld(t, func(w *harness.World) {
				// Its Expires would do, if it were looked at.
				w.Handle(harness.Tagged(`"1"`, "content", "Expires", "Fri, 31 Dec 9999 23:59:59 GMT"))
				w.Get("/")
				w.WantGet("200 content | hit", "/")
				w.Handle(handler)
				method := "GET"
				if name == "HEAD" {
					method = "HEAD"
				}
				w.Do(w.Request(method, "/", "Cache-Control", "no-cache"))
				for e, err := range w.Store.All(t.Context(), "") {
					t.Errorf("%v is stored, %v", e, err)
				}
				w.Handle(harness.Always(200, "anew", "Cache-Control", "no-store"))
				w.WantGet("200 anew | fwd=uri-miss; fwd-status=200; detail=no-store", "/")
			})
		})
	}
}

// Unsafe requests to one origin, and its responses, do not affect the stored
// responses of another. They can still be served without asking, also while
// their origin is down.
func TestUnsafeElsewhere(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		victim := otherOrigin(w, harness.Always(200, "the victim's", "Cache-Control", "max-age=60"))
		hit := func() bool {
			t.Helper()
			resp, err := w.Client.Get(victim)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			return cachetrip.StatusOf(resp).Hit
		}
		hit()
		harness.Check(w, "a hit before", hit(), true)
		base := w.Transport.Base
		w.Transport.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
			if req.Method != http.MethodPost {
				return base.RoundTrip(req)
			}
			return &http.Response{StatusCode: 200, Request: req, Header: http.Header{}, Body: http.NoBody}, nil
		})
		for i := range 5000 {
			resp, err := w.Transport.RoundTrip(w.Request("POST", fmt.Sprintf("/%d", i)))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
		harness.Check(w, "a hit after", hit(), true)
	})
}

// However many locations an answer names, invalidating ends at once.
func TestManyLocations(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Cache-Control", "max-age=60")
			if r.Method == http.MethodPost {
				for i := range 5000 {
					rw.Header().Add("Location", fmt.Sprintf("/%d", i))
				}
			}
			io.WriteString(rw, "body")
		})
		w.Get("/0")
		w.Get("/1")
		w.Do(w.Request("POST", "/"))
		w.WantGet("200 body | fwd=stale; fwd-status=200; stored; detail=invalidated", "/0")
		w.WantGet("200 body | hit", "/1")
	})
}

// An origin that does not answer revalidations in the background delays neither
// revalidations of other origins nor Close.
func TestRefreshesOfOneOrigin(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		hangs, waiting, cancelled := false, 0, 0
		var mu sync.Mutex
		w.Transport.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
			mu.Lock()
			hang := hangs && req.URL.Host == "slow.test"
			if hang {
				waiting++
			}
			mu.Unlock()
			if hang {
				<-req.Context().Done()
				mu.Lock()
				defer mu.Unlock()
				cancelled++
				return nil, req.Context().Err()
			}
			return &http.Response{StatusCode: 200, Request: req, ContentLength: 4, Body: io.NopCloser(strings.NewReader("body")), Header: http.Header{
				"Cache-Control": {"max-age=1, stale-while-revalidate=600"}, "Date": {time.Now().UTC().Format(http.TimeFormat)},
			}}, nil
		})
		get := func(url string) string {
			req, err := http.NewRequest("GET", url, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := w.Transport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			return cachetrip.StatusOf(resp).Detail
		}
		const n = 40
		for i := range n {
			get(fmt.Sprintf("http://slow.test/%d", i))
		}
		get("http://good.test/")
		time.Sleep(5 * time.Second)
		mu.Lock()
		hangs = true
		mu.Unlock()
		for i := range n {
			harness.Check(w, "a stale one", get(fmt.Sprintf("http://slow.test/%d", i)), "stale-while-revalidate")
		}
		harness.Check(w, "a stale one of another origin", get("http://good.test/"), "stale-while-revalidate")
		synctest.Wait()
		harness.Check(w, "requests that wait", waiting, 8)
		harness.Check(w, "the other origin's after that", get("http://good.test/"), "")
		start := time.Now()
		if err := w.Transport.Close(); err != nil {
			t.Error(err)
		}
		harness.Check(w, "what Close takes", time.Since(start), 3*time.Second)
		synctest.Wait()
		harness.Check(w, "requests that were cancelled", cancelled, 8)
	})
}

// Close waits for the content that the origin has begun to send.
func TestCloseWaitsForContent(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		w.Handle(harness.Always(200, "one", "Cache-Control", "max-age=1, stale-while-revalidate=600"))
		w.Get("/")
		time.Sleep(5 * time.Second)
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			time.Sleep(2 * time.Second)
			harness.Answer(rw, 200, "tw", "Cache-Control", "max-age=60", "Content-Length", "3")
			http.NewResponseController(rw).Flush()
			time.Sleep(3 * time.Second)
			io.WriteString(rw, "o")
		})
		w.WantGet("200 one | hit; detail=stale-while-revalidate", "/")
		start := time.Now()
		if err := w.Transport.Close(); err != nil {
			t.Error(err)
		}
		harness.Check(w, "what Close takes", time.Since(start), 5*time.Second)
		again := &cachetrip.Transport{Store: w.Store, Base: w.Transport.Base}
		resp, err := again.RoundTrip(w.Request("GET", "/"))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		harness.Check(w, "what is stored", fmt.Sprint(string(b), " ", cachetrip.StatusOf(resp).Hit), "two true")
	})
}
