package contract_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/internal/patience"
)

// QUERY (RFC 10008), and POST by Policy.CacheContent: the content is part of
// the key.

// closing is a body that counts how often it is closed.
type closing struct {
	io.Reader
	closed atomic.Int32
}

func (b *closing) Close() error {
	b.closed.Add(1)
	return nil
}

// query returns a request with content. With getBody it can be read again;
// otherwise it is a stream.
func query(w *harness.World, method, path, content string, getBody bool, fields ...string) (*http.Request, *closing) {
	w.Helper()
	req := w.Request(method, path, fields...)
	body := &closing{Reader: strings.NewReader(content)}
	req.Body = body
	if getBody {
		req.ContentLength = int64(len(content))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }
	}
	return req, body
}

// echo answers with the content of the request.
func echo(fields ...string) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		for i := 0; i < len(fields); i += 2 {
			rw.Header().Set(fields[i], fields[i+1])
		}
		content, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		sum := fmt.Sprint(len(content), " ")
		rw.Write(append([]byte(sum), content[:min(len(content), 10)]...))
	}
}

// eachContentMethod runs a test with the two methods whose content counts.
func eachContentMethod(t *testing.T, test func(w *harness.World, method string)) {
	for _, method := range []string{"QUERY", "POST"} {
		t.Run(method, func(t *testing.T) {
			harness.EachWorld(t, func(w *harness.World) {
				w.Transport.Policy = func(req *http.Request) cachetrip.Policy {
					return cachetrip.Policy{CacheContent: req.Header.Get("Changes") == ""}
				}
				test(w, method)
			})
		})
	}
}

func TestQueryIsCachedByContent(t *testing.T) {
	const first, stored = "fwd=uri-miss; fwd-status=200; stored", "hit"
	for _, getBody := range []bool{false, true} {
		t.Run(fmt.Sprint("GetBody ", getBody), func(t *testing.T) {
			eachContentMethod(t, func(w *harness.World, method string) {
				w.Handle(echo("Cache-Control", "max-age=60"))
				large := strings.Repeat("x", 64<<10)
				for _, step := range []struct {
					content string
					fields  []string
					want    string
				}{
					{"abc", []string{"Content-Type", "text/plain"}, first},
					{"abc", []string{"Content-Type", "text/plain"}, stored},
					{"abd", []string{"Content-Type", "text/plain"}, first},
					{"abc", []string{"Content-Type", "text/html"}, first},
					{"abc", nil, first},
					{"abc", []string{"Content-Encoding", "x"}, first},
					{"abc", []string{"Content-Language", "x"}, first},
					{"abc", []string{"Content-Location", "x"}, first},
					{"abc", []string{"Authorization", "Bearer token-of-one"}, first},
					{"abc", []string{"Authorization", "Bearer token-of-one"}, stored},
					{"", nil, first},
					{"", nil, stored},
					{large, nil, first},
					{large, nil, stored},
				} {
					req, body := query(w, method, "/", step.content, getBody, step.fields...)
					r := w.WantDo(fmt.Sprintf("200 %d %s | %s", len(step.content), step.content[:min(10, len(step.content))], step.want), req)
					if n := body.closed.Load(); n != 1 {
						w.Errorf("%v: the body was closed %d times", step.fields, n)
					}
					if r.Response.Request != req {
						w.Error("Response.Request is not the request")
					}
				}
				other := map[string]string{"QUERY": "POST", "POST": "QUERY"}[method]
				req, _ := query(w, other, "/", "abc", getBody, "Content-Type", "text/plain")
				w.WantDo("200 3 abc | "+first, req)
				w.WantGet("200 0  | "+first, "/") // a GET is never answered by one
			})
		})
	}
}

// TestQueryContentTooLong tests that content that cannot be known is sent as it
// is.
func TestQueryContentTooLong(t *testing.T) {
	eachContentMethod(t, func(w *harness.World, method string) {
		w.Handle(echo("Cache-Control", "max-age=60"))
		long := strings.Repeat("y", 64<<10+1)
		for range 2 {
			req, body := query(w, method, "/", long, false)
			w.WantDo("200 65537 yyyyyyyyyy | fwd=bypass; fwd-status=200; detail=content-unknown", req)
			harness.Check(w, "closed", body.closed.Load(), int32(1))
		}
		req, _ := query(w, method, "/", "abc", false) // what only reads invalidates nothing
		w.WantDo("200 3 abc | fwd=uri-miss; fwd-status=200; stored", req)
		req, _ = query(w, method, "/", long, false)
		w.Do(req)
		req, _ = query(w, method, "/", "abc", false)
		w.WantDo("200 3 abc | hit", req)
		req, body := query(w, method, "/", long, false)
		req.Header.Set("Cache-Control", "only-if-cached")
		harness.Check(w, "code", w.Do(req).Code, 504)
		harness.Check(w, "closed", body.closed.Load(), int32(1))
	})
}

