package users_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/cachetrip/cachetrip/internal/harness"
)

// Each identity has a private cache of its own.

func TestIdentities(t *testing.T) {
	whose := func(rw http.ResponseWriter, r *http.Request) {
		body := "nobody's"
		for _, name := range []string{"alice", "bob"} {
			if strings.Contains(r.Header.Get("Authorization")+r.Header.Get("Cookie")+r.Header.Get("Proxy-Authorization"), name) {
				body = name + "'s"
			}
		}
		harness.Tagged(`"`+body+`"`, body, "Cache-Control", "max-age=60")(rw, r)
	}
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(whose)
		ask := func(path string, fields ...string) string { return w.Get(path, fields...).String() }
		const miss, hit = " | fwd=uri-miss; fwd-status=200; stored", " | hit"
		for _, want := range []string{miss, hit} {
			harness.Check(w, "anonymous", ask("/"), "200 nobody's"+want)
			harness.Check(w, "alice", ask("/", "Authorization", "Bearer token-of-alice"), "200 alice's"+want)
			harness.Check(w, "bob", ask("/", "Authorization", "Bearer token-of-bob"), "200 bob's"+want)
			harness.Check(w, "by proxy", ask("/", "Proxy-Authorization", "Bearer token-of-bob"), "200 bob's"+want)
		}
		// The password in a URL is a credential, too: the client makes it an
		// Authorization field.
		req := w.Request("GET", "/")
		req.URL.User = nil
		req.SetBasicAuth("carol", "password-of-carol")
		w.WantDo("200 nobody's"+miss, req)
		w.WantDo("200 nobody's"+hit, req)

		// The whole URL of all of them.
		if err := w.Transport.Invalidate(context.Background(), w.URL+"/"); err != nil {
			w.Error(err)
		}
		const confirmed = " | fwd=stale; fwd-status=304; stored; detail=invalidated"
		harness.Check(w, "anonymous", ask("/"), "200 nobody's"+confirmed)
		harness.Check(w, "alice", ask("/", "Authorization", "Bearer token-of-alice"), "200 alice's"+confirmed)
		harness.Check(w, "alice", ask("/", "Authorization", "Bearer token-of-alice"), "200 alice's"+hit)
		ask("/other")
		if err := w.Transport.Purge(context.Background(), w.URL+"/"); err != nil {
			w.Error(err)
		}
		harness.Check(w, "anonymous", ask("/"), "200 nobody's"+miss)
		harness.Check(w, "alice", ask("/", "Authorization", "Bearer token-of-alice"), "200 alice's"+miss)
		harness.Check(w, "bob", ask("/", "Authorization", "Bearer token-of-bob"), "200 bob's"+miss)
		harness.Check(w, "another URL", ask("/other"), "200 nobody's"+hit)
		for _, change := range []func(context.Context, string) error{w.Transport.Invalidate, w.Transport.Purge} {
			if err := change(context.Background(), "http://[::1"); err == nil {
				w.Error("no error for what is not a URL")
			}
		}
	})
}

func TestIdentityOfRotatingTokens(t *testing.T) {
	const first, second = "Bearer token-of-monday", "Bearer token-of-tuesday"
	for _, test := range []struct{ name, vary, second string }{
		{"without Vary", "", "200 one | hit"},
		// The origin says that tokens matter: it is asked, but the body need
		// not come again.
		{"with Vary", "Authorization", "200 one | fwd=vary-miss; fwd-status=304; stored"},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachWorld(t, func(w *harness.World) {
				w.Transport.Identity = func(req *http.Request) string { return req.Header.Get("X-App") }
				w.Handle(func(rw http.ResponseWriter, r *http.Request) {
					if test.vary != "" {
						rw.Header().Set("Vary", test.vary)
					}
					harness.Tagged(`"1"`, "one", "Cache-Control", "max-age=60")(rw, r)
				})
				w.WantGet("200 one | fwd=uri-miss; fwd-status=200; stored", "/", "X-App", "a", "Authorization", first)
				w.WantGet("200 one | hit", "/", "X-App", "a", "Authorization", first)
				w.WantGet(test.second, "/", "X-App", "a", "Authorization", second)
				w.WantGet("200 one | hit", "/", "X-App", "a", "Authorization", second)
				w.WantGet("200 one | fwd=uri-miss; fwd-status=200; stored", "/", "X-App", "b", "Authorization", second)
				w.WantGet("200 one | fwd=uri-miss; fwd-status=200; stored", "/", "Authorization", second)
			})
		})
	}
}
