package contract_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
)

// Policies: what a program wants for a request, beyond what its header says.

// under returns req with a Policy of its own.
func under(req *http.Request, p cachetrip.Policy) *http.Request {
	return req.WithContext(cachetrip.WithPolicy(req.Context(), p))
}

func TestModes(t *testing.T) {
	const (
		hit       = "200 one | hit"
		confirmed = "200 one | fwd=%s; fwd-status=304; stored"
	)
	type want map[cachetrip.Mode]string
	for _, test := range []struct {
		name    string
		control string // Cache-Control of the stored response; "-" if nothing is stored
		after   time.Duration
		prepare func(w *harness.World)
		fields  []string // of the request
		want    want
		asked   map[cachetrip.Mode]string // the request that the origin gets, if any
	}{
		{"nothing stored", "-", 0, nil, nil, want{
			cachetrip.ModeDefault:      "200 two | fwd=uri-miss; fwd-status=200; stored",
			cachetrip.ModeNoStore:      "200 two | fwd=bypass; fwd-status=200; detail=mode-no-store",
			cachetrip.ModeReload:       "200 two | fwd=uri-miss; fwd-status=200; stored",
			cachetrip.ModeNoCache:      "200 two | fwd=uri-miss; fwd-status=200; stored",
			cachetrip.ModeForceCache:   "200 two | fwd=uri-miss; fwd-status=200; stored",
			cachetrip.ModeOnlyIfCached: "504",
		}, map[cachetrip.Mode]string{
			cachetrip.ModeDefault:    "GET /",
			cachetrip.ModeNoStore:    "GET / Cache-Control: no-cache",
			cachetrip.ModeReload:     "GET / Cache-Control: no-cache",
			cachetrip.ModeNoCache:    "GET / Cache-Control: max-age=0",
			cachetrip.ModeForceCache: "GET /",
		}},
		{"fresh", "max-age=60", 0, nil, nil, want{
			cachetrip.ModeDefault:      hit,
			cachetrip.ModeNoStore:      "200 two | fwd=bypass; fwd-status=200; detail=mode-no-store",
			cachetrip.ModeReload:       "200 two | fwd=request; fwd-status=200; stored; detail=mode-reload",
			cachetrip.ModeNoCache:      "200 one | fwd=request; fwd-status=304; stored; detail=mode-no-cache",
			cachetrip.ModeForceCache:   hit,
			cachetrip.ModeOnlyIfCached: hit,
		}, map[cachetrip.Mode]string{
			cachetrip.ModeNoStore: "GET / Cache-Control: no-cache",
			cachetrip.ModeReload:  "GET / Cache-Control: no-cache",
			cachetrip.ModeNoCache: `GET / Cache-Control: max-age=0 If-None-Match: "1"`,
		}},
		{"immutable", "max-age=60, immutable", 0, nil, nil, want{
			cachetrip.ModeNoCache: "200 one | fwd=request; fwd-status=304; stored; detail=mode-no-cache",
			cachetrip.ModeReload:  "200 two | fwd=request; fwd-status=200; stored; detail=mode-reload",
		}, map[cachetrip.Mode]string{
			cachetrip.ModeReload:  "GET / Cache-Control: no-cache",
			cachetrip.ModeNoCache: `GET / Cache-Control: max-age=0 If-None-Match: "1"`,
		}},
		{"stale", "max-age=60", time.Hour, nil, nil, want{
			cachetrip.ModeDefault:      "200 one | fwd=stale; fwd-status=304; stored",
			cachetrip.ModeReload:       "200 two | fwd=stale; fwd-status=200; stored; detail=mode-reload",
			cachetrip.ModeNoCache:      "200 one | fwd=stale; fwd-status=304; stored; detail=mode-no-cache",
			cachetrip.ModeForceCache:   "200 one | hit; detail=mode-force-cache",
			cachetrip.ModeOnlyIfCached: "200 one | hit; detail=mode-only-if-cached",
		}, nil},
		{"must-revalidate", "max-age=60, must-revalidate", time.Hour, nil, nil, want{
			cachetrip.ModeDefault:    "200 one | fwd=stale; fwd-status=304; stored; detail=must-revalidate",
			cachetrip.ModeForceCache: "200 one | hit; detail=mode-force-cache",
		}, nil},
		{"no-cache", "no-cache", 0, nil, nil, want{
			cachetrip.ModeDefault:      "200 one | fwd=stale; fwd-status=304; stored; detail=no-cache",
			cachetrip.ModeForceCache:   "200 one | hit; detail=mode-force-cache",
			cachetrip.ModeOnlyIfCached: "200 one | hit; detail=mode-only-if-cached",
		}, nil},
		{"invalidated", "max-age=60", 0, func(w *harness.World) {
			if err := w.Transport.Invalidate(w.Context(), w.URL+"/"); err != nil {
				w.Error(err)
			}
		}, nil, want{
			cachetrip.ModeForceCache:   "200 one | fwd=stale; fwd-status=304; stored; detail=invalidated",
			cachetrip.ModeOnlyIfCached: "504",
		}, nil},
		{"another variant", "max-age=60", 0, nil, []string{"Accept", "text/x"}, want{
			cachetrip.ModeReload:       "200 two | fwd=vary-miss; fwd-status=200; stored",
			cachetrip.ModeForceCache:   "200 one | fwd=vary-miss; fwd-status=304; stored",
			cachetrip.ModeOnlyIfCached: "504",
		}, nil},
		{"the header of the request counts", "max-age=60", 0, nil, []string{"Cache-Control", "no-cache"}, want{
			cachetrip.ModeForceCache:   "200 one | fwd=request; fwd-status=304; stored; detail=no-cache",
			cachetrip.ModeOnlyIfCached: "504",
			cachetrip.ModeReload:       "200 two | fwd=request; fwd-status=200; stored; detail=mode-reload",
		}, map[cachetrip.Mode]string{
			cachetrip.ModeForceCache: `GET / Cache-Control: no-cache If-None-Match: "1"`,
			cachetrip.ModeReload:     "GET / Cache-Control: no-cache",
		}},
	} {
		for mode, want := range test.want {
			t.Run(fmt.Sprint(test.name, " ", mode), func(t *testing.T) {
				harness.EachWorldInBubble(t, func(w *harness.World) {
					answer := func(body string) {
						w.Handle(func(rw http.ResponseWriter, r *http.Request) {
							rw.Header().Set("Cache-Control", strings.Replace(test.control, "-", "max-age=60", 1))
							if test.control != "-" {
								rw.Header().Set("Cache-Control", test.control)
							}
							rw.Header().Set("ETag", `"1"`)
							rw.Header().Set("Vary", "Accept")
							if r.Header.Get("If-None-Match") == `"1"` {
								rw.WriteHeader(304)
								return
							}
							io.WriteString(rw, body)
						})
					}
					if answer("one"); test.control != "-" {
						w.Get("/")
					}
					time.Sleep(test.after)
					if test.prepare != nil {
						test.prepare(w)
					}
					w.Asked()
					answer("two")
					r := w.Do(under(w.Request("GET", "/", test.fields...), cachetrip.Policy{Mode: mode}))
					got := r.String()
					if r.Code == 504 {
						got = "504"
					}
					harness.Check(w, "the response", got, want)
					if asked, ok := test.asked[mode]; ok {
						w.WantAsked([]string{"Cache-Control", "Pragma", "If-None-Match"}, asked)
					} else if test.asked != nil {
						w.WantAsked(nil)
					}
				})
			})
		}
	}
}

