package validation_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/storefault"
)

// Invalidations of groups and equivalent URLs while something is on its way, or
// fails.

// TestTiesOfResponsesOnTheirWay invalidates a group, or an equivalent URL,
// while the first response is on its way. That one must be validated, and a
// request that is made after the invalidation does not get it.
func TestTiesOfResponsesOnTheirWay(t *testing.T) {
	for _, test := range []struct {
		name, field, value, method, write string
	}{
		{"a group", "Cache-Groups", `"a"`, "POST", "/write?invalidate=%22a%22"},
		{"an equivalent URL", "No-Vary-Search", `params=("utm")`, "POST", "/?utm=z"},
	} {
		t.Run(test.name, func(t *testing.T) {
			harness.EachWorldInBubble(t, func(w *harness.World) {
				var version atomic.Int32
				hold, arrived := make(chan bool), make(chan bool, 1)
				w.Handle(func(rw http.ResponseWriter, r *http.Request) {
					if r.Method == "POST" {
						groupOrigin(rw, r)
						return
					}
					body := fmt.Sprint(version.Load())
					if version.Load() == 0 {
						arrived <- true
						<-hold
					}
					harness.Answer(rw, 200, body, "Cache-Control", "max-age=60", test.field, test.value)
				})
				first, second := make(chan string), make(chan string)
				go func() { first <- w.Get("/?utm=a").Body }()
				<-arrived
				w.Do(w.Request(test.method, test.write))
				go func() { second <- w.Get("/?utm=a").Body }() // joins the first one
				synctest.Wait()
				version.Store(1)
				close(hold)
				harness.Check(w, "who asked before", <-first, "0")
				harness.Check(w, "who asked after", <-second, "1")
				harness.Check(w, "later", w.Get("/?utm=a").Body, "1")
			})
		})
	}
}

// TestFirstOfEquals stores a response that was requested before an unsafe
// request for an equivalent URL. When that was made, the cache did not know
// that the two are equivalent.
func TestFirstOfEquals(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		hold, arrived := make(chan bool), make(chan bool)
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			if r.Method == "GET" && r.Header.Get("If-None-Match") == "" {
				arrived <- true
				<-hold
			}
			searchOrigin(`params=("utm")`)(rw, r)
		})
		got := make(chan *harness.Result)
		go func() { got <- w.Get("/?utm=a") }()
		<-arrived
		w.Do(w.Request("POST", "/?utm=z"))
		close(hold)
		<-got
		w.WantGet(invalidPage, "/?utm=a")
		w.WantGet(equalPage, "/?utm=b")
	})
}

// TestEqualsAtOnce requests equivalent URLs at the same time, for which the
// cache has one stale response. The origin no longer says that they are
// equivalent, so none of the requests may get the response to another.
func TestEqualsAtOnce(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		w.Handle(searchOrigin(`params=("utm")`))
		w.Get("/?utm=first")
		time.Sleep(time.Hour)
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			harness.Answer(rw, 200, r.URL.RawQuery, "Cache-Control", "max-age=60")
		})
		var reqs []*http.Request
		for i := range 10 {
			reqs = append(reqs, w.Request("GET", fmt.Sprintf("/?utm=%d", i/2)))
		}
		w.Asked()
		results, errs := w.Herd(reqs...)
		harness.Check(w, "requests to the origin, one for each URL", len(w.Asked()), 5)
		for i, got := range results {
			if want := fmt.Sprintf("utm=%d", i/2); errs[i] != nil || got.Body != want {
				w.Errorf("%s: got %v, %v", want, got, errs[i])
			}
		}
	})
}

// TestRuleThatChanges: a response answers only URLs that are equivalent by its
// own field, as last updated.
func TestRuleThatChanges(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		w.Handle(searchOrigin(`params=("utm")`))
		w.Get("/?utm=a")
		w.WantGet(equalPage, "/?utm=b")
		time.Sleep(time.Hour)
		w.Handle(searchOrigin(`params=("other")`))
		w.WantGet("200 page | fwd=stale; fwd-status=304; stored", "/?utm=a")
		w.WantGet(newPage, "/?utm=b")
		w.WantGet(equalPage, "/?utm=a&other=1")
	})
}

