package recipes_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/internal/harness"
)

// inEachWorld runs a test with a recipe. All hosts lead to the origin.
func inEachWorld(t *testing.T, recipe string, test func(w *harness.World)) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		if recipe != "" {
			use(w.Transport)[recipe]()
		}
		test(w)
	})
}

// get makes a request for any URL, and returns the body and how it was
// obtained: "hit", "304" or the status of the origin.
func get(w *harness.World, ctx context.Context, url string, fields ...string) string {
	w.Helper()
	req := w.Request("GET", "", fields...).WithContext(ctx)
	req.URL = parse(w, url)
	req.Host = req.URL.Host
	r := w.Do(req)
	how := fmt.Sprint(r.Status.FwdStatus)
	if r.Status.Hit {
		how = "hit"
	}
	return r.Body + " " + how
}

func parse(w *harness.World, text string) *url.URL {
	u, err := url.Parse(text)
	if err != nil {
		w.Fatal(err)
	}
	return u
}

// counts answers with the number of the request, and the fields.
func counts(w *harness.World, code int, fields ...string) http.HandlerFunc {
	n := 0
	return func(rw http.ResponseWriter, r *http.Request) {
		n++
		harness.Answer(rw, code, fmt.Sprint(n), fields...)
	}
}

func TestByPattern(t *testing.T) {
	for _, test := range []struct {
		url   string
		fresh time.Duration
	}{
		{"http://api.example.com/users/7", time.Hour},
		{"http://api.example.com/rates/eur-usd?day=1", time.Minute},
		{"http://api.example.com:80/rates/eur-usd", time.Minute},
		{"http://static.example.com/a/b/c.png", 30 * 24 * time.Hour},
		{"http://other.example.com/", 0},
	} {
		t.Run(test.url, func(t *testing.T) {
			inEachWorld(t, "byPattern", func(w *harness.World) {
				w.Handle(counts(w, 200, "Cache-Control", "no-store"))
				get(w, w.Context(), test.url)
				if test.fresh > 0 {
					time.Sleep(test.fresh - time.Second)
					harness.Check(w, "before the end", get(w, w.Context(), test.url), "1 hit")
				}
				time.Sleep(2 * time.Second)
				harness.Check(w, "after the end", get(w, w.Context(), test.url), "2 200")
			})
		})
	}
}

// TestRedirectByPattern follows a redirect to a host that has a pattern.
func TestRedirectByPattern(t *testing.T) {
	inEachWorld(t, "byPattern", func(w *harness.World) {
		w.Client.CheckRedirect = nil
		next := counts(w, 200)
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			if r.Host == "other.example.com" {
				http.Redirect(rw, r, "http://api.example.com/x", http.StatusFound)
				return
			}
			next(rw, r)
		})
		get(w, w.Context(), "http://other.example.com/")
		harness.Check(w, "again", get(w, w.Context(), "http://other.example.com/"), "1 hit")
	})
}

func TestArchives(t *testing.T) {
	inEachWorld(t, "archives", func(w *harness.World) {
		const archive = "http://dl.example.com/tool-1.2.tar.gz"
		w.Handle(counts(w, 404, "Cache-Control", "max-age=600"))
		get(w, w.Context(), archive)
		harness.Check(w, "not yet published", get(w, w.Context(), archive), "2 404")
		w.Handle(counts(w, 200, "Cache-Control", "no-store"))
		get(w, w.Context(), archive)
		time.Sleep(10 * 365 * 24 * time.Hour)
		harness.Check(w, "after ten years", get(w, w.Context(), archive), "1 hit")
		get(w, w.Context(), "http://dl.example.com/index.html")
		harness.Check(w, "the index", get(w, w.Context(), "http://dl.example.com/index.html"), "3 200")
	})
}

func TestSmall(t *testing.T) {
	for size, want := range map[int]string{5 << 20: "hit", 5<<20 + 1: "200"} {
		inEachWorld(t, "small", func(w *harness.World) {
			body := strings.Repeat("x", size)
			w.Handle(harness.Always(200, body, "Cache-Control", "max-age=60"))
			w.Get("/")
			harness.Check(w, fmt.Sprint(size), strings.TrimLeft(get(w, w.Context(), w.URL+"/"), "x"), " "+want)
		})
	}
}