func TestTTL(t *testing.T) {
	const stored, hit = "200 one | fwd=uri-miss; fwd-status=200; stored", "200 one | hit; detail=policy-ttl"
	hour := cachetrip.Policy{TTL: time.Hour}
	for _, test := range []struct {
		name        string
		code        int
		fields      []string // of the response
		policy      cachetrip.Policy
		first       string
		after       time.Duration
		next        string
		withoutNext string // for a request without the policy, after next; "": not tested
	}{
		{"nothing said", 200, nil, hour, stored, 59 * time.Minute, hit, ""},
		{"no-store", 200, []string{"Cache-Control", "no-store"}, hour, stored, 59 * time.Minute, hit,
			"200 two | fwd=stale; fwd-status=200; detail=no-store"},
		{"private and no-cache", 200, []string{"Cache-Control", "private, no-cache"}, hour, stored, 59 * time.Minute, hit, ""},
		{"no longer", 200, []string{"Cache-Control", "max-age=7200", "ETag", `"1"`}, hour, stored, 61 * time.Minute,
			"200 two | fwd=stale; fwd-status=200; stored", ""},
		{"in place of a lifetime of the origin", 200, []string{"Cache-Control", "max-age=7200", "ETag", `"1"`},
			cachetrip.Policy{TTL: time.Minute}, stored, 2 * time.Minute, "200 two | fwd=stale; fwd-status=200; stored", "200 two | hit"},
		{"however old it came", 200, []string{"Age", "1000000", "Cache-Control", "max-age=1"}, hour, stored, 59 * time.Minute, hit, ""},
		{"not found", 404, nil, hour, "404 one | fwd=uri-miss; fwd-status=404; stored", 59 * time.Minute, "404 one | hit; detail=policy-ttl", ""},
		{"an error", 503, nil, hour, "503 one | fwd=uri-miss; fwd-status=503; detail=status", 0, "503 two | fwd=uri-miss; fwd-status=503; detail=status", ""},
		{"an error that may be stored", 503, []string{"Cache-Control", "max-age=60"}, hour, "503 one | fwd=uri-miss; fwd-status=503; stored", 61 * time.Second,
			"503 two | fwd=stale; fwd-status=503; stored", ""},
		{"no access", 403, nil, hour, "403 one | fwd=uri-miss; fwd-status=403; detail=status", 0, "403 two | fwd=uri-miss; fwd-status=403; detail=status", ""},
		{"too many requests", 429, []string{"Cache-Control", "max-age=60"}, hour, "429 one | fwd=uri-miss; fwd-status=429; detail=status", 0,
			"429 two | fwd=uri-miss; fwd-status=429; detail=status", ""},
		{"Vary: *", 200, []string{"Vary", "*"}, hour, "200 one | fwd=uri-miss; fwd-status=200; detail=no-freshness-or-validator", 0,
			"200 two | fwd=uri-miss; fwd-status=200; detail=no-freshness-or-validator", ""},
		{"never fresh", 200, []string{"Cache-Control", "max-age=60, stale-while-revalidate=60", "ETag", `"1"`}, cachetrip.Policy{TTL: -1}, stored, 0,
			"200 two | fwd=stale; fwd-status=200; stored; detail=policy-ttl", "200 two | hit"},
		{"longer than any lifetime", 200, nil, cachetrip.Policy{TTL: 1<<63 - 1}, stored, 20 * 365 * 24 * time.Hour, hit, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachWorldInBubble(t, func(w *harness.World) {
				get := func(want string, p cachetrip.Policy) {
					w.Helper()
					w.WantDo(want, under(w.Request("GET", "/"), p))
				}
				w.Handle(harness.Always(test.code, "one", test.fields...))
				get(test.first, test.policy)
				time.Sleep(test.after)
				w.Handle(harness.Always(test.code, "two", test.fields...))
				get(test.next, test.policy)
				if test.withoutNext != "" {
					get(test.withoutNext, cachetrip.Policy{})
				}
			})
		})
	}
}

