package sharing_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/store/storefault"
)

// Sharing one request to the origin: which callers share it, how long they
// wait, and what belongs to one caller alone.

// TestNobodyElsesPage: callers that ask at once and differ in a field that may
// identify them get a page each, even if the origin sends no Vary.
func TestNobodyElsesPage(t *testing.T) {
	for _, field := range []string{"Cookie", "Private-Token", "X-Team", "User-Agent", "Accept-Language"} {
		for _, directives := range []string{"max-age=0, private, must-revalidate", "max-age=0", "private", "no-cache", ""} {
			t.Run(field+", "+directives, func(t *testing.T) {
				harness.EachWorldInBubble(t, func(w *harness.World) {
					w.Handle(func(rw http.ResponseWriter, r *http.Request) {
						time.Sleep(time.Second)
						if directives != "" {
							rw.Header().Set("Cache-Control", directives)
						}
						page := harness.PageOf(r.Header.Get(field))
						harness.Tagged(strconv.Quote(page), page)(rw, r)
					})
					for range 3 { // on nothing, and on what is stored then
						users := []string{"user=alice-alice", "user=bob-bob-bob", "user=alice-alice", "user=carol-carol"}
						var reqs []*http.Request
						for _, user := range users {
							reqs = append(reqs, w.Request("GET", "/", field, user))
						}
						results, errs := w.Herd(reqs...)
						for i, user := range users {
							if errs[i] != nil {
								w.Fatal(errs[i])
							}
							if want := harness.PageOf(user); results[i].Body != want {
								w.Errorf("got %q (%s), want %q", results[i].Body, results[i], want)
							}
						}
					}
				})
			})
		}
	}
}

// TestAlikeShare: alike callers share a response that only lacks a lifetime,
// even if their requests differ in tracing fields.
func TestAlikeShare(t *testing.T) {
	for _, test := range []struct {
		name, directives string
		fields           func(i int) []string
		requests         int // of ten callers
	}{
		{"the same", "max-age=0", func(int) []string { return nil }, 1},
		{"the same cookie", "private", func(int) []string { return []string{"Cookie", "user=alice-alice"} }, 1},
		{"traced", "max-age=0", func(i int) []string {
			return []string{"Traceparent", strconv.Itoa(i), "X-Request-Id", strconv.Itoa(i), "X-B3-Traceid", strconv.Itoa(i)}
		}, 1},
		{"two users", "max-age=0", func(i int) []string { return []string{"Cookie", fmt.Sprintf("user=user-%d-user", i%2)} }, 2},
		{"two users, and a lifetime", "max-age=60", func(i int) []string { return []string{"Cookie", fmt.Sprintf("user=user-%d-user", i%2)} }, 1},
		{"must-revalidate", "max-age=0, must-revalidate", func(int) []string { return nil }, 10},
		{"must-revalidate, and a lifetime", "max-age=60, must-revalidate", func(int) []string { return nil }, 1},
		{"no-cache", "no-cache", func(int) []string { return nil }, 10},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachWorldInBubble(t, func(w *harness.World) {
				w.Handle(func(rw http.ResponseWriter, r *http.Request) {
					time.Sleep(time.Second)
					harness.Answer(rw, 200, "page", "Cache-Control", test.directives, "ETag", `"1"`)
				})
				var reqs []*http.Request
				for i := range 10 {
					reqs = append(reqs, w.Request("GET", "/", test.fields(i)...))
				}
				_, errs := w.Herd(reqs...)
				if err := errors.Join(errs...); err != nil {
					w.Error(err)
				}
				if n := len(w.Asked()); n != test.requests {
					w.Errorf("got %d requests, want %d", n, test.requests)
				}
			})
		})
	}
}