func TestKeepMissing(t *testing.T) {
	for _, test := range []struct {
		name   string
		code   int
		fields []string
		want   [2]string // after 59 s, after 61 s
	}{
		{"nothing said", 404, nil, [2]string{"1 hit", "2 404"}},
		{"no-store", 404, []string{"Cache-Control", "no-store"}, [2]string{"2 404", "3 404"}},
		{"longer", 404, []string{"Cache-Control", "max-age=600"}, [2]string{"1 hit", "1 hit"}},
		{"a page", 200, nil, [2]string{"2 200", "3 200"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			inEachWorld(t, "keepMissing", func(w *harness.World) {
				w.Handle(counts(w, test.code, test.fields...))
				get(w, w.Context(), w.URL+"/")
				time.Sleep(59 * time.Second)
				harness.Check(w, "after 59 s", get(w, w.Context(), w.URL+"/"), test.want[0])
				time.Sleep(2 * time.Second)
				harness.Check(w, "after 61 s", get(w, w.Context(), w.URL+"/"), test.want[1])
			})
		})
	}
}

func TestCrawl(t *testing.T) {
	inEachWorld(t, "", func(w *harness.World) {
		w.Transport.Policy = crawl
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Cache-Control", "max-age=600, immutable")
			rw.Header().Set("ETag", `"1"`)
			http.ServeContent(rw, r, "", time.Time{}, strings.NewReader(r.URL.Path))
		})
		for _, path := range []string{"/page", "/robots.txt"} {
			get(w, w.Context(), w.URL+path)
		}
		time.Sleep(23 * time.Hour)
		harness.Check(w, "a page", get(w, w.Context(), w.URL+"/page"), "/page 304")
		harness.Check(w, "again", get(w, w.Context(), w.URL+"/page"), "/page 304")
		harness.Check(w, "the rules", get(w, w.Context(), w.URL+"/robots.txt"), "/robots.txt hit")
		time.Sleep(2 * time.Hour)
		harness.Check(w, "the rules of yesterday", get(w, w.Context(), w.URL+"/robots.txt"), "/robots.txt 304")
		time.Sleep(20 * 24 * time.Hour)
		w.Handle(harness.Always(503, "sorry"))
		harness.Check(w, "a page of a site that fails", get(w, w.Context(), w.URL+"/page"), "sorry 503")
		harness.Check(w, "its rules", get(w, w.Context(), w.URL+"/robots.txt"), "/robots.txt 503")
	})
}

func TestWithCache(t *testing.T) {
	inEachWorld(t, "", func(w *harness.World) {
		call := func(age time.Duration) string { return get(w, withCache(w.Context(), age), w.URL+"/") }
		w.Handle(counts(w, 200, "Cache-Control", "private, max-age=60, no-cache"))
		harness.Check(w, "first", call(time.Hour), "1 200")
		time.Sleep(59 * time.Minute)
		harness.Check(w, "within the hour", call(time.Hour), "1 hit")
		harness.Check(w, "without the flag", call(0), "2 200")
		harness.Check(w, "with a shorter time", call(time.Minute), "3 200")
		time.Sleep(2 * time.Hour)
		harness.Check(w, "after the hour", call(time.Hour), "4 200")
	})
}

