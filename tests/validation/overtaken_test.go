package validation_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/store"
)

// processes are Transports that share what is stored, and know nothing else of
// each other.
func processes(t *testing.T, base http.RoundTripper, test func(t *testing.T, a, b *cachetrip.Transport)) {
	for name, open := range map[string]func(t *testing.T) (a, b store.Store){
		"memory": func(t *testing.T) (a, b store.Store) {
			s := store.NewMemory(0)
			return s, s
		},
		"disk": func(t *testing.T) (a, b store.Store) {
			dir := t.TempDir()
			return harness.OpenDisk(t, dir, store.DiskOptions{}), harness.OpenDisk(t, dir, store.DiskOptions{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first, second := open(t)
				a, b := &cachetrip.Transport{Store: first, Base: base}, &cachetrip.Transport{Store: second, Base: base}
				defer a.Close()
				defer b.Close()
				test(t, a, b)
			})
		})
	}
}

// TestOvertaken304: a 304 arrives after something else has happened to the
// response that it confirms, in another process. It must not undo that.
func TestOvertaken304(t *testing.T) {
	for _, test := range []struct {
		name      string
		meanwhile func(t *testing.T, b *cachetrip.Transport, change func(policy string))
		asks      bool // whether the next use must ask the origin
	}{
		{"nothing", func(*testing.T, *cachetrip.Transport, func(string)) {}, false},
		{"an unsafe request at the same time", func(t *testing.T, b *cachetrip.Transport, change func(string)) {
			resp, err := b.Client().Post("http://origin.example/", "", strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}, true},
		{"a later 304 that forbids use", func(t *testing.T, b *cachetrip.Transport, change func(string)) {
			time.Sleep(time.Second)
			change("no-cache")
			fetch(t, b)
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			var policy atomic.Value
			policy.Store("max-age=1")
			var asked atomic.Int32
			var hold atomic.Pointer[chan bool]
			base := harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
				w := httptest.NewRecorder()
				if req.Method == http.MethodGet {
					asked.Add(1)
					w.Header().Set("Etag", `"1"`)
					w.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
					w.Header().Set("Cache-Control", fmt.Sprint(policy.Load()))
					if req.Header.Get("If-None-Match") != "" {
						w.WriteHeader(http.StatusNotModified)
					} else {
						io.WriteString(w, "body")
					}
				}
				if c := hold.Swap(nil); c != nil {
					<-*c
				}
				return w.Result(), nil
			})
			processes(t, base, func(t *testing.T, a, b *cachetrip.Transport) {
				policy.Store("max-age=1")
				fetch(t, a)
				time.Sleep(2 * time.Second)
				policy.Store("max-age=60")
				proceed := make(chan bool)
				hold.Store(&proceed)
				go fetch(t, a)
				synctest.Wait() // its 304 is on its way
				test.meanwhile(t, b, func(p string) { policy.Store(p) })
				synctest.Wait()
				close(proceed)
				synctest.Wait()
				before := asked.Load()
				fetch(t, b)
				if got := asked.Load() > before; got != test.asks {
					t.Errorf("the next use asks the origin: %t, want %t", got, test.asks)
				}
			})
		})
	}
}

func fetch(t *testing.T, cache *cachetrip.Transport) {
	t.Helper()
	resp, err := cache.Client().Get("http://origin.example/")
	if err != nil {
		t.Error(err)
		return
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); string(b) != "body" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

// TestFollowerOfTheOvertaken: a request that finds a newer response than the one
// under way does not get the older one.
func TestFollowerOfTheOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		proceed := make(chan bool)
		var asked atomic.Int32
		cache := &cachetrip.Transport{Store: store.NewMemory(0), ShareTimeout: time.Hour}
		cache.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
			if asked.Add(1) > 1 {
				return harness.Scripted(req, 200, strings.NewReader("new"), "Cache-Control: no-cache", `Etag: "new"`), nil
			}
			resp := harness.Scripted(req, 200, strings.NewReader("old"), "Cache-Control: max-age=60", `Etag: "old"`)
			<-proceed
			return resp, nil
		})
		defer cache.Close()
		get := func(directives string) <-chan string {
			got := make(chan string, 1)
			go func() {
				req, _ := http.NewRequestWithContext(cachetrip.WithCacheControl(t.Context(), directives), "GET", "http://origin.example/", nil)
				resp, err := cache.RoundTrip(req)
				if err != nil {
					got <- err.Error()
					return
				}
				defer resp.Body.Close()
				b, _ := io.ReadAll(resp.Body)
				got <- string(b)
			}()
			synctest.Wait()
			time.Sleep(time.Second)
			return got
		}
		first := get("")
		second := get("no-cache") // does not wait for the first one
		third := get("")          // finds the response to the second one
		close(proceed)
		if got := []string{<-first, <-second, <-third}; !slices.Equal(got, []string{"old", "new", "new"}) {
			t.Errorf("the callers get %q", got)
		}
	})
}

