package users_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/cachetrip/cachetrip/internal/harness"
)

// No user ever gets another user's response.

var alice, bob = "token-of-alice", "token-of-bob"

// whoever returns the name of the user whose credentials a request has.
func whoever(r *http.Request) string {
	for _, name := range []string{"alice", "bob"} {
		for _, where := range []string{
			r.Header.Get("Authorization"), r.Header.Get("Proxy-Authorization"), r.Header.Get("Cookie"), r.Header.Get("X-Tenant"), r.Header.Get("X-Api-Key"),
			r.Header.Get("Private-Token"), r.Header.Get("Impersonate-User"), r.Header.Get("X-Jwt-Assertion"), r.URL.RawQuery,
		} {
			if strings.Contains(where, name) {
				return name
			}
		}
	}
	return "nobody"
}

// addsBelow is how transports below the cache add the credentials of a user to
// a request.
var addsBelow = []struct {
	name, vary string
	add        func(req *http.Request, token string) *http.Request
}{
	{"Authorization, to a copy", "", func(req *http.Request, token string) *http.Request {
		req = req.Clone(req.Context())
		req.Header.Set("Authorization", "Bearer "+token)
		return req
	}},
	{"Authorization, against the contract to the request itself", "", func(req *http.Request, token string) *http.Request {
		req.Header.Set("Authorization", "Bearer "+token)
		return req
	}},
	{"Proxy-Authorization", "", func(req *http.Request, token string) *http.Request {
		req = req.Clone(req.Context())
		req.Header.Set("Proxy-Authorization", "Bearer "+token)
		return req
	}},
	{"a key", "", setsBelow("X-Api-Key")},
	{"a token", "", setsBelow("Private-Token")},
	{"a name", "", setsBelow("Impersonate-User")},
	{"an assertion", "", setsBelow("X-Jwt-Assertion")},
	{"a cookie", "", func(req *http.Request, token string) *http.Request {
		req = req.Clone(req.Context())
		req.AddCookie(&http.Cookie{Name: "session", Value: token})
		return req
	}},
	{"a query", "", func(req *http.Request, token string) *http.Request {
		req = req.Clone(req.Context())
		req.URL.RawQuery = "access_token=" + token
		return req
	}},
	{"a field that Vary names", "X-Tenant", func(req *http.Request, token string) *http.Request {
		req = req.Clone(req.Context())
		req.Header.Set("X-Tenant", token)
		return req
	}},
}

// setsBelow adds credentials to a copy, as the value of a field.
func setsBelow(name string) func(req *http.Request, token string) *http.Request {
	return func(req *http.Request, token string) *http.Request {
		req = req.Clone(req.Context())
		req.Header.Set(name, token)
		return req
	}
}

// Other fields that are added below the cache do not identify the user.
func TestTracingBelow(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(harness.Always(200, "body", "Cache-Control", "max-age=60"))
		base, n := w.Transport.Base, 0
		w.Transport.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
			req = req.Clone(req.Context())
			n++
			for _, name := range []string{"Traceparent", "Tracestate", "X-Request-Id", "X-Amzn-Trace-Id", "Idempotency-Key", "User-Agent", "X-Goog-User-Agent", "Date"} {
				req.Header.Set(name, fmt.Sprintf("number-%04d", n))
			}
			return base.RoundTrip(req)
		})
		w.Get("/")
		w.WantGet("200 body | hit", "/")
	})
}