// TestForgottenRules has a path send more rules than the cache remembers. A
// response is validated if it depends on a rule that the cache has forgotten.
func TestForgottenRules(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		w.Handle(searchOrigin(`params=("p0")`))
		w.Get("/?p0=a")
		w.WantGet("200 page | hit", "/?p0=a")
		for i := range 10 {
			time.Sleep(time.Second)
			w.Handle(searchOrigin(fmt.Sprintf(`params=("p%d")`, i+1)))
			w.Get(fmt.Sprintf("/?q=%d&p%d=a", i+1, i+1))
		}
		w.Do(w.Request("POST", "/?p0=b"))
		w.WantGet(invalidPage, "/?p0=a")
	})
}

// TestExactFirst: of two stale responses, that of the very URL is validated.
func TestExactFirst(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		w.Handle(searchOrigin(`params=("utm")`))
		w.Get("/?utm=a")
		w.Handle(harness.Tagged(`"2"`, "second", "Cache-Control", "max-age=60", "No-Vary-Search", `params=("utm")`))
		w.WantGet("200 second | fwd=request; fwd-status=200; stored; detail=no-cache", "/?utm=b", "Cache-Control", "no-cache")
		w.WantGet("200 page | hit", "/?utm=a")
		w.WantGet("200 second | hit", "/?utm=b")
		time.Sleep(time.Hour)
		w.Asked()
		w.WantGet("200 second | fwd=stale; fwd-status=304; stored", "/?utm=b")
		w.WantAsked([]string{"If-None-Match"}, `GET /?utm=b If-None-Match: "2"`)
		w.WantGet("200 second | hit; detail=no-vary-search", "/?utm=a") // fresh, which the very one is not
	})
}

// TestTiesOfHEAD stores the response to a HEAD, which belongs to a group.
func TestTiesOfHEAD(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Handle(harness.Tagged(`"1"`, "page", "Cache-Control", "max-age=60", "Cache-Groups", `"a"`, "Cache-Group-Invalidation", `"a"`))
		w.Do(w.Request("HEAD", "/"))
		w.WantDo("200  | hit", w.Request("HEAD", "/"))
		w.Do(w.Request("PUT", "/write"))
		w.WantDo("200  | fwd=stale; fwd-status=200; stored; detail=invalidated", w.Request("HEAD", "/"))
	})
}

// TestTiesWhileStoreFails invalidates while the store takes no writes. At least
// this process then validates.
func TestTiesWhileStoreFails(t *testing.T) {
	for _, write := range []string{"/write?invalidate=%22a%22", "/?groups=%22a%22&utm=z"} {
		s := storefault.Wrap(store.NewMemory(1 << 20))
		w := harness.NewWorld(t, func(*testing.T) (store.Store, string) { return s, "" }, harness.ServeLoopback)
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("No-Vary-Search", `params=("utm")`)
			groupOrigin(rw, r)
		})
		const path = "/?groups=%22a%22"
		w.Get(path)
		w.WantGet(hitPage, path)
		s.Inject(storefault.Fail(nil), storefault.Update)
		w.Do(w.Request("POST", write))
		if got := w.Get(path).String(); !strings.Contains(got, "detail=invalidated") {
			w.Errorf("after POST %s: %s", write, got)
		}
		s.Inject(nil, storefault.Update)
	}
}

// TestPolicyAndTies uses equivalent URLs together with a Policy that stores
// under another URL.
func TestPolicyAndTies(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Transport.Policy = func(req *http.Request) cachetrip.Policy {
			return cachetrip.Policy{URL: cachetrip.WithoutQuery(req.URL, "signature")}
		}
		w.Handle(searchOrigin(`params=("utm")`))
		w.WantGet(newPage, "/?utm=a&signature=1")
		w.WantGet("200 page | hit", "/?utm=a&signature=2")
		w.WantGet(equalPage, "/?utm=b&signature=3")
		w.Do(w.Request("POST", "/?utm=c&signature=4"))
		w.WantGet(invalidPage, "/?utm=a&signature=5")
		if err := w.Transport.Purge(w.Context(), w.URL+"/?signature=6"); err != nil {
			w.Error(err)
		}
		w.WantGet(newPage, "/?utm=d")
	})
}