func TestTTLIsRenewedByA304(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		w.Transport.Policy = func(*http.Request) cachetrip.Policy { return cachetrip.Policy{TTL: time.Hour} }
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Cache-Control", "no-store")
			rw.Header().Set("ETag", `"1"`)
			if r.Header.Get("If-None-Match") != "" {
				rw.WriteHeader(304)
				return
			}
			io.WriteString(rw, "one")
		})
		w.Get("/")
		time.Sleep(61 * time.Minute)
		w.WantGet("200 one | fwd=stale; fwd-status=304; stored; detail=no-store", "/")
		time.Sleep(59 * time.Minute)
		w.WantGet("200 one | hit; detail=policy-ttl", "/")
	})
}

// TestTTLDoesNotOutrank tests what a lifetime of the policy leaves as it is.
func TestTTLDoesNotOutrank(t *testing.T) {
	hour := cachetrip.Policy{TTL: time.Hour, Mode: cachetrip.ModeForceCache}
	answer := func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Cache-Control", "max-age=60")
		_, user, _ := strings.Cut(r.Header.Get("Authorization"), "of-")
		fmt.Fprintf(rw, "for %s", user)
	}
	t.Run("whose a response is", func(t *testing.T) {
		harness.EachWorld(t, func(w *harness.World) {
			w.Transport.Policy = func(*http.Request) cachetrip.Policy { return hour }
			w.Handle(answer)
			w.Get("/", "Authorization", "Bearer token-of-one")
			r := w.Get("/", "Authorization", "Bearer token-of-two")
			harness.Check(w, "the body", r.Body, "for two")
		})
	})
	t.Run("credentials that Base adds", func(t *testing.T) {
		harness.EachWorld(t, func(w *harness.World) {
			base, token := w.Transport.Base, "Bearer token-of-one"
			w.Transport.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
				req = req.Clone(req.Context())
				req.Header.Set("Authorization", token)
				return base.RoundTrip(req)
			})
			w.Transport.Policy = func(*http.Request) cachetrip.Policy { return hour }
			w.Handle(answer)
			w.Get("/")
			token = "Bearer token-of-two"
			harness.Check(w, "the body", w.Get("/").Body, "for two")
		})
	})
	t.Run("an unsafe request", func(t *testing.T) {
		harness.EachWorld(t, func(w *harness.World) {
			w.Transport.Policy = func(*http.Request) cachetrip.Policy { return hour }
			w.Handle(harness.Always(200, "one"))
			w.Get("/")
			w.Do(w.Request("POST", "/"))
			w.Handle(harness.Always(200, "two"))
			harness.Check(w, "the body", w.Get("/").Body, "two")
		})
	})
	t.Run("the directives of the request", func(t *testing.T) {
		harness.EachWorld(t, func(w *harness.World) {
			w.Transport.Policy = func(*http.Request) cachetrip.Policy { return hour }
			w.Handle(harness.Always(200, "one"))
			w.Get("/")
			w.Handle(harness.Always(200, "two"))
			harness.Check(w, "the body", w.Get("/", "Cache-Control", "no-cache").Body, "two")
			w.Handle(harness.Always(200, "three"))
			harness.Check(w, "the body", w.Get("/", "Cache-Control", "no-store").Body, "three")
			harness.Check(w, "the body", w.Get("/").Body, "two")
		})
	})
}