// If credentials are added below the cache, a response is reused only after
// validation and only for the same credentials. A validator tells versions of a
// resource apart, but not always users.
func TestCredentialsFromBelow(t *testing.T) {
	for _, validators := range []struct {
		name string
		set  func(h http.Header, who string)
	}{
		{"a tag for each user", func(h http.Header, who string) { h.Set("ETag", `"`+who+`"`) }},
		{"one tag for all users", func(h http.Header, who string) { h.Set("ETag", `"1"`) }},
		{"a date only", func(h http.Header, who string) { h.Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT") }},
	} {
		for _, below := range addsBelow {
			t.Run(validators.name+"/"+below.name, func(t *testing.T) {
				harness.EachWorld(t, func(w *harness.World) {
					w.Handle(func(rw http.ResponseWriter, r *http.Request) {
						validators.set(rw.Header(), whoever(r))
						rw.Header().Set("Cache-Control", "max-age=60")
						if below.vary != "" {
							rw.Header().Set("Vary", below.vary)
						}
						modified, _ := http.ParseTime(rw.Header().Get("Last-Modified"))
						http.ServeContent(rw, r, "a.txt", modified, strings.NewReader(whoever(r)+"'s"))
					})
					var token string
					base := w.Transport.Base
					w.Transport.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
						if token != "" {
							req = below.add(req, token)
						}
						return base.RoundTrip(req)
					})
					const checked = " | fwd=stale; fwd-status=304; stored; detail=credentials"
					token = alice
					w.WantGet("200 alice's | fwd=uri-miss; fwd-status=200; stored", "/")
					w.WantGet("200 alice's"+checked, "/")
					token = bob
					if got := w.Get("/").Body; got != "bob's" {
						t.Errorf("bob got %q", got)
					}
					w.WantGet("200 bob's"+checked, "/")
					token = ""
					if got := w.Get("/").Body; got != "nobody's" {
						t.Errorf("nobody got %q", got)
					}
					token = alice
					w.WantGet("200 nobody's | hit", "/") // the cache cannot tell which responses need credentials
					if got := w.Get("/", "Cache-Control", "no-cache").Body; got != "alice's" {
						t.Errorf("alice got %q, after asking", got)
					}
				})
			})
		}
	}
}

// A partial response is continued for the same user only. A HEAD for one user
// has no effect on responses for another.
func TestCredentialsBelowPartsAndHeads(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("ETag", `"1"`)
			rw.Header().Set("Cache-Control", "max-age=60")
			http.ServeContent(rw, r, "a.txt", time.Time{}, strings.NewReader(strings.Repeat(whoever(r)[:3], 1000)))
		})
		token := alice
		base := w.Transport.Base
		w.Transport.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
			return base.RoundTrip(addsBelow[0].add(req, token))
		})
		get := func(user string, fields ...string) string {
			token = user
			return w.Get("/", fields...).Body
		}
		whole := func(name string) string { return strings.Repeat(name, 1000) }
		harness.Check(w, "a part of alice's", get(alice, "Range", "bytes=0-2"), "ali")
		harness.Check(w, "another part of alice's", get(alice, "Range", "bytes=3-5"), "ali")
		harness.Check(w, "a part of bob's", get(bob, "Range", "bytes=6-8"), "bob")
		harness.Check(w, "alice's after that", get(alice) == whole("ali"), true)
		harness.Check(w, "bob's", get(bob) == whole("bob"), true)

		if err := w.Transport.Purge(context.Background(), w.URL+"/"); err != nil {
			t.Error(err)
		}
		harness.Check(w, "the beginning of alice's", get(alice, "Range", "bytes=0-2"), "ali")
		harness.Check(w, "bob's, not continued from that", get(bob) == whole("bob"), true)

		token = bob
		w.Do(w.Request("HEAD", "/"))
		harness.Check(w, "bob's after his HEAD", get(bob) == whole("bob"), true)
		token = alice
		w.Do(w.Request("HEAD", "/"))
		harness.Check(w, "alice's after her HEAD", get(alice) == whole("ali"), true)
	})
}

