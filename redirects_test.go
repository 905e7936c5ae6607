package cachetrip_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/cookiejar"
	"testing"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
)

// TestRedirectBackToItself: an origin redirects to the URL that was asked for, or through another one back to it,
// and sets a cookie on the way. A client that keeps cookies comes out of that, however long the redirects may be
// stored.
func TestRedirectBackToItself(t *testing.T) {
	for _, test := range []struct {
		name    string
		handler http.HandlerFunc
		asked   []string
	}{
		{"at once", func(rw http.ResponseWriter, r *http.Request) {
			if _, err := r.Cookie("consent"); err == nil {
				answer(rw, 200, "page", "Cache-Control", "no-store")
				return
			}
			answer(rw, 302, "", "Location", r.URL.Path, "Set-Cookie", "consent=given-at-noon; Path=/", "Cache-Control", "max-age=3600")
		}, []string{"GET /page", "GET /page"}},
		{"through another URL", func(rw http.ResponseWriter, r *http.Request) {
			_, err := r.Cookie("consent")
			switch {
			case r.URL.Path == "/consent":
				answer(rw, 307, "", "Location", "/page", "Set-Cookie", "consent=given-at-noon; Path=/", "Cache-Control", "max-age=3600")
			case err == nil:
				answer(rw, 200, "page", "Cache-Control", "no-store")
			default:
				answer(rw, 302, "", "Location", "/consent", "Cache-Control", "max-age=3600")
			}
		}, []string{"GET /page", "GET /consent", "GET /page"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, onDisk, serveLoopback)
			w.handle(test.handler)
			jar, err := cookiejar.New(nil)
			if err != nil {
				t.Fatal(err)
			}
			w.client = &http.Client{Transport: w.cache, Jar: jar}
			check(t, "body", w.get("/page").Body, "page")
			w.wantAsked(nil, test.asked...)
		})
	}
	t.Run("forever", func(t *testing.T) {
		onEachStore(t, func(w *world) {
			w.handle(func(rw http.ResponseWriter, r *http.Request) {
				answer(rw, 302, "", "Location", r.URL.Path, "ETag", `"1"`, "Cache-Control", "max-age=3600")
			})
			w.client = &http.Client{Transport: w.cache}
			if _, err := w.try(w.request("GET", "/page")); err == nil {
				t.Error("no error")
			}
			w.client = w.cache.Client()
			w.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			w.asked()
			w.wantGet("302  | hit", "/page") // which is the first time in its chain
			w.wantAsked(nil)
		})
	})
}

// endingLookup ends the request's context while what is stored is looked up.
type endingLookup struct {
	store.Store
	end func()
}

func (s *endingLookup) Entries(ctx context.Context, key string) ([]*store.Entry, error) {
	entries, err := s.Store.Entries(ctx, key)
	if s.end != nil {
		s.end()
	}
	return entries, errors.Join(err, ctx.Err())
}

// TestContextThatEndsDuringLookup: the request is over then, and does not reach Base. A look-up that takes a good part of
// the time until the deadline is not waited for; see TestStoreHangs.
func TestContextThatEndsDuringLookup(t *testing.T) {
	onEachStore(t, func(w *world) {
		w.handle(func(rw http.ResponseWriter, r *http.Request) { answer(rw, 200, "page", "Cache-Control", "max-age=60") })
		ending := &endingLookup{Store: w.store}
		base, calls := w.cache.Base, 0
		transport := &cachetrip.Transport{Store: ending, Base: roundTripper(func(req *http.Request) (*http.Response, error) {
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
			ending.end = end
			resp, err := transport.RoundTrip(w.request("GET", "/").WithContext(ctx))
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