func TestURLsExpireAfter(t *testing.T) {
	for _, test := range []struct {
		url   string
		fresh time.Duration
	}{
		{"http://www.site-1.example/x?y", 30 * time.Second},
		{"http://site-1.example/x", 6 * time.Minute}, // the star stands before a dot
		{"http://site-2.example/resource_1", 2 * time.Minute},
		{"http://site-2.example/resource_1/below", 2 * time.Minute},
		{"http://site-2.example/resource_2?page=1", time.Hour},
		{"http://site-2.example/static/logo.png", 60 * 365 * 24 * time.Hour},
		{"http://site-2.example/live", 0},
		{"http://site-3.example/", 6 * time.Minute},
	} {
		t.Run(test.url, func(t *testing.T) {
			inEachWorld(t, "urlsExpireAfter", func(w *harness.World) {
				w.Handle(counts(w, 200, "Cache-Control", "max-age=1"))
				get(w, w.Context(), test.url)
				if test.fresh == 0 {
					harness.Check(w, "at once", get(w, w.Context(), test.url), "2 200")
					return
				}
				time.Sleep(test.fresh - time.Second)
				harness.Check(w, "before the end", get(w, w.Context(), test.url), "1 hit")
				if test.fresh < 24*time.Hour {
					time.Sleep(2 * time.Second)
					harness.Check(w, "after the end", get(w, w.Context(), test.url), "2 200")
				}
			})
		})
	}
}

// TestEqualTokens replaces the token of a user. Other users, and requests of
// nobody, stay apart.
func TestEqualTokens(t *testing.T) {
	for _, vary := range [][]string{{"Authorization"}, {"accept, authorization, Cookie"}, {"Accept", "AUTHORIZATION"}} {
		t.Run(strings.Join(vary, "|"), func(t *testing.T) {
			inEachWorld(t, "equalTokens", func(w *harness.World) {
				n := 0
				w.Handle(func(rw http.ResponseWriter, r *http.Request) {
					rw.Header()["Vary"] = vary
					rw.Header().Set("Cache-Control", "private, max-age=60")
					rw.Header().Set("ETag", `"1"`)
					if r.Header.Get("If-None-Match") != "" {
						rw.WriteHeader(304)
						return
					}
					n++
					fmt.Fprintf(rw, "mail %d", n)
				})
				as := func(user, token string, fields ...string) string {
					ctx := context.WithValue(w.Context(), userKey{}, user)
					return get(w, ctx, w.URL+"/", append(fields, "Authorization", "Bearer "+token)...)
				}
				const of1, of2, of3 = "token-one-of-alice", "token-two-of-alice", "token-of-nobody"
				harness.Check(w, "first", as("alice", of1), "mail 1 200")
				harness.Check(w, "a new token", as("alice", of2), "mail 1 hit")
				time.Sleep(61 * time.Second)
				harness.Check(w, "confirmed", as("alice", of1), "mail 1 304")
				harness.Check(w, "a new token after a 304", as("alice", of2), "mail 1 hit")
				harness.Check(w, "another user", as("bob", of3), "mail 2 200")
				harness.Check(w, "another user with the same token", as("carol", of1), "mail 3 200")
				harness.Check(w, "nobody", as("", of3), "mail 4 200")
				harness.Check(w, "nobody with a new token", as("", of2), "mail 5 200")
				if len(vary) > 1 || vary[0] != "Authorization" {
					harness.Check(w, "another variant", as("alice", of2, "Accept", "text/x"), "mail 1 304")
				}
			})
		})
	}
}

// TestRotatedTokenAlone tests what happens without the recipe: the origin is
// asked about each new token.
func TestRotatedTokenAlone(t *testing.T) {
	inEachWorld(t, "equalTokens", func(w *harness.World) {
		w.Transport.ModifyResponse = nil
		w.Handle(harness.Always(200, "mail", "Vary", "Authorization", "Cache-Control", "max-age=60"))
		ctx := context.WithValue(w.Context(), userKey{}, "alice")
		get(w, ctx, w.URL+"/", "Authorization", "Bearer token-one")
		harness.Check(w, "a new token", get(w, ctx, w.URL+"/", "Authorization", "Bearer token-two"), "mail 200")
	})
}

