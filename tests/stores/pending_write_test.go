package stores_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/storefault"
)

// heldUpdate is an Update that waits until the test opens it.
type heldUpdate struct {
	open    chan struct{}
	reached atomic.Bool
}

// hold holds the next Update up. reach, if not nil, says then what becomes of
// it.
func (w *pendingWorld) hold(reach func() error) *heldUpdate {
	h := &heldUpdate{open: make(chan struct{})}
	w.store.Inject(storefault.Nth(1, func(storefault.Call) error {
		h.reached.Store(true)
		<-h.open
		if reach == nil {
			return nil
		}
		return reach()
	}), storefault.Update)
	return h
}

// forgetfulStore decodes entries again at each look-up.
type forgetfulStore struct{ *storefault.Store }

func (s forgetfulStore) Entries(ctx context.Context, key string) ([]*store.Entry, error) {
	entries, err := s.Store.Entries(ctx, key)
	for i, e := range entries {
		entries[i] = e.Clone()
	}
	return entries, err
}

// pendingWorld is a cache with one response, which is stale, and confirmed by a
// 304 that makes it fresh for an hour.
type pendingWorld struct {
	*testing.T
	*cachetrip.Transport
	store *storefault.Store
	asked atomic.Int32
}

func newPendingWorld(t *testing.T) *pendingWorld {
	w := &pendingWorld{T: t, store: storefault.Wrap(store.NewMemory(0))}
	w.Transport = &cachetrip.Transport{Store: w.store, Base: harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
		n := w.asked.Add(1)
		resp := &http.Response{StatusCode: 200, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req, Header: http.Header{
			"Cache-Control": {"max-age=3600"}, "Date": {time.Now().UTC().Format(http.TimeFormat)}, "Etag": {`"1"`},
		}}
		if n == 1 {
			resp.Header.Set("Cache-Control", "max-age=60")
		}
		if req.Header.Get("If-None-Match") != "" {
			resp.StatusCode, resp.Body = 304, http.NoBody
		} else {
			resp.Body, resp.ContentLength = io.NopCloser(strings.NewReader("0123456789")), 10
		}
		return resp, nil
	})}
	w.want(cachetrip.Status{Fwd: "uri-miss", FwdStatus: 200, Stored: true, TTL: time.Minute}, "GET")
	time.Sleep(2 * time.Minute)
	return w
}