func TestPolicyStaleIfError(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		w.Transport.StaleIfError = time.Minute
		w.Handle(harness.Always(200, "one", "Cache-Control", "max-age=1"))
		w.Get("/")
		time.Sleep(time.Hour)
		w.Handle(harness.Always(503, "bad"))
		w.WantGet("503 bad | fwd=stale; fwd-status=503; detail=status", "/")
		w.WantDo("200 one | fwd=stale; fwd-status=503; detail=stale-if-error", under(w.Request("GET", "/"), cachetrip.Policy{StaleIfError: 2 * time.Hour}))
		for _, mode := range []cachetrip.Mode{cachetrip.ModeNoCache, cachetrip.ModeReload} {
			r := w.Do(under(w.Request("GET", "/"), cachetrip.Policy{StaleIfError: 2 * time.Hour, Mode: mode}))
			harness.Check(w, mode.String(), r.Code, 503)
		}
	})
}

func TestMaxBodyBytes(t *testing.T) {
	for _, test := range []struct {
		size    int
		chunked bool
		stored  bool
	}{
		{1000, false, true}, {1001, false, false}, {1000, true, true}, {1001, true, false}, {5 << 20, true, false}, {0, false, true},
	} {
		t.Run(fmt.Sprint(test.size, test.chunked), func(t *testing.T) {
			harness.EachWorld(t, func(w *harness.World) {
				w.Transport.Policy = func(*http.Request) cachetrip.Policy { return cachetrip.Policy{MaxBodyBytes: 1000} }
				body := strings.Repeat("x", test.size)
				w.Handle(func(rw http.ResponseWriter, r *http.Request) {
					rw.Header().Set("Cache-Control", "max-age=60")
					if test.chunked {
						rw.(http.Flusher).Flush()
					}
					io.WriteString(rw, body)
				})
				for range 2 {
					if r := w.Get("/"); r.Body != body {
						w.Errorf("%d bytes, want %d", len(r.Body), test.size)
					}
				}
				want := 2
				if test.stored {
					want = 1
				}
				harness.Check(w, "requests to the origin", w.Count(), want)
			})
		})
	}
}