// TestSessionsAreNotShared: clients that each are to be given a new session are
// given one each.
func TestSessionsAreNotShared(t *testing.T) {
	for _, directives := range []string{"max-age=0", "private", "max-age=60", ""} {
		t.Run(directives, func(t *testing.T) {
			harness.EachWorldInBubble(t, func(w *harness.World) {
				var sessions atomic.Int32
				w.Handle(func(rw http.ResponseWriter, r *http.Request) {
					time.Sleep(time.Second)
					session := fmt.Sprintf("session-%d", sessions.Add(1))
					harness.Answer(rw, 200, "page", "Cache-Control", directives, "ETag", `"1"`, "Set-Cookie", "session="+session)
				})
				var wg sync.WaitGroup
				var mu sync.Mutex
				seen := make(map[string]int)
				for range 4 {
					jar, err := cookiejar.New(nil)
					if err != nil {
						w.Fatal(err)
					}
					client := &http.Client{Transport: w.Transport, Jar: jar}
					wg.Go(func() {
						resp, err := client.Get(w.URL)
						if err != nil {
							w.Error(err)
							return
						}
						resp.Body.Close()
						for _, cookie := range jar.Cookies(resp.Request.URL) {
							mu.Lock()
							seen[cookie.Value]++
							mu.Unlock()
						}
					})
				}
				wg.Wait()
				harness.Check(w, "sessions", seen, map[string]int{"session-1": 1, "session-2": 1, "session-3": 1, "session-4": 1})
			})
		})
	}
}

// hang answers as far as a hung connection does: it stops before the header, or
// in the middle of the body.
func hang(rw http.ResponseWriter, r *http.Request, body string, fields ...string) {
	if body != "" {
		for i := 0; i < len(fields); i += 2 {
			rw.Header().Add(fields[i], fields[i+1])
		}
		rw.Header().Set("Content-Length", strconv.Itoa(2*len(body)))
		io.WriteString(rw, body)
		rw.(http.Flusher).Flush()
	}
	<-r.Context().Done()
}

// TestHungConnection: the connection of a caller without a deadline hangs.
// Later callers with a deadline get their response in time, as without a cache:
// at first after some patience, then at once.
func TestHungConnection(t *testing.T) {
	half := strings.Repeat("half", 50_000)
	for _, test := range []struct {
		name   string
		stored bool
		part   string   // the bytes before it hangs
		fields []string // of all responses
		codes  bool     // Base asks for a coding by itself, and does not tell lengths
	}{
		{name: "before the header", fields: []string{"Cache-Control", "max-age=60"}},
		{name: "in a revalidation", stored: true, fields: []string{"Cache-Control", "max-age=0", "ETag", `"1"`}},
		{name: "in the body", part: half, fields: []string{"Cache-Control", "max-age=60"}},
		{name: "in the body, with a validator", part: half, fields: []string{"Cache-Control", "max-age=60", "ETag", `"1"`}},
		{name: "in the body, with a validator and ranges", part: half, fields: []string{"Cache-Control", "max-age=60", "ETag", `"1"`, "Accept-Ranges", "bytes"}},
		{name: "in the body, of a transport that decodes", part: half, fields: []string{"Cache-Control", "max-age=60", "ETag", `"1"`}, codes: true},
		{name: "in the body, with a date", part: half, fields: []string{"Cache-Control", "max-age=60", "Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachWorldInBubble(t, func(w *harness.World) {
				whole := func(rw http.ResponseWriter, r *http.Request) {
					for i := 0; i < len(test.fields); i += 2 {
						rw.Header().Add(test.fields[i], test.fields[i+1])
					}
					http.ServeContent(rw, r, "page.txt", time.Time{}, strings.NewReader(half+half))
				}
				if test.codes {
					w.Transport.Base = asksForGzip{w.Transport.Base}
				}
				if test.stored {
					w.Handle(whole)
					w.Get("/")
				}
				w.Handle(harness.InTurn(func(rw http.ResponseWriter, r *http.Request) { hang(rw, r, test.part, test.fields...) }, whole))
				ctx, cancel := context.WithCancel(w.Context())
				stuck := make(chan error)
				go func() {
					_, err := w.Try(w.Request("GET", "/").WithContext(ctx))
					stuck <- err
				}()
				synctest.Wait()
				w.Asked()
				for round := range 2 {
					var reqs []*http.Request
					start := time.Now()
					for range 5 {
						ctx, cancel := context.WithTimeout(w.Context(), 500*time.Millisecond)
						defer cancel()
						reqs = append(reqs, w.Request("GET", "/").WithContext(ctx))
					}
					results, errs := w.Herd(reqs...)
					for i, r := range results {
						if errs[i] != nil {
							w.Error(errs[i])
						} else if r.Body != half+half {
							w.Errorf("got %d bytes, want %d", len(r.Body), 2*len(half))
						}
					}
					if took := time.Since(start); round == 1 && took > 0 {
						w.Errorf("round %d took %v: it waited for the hung one", round, took)
					}
					if n := len(w.Asked()); n > 6 {
						w.Errorf("round %d: got %d requests for 5 callers", round, n)
					}
				}
				cancel()
				if err := <-stuck; !errors.Is(err, context.Canceled) {
					w.Errorf("the one that hung: %v", err)
				}
			})
		})
	}
}

