package contract_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/store"
)

// The contract of http.RoundTripper, and what callers know http.Transport to
// do.

// situations are the ways to answer a request, for tests that must hold in all
// of them. Each prepares a world whose origin answers at /a, and returns the
// request.
var situations = []struct {
	name    string
	prepare func(w *harness.World) *http.Request
}{
	{"miss", func(w *harness.World) *http.Request { return w.Request("GET", "/a") }},
	{"hit", func(w *harness.World) *http.Request {
		w.Get("/a")
		return w.Request("GET", "/a")
	}},
	{"revalidation", func(w *harness.World) *http.Request {
		w.Get("/a")
		return w.Request("GET", "/a", "Cache-Control", "no-cache")
	}},
	{"caller's condition", func(w *harness.World) *http.Request {
		w.Get("/a")
		return w.Request("GET", "/a", "If-None-Match", `"other"`, "Cache-Control", "max-age=0")
	}},
	{"part of a hit", func(w *harness.World) *http.Request {
		w.Get("/a")
		return w.Request("GET", "/a", "Range", "bytes=1-")
	}},
	{"HEAD", func(w *harness.World) *http.Request { return w.Request("HEAD", "/a") }},
	{"HEAD hit", func(w *harness.World) *http.Request {
		w.Get("/a")
		return w.Request("HEAD", "/a")
	}},
	{"refusal", func(w *harness.World) *http.Request { return w.Request("GET", "/a", "Cache-Control", "only-if-cached") }},
	{"bypass", func(w *harness.World) *http.Request { return w.Request("GET", "/a", "If-Match", `"a"`) }},
	{"no-store", func(w *harness.World) *http.Request { return w.Request("GET", "/a", "Cache-Control", "no-store") }},
	{"POST", func(w *harness.World) *http.Request { return w.Request("POST", "/a") }},
	{"unknown method", func(w *harness.World) *http.Request { return w.Request("FROB", "/a") }},
	{"no method", func(w *harness.World) *http.Request {
		req := w.Request("GET", "/a")
		req.Method = ""
		return req
	}},
	{"no header", func(w *harness.World) *http.Request {
		w.Get("/a")
		req := w.Request("GET", "/a")
		req.Header = http.Header{}
		return req
	}},
	{"stale hit", func(w *harness.World) *http.Request {
		w.Get("/a?stale")
		return w.Request("GET", "/a?stale")
	}},
	{"with directives in its context", func(w *harness.World) *http.Request {
		req := w.Request("GET", "/a", "Cache-Control", "x")
		return req.WithContext(cachetrip.WithCacheControl(req.Context(), "no-cache"))
	}},
	{"with credentials", func(w *harness.World) *http.Request {
		return w.Request("GET", "/a", "Authorization", "Bearer credential-of-situations", "Cookie", "session=cookie-of-situations")
	}},
}

func situationOrigin(rw http.ResponseWriter, r *http.Request) {
	control := "max-age=60"
	if r.URL.RawQuery == "stale" {
		control = "max-age=0, stale-while-revalidate=1000"
	}
	harness.Tagged(`"a"`, "content", "Cache-Control", control)(rw, r)
}

func TestRequestsAreNeverModified(t *testing.T) {
	for _, situation := range situations {
		t.Run(situation.name, func(t *testing.T) {
			harness.EachWorld(t, func(w *harness.World) {
				w.Handle(situationOrigin)
				req := situation.prepare(w)
				body := &harness.Closing{Reader: strings.NewReader("")}
				req.Body = body
				if req.Method == "GET" || req.Method == "HEAD" {
					req.Body = http.NoBody
				}
				req.Header["lower-case"] = []string{"kept"}
				req.GetBody = func() (io.ReadCloser, error) { return http.NoBody, nil }
				before := req.Clone(req.Context())
				before.GetBody = nil
				resp, err := w.Transport.RoundTrip(req)
				if err != nil {
					w.Fatal(err)
				}
				if resp.Request != req {
					w.Error("resp.Request is not the request that was given")
				}
				if resp.Body == nil {
					w.Fatal("no body")
				}
				if _, err := io.ReadAll(resp.Body); err != nil {
					w.Error(err)
				}
				if err := resp.Body.Close(); err != nil {
					w.Error(err)
				}
				if req.Body != http.NoBody && !body.Closed() {
					w.Error("the request's body was not closed")
				}
				// http.Request holds functions and a context, which can't be
				// compared as they are.
				type fields struct {
					Method, Proto, URL, Host string
					Header                   http.Header
					Length                   int64
					Form, PostForm           map[string][]string
				}
				view := func(r *http.Request) fields {
					return fields{r.Method, r.Proto, r.URL.String(), r.Host, r.Header, r.ContentLength, r.Form, r.PostForm}
				}
				harness.Check(w, "the request", view(req), view(before))
				if req.Context() != before.Context() || req.GetBody == nil {
					w.Error("the request's context or GetBody was changed")
				}
			})
		})
	}
}