// TestQueryContentThatFails tests bodies that break or lie about their length.
func TestQueryContentThatFails(t *testing.T) {
	errBroken := errors.New("the disk is gone")
	eachContentMethod(t, func(w *harness.World, method string) {
		w.Handle(echo("Cache-Control", "max-age=60"))
		req, body := query(w, method, "/", "", false)
		body.Reader = io.MultiReader(strings.NewReader("abc"), failing{errBroken})
		if _, err := w.Try(req); !errors.Is(err, errBroken) {
			w.Errorf("error %v, want %v", err, errBroken)
		}
		harness.Check(w, "closed", body.closed.Load(), int32(1))
		for _, length := range []int64{2, 4} {
			req, _ := query(w, method, "/", "abc", false)
			req.ContentLength = length
			w.Try(req) // it may fail, as without a cache
		}
		stored := 0
		for range w.Transport.Entries(w.Context(), "") {
			stored++
		}
		harness.Check(w, "stored", stored, 0)
		// Content that has changed since it was looked up.
		content := []byte("abc")
		req, _ = query(w, method, "/", "abc", false)
		req.GetBody = func() (io.ReadCloser, error) {
			defer func() { content[0]++ }()
			return io.NopCloser(bytes.NewReader(bytes.Clone(content))), nil
		}
		if r, err := w.Try(req); err == nil {
			w.Errorf("changed content: %v", r)
		}
	})
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestQueryWaitsForNobody tests a body that does not come before the caller's
// deadline.
func TestQueryWaitsForNobody(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		w.Client.Timeout = time.Second
		pipe, writer := io.Pipe()
		defer writer.Close()
		req := w.Request("QUERY", "/")
		req.Body = pipe
		start := time.Now()
		if r, err := w.Try(req); err == nil {
			w.Errorf("got %v", r)
		}
		if d := time.Since(start); d > time.Second+20*time.Millisecond {
			w.Errorf("it took %v", d)
		}
	})
}

func TestConditionalQuery(t *testing.T) {
	eachContentMethod(t, func(w *harness.World, method string) {
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			content, _ := io.ReadAll(r.Body)
			tag := fmt.Sprintf("%q", content)
			rw.Header().Set("ETag", tag)
			rw.Header().Set("Cache-Control", "max-age=0")
			if r.Header.Get("If-None-Match") == tag {
				rw.WriteHeader(304)
				return
			}
			rw.Write(content)
		})
		ask := func(want string, fields ...string) {
			w.Helper()
			req, _ := query(w, method, "/", "abc", false, fields...)
			w.WantDo(want, req)
		}
		ask("200 abc | fwd=uri-miss; fwd-status=200; stored")
		ask("200 abc | fwd=stale; fwd-status=304; stored")
		ask("304  | fwd=stale; fwd-status=304; stored", "If-None-Match", `"abc"`)
		ask("304  | hit; detail=max-stale", "If-None-Match", `"abc"`, "Cache-Control", "max-stale")
	})
}

// TestQueryIsRepeated tests an origin that refuses the conditions that the
// cache adds: the request is repeated with its content.
func TestQueryIsRepeated(t *testing.T) {
	eachContentMethod(t, func(w *harness.World, method string) {
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			if r.Header.Get("If-None-Match") != "" {
				io.Copy(io.Discard, r.Body)
				rw.WriteHeader(400)
				return
			}
			echo("ETag", `"1"`, "Cache-Control", "max-age=0")(rw, r)
		})
		for _, want := range []string{
			"200 3 abc | fwd=uri-miss; fwd-status=200; stored",
			"200 3 abc | fwd=stale; fwd-status=200; stored; detail=conditions-refused",
		} {
			req, _ := query(w, method, "/", "abc", false)
			w.WantDo(want, req)
		}
	})
}

// TestQueryIsInvalidated tests which requests invalidate the answers to
// queries, and that queries invalidate nothing.
func TestQueryIsInvalidated(t *testing.T) {
	eachContentMethod(t, func(w *harness.World, method string) {
		w.Handle(echo("Cache-Control", "max-age=60", "Location", "/named", "Content-Location", "/named"))
		ask := func(content string) string {
			req, _ := query(w, method, "/", content, false)
			return w.Do(req).String()
		}
		w.Get("/")
		w.Get("/named")
		ask("abc")
		ask("abd")
		w.WantGet("200 0  | hit", "/")
		w.WantGet("200 0  | hit", "/named")
		harness.Check(w, "again", ask("abc"), "200 3 abc | hit")
		req, _ := query(w, "POST", "/", "abc", false, "Changes", "something")
		w.WantDo("200 3 abc | fwd=method; fwd-status=200", req)
		harness.Check(w, "after a POST", ask("abc"), "200 3 abc | fwd=stale; fwd-status=200; stored; detail=invalidated")
		harness.Check(w, "after a POST", ask("abd"), "200 3 abd | fwd=stale; fwd-status=200; stored; detail=invalidated")
		harness.Check(w, "Purge", w.Transport.Purge(w.Context(), w.URL+"/"), nil)
		harness.Check(w, "after Purge", ask("abd"), "200 3 abd | fwd=uri-miss; fwd-status=200; stored")
		harness.Check(w, "Invalidate", w.Transport.Invalidate(w.Context(), w.URL+"/"), nil)
		harness.Check(w, "after Invalidate", ask("abd"), "200 3 abd | fwd=stale; fwd-status=200; stored; detail=invalidated")
	})
}