// asksForGzip is a transport that asks for a coding by itself, and would decode
// it.
type asksForGzip struct{ http.RoundTripper }

func (b asksForGzip) RoundTrip(req *http.Request) (*http.Response, error) {
	own := req.Clone(req.Context())
	own.Header.Set("Accept-Encoding", "gzip")
	resp, err := b.RoundTripper.RoundTrip(own)
	if err == nil {
		delete(resp.Header, "Content-Length")
		resp.ContentLength = -1
	}
	return resp, err
}

// TestWholeInsteadOfARangeHangs: the origin takes no notice of a range, and
// hangs while it sends the whole. Callers that have joined get the rest,
// although the origin honours the range when it is asked again.
func TestWholeInsteadOfARangeHangs(t *testing.T) {
	body := strings.Repeat("half", 100_000)
	fields := []string{"Cache-Control", "max-age=60", "ETag", `"1"`, "Accept-Ranges", "bytes"}
	harness.EachWorldInBubble(t, func(w *harness.World) {
		w.Handle(harness.InTurn(func(rw http.ResponseWriter, r *http.Request) { hang(rw, r, body[:len(body)/2], fields...) }, harness.Tagged(`"1"`, body, fields...)))
		ctx, cancel := context.WithCancel(w.Context())
		defer cancel()
		go w.Try(w.Request("GET", "/", "Range", "bytes=5-").WithContext(ctx))
		synctest.Wait()
		within, stop := context.WithTimeout(w.Context(), 500*time.Millisecond)
		defer stop()
		if r, err := w.Try(w.Request("GET", "/", "Range", "bytes=5-").WithContext(within)); err != nil || r.Code != 200 || r.Body != body {
			w.Errorf("got %v, %v", r != nil, err)
		}
	})
}

