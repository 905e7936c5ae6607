package origins_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/cookiejar"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/store/storefault"
)

// TestRedirectBackToItself: an origin redirects to the requested URL, directly
// or through another one, and sets a cookie on the way. A client that keeps
// cookies comes out of that, however long the redirects may be stored.
func TestRedirectBackToItself(t *testing.T) {
	for _, test := range []struct {
		name    string
		handler http.HandlerFunc
		asked   []string
	}{
		{"at once", func(rw http.ResponseWriter, r *http.Request) {
			if _, err := r.Cookie("consent"); err == nil {
				harness.Answer(rw, 200, "page", "Cache-Control", "no-store")
				return
			}
			harness.Answer(rw, 302, "", "Location", r.URL.Path, "Set-Cookie", "consent=given-at-noon; Path=/", "Cache-Control", "max-age=3600")
		}, []string{"GET /page", "GET /page"}},
		{"through another URL", func(rw http.ResponseWriter, r *http.Request) {
			_, err := r.Cookie("consent")
			switch {
			case r.URL.Path == "/consent":
				harness.Answer(rw, 307, "", "Location", "/page", "Set-Cookie", "consent=given-at-noon; Path=/", "Cache-Control", "max-age=3600")
			case err == nil:
				harness.Answer(rw, 200, "page", "Cache-Control", "no-store")
			default:
				harness.Answer(rw, 302, "", "Location", "/consent", "Cache-Control", "max-age=3600")
			}
		}, []string{"GET /page", "GET /consent", "GET /page"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := harness.NewWorld(t, harness.OnDisk, harness.ServeLoopback)
			w.Handle(test.handler)
			jar, err := cookiejar.New(nil)
			if err != nil {
				t.Fatal(err)
			}
			w.Client = &http.Client{Transport: w.Transport, Jar: jar}
			harness.Check(t, "body", w.Get("/page").Body, "page")
			w.WantAsked(nil, test.asked...)
		})
	}
	t.Run("forever", func(t *testing.T) {
		harness.EachWorld(t, func(w *harness.World) {
			w.Handle(func(rw http.ResponseWriter, r *http.Request) {
				harness.Answer(rw, 302, "", "Location", r.URL.Path, "ETag", `"1"`, "Cache-Control", "max-age=3600")
			})
			w.Client = &http.Client{Transport: w.Transport}
			if _, err := w.Try(w.Request("GET", "/page")); err == nil {
				t.Error("no error")
			}
			w.Client = w.Transport.Client()
			w.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			w.Asked()
			w.WantGet("302  | hit", "/page") // which is the first time in its chain
			w.WantAsked(nil)
		})
	})
}

// TestRedirectBackToItselfWhileTheOriginFails: if the origin fails, the stored
// redirect is not served again and again.
func TestRedirectBackToItselfWhileTheOriginFails(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(harness.InTurn(
			harness.Always(302, "", "Location", "/page", "Set-Cookie", "consent=given-at-noon; Path=/", "Cache-Control", "max-age=0, stale-if-error=3600", "ETag", `"1"`),
			harness.Always(503, "busy")))
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		w.Transport.StaleIfError = time.Hour
		w.Client = &http.Client{Transport: w.Transport, Jar: jar}
		r, err := w.Try(w.Request("GET", "/page"))
		if err != nil {
			t.Fatal(err)
		}
		harness.Check(w, "status", r.Code, 503)
		w.WantAsked(nil, "GET /page", "GET /page")
	})
}

// TestContextThatEndsDuringLookup: the request is over then, and does not reach
// Base. A look-up that takes a good part of the time until the deadline is not
// waited for; see TestStoreHangs.
func TestContextThatEndsDuringLookup(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			harness.Answer(rw, 200, "page", "Cache-Control", "max-age=60")
		})
		ending := storefault.Wrap(w.Store)
		base, calls := w.Transport.Base, 0
		transport := &cachetrip.Transport{Store: ending, Base: harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
			calls++
			return base.RoundTrip(req)
		})}
		defer transport.Close()
		why := errors.New("gone home")
		for _, test := range []struct {
			name string
			make func() (context.Context, func())
			want error
		}{
			{"cancelled", func() (context.Context, func()) {
				ctx, cancel := context.WithCancelCause(context.Background())
				return ctx, func() { cancel(why) }
			}, why},
		} {
			ctx, end := test.make()
			ending.InjectAfter(func(storefault.Call) error {
				end()
				return ctx.Err()
			}, storefault.Entries)
			resp, err := transport.RoundTrip(w.Request("GET", "/").WithContext(ctx))
			if !errors.Is(err, test.want) {
				t.Errorf("%s: got %v, %v", test.name, resp, err)
			}
			if calls != 0 {
				t.Errorf("%s: Base was called", test.name)
			}
		}
		if s := transport.Stats(); s.StoreErrors != 0 {
			t.Errorf("got %+v", s)
		}
	})
}