// TestHerdOfTheOvertaken: many callers wait for a response without a lifetime.
// Another process stores a newer one meanwhile. It must not make each of them
// ask the origin.
func TestHerdOfTheOvertaken(t *testing.T) {
	for _, test := range []struct {
		status int
		asks   int32 // how often the origin is asked when the callers go on
	}{
		{http.StatusNotModified, 0}, // the response that it confirms is shared
		{http.StatusOK, 1},          // callers that have found the newer one ask again, together
	} {
		t.Run(fmt.Sprint(test.status), func(t *testing.T) {
			var asked atomic.Int32
			var hold atomic.Pointer[chan bool]
			base := harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
				asked.Add(1)
				status, body := http.StatusOK, "body"
				if req.Header.Get("If-None-Match") != "" && test.status == http.StatusNotModified {
					status, body = http.StatusNotModified, ""
				}
				resp := harness.Scripted(req, status, strings.NewReader(body), "Cache-Control: max-age=0", `Etag: "1"`)
				if c := hold.Swap(nil); c != nil {
					<-*c
					resp.Body = slowBody{resp.Body}
				}
				time.Sleep(time.Millisecond) // meanwhile, others come to wait
				return resp, nil
			})
			processes(t, base, func(t *testing.T, a, b *cachetrip.Transport) {
				a.ShareTimeout = time.Hour
				fetch(t, a)
				time.Sleep(2 * time.Second)
				proceed := make(chan bool)
				hold.Store(&proceed)
				callers := func(n int) {
					for range n {
						go fetch(t, a)
					}
					synctest.Wait()
					time.Sleep(time.Millisecond)
				}
				callers(5)
				fetch(t, b)
				callers(5)
				before := asked.Load()
				close(proceed)
				time.Sleep(100 * time.Millisecond) // all are answered that do not wait for the slow body
				if got := asked.Load() - before; got != test.asks {
					t.Errorf("the origin is asked %d more times, want %d", got, test.asks)
				}
				time.Sleep(time.Minute) // the bodies end
			})
		})
	}
}

// slowBody is a body that comes after a second.
type slowBody struct{ io.ReadCloser }

func (b slowBody) Read(p []byte) (int, error) {
	time.Sleep(time.Second)
	return b.ReadCloser.Read(p)
}

// TestConfirmedAfterTheClockWasSetBack: a response that was received later than
// now is updated all the same, even if Date does not tell the order. Otherwise
// it would be validated by each request until the clock reaches its time.
func TestConfirmedAfterTheClockWasSetBack(t *testing.T) {
	for _, date := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			const ahead = 24 * time.Hour
			began := time.Now().UTC().Format(http.TimeFormat)
			var asked int
			s := store.NewMemory(0)
			cache := &cachetrip.Transport{Store: s}
			cache.Base = harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
				asked++
				status, body := http.StatusOK, "body"
				if req.Header.Get("If-None-Match") != "" {
					status, body = http.StatusNotModified, ""
				}
				resp := harness.Scripted(req, status, strings.NewReader(body), "Cache-Control: max-age=60", `Etag: "1"`)
				if resp.Header.Del("Date"); date {
					resp.Header.Set("Date", began)
				}
				return resp, nil
			})
			defer cache.Close()
			fetch(t, cache)
			for e, err := range s.All(t.Context(), "") {
				if err != nil {
					t.Fatal(err)
				}
				err := s.Update(t.Context(), e.Key, func(es []*store.Entry) []*store.Entry {
					e := es[0].Clone()
					e.RequestTime, e.ResponseTime = e.RequestTime.Add(ahead), e.ResponseTime.Add(ahead)
					if !date {
						e.Header.Set("Date", e.ResponseTime.UTC().Format(http.TimeFormat)) // as the cache adds it
					}
					return []*store.Entry{e}
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			for range 3 {
				time.Sleep(time.Second)
				fetch(t, cache)
			}
			if asked != 2 {
				t.Errorf("Date %t: the origin is asked %d times, want 2: for the response, and to confirm it once", date, asked)
			}
		})
	}
}