// TestStalledAndChanged: a shared body stalls, and the origin has another one
// by then. A caller that has joined gets the first response if it goes on soon,
// or else an error. Nobody gets a mixture.
func TestStalledAndChanged(t *testing.T) {
	first, second := strings.Repeat("1", 200_000), strings.Repeat("2", 200_000)
	for _, test := range []struct {
		pause time.Duration // in the middle of the first body
		want  error
	}{
		{20 * time.Second, nil},
		{time.Hour, io.ErrUnexpectedEOF},
	} {
		t.Run(test.pause.String(), func(t *testing.T) {
			harness.EachWorldInBubble(t, func(w *harness.World) {
				w.Handle(harness.InTurn(func(rw http.ResponseWriter, r *http.Request) {
					rw.Header().Set("Cache-Control", "max-age=60")
					rw.Header().Set("Content-Length", strconv.Itoa(len(first)))
					io.WriteString(rw, first[:100_000])
					rw.(http.Flusher).Flush()
					time.Sleep(test.pause)
					io.WriteString(rw, first[100_000:])
				}, harness.Always(200, second, "Cache-Control", "max-age=60")))
				leads := make(chan string)
				go func() { leads <- w.Get("/").Body }()
				synctest.Wait()
				start := time.Now()
				resp, err := w.Client.Do(w.Request("GET", "/"))
				if err != nil {
					w.Fatal(err)
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if !errors.Is(err, test.want) || string(got) != first[:len(got)] || err == nil && len(got) != len(first) {
					w.Errorf("got %d bytes, %v", len(got), err)
				}
				if took := time.Since(start); took > time.Minute {
					w.Errorf("took %v", took)
				}
				if got := <-leads; got != first {
					w.Errorf("the first got %d bytes", len(got))
				}
			})
		})
	}
}

// TestRestForAnother: a user reads another user's page along, and the rest of
// the page does not come. Both have pages of one date. Nobody gets a mixture.
func TestRestForAnother(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		page := func(r *http.Request) string { return strings.Repeat(r.Header.Get("Cookie")[5:6], 100_000) }
		first := true
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Cache-Control", "max-age=60")
			rw.Header().Set("Last-Modified", "Fri, 01 Jan 1999 00:00:00 GMT")
			if first {
				first = false
				content := page(r)
				rw.Header().Set("Content-Length", strconv.Itoa(len(content)))
				rw.Header().Set("Accept-Ranges", "bytes")
				io.WriteString(rw, content[:len(content)/2])
				rw.(http.Flusher).Flush()
				<-r.Context().Done()
				return
			}
			rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
			http.ServeContent(rw, r, "", time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), strings.NewReader(page(r)))
		})
		ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
		defer cancel()
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.Try(w.Request("GET", "/", "Cookie", "user=alice-alice-alice").WithContext(ctx))
		}()
		synctest.Wait()
		r, err := w.Try(w.Request("GET", "/", "Cookie", "user=bobby-bobby-bobby"))
		if alice := strings.Repeat("a", 100_000); err == nil || !strings.HasPrefix(alice, r.Body) {
			w.Errorf("got %d bytes, %v", len(r.Body), err)
		}
		<-done
	})
}

// TestWaitingInLine: a request for a slow response that is not shared waits for
// another request only for a part of its own time. Once that is known, it does
// not wait at all.
func TestWaitingInLine(t *testing.T) {
	for _, test := range []struct {
		name   string
		fields []string
	}{
		{"no-store", []string{"Cache-Control", "no-store"}},
		{"nothing said", nil},
		{"a session", []string{"Cache-Control", "private", "ETag", `"1"`, "Set-Cookie", "session=session-session"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachWorldInBubble(t, func(w *harness.World) {
				w.Handle(func(rw http.ResponseWriter, r *http.Request) {
					time.Sleep(2 * time.Second)
					harness.Answer(rw, 200, "news", test.fields...)
				})
				client := *w.Client
				client.Timeout = 3 * time.Second
				for round := range 2 {
					start := time.Now()
					var wg sync.WaitGroup
					for range 3 {
						wg.Go(func() {
							resp, err := client.Get(w.URL)
							if err != nil {
								w.Error(err)
								return
							}
							defer resp.Body.Close()
							if got, err := io.ReadAll(resp.Body); string(got) != "news" || err != nil {
								w.Errorf("got %q, %v", got, err)
							}
						})
					}
					wg.Wait()
					if took := time.Since(start); round == 1 && took != 2*time.Second {
						w.Errorf("the second round took %v, want 2s", took)
					}
				}
			})
		})
	}
}

