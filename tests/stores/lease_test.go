package stores_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
)

// others is a store with leases of which another process always has had the one that is asked for, and has
// stored nothing.
type others struct {
	store.Store
	waited, granted atomic.Int64
}

func (s *others) Lease(ctx context.Context, _, _ string) (func(bool), bool) {
	if ctx.Err() != nil {
		s.granted.Add(1)
		return func(bool) {}, true
	}
	s.waited.Add(1)
	return nil, false
}

// TestLeaseInVain has requests wait for other processes once, not for one after another.
func TestLeaseInVain(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, "hello")
	}))
	defer origin.Close()
	kept := &others{Store: store.NewMemory(0)}
	cache := &cachetrip.Transport{Store: kept}
	defer cache.Close()
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			resp, err := cache.Client().Get(origin.URL)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if body, err := io.ReadAll(resp.Body); string(body) != "hello" || err != nil {
				t.Errorf("%q, %v", body, err)
			}
		})
	}
	wg.Wait()
	if waited, granted := kept.waited.Load(), kept.granted.Load(); waited < 1 || waited > 5 || granted < 1 {
		t.Errorf("%d requests waited, and %d leases were granted, want 5 at most, and 1 at least", waited, granted)
	}
}