// With Identity, responses are cached as if the cache saw the credentials.
// Fields that say more than the user count as always.
func TestIdentityCoversCredentialsBelow(t *testing.T) {
	for _, below := range addsBelow[:len(addsBelow)-1] {
		t.Run(below.name, func(t *testing.T) {
			harness.EachWorld(t, func(w *harness.World) {
				w.Handle(func(rw http.ResponseWriter, r *http.Request) {
					harness.Answer(rw, 200, whoever(r)+"'s", "Cache-Control", "max-age=60")
				})
				base := w.Transport.Base
				user := alice
				w.Transport.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
					return base.RoundTrip(below.add(req, user))
				})
				w.Transport.Identity = func(req *http.Request) string { return req.Header.Get("X-User") }
				for _, want := range []string{" | fwd=uri-miss; fwd-status=200; stored", " | hit"} {
					user = alice
					w.WantGet("200 alice's"+want, "/", "X-User", "a")
					user = bob
					w.WantGet("200 bob's"+want, "/", "X-User", "b")
				}
			})
		})
	}
	t.Run("but not what else Vary names", func(t *testing.T) {
		harness.EachWorld(t, func(w *harness.World) {
			w.Handle(func(rw http.ResponseWriter, r *http.Request) {
				harness.Answer(rw, 200, r.Header.Get("Accept-Language"), "Cache-Control", "max-age=60", "Vary", "Accept-Language", "ETag", `"1"`)
			})
			base := w.Transport.Base
			language := "de"
			w.Transport.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
				req = req.Clone(req.Context())
				req.Header.Set("Accept-Language", language)
				return base.RoundTrip(req)
			})
			w.Transport.Identity = func(*http.Request) string { return "me" }
			w.WantGet("200 de | fwd=uri-miss; fwd-status=200; stored", "/")
			language = "fr"
			w.WantGet("200 fr | fwd=stale; fwd-status=200; stored; detail=credentials", "/")
		})
	})
}

// Followers of a shared request are other requests of the same identity, never
// of another.
func TestOthersDoNotShareARequest(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			time.Sleep(20 * time.Millisecond)
			harness.Answer(rw, 200, whoever(r)+"'s", "Cache-Control", "max-age=60")
		})
		got := make(chan string)
		for i := range 40 {
			token := []string{alice, bob}[i%2]
			go func() {
				r, err := w.Try(w.Request("GET", "/", "Authorization", "Bearer "+token))
				if err != nil {
					got <- err.Error()
					return
				}
				got <- fmt.Sprint(r.Body == strings.TrimPrefix(token, "token-of-")+"'s")
			}()
		}
		for range 40 {
			if s := <-got; s != "true" {
				t.Errorf("somebody got another's response: %s", s)
			}
		}
	})
}

// A token that took another's place brings no response twice, and nothing that
// is not confirmed.
func TestRotatedTokens(t *testing.T) {
	for _, test := range []struct{ name, etag, modified, confirmed string }{
		{"by tag", `"1"`, "", "200 one | fwd=vary-miss; fwd-status=304; stored"},
		{"by date", "", "Mon, 02 Jan 2006 15:04:05 GMT", "200 one | fwd=vary-miss; fwd-status=304; stored"},
		{"not at all", "", "", "200 one | fwd=vary-miss; fwd-status=200; stored"},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachWorld(t, func(w *harness.World) {
				w.Transport.Identity = func(*http.Request) string { return "the app" }
				body := "one"
				w.Handle(func(rw http.ResponseWriter, r *http.Request) {
					rw.Header().Set("Vary", "Authorization, Accept-Language")
					rw.Header().Set("Cache-Control", "max-age=60")
					if test.etag != "" {
						rw.Header().Set("ETag", strings.Replace(test.etag, "1", body, 1))
					}
					modified, _ := http.ParseTime(test.modified)
					if body != "one" {
						modified = modified.Add(time.Hour)
					}
					http.ServeContent(rw, r, "a.txt", modified, strings.NewReader(body))
				})
				variants := func() (n int) {
					for e, err := range w.Store.All(t.Context(), "") {
						if err != nil || e == nil {
							t.Fatal(err)
						}
						n++
					}
					return n
				}
				token := 0
				rotate := func(fields ...string) *harness.Result {
					token++
					return w.Get("/", append(fields, "Authorization", fmt.Sprintf("Bearer token-number-%04d", token))...)
				}
				harness.Check(w, "first", rotate().String(), "200 one | fwd=uri-miss; fwd-status=200; stored")
				for range 100 {
					harness.Check(w, "rotated", rotate().String(), test.confirmed)
				}
				harness.Check(w, "again", w.Get("/", "Authorization", fmt.Sprintf("Bearer token-number-%04d", token)).String(), "200 one | hit")
				harness.Check(w, "variants", variants(), 1)

				body = "two"
				harness.Check(w, "changed", rotate().Body, "two")
				harness.Check(w, "variants", variants(), 1)

				// Other fields than credentials still tell variants apart.
				harness.Check(w, "German", rotate("Accept-Language", "de").Body, "two")
				harness.Check(w, "variants", variants(), 2)

				// A response that is not confirmed is not served, even if the
				// origin fails.
				w.Transport.StaleIfError = time.Hour
				w.Handle(harness.Always(503, "sorry"))
				harness.Check(w, "failing", rotate().Body, "sorry")
				harness.Check(w, "only if cached", rotate("Cache-Control", "only-if-cached").Code, 504)
			})
		})
	}
}