// TestShareTimeout: how long to wait is the owner's to say.
func TestShareTimeout(t *testing.T) {
	for _, test := range []struct {
		timeout time.Duration
		want    time.Duration // until an answer comes
	}{
		{0, 5*time.Second + time.Second}, {2 * time.Second, 3 * time.Second}, {-1, time.Second}, {time.Hour, 20 * time.Second},
	} {
		t.Run(test.timeout.String(), func(t *testing.T) {
			harness.EachWorldInBubble(t, func(w *harness.World) {
				w.Transport.ShareTimeout = test.timeout
				slow := func(pause time.Duration) http.HandlerFunc {
					return func(rw http.ResponseWriter, r *http.Request) {
						time.Sleep(pause)
						harness.Answer(rw, 200, "page", "Cache-Control", "max-age=60")
					}
				}
				w.Handle(harness.InTurn(slow(20*time.Second), slow(time.Second)))
				go w.Get("/")
				synctest.Wait()
				start := time.Now()
				w.Get("/")
				if took := time.Since(start); took != test.want {
					w.Errorf("took %v, want %v", took, test.want)
				}
				time.Sleep(time.Minute)
			})
		})
	}
}

// TestTheLeadersResponseIsItsCallers: callers that share a response do not see
// what the leader's caller does with it, even without a body.
func TestTheLeadersResponseIsItsCallers(t *testing.T) {
	for _, code := range []int{200, 204} {
		for _, conditional := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d, %t", code, conditional), func(t *testing.T) {
				harness.EachWorld(t, func(w *harness.World) {
					release := make(chan struct{})
					w.Handle(func(rw http.ResponseWriter, r *http.Request) {
						<-release
						harness.Answer(rw, code, "", "Cache-Control", "max-age=60", "ETag", `"1"`, "X-Field", "value")
					})
					const callers = 20
					var wg sync.WaitGroup
					for i := range callers {
						wg.Go(func() {
							var fields []string
							if conditional && i > 0 {
								fields = []string{"If-None-Match", `"1"`}
							}
							resp, err := w.Transport.RoundTrip(w.Request("GET", "/", fields...))
							if err != nil {
								w.Error(err)
								return
							}
							defer resp.Body.Close()
							if got := resp.StatusCode; got != code && got != 304 {
								w.Errorf("got status %d, want %d", got, code)
							}
							if got := resp.Header.Get("X-Field"); got != "value" {
								w.Errorf("got %q", got)
							}
							resp.StatusCode, resp.Status = 599, "599 Rewritten"
							resp.Header.Set("X-Field", "changed")
							resp.Header["Etag"][0] = "changed"
							clear(resp.Header)
							resp.Header = nil
							resp.Trailer = http.Header{"X": nil}
						})
					}
					harness.Soon(w, "all ask", func() bool { return w.Transport.Stats().Requests == callers })
					time.Sleep(10 * time.Millisecond)
					close(release)
					wg.Wait()
				})
			})
		}
	}
}

// TestErrorsAreNotShared: an error of a hook, a connection or a context goes
// only to its own caller. Others ask for themselves, and are not even given
// something stale because of it.
func TestErrorsAreNotShared(t *testing.T) {
	for _, kind := range []string{"hook", "connection", "deadline", "panic"} {
		for _, stored := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, %t", kind, stored), func(t *testing.T) {
				harness.EachWorldInBubble(t, func(w *harness.World) {
					version := harness.Tagged(`"1"`, "old", "Cache-Control", "max-age=0, stale-if-error=1000")
					w.Handle(version)
					if stored {
						w.Get("/")
					}
					var failures atomic.Int32
					failures.Store(1)
					base := w.Transport.Base
					w.Transport.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
						time.Sleep(time.Second)
						if kind == "hook" || failures.Add(-1) < 0 {
							return base.RoundTrip(req)
						}
						switch kind {
						case "panic":
							panic(http.ErrAbortHandler)
						case "deadline":
							return nil, context.DeadlineExceeded
						}
						return nil, errors.New("connection reset")
					})
					w.Transport.ModifyResponse = func(*http.Response) error {
						if kind == "hook" && failures.Add(-1) >= 0 {
							return errors.New("the hook of one")
						}
						return nil
					}
					w.Handle(harness.Tagged(`"2"`, "new", "Cache-Control", "max-age=60"))
					go func() {
						defer func() { recover() }()
						w.Try(w.Request("GET", "/"))
					}()
					synctest.Wait()
					var reqs []*http.Request
					for range 5 {
						reqs = append(reqs, w.Request("GET", "/"))
					}
					results, errs := w.Herd(reqs...)
					for i, r := range results {
						if errs[i] != nil {
							w.Errorf("got the error of another one: %v", errs[i])
						} else if r.Body != "new" {
							w.Errorf("got %s", r)
						}
					}
				})
			})
		}
	}
}