// TestPolicyURL tests that all that is stored is under the URL of the policy,
// while the origin gets the URL of the request.
func TestPolicyURL(t *testing.T) {
	signed := func(req *http.Request) cachetrip.Policy {
		return cachetrip.Policy{URL: cachetrip.WithoutQuery(req.URL, "sig", "utm_*")}
	}
	start := func(w *harness.World) {
		w.Transport.Policy = signed
		w.Handle(harness.Always(200, "one", "Cache-Control", "max-age=60", "ETag", `"1"`))
		w.WantGet("200 one | fwd=uri-miss; fwd-status=200; stored", "/a?sig=1&x=2")
		w.Handle(harness.Always(200, "two", "Cache-Control", "max-age=60", "ETag", `"2"`))
	}
	for name, test := range map[string]func(w *harness.World){
		"hit": func(w *harness.World) {
			w.WantGet("200 one | hit", "/a?sig=2&x=2&utm_source=mail")
			w.WantGet("200 one | hit", "/a?x=2")
			w.WantGet("200 two | fwd=uri-miss; fwd-status=200; stored", "/a?x=3&sig=1")
			w.WantAsked(nil, "GET /a?sig=1&x=2", "GET /a?x=3&sig=1")
		},
		"listed": func(w *harness.World) {
			for e, err := range w.Transport.Entries(w.Context(), "") {
				if err != nil || e.URL != w.URL+"/a?x=2" {
					w.Errorf("%v, %v", e, err)
				}
			}
		},
		"purge under the policy's URL": func(w *harness.World) {
			harness.Check(w, "error", w.Transport.Purge(w.Context(), w.URL+"/a?x=2"), nil)
			w.WantGet("200 two | fwd=uri-miss; fwd-status=200; stored", "/a?sig=3&x=2")
		},
		"purge under another spelling": func(w *harness.World) {
			harness.Check(w, "error", w.Transport.Purge(w.Context(), w.URL+"/a?x=2&sig=9"), nil)
			w.WantGet("200 two | fwd=uri-miss; fwd-status=200; stored", "/a?sig=3&x=2")
		},
		"invalidated by an unsafe request": func(w *harness.World) {
			w.Do(w.Request("DELETE", "/a?sig=5&x=2"))
			w.WantGet("200 two | fwd=stale; fwd-status=200; stored; detail=invalidated", "/a?sig=3&x=2")
		},
		"invalidated by a Location": func(w *harness.World) {
			w.Handle(harness.Always(200, "two", "Location", "/a?sig=7&x=2"))
			w.Do(w.Request("POST", "/b"))
			w.Handle(harness.Always(200, "two", "Cache-Control", "max-age=60"))
			w.WantGet("200 two | fwd=stale; fwd-status=200; stored; detail=invalidated", "/a?sig=3&x=2")
		},
		"explained": func(w *harness.World) {
			e, err := w.Transport.Explain(w.Request("GET", "/a?sig=8&x=2"))
			harness.Check(w, "error", err, nil)
			harness.Check(w, "action", e.Action, "serve")
			if text := e.String(); !strings.Contains(text, w.URL+"/a?x=") {
				w.Errorf("it does not name the URL of the policy:\n%s", text)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			harness.EachWorld(t, func(w *harness.World) {
				start(w)
				test(w)
			})
		})
	}
}