func TestCallersMayReuseTheRequestOnceTheBodyIsClosed(t *testing.T) {
	// The race detector is what fails here.
	for _, situation := range situations {
		t.Run(situation.name, func(t *testing.T) {
			w := harness.NewWorld(t, harness.InMemory, harness.ServeLoopback)
			w.Handle(situationOrigin)
			req := situation.prepare(w)
			for range 3 {
				resp, err := w.Transport.RoundTrip(req)
				if err != nil {
					w.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				req.URL.Path += "x"
				req.Header["X-Next"] = []string{"yes"}
				req.Header["X-More"] = append(req.Header["X-More"], "yes")
				req.Host = ""
				req.Method = "GET"
			}
		})
	}
}

func TestBodiesAreClosedWithErrorsToo(t *testing.T) {
	errBase := errors.New("no such luck")
	failing := harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
		if req.Body != nil {
			req.Body.Close() // as the contract asks of a RoundTripper
		}
		return nil, errBase
	})
	for _, test := range []struct {
		name string
		req  *http.Request
		want error
	}{
		{"GET", &http.Request{Method: "GET", URL: &url.URL{Scheme: "http", Host: "a"}, Header: http.Header{}}, errBase},
		{"POST", &http.Request{Method: "POST", URL: &url.URL{Scheme: "http", Host: "a"}, Header: http.Header{}}, errBase},
		{"no host", &http.Request{Method: "GET", URL: &url.URL{Scheme: "http"}}, errBase},
		{"no URL", &http.Request{Method: "GET"}, errBase},
		{"no header", &http.Request{Method: "GET", URL: &url.URL{Scheme: "http", Host: "a"}}, errBase},
		{"other scheme", &http.Request{Method: "GET", URL: &url.URL{Scheme: "ftp", Host: "a"}}, errBase},
		{"opaque", &http.Request{Method: "GET", URL: &url.URL{Scheme: "http", Host: "a", Opaque: "//b/c"}}, errBase},
	} {
		t.Run(test.name, func(t *testing.T) {
			cache := &cachetrip.Transport{Store: store.NewMemory(1 << 20), Base: failing}
			body := &harness.Closing{Reader: strings.NewReader("content")}
			test.req.Body = body
			resp, err := cache.RoundTrip(test.req)
			if !errors.Is(err, test.want) || resp != nil {
				t.Errorf("RoundTrip: %v, %v, want no response and %v", resp, err, test.want)
			}
			if !body.Closed() {
				t.Error("the request's body was not closed")
			}
			harness.Check(t, "Stats", cache.Stats(), cachetrip.Stats{Requests: 1})
		})
	}
}

func TestOddRequestsFailAsWithoutACache(t *testing.T) {
	for _, test := range []struct {
		name string
		req  http.Request
	}{
		{"no URL", http.Request{Method: "GET", Header: http.Header{}}},
		{"no host", http.Request{Method: "GET", URL: &url.URL{Scheme: "http", Path: "/"}, Header: http.Header{}}},
		{"unknown scheme", http.Request{Method: "GET", URL: &url.URL{Scheme: "gopher", Host: "a"}, Header: http.Header{}}},
		{"bad field name", http.Request{Method: "GET", URL: &url.URL{Scheme: "http", Host: "127.0.0.1:1"}, Header: http.Header{"a b": {"c"}}}},
		{"bad field value", http.Request{Method: "GET", URL: &url.URL{Scheme: "http", Host: "127.0.0.1:1"}, Header: http.Header{"A": {"b\nc"}}}},
		{"bad method", http.Request{Method: "G T", URL: &url.URL{Scheme: "http", Host: "127.0.0.1:1"}, Header: http.Header{}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			cache := &cachetrip.Transport{Store: store.NewMemory(1 << 20)}
			_, plain := http.DefaultTransport.RoundTrip(&test.req)
			resp, err := cache.RoundTrip(&test.req)
			if plain == nil || err == nil || err.Error() != plain.Error() || resp != nil {
				t.Errorf("got %v, %v, want %v", resp, err, plain)
			}
		})
	}
}

