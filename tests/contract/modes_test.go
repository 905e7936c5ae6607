package contract_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
)

// TestModesOfOtherRequests makes requests that are no plain GETs, while a stale
// response is stored. No mode keeps an unsafe request from the origin.
func TestModesOfOtherRequests(t *testing.T) {
	const (
		none      = cachetrip.ModeNoStore
		reload    = cachetrip.ModeReload
		noCache   = cachetrip.ModeNoCache
		force     = cachetrip.ModeForceCache
		onlyStore = cachetrip.ModeOnlyIfCached
	)
	for _, test := range []struct {
		name, method string
		fields       []string
		want         map[cachetrip.Mode]string
	}{
		{"a range", "GET", []string{"Range", "bytes=2-4"}, map[cachetrip.Mode]string{
			none:      "206 234 | fwd=bypass; fwd-status=206; detail=mode-no-store",
			reload:    "206 234 | fwd=stale; fwd-status=206; stored; detail=mode-reload",
			noCache:   "206 234 | fwd=stale; fwd-status=304; stored; detail=mode-no-cache",
			force:     "206 234 | hit; detail=mode-force-cache",
			onlyStore: "206 234 | hit; detail=mode-only-if-cached",
		}},
		{"a condition", "GET", []string{"If-None-Match", `"1"`}, map[cachetrip.Mode]string{
			none:      "304  | fwd=bypass; fwd-status=304; detail=mode-no-store",
			reload:    "304  | fwd=stale; fwd-status=304; detail=mode-reload",
			noCache:   "304  | fwd=stale; fwd-status=304; stored; detail=mode-no-cache",
			force:     "304  | hit; detail=mode-force-cache",
			onlyStore: "304  | hit; detail=mode-only-if-cached",
		}},
		{"a HEAD", "HEAD", nil, map[cachetrip.Mode]string{
			none:      "200  | fwd=bypass; fwd-status=200; detail=mode-no-store",
			reload:    "200  | fwd=stale; fwd-status=200; stored; detail=mode-reload",
			noCache:   "200  | fwd=stale; fwd-status=304; stored; detail=mode-no-cache",
			force:     "200  | hit; detail=mode-force-cache",
			onlyStore: "200  | hit; detail=mode-only-if-cached",
		}},
		{"a POST", "POST", nil, map[cachetrip.Mode]string{
			none:      "200 0123456789 | fwd=method; fwd-status=200",
			reload:    "200 0123456789 | fwd=method; fwd-status=200",
			noCache:   "200 0123456789 | fwd=method; fwd-status=200",
			force:     "200 0123456789 | fwd=method; fwd-status=200",
			onlyStore: "200 0123456789 | fwd=method; fwd-status=200",
		}},
		{"OPTIONS", "OPTIONS", nil, map[cachetrip.Mode]string{
			none:      "200 0123456789 | fwd=method; fwd-status=200",
			force:     "200 0123456789 | fwd=method; fwd-status=200",
			onlyStore: "504",
		}},
	} {
		for mode, want := range test.want {
			t.Run(test.name+" "+mode.String(), func(t *testing.T) {
				harness.EachWorldInBubble(t, func(w *harness.World) {
					w.Handle(func(rw http.ResponseWriter, r *http.Request) {
						rw.Header().Set("Cache-Control", "max-age=60, must-revalidate")
						rw.Header().Set("ETag", `"1"`)
						http.ServeContent(rw, r, "", time.Time{}, strings.NewReader("0123456789"))
					})
					w.Get("/")
					time.Sleep(time.Hour)
					r := w.Do(under(w.Request(test.method, "/", test.fields...), cachetrip.Policy{Mode: mode}))
					got := r.String()
					if r.Code == 504 {
						got = "504"
					}
					harness.Check(w, "the response", got, want)
				})
			})
		}
	}
}