// TestPolicyURLNeverMixes maps two URLs with different content to one. A
// response that the origin can tell apart by a strong ETag, or that is joined
// from parts, is never a mixture.
func TestPolicyURLNeverMixes(t *testing.T) {
	bodies := map[string]string{"/a": strings.Repeat("a", 1<<20), "/b": strings.Repeat("b", 1<<20)}
	modified := time.Now().Add(-24 * time.Hour)
	for _, validator := range []string{"ETag", "Last-Modified"} {
		t.Run(validator, func(t *testing.T) {
			harness.EachWorld(t, func(w *harness.World) {
				one := &url.URL{Scheme: "http", Host: "one.test", Path: "/"}
				w.Transport.Policy = func(*http.Request) cachetrip.Policy { return cachetrip.Policy{URL: one} }
				w.Transport.DrainBytes = -1
				w.Handle(func(rw http.ResponseWriter, r *http.Request) {
					if rw.Header().Set("Accept-Ranges", "bytes"); validator == "ETag" {
						rw.Header().Set("ETag", fmt.Sprintf("%q", r.URL.Path))
						http.ServeContent(rw, r, "", time.Time{}, strings.NewReader(bodies[r.URL.Path]))
						return
					}
					http.ServeContent(rw, r, "", modified, strings.NewReader(bodies[r.URL.Path]))
				})
				resp, err := w.Client.Do(w.Request("GET", "/a"))
				if err != nil {
					w.Fatal(err)
				}
				io.CopyN(io.Discard, resp.Body, 300<<10)
				resp.Body.Close() // the beginning of a is stored
				if r := w.Get("/b"); r.Body != bodies["/b"] {
					w.Errorf("%d bytes that are not those of b", len(r.Body))
				}
			})
		})
	}
}

// TestBadPolicy tests that what no Policy can mean is ignored, and logged once.
func TestBadPolicy(t *testing.T) {
	for name, policy := range map[string]func(*http.Request) cachetrip.Policy{
		"panics":         func(*http.Request) cachetrip.Policy { panic("no idea") },
		"mode":           func(*http.Request) cachetrip.Policy { return cachetrip.Policy{Mode: 17, TTL: -1} },
		"negative mode":  func(*http.Request) cachetrip.Policy { return cachetrip.Policy{Mode: -1, TTL: -1} },
		"size":           func(*http.Request) cachetrip.Policy { return cachetrip.Policy{MaxBodyBytes: -1, TTL: -1} },
		"stale if error": func(*http.Request) cachetrip.Policy { return cachetrip.Policy{StaleIfError: -1, TTL: -1} },
		"no host": func(*http.Request) cachetrip.Policy {
			return cachetrip.Policy{URL: &url.URL{Scheme: "https", Path: "/"}, TTL: -1}
		},
		"another scheme": func(*http.Request) cachetrip.Policy {
			return cachetrip.Policy{URL: &url.URL{Scheme: "ftp", Host: "a.test"}, TTL: -1}
		},
	} {
		t.Run(name, func(t *testing.T) {
			harness.EachWorld(t, func(w *harness.World) {
				w.Transport.Policy = policy
				w.Handle(harness.Always(200, "one", "Cache-Control", "max-age=60"))
				w.Get("/")
				w.WantGet("200 one | hit", "/")
				harness.Check(w, "the post", w.Do(w.Request("POST", "/")).Code, 200)
				harness.Check(w, "warnings", strings.Count(w.Logged.String(), "level=WARN"), 1)
			})
		})
	}
}

