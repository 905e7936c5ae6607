package contract_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
)

// TestTTLOfParts requests ranges. Policy.TTL governs complete responses only:
// the origin says how long a part is fresh, until the parts are complete.
func TestTTLOfParts(t *testing.T) {
	harness.EachWorldInBubble(t, func(w *harness.World) {
		w.Handle(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Cache-Control", "max-age=10")
			rw.Header().Set("Etag", `"1"`)
			http.ServeContent(rw, r, "", time.Time{}, strings.NewReader("0123456789"))
		})
		get := func(want string, fields ...string) {
			w.Helper()
			w.WantDo(want, under(w.Request("GET", "/", fields...), cachetrip.Policy{TTL: time.Hour}))
		}
		get("206 0123 | fwd=uri-miss; fwd-status=206; stored", "Range", "bytes=0-3")
		get("206 0123 | hit", "Range", "bytes=0-3")
		time.Sleep(time.Minute)
		get("206 0123 | fwd=stale; fwd-status=304; stored", "Range", "bytes=0-3")
		get("200 0123456789 | fwd=partial; fwd-status=206; stored")
		time.Sleep(time.Minute)
		get("206 0123 | hit; detail=policy-ttl", "Range", "bytes=0-3")
		get("200 0123456789 | hit; detail=policy-ttl")
	})
}