func (w *pendingWorld) send(ctx context.Context, method string, fields ...string) *http.Response {
	w.Helper()
	req, err := http.NewRequestWithContext(ctx, method, "http://example.com/", nil)
	if err != nil {
		w.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	resp, err := w.RoundTrip(req)
	if err != nil {
		w.Fatal(err)
	}
	return resp
}

// want reads the answer to a request to its end, and compares its status.
func (w *pendingWorld) want(want cachetrip.Status, method string, fields ...string) {
	w.Helper()
	resp := w.send(w.Context(), method, fields...)
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	harness.Check(w.T, "status code", resp.StatusCode, 200)
	if diff := cmp.Diff(want, cachetrip.StatusOf(resp)); diff != "" {
		w.Errorf("%s (-want +got):\n%s", method, diff)
	}
}

var (
	confirmedStored = cachetrip.Status{Fwd: "stale", FwdStatus: 304, Stored: true, TTL: time.Hour, Revalidated: true}
	confirmedLost   = cachetrip.Status{Fwd: "stale", FwdStatus: 304, TTL: time.Hour, Revalidated: true}
	confirmedAgain  = cachetrip.Status{Fwd: "stale", FwdStatus: 304, Stored: true, TTL: time.Hour, Revalidated: true, Detail: "invalidated"}
	freshHit        = cachetrip.Status{Hit: true, TTL: time.Hour}
)

// begun returns whether f ends by itself before the store is done, and has
// ended after that.
func (w *pendingWorld) begun(h *heldUpdate, f func()) (early bool) {
	w.Helper()
	var done atomic.Bool
	go func() {
		f()
		done.Store(true)
	}()
	synctest.Wait()
	early = done.Load()
	if !h.reached.Load() {
		w.Error("nothing is being stored")
	}
	close(h.open)
	synctest.Wait()
	if !done.Load() {
		w.Error("it has not ended when all was stored")
	}
	return early
}

func TestWhatIsConfirmedIsStoredBehind(t *testing.T) {
	ctx := context.Background()
	ended, cancel := context.WithCancel(ctx)
	cancel()
	read := func(r io.Reader, n int) { io.ReadFull(r, make([]byte, n)) }
	for _, test := range []struct {
		name  string
		early bool // it does not wait for the store
		do    func(w *pendingWorld)
	}{
		{"the response", true, func(w *pendingWorld) { w.send(ctx, "GET") }},
		{"all of the body, but for its end", true, func(w *pendingWorld) { read(w.send(ctx, "GET").Body, 10) }},
		{"the end of the body", false, func(w *pendingWorld) { read(w.send(ctx, "GET").Body, 11) }},
		{"the end of a copied body", false, func(w *pendingWorld) { w.send(ctx, "GET").Body.(io.WriterTo).WriteTo(io.Discard) }},
		{"the end of a part", false, func(w *pendingWorld) { io.ReadAll(w.send(ctx, "GET", "Range", "bytes=1-2").Body) }},
		{"the end of parts", false, func(w *pendingWorld) { io.ReadAll(w.send(ctx, "GET", "Range", "bytes=1-2,5-6").Body) }},
		{"Close of the body", false, func(w *pendingWorld) { w.send(ctx, "GET").Body.Close() }},
		{"Close of parts", false, func(w *pendingWorld) { w.send(ctx, "GET", "Range", "bytes=1-2,5-6").Body.Close() }},
		{"Close of the body by who has left", true, func(w *pendingWorld) {
			ctx, leave := context.WithCancel(ctx)
			body := w.send(ctx, "GET").Body
			leave()
			body.Close()
		}},
		{"a HEAD", false, func(w *pendingWorld) { w.send(ctx, "HEAD") }},
		{"a response without a body", false, func(w *pendingWorld) { w.send(ctx, "GET", "If-None-Match", `"1"`) }},
		{"a range that is not there", false, func(w *pendingWorld) { w.send(ctx, "GET", "Range", "bytes=20-") }},
		{"Close of the cache", false, func(w *pendingWorld) { w.send(ctx, "GET"); w.Close() }},
		{"the next request", false, func(w *pendingWorld) { w.send(ctx, "GET"); w.want(freshHit, "GET") }},
		{"the next request, for a HEAD", false, func(w *pendingWorld) { w.send(ctx, "GET"); w.want(freshHit, "HEAD") }},
		{"the next request, not to be forwarded", false, func(w *pendingWorld) {
			w.send(ctx, "GET")
			w.want(freshHit, "GET", "Cache-Control", "only-if-cached")
		}},
		{"the next request of who leaves", true, func(w *pendingWorld) {
			w.send(ctx, "GET")
			req, _ := http.NewRequestWithContext(ended, "GET", "http://example.com/", nil)
			w.RoundTrip(req)
		}},
		{"the next request of who cancels", true, func(w *pendingWorld) {
			w.send(ctx, "GET")
			req, _ := http.NewRequest("GET", "http://example.com/", nil)
			canceled := make(chan struct{})
			close(canceled)
			req.Cancel = canceled //lint:ignore SA1019 a caller may still set it
			if resp, err := w.RoundTrip(req); err == nil {
				w.Errorf("answered %s, want an error", resp.Status)
			}
		}},
		{"the next request of who leaves meanwhile", true, func(w *pendingWorld) {
			w.send(ctx, "GET")
			ctx, leave := context.WithCancel(ctx)
			w.Identity = func(*http.Request) string { leave(); return "" } // just before the look-up
			req, _ := http.NewRequestWithContext(ctx, "GET", "http://example.com/", nil)
			if _, err := w.RoundTrip(req); !errors.Is(err, context.Canceled) {
				w.Errorf("%v, want that it was canceled", err)
			}
		}},
		{"another URL", true, func(w *pendingWorld) {
			w.send(ctx, "GET")
			req, _ := http.NewRequest("GET", "http://example.com/other", nil)
			w.RoundTrip(req)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newPendingWorld(t)
				early := w.begun(w.hold(nil), func() { test.do(w) })
				if early != test.early {
					t.Errorf("ended before what was confirmed was stored: %v, want %v", early, test.early)
				}
				asked := w.asked.Load()
				if test.name != "Close of the cache" {
					w.want(freshHit, "GET")
				}
				if again := w.asked.Load(); again != asked || test.name != "another URL" && asked != 2 {
					t.Errorf("the origin was asked %d times, and then %d more", asked, again-asked)
				}
			})
		})
	}
}

// A change that is made after the caller has the response wins over the pending
// write.
func TestPurgeWinsOverWhatIsStoredBehind(t *testing.T) {
	for name, test := range map[string]struct {
		do   func(w *pendingWorld) error
		next cachetrip.Status
	}{
		"purge":      {func(w *pendingWorld) error { return w.Purge(w.Context(), "http://example.com/") }, cachetrip.Status{Fwd: "uri-miss", FwdStatus: 200, Stored: true, TTL: time.Hour}},
		"invalidate": {func(w *pendingWorld) error { return w.Invalidate(w.Context(), "http://example.com/") }, confirmedAgain},
		"unsafe request": {func(w *pendingWorld) error {
			w.send(w.Context(), "DELETE").Body.Close()
			return nil
		}, confirmedAgain},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newPendingWorld(t)
				h := w.hold(nil)
				w.send(t.Context(), "GET")
				synctest.Wait()
				time.Sleep(time.Second)
				if err := test.do(w); err != nil || !h.reached.Load() {
					t.Fatal(err, h.reached.Load())
				}
				close(h.open)
				w.want(test.next, "GET")
			})
		})
	}
}