// Users that Identity does not name are told apart by credentials, as without
// it.
func TestIdentityOfNobody(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Transport.Identity = func(req *http.Request) string { return req.Header.Get("X-User") }
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			harness.Answer(rw, 200, whoever(r)+"'s", "Cache-Control", "max-age=60")
		})
		for _, want := range []string{" | fwd=uri-miss; fwd-status=200; stored", " | hit"} {
			w.WantGet("200 alice's"+want, "/", "Authorization", "Bearer "+alice)
			w.WantGet("200 bob's"+want, "/", "Authorization", "Bearer "+bob)
			w.WantGet("200 nobody's"+want, "/")
		}
		// A name is not taken for a credential that reads the same.
		w.WantGet("200 nobody's | fwd=uri-miss; fwd-status=200; stored", "/", "X-User", "Bearer "+alice)
	})
}

// Header maps may spell names as they like, and net/http sends them so: the
// rules see through that.
func TestNamesInAnySpelling(t *testing.T) {
	spelled := func(w *harness.World, path string, fields ...string) *http.Request {
		req := w.Request("GET", path)
		for i := 0; i < len(fields); i += 2 {
			req.Header[fields[i]] = append(req.Header[fields[i]], fields[i+1])
		}
		return req
	}
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			body := whoever(r) + "'s in " + r.Header.Get("Accept-Language")
			harness.Tagged(`"`+strings.ReplaceAll(body, " ", "-")+`"`, body, "Cache-Control", "max-age=60", "Vary", "Accept-Language")(rw, r)
		})
		const fetched, again = " | fwd=uri-miss; fwd-status=200; stored", " | hit"
		w.WantDo("200 alice's in "+fetched, spelled(w, "/", "authorization", "Bearer "+alice))
		w.WantDo("200 bob's in "+fetched, spelled(w, "/", "AUTHORIZATION", "Bearer "+bob))
		w.WantGet("200 nobody's in "+fetched, "/")
		w.WantDo("200 alice's in "+again, spelled(w, "/", "authorization", "Bearer "+alice))
		w.WantGet("200 alice's in "+again, "/", "Authorization", "Bearer "+alice)

		w.WantDo("200 nobody's in de | fwd=vary-miss; fwd-status=200; stored", spelled(w, "/", "accept-language", "de"))
		w.WantDo("200 nobody's in en | fwd=vary-miss; fwd-status=200; stored", spelled(w, "/", "accept-Language", "en"))
		w.WantGet("200 nobody's in de | hit", "/", "Accept-Language", "de")

		w.WantDo("200 nobody's in  | fwd=request; fwd-status=200; detail=no-store", spelled(w, "/", "cache-control", "no-store"))
		w.WantDo("200 nobody's in  | fwd=request; fwd-status=304; stored; detail=no-cache", spelled(w, "/", "cache-control", "no-cache"))
		w.WantDo("200 nobody's in  | fwd=request; fwd-status=304; stored; detail=no-cache", spelled(w, "/", "pragma", "no-cache"))
		w.WantDo("206 nobo | hit", spelled(w, "/", "range", "bytes=0-3"))
		w.WantDo("304  | hit", spelled(w, "/", "if-none-match", `"nobody's-in-"`))
		w.WantDo("412  | fwd=bypass; fwd-status=412; detail=precondition", spelled(w, "/", "if-match", `"other"`))
		// A name in two spellings is one field.
		w.Get("/other")
		w.Asked()
		w.WantDo("200 nobody's in  | fwd=request; fwd-status=304; stored; detail=no-cache", spelled(w, "/other", "if-none-match", `"mine"`, "Cache-Control", "max-age=100", "cache-control", "no-cache"))
		w.WantAsked([]string{"If-None-Match", "Cache-Control"}, `GET /other If-None-Match: "nobody's-in-", "mine" Cache-Control: max-age=100 Cache-Control: no-cache`)
	})
	harness.EachWorld(t, func(w *harness.World) {
		// A request that does not concern the cache is sent unchanged, and
		// callers keep their request.
		var sent http.Header
		base := w.Transport.Base
		w.Transport.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
			sent = req.Header.Clone()
			return base.RoundTrip(req)
		})
		w.Transport.Identity = func(r *http.Request) string { return r.Header.Get("X-Tenant") }
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			harness.Answer(rw, 200, r.Header.Get("X-Tenant"), "Cache-Control", "max-age=60")
		})
		req := spelled(w, "/", "x-tenant", "alice")
		w.WantDo("200 alice | fwd=uri-miss; fwd-status=200; stored", req)
		harness.Check(w, "the header that was sent", sent, http.Header{"x-tenant": {"alice"}})
		harness.Check(w, "the caller's header", req.Header, http.Header{"x-tenant": {"alice"}})
		w.WantDo("200 bob | fwd=uri-miss; fwd-status=200; stored", spelled(w, "/", "x-tenant", "bob"))
		w.WantGet("200 alice | hit", "/", "X-Tenant", "alice")
	})
	harness.EachWorld(t, func(w *harness.World) {
		// So do responses, from other transports than net/http's or by
		// ModifyResponse.
		lower := func(h http.Header) http.Header {
			spelled := make(http.Header)
			for name, lines := range h {
				spelled[strings.ToLower(name)] = lines
			}
			return spelled
		}
		base := w.Transport.Base
		w.Transport.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
			resp, err := base.RoundTrip(req)
			if err == nil {
				resp.Header = lower(resp.Header)
			}
			return resp, err
		})
		w.Transport.ModifyResponse = func(resp *http.Response) error {
			harness.Check(w, "Vary in ModifyResponse", resp.Header.Get("Vary"), "X-Tenant")
			resp.Header = lower(resp.Header)
			return nil
		}
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			harness.Answer(rw, 200, r.Header.Get("X-Tenant"), "Cache-Control", r.URL.RawQuery, "Vary", "X-Tenant")
		})
		w.WantGet("200 alice | fwd=uri-miss; fwd-status=200; stored", "/?max-age=60", "X-Tenant", "alice")
		w.WantGet("200 bob | fwd=vary-miss; fwd-status=200; stored", "/?max-age=60", "X-Tenant", "bob")
		r := w.WantGet("200 alice | hit", "/?max-age=60", "X-Tenant", "alice")
		harness.Check(w, "Vary", r.Header.Get("Vary"), "X-Tenant")
		w.WantGet("200 alice | fwd=uri-miss; fwd-status=200; detail=no-store", "/?no-store", "X-Tenant", "alice")
	})
}