func TestBaseThatBreaksItsContract(t *testing.T) {
	for _, test := range []struct {
		name string
		base harness.RoundTripperFunc
		want string
	}{
		{"no header", func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("x")), ContentLength: -1}, nil
		}, "200 x"},
		{"no body", func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Header: http.Header{"Cache-Control": {"max-age=60"}}}, nil
		}, "200 "},
		{"no body, and not to be stored", func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Header: http.Header{"Cache-Control": {"no-store"}}}, nil
		}, "200 "},
		{"304 without a body", func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 304, Header: http.Header{}}, nil
		}, "304 "},
		{"neither response nor error", func(*http.Request) (*http.Response, error) { return nil, nil }, "error"},
		{"length unknown but said to be none", func(*http.Request) (*http.Response, error) {
			return &http.Response{
				StatusCode: 200, Header: http.Header{"Cache-Control": {"max-age=60"}},
				Body: io.NopCloser(strings.NewReader("x")),
			}, nil
		}, "200 x"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, method := range []string{"GET", "POST"} {
				cache := &cachetrip.Transport{Store: store.NewMemory(1 << 20), Base: test.base}
				for range 3 {
					req, _ := http.NewRequest(method, "http://a/", nil)
					resp, err := cache.Client().Do(req)
					got := "error"
					if err == nil {
						body, err := io.ReadAll(resp.Body)
						got = fmt.Sprintf("%d %s", resp.StatusCode, body)
						if err := errors.Join(err, resp.Body.Close()); err != nil {
							t.Error(err)
						}
					}
					harness.Check(t, method, got, test.want)
				}
			}
		})
	}
}

func TestBasePanics(t *testing.T) {
	cache := &cachetrip.Transport{Store: store.NewMemory(1 << 20)}
	fail := true
	cache.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
		if fail {
			panic("oh dear")
		}
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody}, nil
	})
	for _, method := range []string{"GET", "HEAD", "POST"} {
		func() {
			defer func() {
				if p := recover(); p != "oh dear" {
					t.Errorf("%s: recovered %v, want what Base panicked with", method, p)
				}
			}()
			req, _ := http.NewRequest(method, "http://a/", nil)
			cache.RoundTrip(req)
		}()
	}
	fail = false
	if resp, err := cache.Client().Get("http://a/"); err != nil || resp.StatusCode != 200 {
		t.Errorf("after the panics: %v, %v", resp, err)
	}
}

// Base may end its goroutine, as testing.T.FailNow does. Without a deadline
// that is the caller's goroutine, as without a cache. Otherwise it is another
// one, and the callers get an error at once. It does not keep later requests
// from being answered.
func TestBaseExits(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		w.Handle(harness.Always(200, "good", "Cache-Control", "max-age=10, stale-while-revalidate=1000, stale-if-error=1000"))
		w.Get("/")
		base := w.Transport.Base
		calls := 0
		w.Transport.Base = harness.RoundTripperFunc(func(*http.Request) (*http.Response, error) {
			calls++
			runtime.Goexit()
			return nil, nil
		})
		for _, method := range []string{"GET", "HEAD"} {
			ctx, cancel := context.WithCancel(context.Background())
			if resp, err := w.Transport.RoundTrip(w.Request(method, "/other").WithContext(ctx)); resp != nil || err == nil {
				t.Errorf("%s: got %v, %v", method, resp, err)
			}
			cancel()
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				resp, err := w.Transport.RoundTrip(w.Request(method, "/other"))
				t.Errorf("%s: got %v, %v, want the goroutine to end", method, resp, err)
			}()
			<-ended
		}
		harness.Check(w, "calls of Base", calls, 4)
		time.Sleep(time.Minute)
		for i := range 3 {
			w.WantGet("200 good | hit; detail=stale-while-revalidate", "/")
			synctest.Wait()
			harness.Check(w, "calls of Base", calls, 5+i)
			time.Sleep(time.Minute) // after a failure the next one waits
		}
		w.Transport.Base = base
		w.WantGet("200 good | fwd=uri-miss; fwd-status=200; stored", "/other")
	})
}

func TestConcurrentUse(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Vary", "Accept")
			harness.Tagged(`"`+r.Header.Get("Accept")+r.URL.Path+`"`, r.Header.Get("Accept")+r.URL.Path, "Cache-Control", "max-age=60")(rw, r)
		})
		var group sync.WaitGroup
		for i := range 16 {
			group.Go(func() {
				for j := range 20 {
					path, accept := fmt.Sprintf("/%d", j%3), fmt.Sprintf("text/%d", i%3)
					req := w.Request("GET", path, "Accept", accept)
					switch (i + j) % 9 {
					case 0:
						req.Header.Set("Cache-Control", "no-cache")
					case 1:
						req.Method = "POST"
					case 2:
						w.Transport.Invalidate(context.Background(), w.URL+path)
					case 3:
						w.Transport.Purge(context.Background(), w.URL+path)
					}
					r, err := w.Try(req)
					if err != nil {
						w.Error(err)
					} else if r.Body != accept+path {
						w.Errorf("got %q, want %q", r.Body, accept+path)
					}
				}
			})
		}
		group.Wait()
		if s := w.Transport.Stats(); s.Requests != 16*20 || s.StoreErrors != s.StoreFaults.Locked { // a loaded machine may keep a lock for long
			w.Errorf("Stats: %+v", s)
		}
	})
}