// TestContextThatEndsDuringTheFirstStep: a request whose context ends before
// the cache has its secret does not reach Base.
func TestContextThatEndsDuringTheFirstStep(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		ctx, cancel := context.WithCancelCause(t.Context())
		why, calls := errors.New("gone home"), 0
		ending := storefault.Wrap(w.Store)
		ending.Inject(func(storefault.Call) error {
			cancel(why)
			return ctx.Err()
		}, storefault.Secret)
		transport := &cachetrip.Transport{
			Store: ending,
			Base: harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
				calls++
				return nil, errors.New("asked")
			}),
		}
		defer transport.Close()
		if resp, err := transport.RoundTrip(w.Request("GET", "/").WithContext(ctx)); !errors.Is(err, why) || calls != 0 {
			t.Errorf("got %v, %v, and %d calls of Base", resp, err, calls)
		}
	})
}

// follows is a Base that follows redirects by itself, like transports that
// retry. Its client sends the header of the first request again.
func follows(base http.RoundTripper) harness.RoundTripperFunc {
	client := &http.Client{Transport: base}
	return func(req *http.Request) (*http.Response, error) {
		own := req.Clone(req.Context())
		own.RequestURI = ""
		return client.Do(own)
	}
}

// rewrites is a Base that follows redirects, and shows it by the URL of the
// response's request alone.
func rewrites(base http.RoundTripper) harness.RoundTripperFunc {
	return func(req *http.Request) (*http.Response, error) {
		for {
			resp, err := base.RoundTrip(req)
			if err != nil || resp.StatusCode < 300 || resp.StatusCode > 399 || resp.Header.Get("Location") == "" {
				return resp, err
			}
			resp.Body.Close()
			target, err := resp.Location()
			if err != nil {
				return nil, err
			}
			req = req.Clone(req.Context())
			req.URL = target
		}
	}
}