func TestWithPolicy(t *testing.T) {
	u, err := url.Parse("https://example.com/")
	if err != nil {
		t.Fatal(err)
	}
	harness.EachWorldInBubble(t, func(w *harness.World) {
		w.Transport.Policy = func(*http.Request) cachetrip.Policy {
			return cachetrip.Policy{TTL: time.Minute, Mode: cachetrip.ModeNoCache, URL: u}
		}
		w.Handle(harness.Always(200, "one"))
		ctx := cachetrip.WithPolicy(w.Context(), cachetrip.Policy{TTL: 2 * time.Hour, Mode: cachetrip.ModeReload})
		ctx = cachetrip.WithPolicy(ctx, cachetrip.Policy{TTL: time.Hour})
		ctx = cachetrip.WithCacheControl(ctx, "x-test")
		w.WantDo("200 one | fwd=uri-miss; fwd-status=200; stored", w.Request("GET", "/").WithContext(ctx))
		w.WantAsked([]string{"Cache-Control"}, "GET / Cache-Control: x-test")
		time.Sleep(30 * time.Minute)
		force := cachetrip.WithPolicy(context.Background(), cachetrip.Policy{Mode: cachetrip.ModeForceCache})
		w.WantDo("200 one | hit; detail=mode-force-cache", w.Request("GET", "/other").WithContext(force))
		hour := cachetrip.WithPolicy(force, cachetrip.Policy{TTL: time.Hour})
		w.WantDo("200 one | hit; detail=policy-ttl", w.Request("GET", "/other").WithContext(hour))
		if text := w.Logged.String(); !strings.Contains(text, "mode=force-cache") {
			w.Errorf("the policy is not in the log:\n%s", text)
		}
	})
}

func TestWithoutQuery(t *testing.T) {
	for _, test := range []struct {
		url   string
		names []string
		want  string
	}{
		{"https://a.test/x", []string{"*"}, "https://a.test/x"},
		{"https://a.test/x?b=1&a=2&b=3", []string{"b"}, "https://a.test/x?a=2"},
		{"https://a.test/x?utm_source=1&a=%20+&utm_x", []string{"utm_*"}, "https://a.test/x?a=%20+"},
		{"https://a.test/x?X-Amz-Date=1&x-amz-y=2", []string{"X-Amz-*"}, "https://a.test/x?x-amz-y=2"},
		{"https://a.test/x?%75tm_source=1", []string{"utm_source"}, "https://a.test/x"},
		{"https://a.test/x?a=1&&b", []string{"b"}, "https://a.test/x?a=1&"},
		{"https://a.test/x?%zz=1&b=1", []string{"b"}, "https://a.test/x?%zz=1"},
		{"https://a.test/x?", []string{"b"}, "https://a.test/x?"},
		{"https://a.test/x?b#f", []string{"b"}, "https://a.test/x#f"},
		{"https://a.test/x?b", nil, "https://a.test/x?b"},
	} {
		u, err := url.Parse(test.url)
		if err != nil {
			t.Fatal(err)
		}
		harness.Check(t, fmt.Sprint(test.url, test.names), cachetrip.WithoutQuery(u, test.names...).String(), test.want)
		harness.Check(t, "the argument", u.String(), test.url)
	}
	harness.Check(t, "nil", cachetrip.WithoutQuery(nil, "a"), (*url.URL)(nil))
}

// TestPolicyAndOthers makes two requests at the same time, whose policies do
// not let them share.
func TestPolicyAndOthers(t *testing.T) {
	for _, test := range []struct {
		name   string
		policy cachetrip.Policy
		paths  [2]string
		same   bool // both get the first response
	}{
		{"default", cachetrip.Policy{}, [2]string{"/", "/"}, true},
		{"reload", cachetrip.Policy{Mode: cachetrip.ModeReload}, [2]string{"/", "/"}, false},
		{"no-cache", cachetrip.Policy{Mode: cachetrip.ModeNoCache}, [2]string{"/", "/"}, false},
		{"never fresh", cachetrip.Policy{TTL: -1}, [2]string{"/", "/"}, true},
		{"other URLs", cachetrip.Policy{URL: &url.URL{Scheme: "http", Host: "one.test", Path: "/"}}, [2]string{"/a", "/b"}, false},
		{"other URLs with a lifetime", cachetrip.Policy{URL: &url.URL{Scheme: "http", Host: "one.test", Path: "/"}, TTL: time.Hour}, [2]string{"/a", "/b"}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachWorldInBubble(t, func(w *harness.World) {
				w.Handle(func(rw http.ResponseWriter, r *http.Request) {
					time.Sleep(time.Second)
					rw.Header().Set("ETag", `"1"`)
					fmt.Fprint(rw, w.Count())
				})
				var reqs []*http.Request
				for _, path := range test.paths {
					reqs = append(reqs, under(w.Request("GET", path, "Cache-Control", "x-test"), test.policy))
				}
				start := time.Now()
				results, errs := w.Herd(reqs...)
				if errs[0] != nil || errs[1] != nil {
					w.Fatal(errs)
				}
				asked := 2
				if test.same {
					asked = 1
				}
				harness.Check(w, "requests to the origin", w.Count(), asked)
				if mode := test.policy.Mode; mode != cachetrip.ModeDefault { // neither waits for the other
					harness.Check(w, "time", time.Since(start), time.Second)
				}
				harness.Check(w, "the same response", results[0].Status.Collapsed != results[1].Status.Collapsed, test.same)
			})
		})
	}
}