func TestUpgrade(t *testing.T) {
	w := harness.NewWorld(t, harness.OnDisk, harness.ServeLoopback)
	w.Handle(func(rw http.ResponseWriter, r *http.Request) {
		conn, buffered, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			w.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\nCache-Control: max-age=60\r\n\r\n")
		line, _ := buffered.ReadString('\n')
		io.WriteString(conn, "echo: "+line)
	})
	for range 2 {
		resp, err := w.Transport.RoundTrip(w.Request("GET", "/", "Connection", "Upgrade", "Upgrade", "echo"))
		if err != nil {
			t.Fatal(err)
		}
		harness.Check(t, "status", resp.StatusCode, 101)
		harness.Check(t, "how it was obtained", cachetrip.StatusOf(resp), cachetrip.Status{Fwd: "bypass", FwdStatus: 101, Detail: "upgrade"})
		conn, ok := resp.Body.(io.ReadWriteCloser)
		if !ok {
			t.Fatalf("the body is a %T, not an io.ReadWriteCloser", resp.Body)
		}
		io.WriteString(conn, "hello\n")
		b, err := io.ReadAll(conn)
		if string(b) != "echo: hello\n" || err != nil {
			t.Errorf("read %q, %v", b, err)
		}
		conn.Close()
	}
}

func TestTrailers(t *testing.T) {
	harness.EachProtocol(t, func(w *harness.World) {
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			harness.Answer(rw, 200, "content", "Cache-Control", "max-age=60", "Trailer", "Digest")
			rw.(http.Flusher).Flush()
			rw.Header().Set("Digest", "d-of-content")
			rw.Header().Set(http.TrailerPrefix+"Late", "not announced")
		})
		want := http.Header{"Digest": {"d-of-content"}, "Late": {"not announced"}}
		r := w.WantGet("200 content | fwd=uri-miss; fwd-status=200; stored", "/")
		harness.Check(w, "trailer of the miss", r.Response.Trailer, want)
		r = w.WantGet("200 content | hit", "/")
		harness.Check(w, "trailer of the hit", r.Response.Trailer, want)
		harness.Check(w, "the hit has no TLS", r.Response.TLS == nil, true)
	})
}

// A request that does not concern the cache is not forwarded either if it says
// only-if-cached, unless its method requires it.
func TestOnlyIfCachedPastTheCache(t *testing.T) {
	nothing := func(*harness.World) {}
	for _, test := range []struct {
		name, method string
		fields       []string
		content      bool
		prepare      func(w *harness.World)
		code         int
	}{
		{"no-store", "GET", []string{"Cache-Control", "no-store"}, false, nothing, 504},
		{"a precondition", "GET", []string{"If-Match", `"1"`}, false, nothing, 504},
		{"a precondition of a HEAD", "HEAD", []string{"If-Unmodified-Since", "Mon, 02 Jan 2006 15:04:05 GMT"}, false, nothing, 504},
		{"several ranges in another unit", "GET", []string{"Range", "lines=1-2"}, false, nothing, 504},
		{"content", "GET", nil, true, nothing, 504},
		{"an upgrade", "GET", []string{"Connection", "Upgrade", "Upgrade", "echo"}, false, nothing, 504},
		{"no store", "GET", nil, false, func(w *harness.World) { w.Transport.Store = nil }, 504},
		{"closed", "GET", nil, false, func(w *harness.World) { w.Transport.Close() }, 504},
		{"another safe method", "OPTIONS", nil, false, nothing, 504},
		{"another safe method, with content", "QUERY", nil, true, nothing, 504},
		{"an unsafe method", "POST", nil, true, nothing, 200},
		{"a method that nobody knows", "FROB", nil, false, nothing, 200},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, by := range []string{"header", "context", "header in lower case"} {
				w := harness.NewWorld(t, harness.InMemory, harness.ServeLoopback)
				w.Handle(harness.Always(200, ""))
				w.Get("/elsewhere") // what there is in the store makes no difference
				w.Asked()
				test.prepare(w)
				refused := 0
				w.Transport.Trace = &cachetrip.Trace{Refused: func(cachetrip.AnswerInfo) { refused++ }}
				req := w.Request(test.method, "/", test.fields...)
				switch by {
				case "header":
					req.Header.Add("Cache-Control", "only-if-cached")
				case "context":
					req = req.WithContext(cachetrip.WithCacheControl(req.Context(), "only-if-cached"))
				default:
					req.Header["cache-control"] = append(req.Header["Cache-Control"], "only-if-cached")
				}
				if test.content {
					req.Body = &harness.Closing{Reader: strings.NewReader("content")}
				}
				if test.code == 504 {
					explained, err := w.Transport.Explain(req)
					if err != nil || explained.Action != "refuse" || explained.Sent != nil || !strings.Contains(explained.String(), "5.2.1.7") {
						t.Errorf("%s: explained: %+v, %v: %s", by, explained, err, explained)
					}
				}
				resp, err := w.Transport.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				harness.Check(t, by+": code", resp.StatusCode, test.code)
				harness.Check(t, by+": generated", cachetrip.StatusOf(resp).Generated, test.code == 504)
				harness.Check(t, by+": requests to the origin", len(w.Asked()), map[int]int{200: 1, 504: 0}[test.code])
				harness.Check(t, by+": refusals that were told", refused, map[int]int{200: 0, 504: 1}[test.code])
				if test.content && !req.Body.(*harness.Closing).Closed() {
					t.Errorf("%s: the request's body was not closed", by)
				}
			}
		})
	}
}