// If a secret field other than Authorization tells users apart, the cache does
// not send the entity tags of other users' responses. Origins that give all
// users one tag would answer 304 to all of them.
func TestTagsOfOthersSecrets(t *testing.T) {
	for _, name := range []string{"Cookie", "X-Api-Key"} {
		for _, tag := range []string{`"1"`, `W/"1"`} {
			t.Run(name+"/"+tag, func(t *testing.T) {
				harness.EachWorld(t, func(w *harness.World) {
					w.Handle(func(rw http.ResponseWriter, r *http.Request) {
						harness.Tagged(tag, "for "+strings.TrimPrefix(r.Header.Get(name), "id=secret-of-"), "Vary", "Accept-Language, "+name, "Cache-Control", "max-age=60")(rw, r)
					})
					w.WantGet("200 for alice | fwd=uri-miss; fwd-status=200; stored", "/", name, "id=secret-of-alice")
					w.WantGet("200 for bob | fwd=vary-miss; fwd-status=200; stored", "/", name, "id=secret-of-bob")
					w.WantGet("200 for  | fwd=vary-miss; fwd-status=200; stored", "/")
					w.WantGet("200 for alice | hit", "/", name, "id=secret-of-alice")
					w.WantGet("200 for bob | fwd=vary-miss; fwd-status=304; stored", "/", name, "id=secret-of-bob", "Accept-Language", "de")
					// Nor does it count if the caller asks about the tag.
					w.WantGet("304  | fwd=vary-miss; fwd-status=304; detail=status", "/", name, "id=secret-of-carol", "If-None-Match", tag)
					w.WantGet("200 for carol | fwd=vary-miss; fwd-status=200; stored", "/", name, "id=secret-of-carol")

					// A request that Identity names may use all variants.
					w.Transport.Identity = func(*http.Request) string { return "the app" }
					w.Get("/", name, "id=secret-of-one")
					w.WantGet("200 for one | fwd=vary-miss; fwd-status=304; stored", "/", name, "id=secret-of-two")
				})
			})
		}
	}
}

