package contract_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
)

// TestPolicyURLOfTheCaller has a policy that returns the URL of the request, as
// WithoutQuery may. A caller may change that URL once it has read the response,
// but the cache may still revalidate.
func TestPolicyURLOfTheCaller(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		w.Transport.Policy = func(req *http.Request) cachetrip.Policy {
			return cachetrip.Policy{URL: cachetrip.WithoutQuery(req.URL, "utm_*")}
		}
		answer := func(body string) {
			w.Handle(harness.Always(200, body, "Cache-Control", "max-age=0, stale-while-revalidate=60"))
		}
		answer("one")
		w.Get("/a")
		answer("two")
		req := w.Request("GET", "/a")
		resp, err := w.Client.Do(req)
		if err != nil {
			w.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		harness.Check(w, "error", err, nil)
		harness.Check(w, "body", string(body), "one")
		resp.Body.Close()
		for range 100 { // while the cache revalidates
			req.URL.Path, req.URL.RawQuery = "/b", "x"
			time.Sleep(100 * time.Microsecond)
		}
		harness.Check(w, "error", w.Transport.Close(), nil)
		for e, err := range w.Store.All(w.Context(), "") {
			harness.Check(w, "error", err, nil)
			harness.Check(w, "URL", e.URL, w.URL+"/a")
		}
	})
}

// TestPolicyURLRedirects has origins that redirect from one URL to another
// which the policy stores under the same. A client that follows redirects gets
// what it gets without a cache.
func TestPolicyURLRedirects(t *testing.T) {
	for _, test := range []struct {
		name, from, to string // the origin redirects from from to to, and to no other URL
	}{
		{"to the URL without parameters", "/a?utm_source=x", "/a"},
		{"to other parameters", "/a?utm_source=x", "/a?utm_source=y"},
		{"to a URL with parameters", "/a", "/a?utm_source=y"},
	} {
		for _, code := range []int{301, 302, 303, 307, 308} {
			t.Run(fmt.Sprint(test.name, " ", code), func(t *testing.T) {
				harness.EachWorld(t, func(w *harness.World) {
					w.Client.CheckRedirect = nil
					w.Transport.Policy = func(req *http.Request) cachetrip.Policy {
						return cachetrip.Policy{URL: cachetrip.WithoutQuery(req.URL, "utm_*"), TTL: time.Hour}
					}
					w.Handle(func(rw http.ResponseWriter, r *http.Request) {
						rw.Header().Set("Cache-Control", "max-age=600")
						if r.URL.RequestURI() == test.from {
							http.Redirect(rw, r, test.to, code)
							return
						}
						io.WriteString(rw, "here")
					})
					for _, path := range []string{test.from, test.to, test.from, "/a?utm_source=z", "/a", test.from} {
						r := w.Get(path)
						harness.Check(w, path, r.Body, "here")
					}
				})
			})
		}
	}
}

// TestGroupsUnderPolicyURL has two origins whose responses are stored under the
// URL of one. A group is that of the origin that has sent the response,
// whichever is asked next.
func TestGroupsUnderPolicyURL(t *testing.T) {
	harness.EachWorld(t, func(w *harness.World) {
		var version atomic.Int32
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			if r.Method == "POST" {
				version.Add(1)
				rw.Header().Set("Cache-Group-Invalidation", `"g"`)
				return
			}
			harness.Answer(rw, 200, fmt.Sprint(version.Load()), "Cache-Control", "max-age=60", "Cache-Groups", `"g"`)
		})
		under, err := url.Parse(w.URL + "/stored")
		if err != nil {
			w.Fatal(err)
		}
		w.Transport.Policy = func(req *http.Request) cachetrip.Policy {
			if req.URL.Path == "/page" {
				return cachetrip.Policy{URL: under}
			}
			return cachetrip.Policy{}
		}
		do := func(method, host, path string) string {
			req := w.Request(method, path)
			req.Host = host
			return w.Do(req).Body
		}
		hosts := []string{"", "mirror.example"}
		for _, host := range hosts {
			do("GET", host, "/other") // the origin has a ledger
		}
		for _, sender := range hosts {
			for _, asked := range hosts {
				time.Sleep(time.Millisecond) // stamps of ledgers differ
				do("POST", sender, "/write")
				time.Sleep(time.Millisecond)
				before := do("GET", sender, "/page")
				do("POST", sender, "/write")
				harness.Check(w, "after a POST to "+sender+", from "+asked, do("GET", asked, "/page") != before, true)
			}
		}
		do("GET", "", "/stored")
		do("POST", "", "/write")
		harness.Check(w, "a response that was stored without the policy", do("GET", "mirror.example", "/page"), fmt.Sprint(version.Load()))
	})
}