func TestHeadOnEachProtocol(t *testing.T) {
	harness.EachProtocol(t, func(w *harness.World) {
		w.Handle(harness.Tagged(`"1"`, "content", "Cache-Control", "max-age=60"))
		r := w.WantDo("200  | fwd=uri-miss; fwd-status=200; stored", w.Request("HEAD", "/head"))
		harness.Check(w, "length", r.Response.ContentLength, int64(7))
		// A head is not worth anything to a GET, but to a HEAD.
		w.WantDo("200  | hit", w.Request("HEAD", "/head"))
		w.WantGet("200 content | fwd=uri-miss; fwd-status=200; stored", "/head")
		r = w.WantDo("200  | hit", w.Request("HEAD", "/head"))
		harness.Check(w, "length", r.Response.ContentLength, int64(7))
		harness.Check(w, "Content-Length", r.Header.Get("Content-Length"), "7")
	})
}

func TestProtocolOfHits(t *testing.T) {
	harness.EachProtocol(t, func(w *harness.World) {
		w.Handle(harness.Tagged(`"1"`, "content", "Cache-Control", "max-age=60"))
		type head struct {
			Status, Proto string
			Major, Minor  int
			Length        int64
			Uncompressed  bool
			Type, Tag     string
		}
		view := func(r *harness.Result) head {
			p := r.Response
			return head{p.Status, p.Proto, p.ProtoMajor, p.ProtoMinor, p.ContentLength, p.Uncompressed, r.Header.Get("Content-Type"), r.Header.Get("ETag")}
		}
		miss := w.WantGet("200 content | fwd=uri-miss; fwd-status=200; stored", "/")
		hit := w.WantGet("200 content | hit", "/")
		harness.Check(w, "head of the hit", view(hit), view(miss))
		confirmed := w.WantGet("200 content | fwd=request; fwd-status=304; stored; detail=no-cache", "/", "Cache-Control", "no-cache")
		harness.Check(w, "head of the confirmed", view(confirmed), view(miss))
	})
}

func TestHostOverridesURL(t *testing.T) {
	harness.EachProtocol(t, func(w *harness.World) {
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			harness.Answer(rw, 200, "for "+r.Host, "Cache-Control", "max-age=60")
		})
		for _, want := range []string{" | fwd=uri-miss; fwd-status=200; stored", " | hit"} {
			for _, host := range []string{"one.test", "two.test", ""} {
				req := w.Request("GET", "/")
				if host == "" {
					host = req.Host
				}
				req.Host = host
				w.WantDo("200 for "+host+want, req)
			}
		}
	})
}

// With a Host of its own, a request's target is there, and so is what its
// answer names.
func TestHostOverrideAndUnsafeMethods(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		at := func(host, method, path string) *http.Request {
			req := w.Request(method, path)
			if host != "" {
				req.Host = host
			}
			return req
		}
		get := harness.Tagged(`"1"`, "x", "Cache-Control", "max-age=60")
		w.Handle(get)
		paths := []string{"/target", "/relative", "/absolute", "/spelled", "/elsewhere", "/server"}
		hosts := []string{"", "a.example", "b.example"}
		for _, host := range hosts {
			for _, path := range paths {
				w.Do(at(host, "GET", path))
			}
		}
		for _, named := range [][]string{
			{"Location", "relative", "Content-Location", "http://a.example/absolute"}, {"Location", "HTTP://A.EXAMPLE:80/spelled"},
			{"Location", "http://c.example/elsewhere", "Content-Location", w.URL + "/server"},
		} {
			w.Handle(harness.Always(204, "", named...))
			w.Do(at("a.example", "PUT", "/target"))
		}
		w.Handle(get)
		for _, host := range hosts {
			var hits []string
			for _, path := range paths {
				if w.Do(at(host, "GET", path)).Status.Hit {
					hits = append(hits, path)
				}
			}
			want := paths
			if host == "a.example" {
				want = []string{"/elsewhere", "/server"}
			}
			harness.Check(w, "hits at "+host, hits, want)
		}
		// A response to a POST that describes its target is stored for the
		// target.
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			harness.Answer(rw, 200, "of "+r.Host, "Cache-Control", "max-age=60", "Content-Location", "http://a.example/post")
		})
		w.WantDo("200 of a.example | fwd=method; fwd-status=200; stored", at("a.example", "POST", "/post"))
		w.WantDo("200 of a.example | hit", at("a.example", "GET", "/post"))
		w.WantDo("200 of b.example | fwd=method; fwd-status=200", at("b.example", "POST", "/post"))
	})
}