// TestFailingOriginIsAskedByFewAtOnce: after a failure the waiting callers ask
// a few at a time. Each gets a response of its own, or shares a later one that
// can be shared.
func TestFailingOriginIsAskedByFewAtOnce(t *testing.T) {
	const callers = 50
	for _, test := range []struct {
		name     string
		fail     func(rw http.ResponseWriter, r *http.Request)
		failures int32
	}{
		{"503", func(rw http.ResponseWriter, r *http.Request) { harness.Answer(rw, 503, "busy") }, 1000},
		{"hangs up", func(rw http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, 1000},
		{"503 at first", func(rw http.ResponseWriter, r *http.Request) { harness.Answer(rw, 503, "busy") }, 1},
		{"hangs up at first", func(rw http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachWorldInBubble(t, func(w *harness.World) {
				var now, most, all atomic.Int32
				w.Handle(func(rw http.ResponseWriter, r *http.Request) {
					n := now.Add(1)
					defer now.Add(-1)
					for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
					}
					time.Sleep(10 * time.Millisecond)
					if all.Add(1) <= test.failures {
						test.fail(rw, r)
						return
					}
					harness.Answer(rw, 200, "page", "Cache-Control", "max-age=60")
				})
				var reqs []*http.Request
				for i := range callers {
					reqs = append(reqs, w.Request("GET", "/", "Cookie", fmt.Sprintf("user=user-%d-user", i)))
				}
				results, errs := w.Herd(reqs...)
				answers := make(map[string]int)
				for i, r := range results {
					if errs[i] != nil {
						answers["error"]++
					} else {
						answers[r.Body]++
					}
				}
				if n := slices.Collect(maps.Values(answers)); len(n) == 0 {
					w.Error("no answers")
				}
				if failed := int32(answers["error"] + answers["busy"]); failed > test.failures {
					w.Errorf("got %v", answers)
				}
				if most.Load() > 5 {
					w.Errorf("got %d requests at once, want 5 at most", most.Load())
				}
				if n := len(w.Asked()); n > callers {
					w.Errorf("got %d requests for %d callers", n, callers)
				}
			})
		})
	}
}

// TestFailedRefreshBacksOff: a revalidation behind a stale response that fails
// is not tried again at every hit.
func TestFailedRefreshBacksOff(t *testing.T) {
	for _, test := range []struct {
		name string
		fail http.HandlerFunc
	}{
		{"503", harness.Always(503, "busy")},
		{"429", harness.Always(429, "too many")},
		{"hangs up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachWorldInBubble(t, func(w *harness.World) {
				good := harness.Tagged(`"1"`, "page", "Cache-Control", "max-age=1, stale-while-revalidate=1000")
				w.Handle(good)
				w.Get("/")
				w.Handle(test.fail)
				w.Asked()
				hits := func(n int) (requests int) {
					for range n {
						if r := w.Get("/"); r.Body != "page" || !r.Status.Hit {
							w.Errorf("got %s", r)
						}
						synctest.Wait()
						time.Sleep(100 * time.Millisecond)
					}
					return len(w.Asked())
				}
				time.Sleep(2 * time.Second)
				if n := hits(100); n < 2 || n > 5 {
					w.Errorf("got %d requests for 100 hits in 10 s, want 2 to 5", n)
				}
				w.Handle(good)
				time.Sleep(time.Minute)
				if n := hits(1); n != 1 {
					w.Errorf("got %d requests, want 1", n)
				}
				time.Sleep(2 * time.Second)
				if n := hits(5); n != 1 {
					w.Errorf("after a success: got %d requests, want 1", n)
				}
			})
		})
	}
}

