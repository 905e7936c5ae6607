package contract_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/storefault"
)

// recorded is a Trace that records its calls.
type recorded struct {
	cachetrip.Trace
	mu     sync.Mutex
	events []string
}

func newRecorded() *recorded {
	r := &recorded{}
	note := func(format string, args ...any) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.events = append(r.events, strings.TrimSpace(fmt.Sprintf(format, args...)))
	}
	answer := func(name string) func(cachetrip.AnswerInfo) {
		return func(info cachetrip.AnswerInfo) {
			s := name + " " + info.Status.Fwd
			if info.Status.Detail != "" {
				s += " " + info.Status.Detail
			}
			if info.Background != (info.Response == nil) {
				s += " (with a response in the background, or without one)"
			}
			if past := info.Status.Fwd == "method" || info.Status.Fwd == "request" && info.Status.Detail == "no-store"; past != (store.CheckKey(info.Key) != nil) {
				s += " (with the key " + info.Key + ")"
			}
			if info.Background {
				s += " (background)"
			}
			note("%s", s)
		}
	}
	r.Hit, r.StaleHit, r.Revalidated = answer("hit"), answer("stale"), answer("revalidated")
	r.Collapsed, r.Miss, r.Refused = answer("collapsed"), answer("miss"), answer("refused")
	r.Stored = func(info cachetrip.StoreInfo) { note("stored %d %s", info.StatusCode, info.Reason) }
	r.NotStored = func(info cachetrip.StoreInfo) { note("not stored %d %s", info.StatusCode, info.Reason) }
	r.StoreError = func(info cachetrip.StoreErrorInfo) { note("error %s: %v", info.Op, info.Err) }
	r.Evicted = func(info cachetrip.EvictInfo) { note("evicted") }
	return r
}

func (r *recorded) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	events := r.events
	r.events = nil
	return events
}

// TestTrace makes requests one after the other, and looks at what the hooks
// were told of each.
func TestTrace(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		t := w.T
		failing := false
		etag := `"1"`
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			if failing {
				rw.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			switch r.URL.Path {
			case "/no-store":
				rw.Header().Set("Cache-Control", "no-store")
			case "/short":
				rw.Header().Set("Cache-Control", "max-age=100")
				rw.Header().Set("Content-Length", "1000000")
				io.WriteString(rw, "no more than this")
				return
			case "/behind":
				rw.Header().Set("Cache-Control", "max-age=10, stale-while-revalidate=1000")
			default:
				rw.Header().Set("Cache-Control", "max-age=10, stale-if-error=1000")
			}
			rw.Header().Set("ETag", etag)
			if r.Header.Get("If-None-Match") == etag {
				rw.WriteHeader(http.StatusNotModified)
				return
			}
			io.WriteString(rw, "hello")
		})
		all := newRecorded()
		w.Transport.Trace = &all.Trace
		for _, test := range []struct {
			method, path, directives string
			before                   func()
			want                     []string
		}{
			{"GET", "/a", "only-if-cached", nil, []string{"refused uri-miss"}},
			{"GET", "/a", "", nil, []string{"miss uri-miss", "stored 200"}},
			{"GET", "/a", "", nil, []string{"hit"}},
			{"GET", "/a", "no-cache", nil, []string{"revalidated request no-cache"}},
			{"GET", "/a", "", func() { time.Sleep(time.Minute) }, []string{"revalidated stale"}},
			{"GET", "/a", "max-stale", func() { time.Sleep(time.Minute) }, []string{"stale  max-stale"}},
			{"GET", "/a", "", func() { failing = true }, []string{"not stored 503 status", "stale stale stale-if-error"}},
			{"GET", "/b", "", nil, []string{"not stored 503 status", "miss uri-miss status"}},
			{"GET", "/a", "", func() { failing, etag = false, `"2"` }, []string{"miss stale", "stored 200"}},
			{"POST", "/a", "", nil, []string{"miss method"}},
			{"GET", "/a", "", nil, []string{"revalidated stale invalidated"}},
			{"GET", "/a", "no-store", nil, []string{"miss request no-store"}},
			{"GET", "/no-store", "", nil, []string{"not stored 200 no-store", "miss uri-miss no-store"}},
			{"GET", "/short", "", nil, []string{"miss uri-miss", "not stored 200 incomplete"}},
			{"GET", "/behind", "", nil, []string{"miss uri-miss", "stored 200"}},
			{"GET", "/behind", "", func() { time.Sleep(time.Minute) }, []string{"stale  stale-while-revalidate", "revalidated  stale-while-revalidate (background)"}},
		} {
			if test.before != nil {
				test.before()
			}
			own := newRecorded()
			ctx := cachetrip.WithTrace(t.Context(), &cachetrip.Trace{}) // a Trace without hooks
			ctx = cachetrip.WithTrace(ctx, &own.Trace)
			req, err := http.NewRequestWithContext(ctx, test.method, w.URL+test.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if test.directives != "" {
				req.Header.Set("Cache-Control", test.directives)
			}
			resp, err := w.Client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			time.Sleep(time.Second) // for work in the background
			got := own.take()
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("%s %s, %q (-want +got):\n%s", test.method, test.path, test.directives, diff)
			}
			if diff := cmp.Diff(got, all.take()); diff != "" {
				t.Errorf("%s %s, %q: the Transport's Trace was told something else:\n%s", test.method, test.path, test.directives, diff)
			}
		}
		for _, message := range []string{
			"hit", "stale hit", "revalidated", "miss", "refused", "stored", "not stored", "asking the origin",
		} {
			if want := `msg="cachetrip: ` + message + `" method=GET url=` + w.URL; !strings.Contains(w.Logged.String(), want) {
				t.Errorf("no record %s", want)
			}
		}
	})
}