func TestURLsThatCantBeStored(t *testing.T) {
	for _, c := range []*cachetrip.Transport{{}, {Store: store.NewMemory(0)}} {
		for _, url := range []string{"", "foo", "/path", "//host/path", "example.com/path", "host:80", "ftp://host/", "http:///path", "http:path", "http://%zz", "http://user:secret@/"} {
			for name, f := range map[string]func(context.Context, string) error{"Invalidate": c.Invalidate, "Purge": c.Purge} {
				if err := f(t.Context(), url); err == nil || strings.Contains(err.Error(), "secret") || !strings.HasPrefix(err.Error(), "cachetrip: ") {
					t.Errorf("%s(%q): %v", name, url, err)
				}
			}
		}
		if err := errors.Join(c.Invalidate(t.Context(), "HTTP://host"), c.Purge(t.Context(), "https://host/#f")); err != nil {
			t.Error(err)
		}
	}
}

func TestContentOfGet(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			harness.Answer(rw, 200, "to "+string(b), "Cache-Control", "max-age=60")
		})
		w.WantGet("200 to  | fwd=uri-miss; fwd-status=200; stored", "/")
		for range 2 {
			req := w.Request("GET", "/")
			body := &harness.Closing{Reader: strings.NewReader("question")}
			req.Body = body
			req.ContentLength = 8
			w.WantDo("200 to question | fwd=bypass; fwd-status=200; detail=content", req)
			if !body.Closed() {
				w.Error("the request's body was not closed")
			}
		}
		w.WantGet("200 to  | hit", "/")
	})
}

func TestTransparentDecompression(t *testing.T) {
	harness.EachProtocol(t, func(w *harness.World) {
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept-Encoding") != "gzip" {
				harness.Answer(rw, 200, "plain", "Cache-Control", "max-age=60", "Vary", "Accept-Encoding")
				return
			}
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			io.WriteString(z, "zipped")
			z.Close()
			harness.Answer(rw, 200, b.String(), "Cache-Control", "max-age=60", "Vary", "Accept-Encoding", "Content-Encoding", "gzip", "ETag", `"z"`)
		})
		for _, want := range []string{"200 zipped | fwd=uri-miss; fwd-status=200; stored", "200 zipped | hit"} {
			r := w.WantGet(want, "/")
			if !r.Response.Uncompressed || r.Response.ContentLength != -1 || r.Header.Get("Content-Encoding") != "" || r.Header.Get("Content-Length") != "" {
				w.Errorf("Uncompressed %v, ContentLength %d, header %v", r.Response.Uncompressed, r.Response.ContentLength, r.Header)
			}
		}
		// A caller that requests the coding gets the encoded body.
		for _, want := range []string{"| fwd=vary-miss; fwd-status=200; stored", "| hit"} {
			r := w.Get("/", "Accept-Encoding", "gzip")
			z, err := gzip.NewReader(strings.NewReader(r.Body))
			if err != nil {
				w.Fatal(err)
			}
			plain, _ := io.ReadAll(z)
			if string(plain) != "zipped" || r.Response.Uncompressed || r.Header.Get("Content-Encoding") != "gzip" || !strings.HasSuffix(r.String(), want) {
				w.Errorf("got %q, %+v, want %s", plain, r, want)
			}
		}
		w.WantGet("200 plain | fwd=vary-miss; fwd-status=200; stored", "/", "Accept-Encoding", "identity")
		w.WantGet("200 zipped | hit", "/")
	})
}

func TestInterimResponses(t *testing.T) {
	harness.EachProtocol(t, func(w *harness.World) {
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Link", "</style.css>; rel=preload")
			rw.WriteHeader(http.StatusEarlyHints)
			harness.Tagged(`"1"`, "content", "Cache-Control", "max-age=60")(rw, r)
		})
		for _, test := range []struct {
			control string
			want    []int
		}{
			{"", []int{103}},
			{"", nil},
			{"no-cache", []int{103}},
			{"no-store", []int{103}},
		} {
			var mu sync.Mutex
			var got []int
			req := w.Request("GET", "/", "Cache-Control", test.control)
			req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
				Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
					mu.Lock()
					defer mu.Unlock()
					got = append(got, code)
					return nil
				},
			}))
			r := w.Do(req)
			mu.Lock()
			harness.Check(w, "interim responses", got, test.want)
			mu.Unlock()
			harness.Check(w, "code", r.Code, 200)
		}
	})
}