// TestBaseSeesTheDeadline: a transport below that would rather refuse than be
// late can.
func TestBaseSeesTheDeadline(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		var deadline time.Time
		var ok bool
		base := w.Transport.Base
		w.Transport.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
			deadline, ok = req.Context().Deadline()
			return base.RoundTrip(req)
		})
		for i, directives := range []string{"max-age=0", "max-age=0", "no-store"} { // a miss, a revalidation, a miss
			w.Handle(harness.Tagged(`"1"`, "page", "Cache-Control", directives))
			ctx, cancel := context.WithTimeout(w.Context(), 10*time.Second)
			want, _ := ctx.Deadline()
			w.Do(w.Request("GET", "/").WithContext(ctx))
			cancel()
			if !ok || !deadline.Equal(want) {
				w.Errorf("%d: got %v, %t, want %v", i, deadline, ok, want)
			}
		}
		w.Get("/")
		if ok {
			w.Errorf("got %v, and the caller has none", deadline)
		}
	})
}

// TestDraftThatCantBeReadBack: bytes of a draft that the store has lost come
// from the origin.
func TestDraftThatCantBeReadBack(t *testing.T) {
	body := string(harness.Noise(500_000, 7))
	for _, fields := range [][]string{
		{"Cache-Control", "max-age=60", "ETag", `"1"`},
		{"Cache-Control", "max-age=60"},
	} {
		for _, from := range []int64{0, 100_000} {
			t.Run(fmt.Sprintf("%d fields, from %d", len(fields), from), func(t *testing.T) {
				harness.EachWorld(t, func(w *harness.World) {
					faulty := storefault.Wrap(w.Store)
					faulty.Inject(storefault.Beyond(from, syscall.EIO), storefault.DraftReadAt)
					w.Transport.Store = faulty
					w.Handle(func(rw http.ResponseWriter, r *http.Request) {
						for i := 0; i < len(fields); i += 2 {
							rw.Header().Add(fields[i], fields[i+1])
						}
						http.ServeContent(rw, r, "page.txt", time.Time{}, strings.NewReader(body))
					})
					r, err := w.Try(w.Request("GET", "/"))
					if err != nil {
						w.Fatal(err)
					}
					if r.Body != body {
						w.Errorf("got %d bytes, want %d", len(r.Body), len(body))
					}
				})
			})
		}
	}
}

// TestManyReadersOfOneBody: several goroutines may read a body, and each byte
// is given to one of them.
func TestManyReadersOfOneBody(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		const size = 2_000_000
		body := make([]byte, size)
		for i := range body {
			body[i] = byte(i / 8 % 251)
		}
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Cache-Control", "max-age=60")
			rw.Write(body)
		})
		resp, err := w.Client.Get(w.URL)
		if err != nil {
			w.Fatal(err)
		}
		var wg sync.WaitGroup
		var taken atomic.Int64
		var counts [256]atomic.Int64
		for range 4 {
			wg.Go(func() {
				piece := make([]byte, 8)
				for {
					n, err := resp.Body.Read(piece)
					taken.Add(int64(n))
					for _, b := range piece[:n] {
						counts[b].Add(1)
					}
					if err != nil {
						return
					}
				}
			})
		}
		wg.Wait()
		resp.Body.Close()
		if taken.Load() != size {
			w.Errorf("got %d bytes, want %d", taken.Load(), size)
		}
		var want [256]int64
		for _, b := range body {
			want[b]++
		}
		for b := range want {
			if got := counts[b].Load(); got != want[b] {
				w.Errorf("got %d bytes of value %d, want %d", got, b, want[b])
				break
			}
		}
	})
}
