package stores_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/store"
)

// betweenStore calls between once, in an Update that changes something: after
// the change was computed, and before it is written.
type betweenStore struct {
	store.Store
	once    sync.Once
	between func()
}

func (s *betweenStore) Update(ctx context.Context, key string, change func([]*store.Entry) []*store.Entry) error {
	return s.Store.Update(ctx, key, func(current []*store.Entry) []*store.Entry {
		next := change(current)
		if len(next) > 0 {
			s.once.Do(s.between)
		}
		return next
	})
}

// TestInvalidatedWhileWritten has an unsafe request answered while a response
// that was requested before is being written. Another process must not use that
// response without asking. RFC 9111, section 4.4.
func TestInvalidatedWhileWritten(t *testing.T) {
	dir := t.TempDir()
	var version atomic.Int32
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			version.Add(1)
			return
		}
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprint(w, version.Load())
	}))
	defer origin.Close()
	get := func(cache *cachetrip.Transport) string {
		resp, err := cache.Client().Get(origin.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	writing := &betweenStore{Store: harness.OpenDisk(t, dir, store.DiskOptions{})}
	first := &cachetrip.Transport{Store: writing}
	defer first.Close()
	writing.between = func() {
		resp, err := first.Client().Post(origin.URL, "", strings.NewReader("change"))
		if err != nil {
			t.Error(err)
			return
		}
		resp.Body.Close()
	}
	if got := get(first); got != "0" {
		t.Errorf("before: %q, want 0", got)
	}
	other := &cachetrip.Transport{Store: harness.OpenDisk(t, dir, store.DiskOptions{})}
	defer other.Close()
	if got := get(other); got != "1" {
		t.Errorf("another process gets %q after the change, want 1", got)
	}
	if got := get(first); got != "1" {
		t.Errorf("the same process gets %q after the change, want 1", got)
	}
}