func TestContextValuesReachBase(t *testing.T) {
	type key struct{}
	w := harness.NewWorld(t, harness.InMemory, harness.ServeLoopback)
	w.Handle(harness.Tagged(`"1"`, "content", "Cache-Control", "max-age=0, stale-while-revalidate=100"))
	base := w.Transport.Base
	var got atomic.Value
	w.Transport.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
		got.Store(fmt.Sprint(req.Context().Value(key{})))
		return base.RoundTrip(req)
	})
	for _, test := range []struct{ method, control string }{{"GET", ""}, {"GET", "no-cache"}, {"HEAD", "no-cache"}, {"POST", ""}, {"GET", "no-store"}} {
		req := w.Request(test.method, "/", "Cache-Control", test.control)
		value := test.method + test.control
		w.Do(req.WithContext(context.WithValue(req.Context(), key{}, value)))
		harness.Check(t, "the value that Base saw", got.Load(), any(value))
	}
	req := w.Request("GET", "/") // revalidated behind
	w.Do(req.WithContext(context.WithValue(req.Context(), key{}, "background")))
	w.Transport.Close()
	harness.Check(t, "the value that Base saw", got.Load(), any("background"))
}

func TestCancellation(t *testing.T) {
	errGone := errors.New("gone home")
	for _, test := range []struct {
		name string
		// run makes the request with ctx, which cancel ends, and returns the error.
		run func(w *harness.World, ctx context.Context, cancel context.CancelCauseFunc) error
	}{
		{"before", func(w *harness.World, ctx context.Context, cancel context.CancelCauseFunc) error {
			cancel(errGone)
			base := w.Transport.Base
			w.Transport.Base = harness.RoundTripperFunc(func(*http.Request) (*http.Response, error) {
				w.Error("Base was called")
				return nil, errGone
			})
			_, err := w.Try(w.Request("GET", "/").WithContext(ctx))
			time.Sleep(time.Millisecond)
			w.Transport.Base = base
			return err
		}},
		{"before a hit", func(w *harness.World, ctx context.Context, cancel context.CancelCauseFunc) error {
			w.Handle(harness.Always(200, "x", "Cache-Control", "max-age=60"))
			w.Get("/")
			w.Asked()
			cancel(errGone)
			_, err := w.Try(w.Request("GET", "/").WithContext(ctx))
			w.WantAsked(nil)
			return err
		}},
		{"before the head", func(w *harness.World, ctx context.Context, cancel context.CancelCauseFunc) error {
			w.Handle(func(rw http.ResponseWriter, r *http.Request) {
				cancel(errGone)
				<-r.Context().Done() // the origin is told
			})
			_, err := w.Try(w.Request("GET", "/").WithContext(ctx))
			return err
		}},
		{"after the head", func(w *harness.World, ctx context.Context, cancel context.CancelCauseFunc) error {
			w.Handle(func(rw http.ResponseWriter, r *http.Request) {
				harness.Answer(rw, 200, "beginning", "Cache-Control", "max-age=60")
				rw.(http.Flusher).Flush()
				<-r.Context().Done()
			})
			return readThenCancel(w, w.Request("GET", "/").WithContext(ctx), cancel, errGone)
		}},
		{"after the head of what is not stored", func(w *harness.World, ctx context.Context, cancel context.CancelCauseFunc) error {
			w.Handle(func(rw http.ResponseWriter, r *http.Request) {
				harness.Answer(rw, 200, "beginning", "Cache-Control", "no-store")
				rw.(http.Flusher).Flush()
				<-r.Context().Done()
			})
			return readThenCancel(w, w.Request("GET", "/").WithContext(ctx), cancel, errGone)
		}},
		{"after the head of a POST", func(w *harness.World, ctx context.Context, cancel context.CancelCauseFunc) error {
			w.Handle(func(rw http.ResponseWriter, r *http.Request) {
				harness.Answer(rw, 200, "beginning", "Cache-Control", "no-store")
				rw.(http.Flusher).Flush()
				<-r.Context().Done()
			})
			return readThenCancel(w, w.Request("POST", "/").WithContext(ctx), cancel, errGone)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachProtocol(t, func(w *harness.World) {
				ctx, cancel := context.WithCancelCause(context.Background())
				defer cancel(nil)
				err := test.run(w, ctx, cancel)
				if !errors.Is(err, errGone) && !errors.Is(err, context.Canceled) {
					w.Errorf("the error is %v, want that of the context", err)
				}
				// Nothing of it is in the way of the next one.
				w.Handle(harness.Always(200, "next", "Cache-Control", "max-age=60"))
				if r := w.Get("/next"); r.Body != "next" {
					w.Errorf("the next request got %v", r)
				}
				if r := w.Get("/"); r.Body == "beginning" {
					w.Errorf("what was cut off was stored: %v", r)
				}
			})
		})
	}
}