// TestTTLKeepsNoPart closes a body early. A lifetime of the policy lets only
// complete responses be stored against the wish of the origin.
func TestTTLKeepsNoPart(t *testing.T) {
	for control, want := range map[string]int{"no-store": 0, "max-age=60": 1} {
		t.Run(control, func(t *testing.T) {
			harness.EachWorld(t, func(w *harness.World) {
				w.Transport.Policy = func(*http.Request) cachetrip.Policy { return cachetrip.Policy{TTL: time.Hour} }
				w.Transport.DrainBytes = -1
				w.Handle(func(rw http.ResponseWriter, r *http.Request) {
					rw.Header().Set("Cache-Control", control)
					rw.Header().Set("ETag", `"1"`)
					rw.Header().Set("Accept-Ranges", "bytes")
					http.ServeContent(rw, r, "", time.Time{}, strings.NewReader(strings.Repeat("x", 1<<20)))
				})
				resp, err := w.Client.Do(w.Request("GET", "/"))
				if err != nil {
					w.Fatal(err)
				}
				io.CopyN(io.Discard, resp.Body, 300<<10)
				resp.Body.Close()
				stored := 0
				for range w.Transport.Entries(w.Context(), "") {
					stored++
				}
				harness.Check(w, "stored", stored, want)
			})
		})
	}
}

// TestTTLBesideOthers tests that a request without a policy leaves alone what
// other variants have stored by one.
func TestTTLBesideOthers(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		hour := cachetrip.Policy{TTL: time.Hour}
		w.Handle(harness.Always(200, "one", "Cache-Control", "no-store", "Vary", "Accept"))
		w.Do(under(w.Request("GET", "/", "Accept", "text/a"), hour))
		w.Handle(harness.Always(200, "two", "Cache-Control", "max-age=60", "Vary", "Accept"))
		w.Get("/", "Accept", "text/b")
		w.WantDo("200 one | hit; detail=policy-ttl", under(w.Request("GET", "/", "Accept", "text/a"), hour))
	})
}

// TestUnsafeUnderPolicy gives an unsafe request a URL that a GET of the same
// URL does not have.
func TestUnsafeUnderPolicy(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		u, err := url.Parse(w.URL + "/stored")
		if err != nil {
			w.Fatal(err)
		}
		w.Handle(harness.Always(200, "one", "Cache-Control", "max-age=60"))
		w.Get("/stored")
		w.Do(under(w.Request("POST", "/edit"), cachetrip.Policy{URL: u}))
		w.WantGet("200 one | fwd=stale; fwd-status=200; stored; detail=invalidated", "/stored")
	})
}

// TestPolicyInCacheStatus has hits of one second, with and without a policy,
// whose lifetimes are the same.
func TestPolicyInCacheStatus(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		w.Handle(harness.Always(200, "one", "Cache-Control", "max-age=3600"))
		w.Get("/")
		for range 2 {
			for policy, want := range map[cachetrip.Policy]string{
				{}:               "cachetrip; hit; ttl=3600",
				{TTL: time.Hour}: "cachetrip; hit; ttl=3600; detail=policy-ttl",
			} {
				r := w.Do(under(w.Request("GET", "/"), policy))
				harness.Check(w, "Cache-Status", r.Header.Get("Cache-Status"), want)
			}
		}
	})
}
