package cachetrip_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
)

// TestNoJoinAfterUnsafe: an unsafe request is made while a download of its URL
// is under way. Later requests do not join the download.
func TestNoJoinAfterUnsafe(t *testing.T) {
	for _, test := range []struct{ name, first string }{{"nothing stored", ""}, {"stored and stale", "max-age=0"}} {
		t.Run(test.name, func(t *testing.T) {
			var version atomic.Int32
			held := make(chan bool)
			origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				now := version.Load()
				switch {
				case req.Method == http.MethodPost:
					version.Add(1)
					return
				case now == 0:
					w.Header().Set("Cache-Control", test.first)
				default:
					w.Header().Set("Cache-Control", "max-age=60")
				}
				w.Write([]byte{'0' + byte(now)})
				if now == 1 {
					http.NewResponseController(w).Flush()
					<-held
				}
			}))
			defer origin.Close()
			transport := &cachetrip.Transport{Store: store.NewMemory(1 << 20)}
			defer transport.Close()
			do := func(method string) *http.Response {
				t.Helper()
				req, err := http.NewRequestWithContext(t.Context(), method, origin.URL, nil)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := transport.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				return resp
			}
			read := func(resp *http.Response) string {
				t.Helper()
				defer resp.Body.Close()
				b, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Error(err)
				}
				return string(b)
			}
			if test.first != "" {
				read(do("GET"))
			}
			version.Store(1)
			slow := do("GET")
			read(do("POST"))
			resp := do("GET")
			close(held)
			if got, status := read(resp), cachetrip.StatusOf(resp); got != "2" || status.Collapsed {
				t.Errorf("after the unsafe request: version %s, %+v", got, status)
			}
			if got := read(slow); got != "1" {
				t.Errorf("the download before it: version %s", got)
			}
			if got := read(do("GET")); got != "2" {
				t.Errorf("in the end: version %s", got)
			}
		})
	}
}