// readThenCancel reads the nine bytes of "beginning", cancels, and returns the
// error of the next read.
func readThenCancel(w *harness.World, req *http.Request, cancel context.CancelCauseFunc, cause error) error {
	w.Helper()
	resp, err := w.Client.Do(req)
	if err != nil {
		w.Fatal(err)
	}
	defer resp.Body.Close()
	b := make([]byte, 9)
	if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != "beginning" {
		w.Errorf("read %q, %v", b, err)
	}
	time.AfterFunc(10*time.Millisecond, func() { cancel(cause) })
	_, err = resp.Body.Read(b)
	return err
}

func TestDeadline(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-time.After(time.Minute):
				w.Error("the origin was not told that nobody waits")
			}
		})
		for _, client := range []*http.Client{
			{Transport: w.Transport, Timeout: 3 * time.Second},
			{Transport: w.Transport},
		} {
			start := time.Now()
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			_, err := client.Do(w.Request("GET", "/").WithContext(ctx))
			want := 5 * time.Second
			if client.Timeout > 0 {
				want = client.Timeout
			}
			var timeout interface{ Timeout() bool }
			if !errors.As(err, &timeout) || !timeout.Timeout() || time.Since(start) != want {
				w.Errorf("after %v: %v, want a timeout after %v", time.Since(start), err, want)
			}
			cancel()
			synctest.Wait()
		}
	})
}

func TestEndlessHeader(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				http.ReadRequest(bufio.NewReader(conn))
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n")
				line := "X-Endless: " + strings.Repeat("x", 1000) + "\r\n"
				for err == nil {
					_, err = io.WriteString(conn, line)
				}
			}()
		}
	}()
	w := harness.NewWorld(t, harness.OnDisk, harness.ServeLoopback)
	w.URL = "http://" + l.Addr().String()
	if r, err := w.Try(w.Request("GET", "/")); err == nil {
		t.Errorf("got a response with %d bytes of header", len(fmt.Sprint(r.Header)))
	}
	harness.Check(t, "Stats", w.Transport.Stats(), cachetrip.Stats{Requests: 1})
}

func TestReadingAfterCloseFails(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(harness.Tagged(`"1"`, strings.Repeat("x", 1<<20), "Cache-Control", "max-age=60"))
		for range 2 { // a miss and a hit
			resp, err := w.Client.Do(w.Request("GET", "/"))
			if err != nil {
				w.Fatal(err)
			}
			io.CopyN(io.Discard, resp.Body, 1000)
			if err := errors.Join(resp.Body.Close(), resp.Body.Close()); err != nil {
				w.Error(err)
			}
			if n, err := resp.Body.Read(make([]byte, 1)); n != 0 || err == nil || err == io.EOF {
				w.Errorf("Read after Close: %d, %v", n, err)
			}
			w.Get("/")
		}
	})
}

func TestEndOfBodiesIsRepeated(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(harness.Tagged(`"1"`, "content", "Cache-Control", "max-age=60"))
		for range 2 {
			resp, err := w.Client.Do(w.Request("GET", "/"))
			if err != nil {
				w.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			for range 3 {
				if n, err := resp.Body.Read(make([]byte, 10)); n != 0 || err != io.EOF {
					w.Errorf("Read at the end: %d, %v", n, err)
				}
			}
			resp.Body.Close()
		}
	})
}

// Callers that never read up to io.EOF, such as io.ReadFull with the known
// length, also read the body to its end.
func TestReadToTheLastByteStores(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		body := strings.Repeat("x", 100<<10)
		w.Handle(harness.Always(200, body, "Cache-Control", "max-age=60", "Content-Length", fmt.Sprint(len(body))))
		resp, err := w.Client.Do(w.Request("GET", "/"))
		if err != nil {
			w.Fatal(err)
		}
		if _, err := io.ReadFull(resp.Body, make([]byte, len(body))); err != nil {
			w.Error(err)
		}
		resp.Body.Close()
		if r := w.Get("/"); !r.Status.Hit || r.Body != body {
			w.Errorf("got %+v", r.Status)
		}
	})
}

func TestResponseHeadersAreTheCallers(t *testing.T) {
	// A change of one response's header does not show in the next response.
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(harness.Tagged(`"1"`, "content", "Cache-Control", "max-age=60", "X-List", "a", "X-List", "b"))
		for i := range 3 {
			r := w.Get("/")
			harness.Check(w, fmt.Sprint("X-List of response ", i), r.Header["X-List"], []string{"a", "b"})
			r.Header["X-List"][0] = "changed"
			r.Header.Set("ETag", "changed")
			r.Header.Del("Cache-Control")
		}
		harness.Check(w, "hits", w.Transport.Stats().Hits, uint64(2))
	})
}