func TestPresigned(t *testing.T) {
	inEachWorld(t, "presigned", func(w *harness.World) {
		w.Handle(counts(w, 200, "Cache-Control", "max-age=60"))
		object := func(version, credential, signature string) string {
			query := url.Values{"X-Amz-Signature": {signature}, "X-Amz-Date": {"20260101T000000Z"}}
			if credential != "" {
				query.Set("X-Amz-Credential", credential+"/20260101/eu-central-1/s3/aws4_request")
			}
			if version != "" {
				query.Set("versionId", version)
			}
			return get(w, w.Context(), "http://bucket.example.com/a.bin?"+query.Encode())
		}
		harness.Check(w, "first", object("", "AKIAONE", "signature-one"), "1 200")
		harness.Check(w, "another signature", object("", "AKIAONE", "signature-two"), "1 hit")
		harness.Check(w, "another key", object("", "AKIATWO", "signature-three"), "2 200")
		harness.Check(w, "no key", object("", "", "signature-four"), "3 200")
		harness.Check(w, "another version", object("2", "AKIAONE", "signature-five"), "4 200")
	})
}

// TestBlobs has a registry that redirects to a signed URL, which differs each
// time. A caller that the registry did not redirect gets no response that was
// stored for another caller.
func TestBlobs(t *testing.T) {
	for control, again := range map[string]string{"max-age=600": "hit", "no-cache": "304"} {
		t.Run(control, func(t *testing.T) {
			inEachWorld(t, "blobs", func(w *harness.World) {
				w.Client.CheckRedirect = nil
				blob := "/v2/team/app/blobs/sha256:" + strings.Repeat("7", 64)
				signed := 0
				w.Handle(func(rw http.ResponseWriter, r *http.Request) {
					switch {
					case r.Host == "storage.test":
						rw.Header().Set("ETag", `"1"`)
						rw.Header().Set("Cache-Control", control)
						http.ServeContent(rw, r, "", time.Time{}, strings.NewReader("layer"))
					case r.Header.Get("Authorization") != "Bearer one-who-may":
						rw.WriteHeader(401)
					default:
						signed++
						http.Redirect(rw, r, fmt.Sprintf("http://storage.test/data?sig=signature-%d", signed), http.StatusTemporaryRedirect)
					}
				})
				pull := func(fields ...string) string { return get(w, w.Context(), w.URL+blob, fields...) }
				harness.Check(w, "first", pull("Authorization", "Bearer one-who-may"), "layer 200")
				for range 3 {
					harness.Check(w, "again", pull("Authorization", "Bearer one-who-may"), "layer "+again)
				}
				harness.Check(w, "without a token", pull(), " 401")
				harness.Check(w, "with another token", pull("Authorization", "Bearer one-who-may-not"), " 401")
				harness.Check(w, "at the storage", get(w, w.Context(), "http://storage.test/data"), "layer 200")
				harness.Check(w, "purge", w.Transport.Purge(w.Context(), w.URL+blob), nil)
				harness.Check(w, "after a purge", pull("Authorization", "Bearer one-who-may"), "layer 200")
			})
		})
	}
}

func TestTracking(t *testing.T) {
	inEachWorld(t, "tracking", func(w *harness.World) {
		w.Handle(counts(w, 200, "Cache-Control", "max-age=60"))
		harness.Check(w, "first", get(w, w.Context(), w.URL+"/post?id=7&utm_source=feed&utm_medium=rss"), "1 200")
		harness.Check(w, "another campaign", get(w, w.Context(), w.URL+"/post?id=7&utm_source=mail&fbclid=3"), "1 hit")
		harness.Check(w, "no campaign", get(w, w.Context(), w.URL+"/post?id=7"), "1 hit")
		harness.Check(w, "another post", get(w, w.Context(), w.URL+"/post?id=8&utm_source=feed"), "2 200")
		w.WantAsked(nil, "GET /post?id=7&utm_source=feed&utm_medium=rss", "GET /post?id=8&utm_source=feed")
	})
}