// A broken transfer is not continued with another user's response. The
// credentials that are added below may have changed meanwhile.
func TestOthersDoNotContinue(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		const half = 50_000
		user := alice
		w.Transport.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
			req = addsBelow[0].add(req, user)
			content := strings.Repeat(whoever(req)[:1], 2*half)
			h := http.Header{"Cache-Control": {"max-age=60"}, "Etag": {`"1"`}, "Accept-Ranges": {"bytes"}}
			resp := &http.Response{StatusCode: 200, Header: h, Request: req, ContentLength: 2 * half}
			from := 0
			if n, _ := fmt.Sscanf(req.Header.Get("Range"), "bytes=%d-", &from); n == 1 {
				h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, 2*half-1, 2*half))
				resp.StatusCode, resp.ContentLength = 206, int64(2*half-from)
				resp.Body = io.NopCloser(strings.NewReader(content[from:]))
				return resp, nil
			}
			resp.Body = io.NopCloser(io.MultiReader(strings.NewReader(content[:half]), iotest.ErrReader(io.ErrUnexpectedEOF)))
			user = bob
			return resp, nil
		})
		resp, err := w.Transport.RoundTrip(w.Request("GET", "/"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		harness.Check(w, "the body", string(body) == strings.Repeat("a", half), true)
		harness.Check(w, "its end", errors.Is(err, io.ErrUnexpectedEOF), true)
	})
}

// Parts that were requested with different credentials are not joined.
func TestOthersPartsAreNotJoined(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			harness.Tagged(`"1"`, strings.Repeat(whoever(r)[:3], 1000), "Cache-Control", "max-age=60")(rw, r)
		})
		token := alice
		base := w.Transport.Base
		w.Transport.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
			return base.RoundTrip(addsBelow[0].add(req, token))
		})
		w.Get("/", "Range", "bytes=0-1499")
		token = bob
		w.Get("/", "Range", "bytes=1500-2999")
		harness.Check(w, "bob's", w.Get("/").Body == strings.Repeat("bob", 1000), true)
	})
}