// TestTraceCollapsed lets requests wait for one response.
func TestTraceCollapsed(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		t := w.T
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			rw.Header().Set("Cache-Control", "max-age=10")
			io.WriteString(rw, "hello")
		})
		all := newRecorded()
		w.Transport.Trace = &all.Trace
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				resp, err := w.Client.Get(w.URL)
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			})
		}
		wg.Wait()
		got := all.take()
		slices.Sort(got)
		want := []string{"collapsed uri-miss", "collapsed uri-miss", "collapsed uri-miss", "miss uri-miss", "stored 200"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}

func TestTraceStoreErrors(t *testing.T) {
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		op   storefault.Op
		err  error
		want []string
	}{
		"look up":   {storefault.Entries, broken, []string{"error look up: broken", "miss uri-miss", "stored 200"}},
		"create":    {storefault.Create, broken, []string{"error create: broken", "not stored 200 store-error", "miss uri-miss store-error"}},
		"store":     {storefault.Update, broken, []string{"miss uri-miss", "error store: broken", "not stored 200 store-error"}},
		"too large": {storefault.Create, store.ErrTooLarge, []string{"not stored 200 too-large", "miss uri-miss too-large"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := harness.NewWorld(t, harness.InMemory, harness.ServeLoopback)
			w.Handle(func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Cache-Control", "max-age=10")
				io.WriteString(rw, "hello")
			})
			faulty := storefault.Wrap(w.Store)
			faulty.Inject(storefault.Fail(test.err), test.op)
			all := newRecorded()
			w.Transport.Store, w.Transport.Trace = faulty, &all.Trace
			resp, err := w.Client.Get(w.URL)
			if err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "hello" {
				t.Errorf("%q, %v", body, err)
			}
			resp.Body.Close()
			if diff := cmp.Diff(test.want, all.take()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestTraceEvicted fills a small store.
func TestTraceEvicted(t *testing.T) {
	w := harness.NewWorld(t, func(t *testing.T) (store.Store, string) {
		dir := filepath.Join(t.TempDir(), "cache")
		return harness.OpenDisk(t, dir, store.DiskOptions{MaxBytes: 256 << 10}), dir
	}, harness.ServeLoopback)
	w.Handle(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Cache-Control", "max-age=10")
		rw.Write(make([]byte, 10_000))
	})
	evicted := 0
	w.Transport.Trace = &cachetrip.Trace{Evicted: func(info cachetrip.EvictInfo) { evicted += info.Keys }}
	for i := range 100 {
		resp, err := w.Client.Get(fmt.Sprintf("%s/%d", w.URL, i))
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	if n := w.Transport.Stats().Evictions; n == 0 || evicted != int(n) {
		t.Errorf("told of %d evictions, want all %d", evicted, n)
	}
}