// TestBrokenBlob leaves a blob half-way. The next pull resumes it with another
// signature.
func TestBrokenBlob(t *testing.T) {
	inEachWorld(t, "blobs", func(w *harness.World) {
		w.Client.CheckRedirect = nil
		w.Transport.DrainBytes = -1
		layer := strings.Repeat("layer ", 200_000)
		signed := 0
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			if r.Host == "storage.test" {
				rw.Header().Set("ETag", `"1"`)
				rw.Header().Set("Accept-Ranges", "bytes")
				http.ServeContent(rw, r, "", time.Time{}, strings.NewReader(layer))
				return
			}
			signed++
			http.Redirect(rw, r, fmt.Sprintf("http://storage.test/data?sig=signature-%d", signed), http.StatusTemporaryRedirect)
		})
		blob := "/v2/team/app/blobs/sha256:" + strings.Repeat("7", 64)
		resp, err := w.Client.Do(w.Request("GET", blob))
		if err != nil {
			w.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, resp.Body, 600_000); err != nil {
			w.Fatal(err)
		}
		resp.Body.Close()
		r := w.Get(blob)
		harness.Check(w, "the blob is whole", r.Body == layer, true)
		harness.Check(w, "how", r.Status.FwdStatus, 206)
	})
}

func TestReads(t *testing.T) {
	const graphQL, search = "/graphql", "/items/_search"
	for _, test := range []struct {
		name, path, content string
		again               string // how the same request is answered
	}{
		{"a query", graphQL, `{"query":"query { answer }","variables":{"id":7}}`, "1 hit"},
		{"a query in short", graphQL, `{"query":"{ answer }"}`, "1 hit"},
		{"a search", search, `{"size":10}`, "1 hit"},
		{"a mutation", graphQL, `{"query":"mutation { forget }"}`, "2 200"},
		{"a mutation behind a query", graphQL, `{"query":"query A { answer } mutation B { forget }","operationName":"B"}`, "2 200"},
		{"a mutation that is escaped", graphQL, `{"query":"\u006dutation { forget }"}`, "2 200"},
		{"a subscription", graphQL, `{"query":"subscription { answers }"}`, "2 200"},
		{"several at once", graphQL, `[{"query":"{ answer }"}]`, "2 200"},
		{"a persisted query", graphQL, `{"extensions":{"persistedQuery":{"version":1}}}`, "2 200"},
		{"no JSON", graphQL, `query`, "2 200"},
		{"another POST", "/items", `{"query":"{ answer }"}`, "2 200"},
	} {
		t.Run(test.name, func(t *testing.T) {
			inEachWorld(t, "", func(w *harness.World) {
				w.Transport.Policy = reads
				n := 0
				w.Handle(func(rw http.ResponseWriter, r *http.Request) {
					if got, err := io.ReadAll(r.Body); err != nil || string(got) != test.content {
						w.Errorf("the origin got %q, %v", got, err)
					}
					n++
					fmt.Fprint(rw, n)
				})
				post := func() string {
					req, err := http.NewRequest("POST", w.URL+test.path, strings.NewReader(test.content))
					if err != nil {
						w.Fatal(err)
					}
					r := w.Do(req)
					if r.Status.Hit {
						return r.Body + " hit"
					}
					return fmt.Sprint(r.Body, " ", r.Status.FwdStatus)
				}
				post()
				harness.Check(w, "again", post(), test.again)
				time.Sleep(61 * time.Second)
				harness.Check(w, "after a minute", strings.HasSuffix(post(), "200"), true)
			})
		})
	}
}

// TestMutation tests that a mutation makes the queries of its URL be asked
// again, and no others.
func TestMutation(t *testing.T) {
	inEachWorld(t, "", func(w *harness.World) {
		w.Transport.Policy = reads
		w.Handle(harness.Always(200, "data"))
		post := func(path, content string) bool {
			req, err := http.NewRequest("POST", w.URL+path, strings.NewReader(content))
			if err != nil {
				w.Fatal(err)
			}
			return w.Do(req).Status.Hit
		}
		queries := []string{`{"query":"{ a }"}`, `{"query":"{ b }"}`}
		for _, hit := range []bool{false, true} {
			for _, q := range queries {
				harness.Check(w, q, post("/graphql", q), hit)
			}
			harness.Check(w, "a search", post("/items/_search", "{}"), hit)
		}
		harness.Check(w, "a mutation", post("/graphql", `{"query":"mutation { c }"}`), false)
		for _, q := range queries {
			harness.Check(w, q, post("/graphql", q), false)
		}
		harness.Check(w, "a search", post("/items/_search", "{}"), true)
	})
}