// TestQueryRedirects tests that redirects lead where net/http leads them, with
// the content.
func TestQueryRedirects(t *testing.T) {
	for code, want := range map[int]string{
		301: "GET 0 ", 302: "GET 0 ", 303: "GET 0 ", 307: "QUERY 3 abc", 308: "QUERY 3 abc",
	} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			harness.EachWorld(t, func(w *harness.World) {
				w.Client.CheckRedirect = nil
				w.Handle(func(rw http.ResponseWriter, r *http.Request) {
					rw.Header().Set("Cache-Control", "max-age=60")
					if r.URL.Path == "/" {
						http.Redirect(rw, r, "/to", code)
						return
					}
					fmt.Fprintf(rw, "%s ", r.Method)
					echo()(rw, r)
				})
				for range 2 {
					req, _ := query(w, "QUERY", "/", "abc", true)
					harness.Check(w, "the body", w.Do(req).Body, want)
				}
				harness.Check(w, "requests", w.Count(), 2)
			})
		})
	}
}

// TestQueryTogether tests that queries with the same content share one request,
// and others do not.
func TestQueryTogether(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			echo("Cache-Control", "max-age=60")(rw, r)
		})
		var reqs []*http.Request
		for i := range 20 {
			req, _ := query(w, "QUERY", "/", fmt.Sprint("query ", i%2), i%3 == 0)
			reqs = append(reqs, req)
		}
		results, errs := w.Herd(reqs...)
		for i, r := range results {
			if want := fmt.Sprint("7 query ", i%2); errs[i] != nil || r.Body != want {
				w.Errorf("%d: %v, %v, want %q", i, r, errs[i], want)
			}
		}
		harness.Check(w, "requests", w.Count(), 2)
	})
}

// TestQueryBehind tests that a query is revalidated in the background with its
// content.
func TestQueryBehind(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		w.Handle(echo("Cache-Control", "max-age=1, stale-while-revalidate=60"))
		for _, want := range []string{
			"200 3 abc | fwd=uri-miss; fwd-status=200; stored", "200 3 abc | hit; detail=stale-while-revalidate", "200 3 abc | hit",
		} {
			req, _ := query(w, "QUERY", "/", "abc", false)
			w.WantDo(want, req)
			if strings.HasSuffix(want, "stored") {
				time.Sleep(1500 * time.Millisecond)
			}
			synctest.Wait() // the revalidation has ended
		}
	})
}

// TestExplainQuery tests that Explain leaves the body alone.
func TestExplainQuery(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(echo("Cache-Control", "max-age=60"))
		req, _ := query(w, "QUERY", "/", "abc", true)
		w.Do(req)
		for _, test := range []struct {
			getBody bool
			want    string
		}{{true, "serve"}, {false, "forward"}} {
			req, body := query(w, "QUERY", "/", "abc", test.getBody)
			e, err := w.Transport.Explain(req)
			if err != nil || e.Action != test.want {
				w.Errorf("action %q, %v", e.Action, err)
			}
			if left, _ := io.ReadAll(body); string(left) != "abc" || body.closed.Load() != 0 {
				w.Errorf("the body is %q, and closed %d times", left, body.closed.Load())
			}
		}
	})
}

// TestQueryThatTalks tests a QUERY whose content goes on after the origin has
// begun to answer. The cache waits for the content only as long as its patience
// lasts.
func TestQueryThatTalks(t *testing.T) {
	harness.EachProtocol(t, func(w *harness.World) {
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			http.NewResponseController(rw).EnableFullDuplex()
			first := make([]byte, 5)
			if _, err := io.ReadFull(r.Body, first); err != nil {
				return
			}
			rw.Write(first)
			rw.(http.Flusher).Flush()
			io.Copy(rw, r.Body)
		})
		// The cache waits for a quarter of the time. The deadline ends nothing.
		ctx := patience.Until(w.Context(), time.Now().Add(2*time.Second))
		body, writer := io.Pipe()
		req := w.Request("QUERY", "/").WithContext(ctx)
		req.Body = body
		go writer.Write([]byte("hello"))
		resp, err := w.Client.Do(req)
		if err != nil {
			w.Fatal(err)
		}
		defer resp.Body.Close()
		got := make([]byte, 5)
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != "hello" {
			w.Errorf("%q, %v", got, err)
		}
		go func() {
			io.WriteString(writer, ", and more")
			writer.Close()
		}()
		if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != ", and more" {
			w.Errorf("%q, %v", rest, err)
		}
	})
}