// TestBaseThatFollowsRedirects: the response of another URL is passed on. It is
// not stored under the requested URL, and has no effect on the response that is
// stored there.
func TestBaseThatFollowsRedirects(t *testing.T) {
	for _, base := range []struct {
		name    string
		follows func(http.RoundTripper) harness.RoundTripperFunc
	}{{"with a chain", follows}, {"by another URL", rewrites}} {
		each := func(name string, test func(w *harness.World)) {
			t.Run(base.name+"/"+name, func(t *testing.T) {
				harness.EachWorld(t, func(w *harness.World) {
					w.Transport.Base = base.follows(w.Transport.Base)
					test(w)
				})
			})
		}
		current := "/v1"
		redirecting := func(rw http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/latest":
				harness.Answer(rw, 302, "", "Location", current, "Cache-Control", "no-store")
			default:
				harness.Tagged(`"`+r.URL.Path+`"`, r.URL.Path, "Cache-Control", "max-age=31536000", "Accept-Ranges", "bytes")(rw, r)
			}
		}
		each("not stored", func(w *harness.World) {
			w.Handle(redirecting)
			for _, current = range []string{"/v1", "/v2", "/v2"} {
				r := w.WantGet("200 "+current+" | fwd=uri-miss; fwd-status=200; detail=redirected", "/latest")
				harness.Check(t, "URL of the response's request", r.Response.Request.URL.Path, current)
				r = w.WantGet("206 "+current[:2]+" | fwd=uri-miss; fwd-status=206; detail=redirected", "/latest", "Range", "bytes=0-1")
				harness.Check(t, "URL of the response's request", r.Response.Request.URL.Path, current)
				harness.Check(t, "code of a HEAD", w.Do(w.Request("HEAD", "/latest")).Code, 200)
			}
			w.WantGet("200 /v1 | fwd=uri-miss; fwd-status=200; stored", "/v1")
			w.WantGet("200 /v1 | hit", "/v1")
			harness.Check(t, "errors of the store", w.Transport.Stats().StoreErrors, uint64(0))
		})
		each("what is stored stays what it is", func(w *harness.World) {
			w.Handle(harness.Tagged(`"/v1"`, "page", "Cache-Control", "max-age=31536000"))
			w.Get("/latest")
			current = "/v1"
			w.Handle(redirecting)
			// The tag is that of the page that is stored, and the 304 is about
			// another one.
			w.WantGet("200 /v1 | fwd=request; fwd-status=200; detail=unmatched-304", "/latest", "Cache-Control", "no-cache")
			w.WantGet("200 page | hit", "/latest")
			current = "/v2"
			w.WantGet("200 /v2 | fwd=request; fwd-status=200; detail=no-cache", "/latest", "Cache-Control", "no-cache")
			w.WantGet("304  | fwd=request; fwd-status=304; detail=no-cache", "/latest", "Cache-Control", "no-cache", "If-None-Match", `"/v2"`)
			w.WantGet("200 page | hit", "/latest")
		})
		each("not joined to what is held", func(w *harness.World) {
			w.Handle(harness.Tagged(`"/v1"`, "PAGE", "Cache-Control", "max-age=31536000", "Accept-Ranges", "bytes"))
			w.Get("/latest", "Range", "bytes=0-0")
			current = "/v1"
			w.Handle(func(rw http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/v1" {
					harness.Tagged(`"/v1"`, "page", "Cache-Control", "max-age=31536000")(rw, r)
					return
				}
				redirecting(rw, r)
			})
			w.WantGet("200 page | fwd=partial; fwd-status=200; detail=range-refused", "/latest")
			w.WantGet("200 page | fwd=uri-miss; fwd-status=200; detail=redirected", "/latest")
		})
		each("to another query", func(w *harness.World) {
			w.Handle(func(rw http.ResponseWriter, r *http.Request) {
				if r.URL.RawQuery == "" {
					harness.Answer(rw, 302, "", "Location", "/?signed=1", "Cache-Control", "no-store")
					return
				}
				harness.Answer(rw, 200, "page", "Cache-Control", "max-age=31536000")
			})
			if base.name == "by another URL" {
				return // a changed query alone is taken for credentials
			}
			w.Get("/")
			w.WantGet("200 page | fwd=uri-miss; fwd-status=200; detail=redirected", "/")
		})
		each("an unsafe request", func(w *harness.World) {
			w.Handle(func(rw http.ResponseWriter, r *http.Request) {
				switch {
				case r.Method == "POST":
					harness.Answer(rw, 303, "", "Location", "/gone", "Content-Location", "/other")
				case r.URL.Path == "/gone":
					harness.Answer(rw, 404, "gone", "Content-Location", "/gone", "Cache-Control", "max-age=60")
				default:
					harness.Answer(rw, 200, "page", "Cache-Control", "max-age=60")
				}
			})
			if base.name == "by another URL" {
				return // the method would have to change
			}
			for _, path := range []string{"/", "/other"} {
				w.Get(path)
			}
			r := w.Do(w.Request("POST", "/"))
			harness.Check(t, "code", r.Code, 404)
			harness.Check(t, "URL of the response's request", r.Response.Request.URL.Path, "/gone")
			for _, path := range []string{"/", "/other"} { // the POST was done, whatever the target of its redirect answers
				w.WantGet("200 page | fwd=stale; fwd-status=200; stored; detail=invalidated", path)
			}
		})
	}
}

// TestResponsesOfRedirectChains: a client above the cache follows redirects
// itself, and all of them are stored.
func TestResponsesOfRedirectChains(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/" {
				harness.Answer(rw, 301, "", "Location", "/there", "Cache-Control", "max-age=60")
				return
			}
			harness.Answer(rw, 200, "there", "Cache-Control", "max-age=60")
		})
		w.Client = &http.Client{Transport: w.Transport}
		w.WantGet("200 there | fwd=uri-miss; fwd-status=200; stored", "/")
		w.WantGet("200 there | hit", "/")
		w.WantAsked(nil, "GET /", "GET /there")
	})
}