// While the store fails, responses are given when that is known.
func TestWhatIsConfirmedIsNotStored(t *testing.T) {
	for name, test := range map[string]struct {
		fails  func() error
		errors uint64
	}{
		"failure": {func() error { return errors.New("broken") }, 2},
		"panic":   {func() error { panic("broken") }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newPendingWorld(t)
				close(w.hold(test.fails).open)
				w.want(confirmedStored, "GET") // as it was about to be
				if name == "failure" {
					close(w.hold(test.fails).open)
					w.want(confirmedLost, "GET")
				}
				w.want(confirmedStored, "GET")
				w.want(freshHit, "GET")
				if got := w.Stats().StoreErrors; got != test.errors {
					t.Errorf("%d failures of the store counted, want %d", got, test.errors)
				}
			})
		})
	}
}

// A cache that was just opened may be one that can't be written.
func TestNothingIsStoredBehindBeforeTheStoreHasTakenAnything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPendingWorld(t)
		w.Transport = &cachetrip.Transport{Store: w.store, Base: w.Base}
		get := func() { w.send(t.Context(), "GET") }
		for i, want := range []bool{false, true} {
			if early := w.begun(w.hold(nil), get); early != want {
				t.Errorf("response %d given before it was stored: %v, want %v", i, early, want)
			}
			time.Sleep(2 * time.Hour)
		}
	})
}

// Entries that a store decodes again count as the same; changed entries do not.
func TestWhatIsReadAnewIsStoredBehind(t *testing.T) {
	for name, test := range map[string]struct {
		change func(w *pendingWorld) error // just when the origin answers
		early  bool
	}{
		"unchanged":   {func(w *pendingWorld) error { return nil }, true},
		"invalidated": {func(w *pendingWorld) error { return w.Invalidate(w.Context(), "http://example.com/") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newPendingWorld(t)
				w.Store = forgetfulStore{w.store}
				var h *heldUpdate
				w.ModifyResponse = func(*http.Response) error {
					defer func() { h = w.hold(nil) }()
					return test.change(w)
				}
				done := make(chan bool, 1)
				go func() { w.send(t.Context(), "GET"); done <- true }()
				synctest.Wait()
				if early := len(done) == 1; early != test.early {
					t.Errorf("given before it was stored: %v, want %v", early, test.early)
				}
				close(h.open)
				<-done
				w.Close()
			})
		})
	}
}

// A caller that ends when all was stored, or asks again, must not leave or meet
// an unneeded lease.
func TestLeaseEndsBeforeAnybodyIsToldThatAllIsStored(t *testing.T) {
	for name, do := range map[string]func(w *pendingWorld){
		"Close of the cache":  func(w *pendingWorld) { w.send(w.Context(), "GET"); w.Close() },
		"the end of the body": func(w *pendingWorld) { io.Copy(io.Discard, w.send(w.Context(), "GET").Body) },
		"the next request":    func(w *pendingWorld) { w.send(w.Context(), "GET"); w.send(w.Context(), "GET") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newPendingWorld(t)
				w.store.Inject(storefault.Delay(time.Millisecond), storefault.Release)
				before := len(w.store.Calls(storefault.Release))
				do(w)
				if n := len(w.store.Calls(storefault.Release)) - before; n != 1 {
					t.Errorf("%d leases are ended, want 1", n)
				}
				if n := w.store.Held(); n != 0 {
					t.Errorf("%d leases and bodies are held", n)
				}
			})
		})
	}
}

// badBody fails when it is read.
type badBody struct{ fail func() }

func (b badBody) Read([]byte) (int, error) { b.fail(); return 0, io.EOF }

func (b badBody) Close() error { return nil }

// A failure just before a pending write must not make others wait for it
// forever.
func TestNothingWaitsForWhatIsNeverStored(t *testing.T) {
	for name, fail := range map[string]func(){
		"panic":  func() { panic("broken") },
		"Goexit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newPendingWorld(t)
				base := w.Base
				w.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
					resp, err := base.RoundTrip(req)
					resp.Body = badBody{fail}
					return resp, err
				})
				ended := make(chan struct{})
				go func() { // which Goexit ends
					defer close(ended)
					defer func() { recover() }()
					req, _ := http.NewRequest("GET", "http://example.com/", nil)
					if _, err := w.RoundTrip(req); err == nil {
						t.Error("no error")
					}
				}()
				<-ended
				w.Base = base
				w.want(confirmedStored, "GET")
				w.Close()
			})
		})
	}
}

func TestExplainKnowsWhatIsStoredBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newPendingWorld(t)
		h := w.hold(nil)
		req := w.send(t.Context(), "GET").Request
		var action string
		w.begun(h, func() {
			explained, err := w.Explain(req)
			if err != nil {
				t.Error(err)
			}
			action = explained.Action
		})
		if action != "serve" {
			t.Errorf("%q is said to be done, want serve", action)
		}
	})
}
