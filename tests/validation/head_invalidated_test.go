package validation_test

import (
	"net/http"
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

// TestHeadInvalidatedOnItsWay: an unsafe request is answered while a HEAD is
// under way. The response to the HEAD must not be used again, whichever of
// two processes made the unsafe request. RFC 9111, section 4.4.
func TestHeadInvalidatedOnItsWay(t *testing.T) {
	var asked atomic.Int32
	var hold atomic.Pointer[chan bool]
	base := harness.RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
		resp := harness.Scripted(req, http.StatusOK, strings.NewReader(""), "Cache-Control: max-age=60")
		if req.Method == http.MethodHead {
			asked.Add(1)
			if c := hold.Swap(nil); c != nil {
				<-*c
			}
		}
		return resp, nil
	})
	processes(t, base, func(t *testing.T, a, b *cachetrip.Transport) {
		head := func(cache *cachetrip.Transport) {
			resp, err := cache.Client().Head("http://origin.example/")
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
		}
		for changes, other := range map[*cachetrip.Transport]*cachetrip.Transport{a: b, b: a} {
			head(a) // another process marks what it finds, and nothing else
			time.Sleep(2 * time.Minute)
			proceed := make(chan bool)
			hold.Store(&proceed)
			go head(a)
			synctest.Wait()
			time.Sleep(time.Second)
			resp, err := changes.Client().Post("http://origin.example/", "", strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			close(proceed)
			synctest.Wait()
			before := asked.Load()
			if head(other); asked.Load() == before {
				t.Errorf("the response is used by the other process after it was invalidated (by the same process: %t)", changes == a)
			}
		}
	})
}
