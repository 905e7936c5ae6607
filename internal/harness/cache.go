package harness

import (
	"context"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/testtier"
	"github.com/cachetrip/cachetrip/store"
)

// Cache is a cache in front of an origin. It knows which goroutines and files
// existed before it.
type Cache struct {
	testing.TB
	*cachetrip.Transport
	Dir  string // empty if the cache is in memory
	HTTP *http.Transport
}

// EachCache runs test with a cache on disk and with one in memory, and checks
// that it leaves neither goroutines nor descriptors. In the short tier, most
// cases of a table have the cache on disk only: see eachPlace.
func EachCache(t *testing.T, test func(r *Cache)) { eachCache(t, NewCache, test) }

// EachCacheInParallel is EachCache for cases that run at the same time, because
// they mostly wait. It does not look for leftovers, because they could be those
// of another case. The test with the cases calls LeavesNothing.
func EachCacheInParallel(t *testing.T, test func(r *Cache)) {
	t.Parallel()
	eachCache(t, NewUncheckedCache, test)
}

func eachCache(t *testing.T, run func(t testing.TB, dir string, test func(r *Cache)), test func(r *Cache)) {
	eachPlace(t, func(t *testing.T, place string) {
		dir := ""
		if place == "disk" {
			dir = t.TempDir()
		}
		run(t, dir, test)
	})
}

// inMemory has the names of the tests that have run a case with a cache in
// memory.
var inMemory sync.Map

// eachPlace runs test with "disk" and "memory". In the short tier only the
// first case of a table runs with both. The others run with the disk: it does
// all that memory does, and keeps what it has when a process ends.
func eachPlace(t *testing.T, test func(t *testing.T, place string)) {
	name, _, isCase := strings.Cut(t.Name(), "/")
	_, again := inMemory.LoadOrStore(name, true)
	for _, place := range []string{"disk", "memory"} {
		if place == "memory" && isCase && again && !testtier.Long() {
			continue
		}
		t.Run(place, func(t *testing.T) { test(t, place) })
	}
}

// NewCache runs a test with a cache, and checks that no goroutine and no
// descriptor is left.
func NewCache(t testing.TB, dir string, test func(r *Cache)) {
	t.Helper()
	before := running(t)
	descriptors := Descriptors()
	NewUncheckedCache(t, dir, test)
	noneLeft(t, before, descriptors)
}

func NewUncheckedCache(t testing.TB, dir string, test func(r *Cache)) {
	t.Helper()
	r := &Cache{TB: t, Dir: dir}
	r.open()
	test(r)
	r.close()
}

// patient is the ShareTimeout of caches outside of bubbles. A caller that became
// impatient on a busy machine would ask the origin itself.
const patient = time.Hour

func (r *Cache) open() {
	r.Helper()
	r.HTTP = &http.Transport{DisableCompression: true}
	r.Transport = &cachetrip.Transport{Base: r.HTTP, ShareTimeout: patient}
	if r.Dir == "" {
		r.Store = newMemory(256 << 20)
		return
	}
	disk, err := store.OpenDisk(r.Dir, store.DiskOptions{})
	if err != nil {
		r.Fatal(err)
	}
	r.Store = disk
}

func (r *Cache) close() {
	r.Helper()
	if err := r.Transport.Close(); err != nil {
		r.Error(err)
	}
	if closer, ok := r.Store.(io.Closer); ok {
		if err := closer.Close(); err != nil {
			r.Error(err)
		}
	}
	r.HTTP.CloseIdleConnections()
}

// Restart is what a new process finds: the directory and nothing else.
func (r *Cache) Restart() {
	r.Helper()
	if r.Dir == "" {
		r.Skip("a cache in memory ends with its process")
	}
	r.close()
	r.open()
}

// Request makes a request; fields are given as name, value, ….
func (r *Cache) Request(ctx context.Context, url string, fields ...string) *http.Request {
	r.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		r.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Add(fields[i], fields[i+1])
	}
	return req
}

func (r *Cache) Send(ctx context.Context, url string, fields ...string) *http.Response {
	r.Helper()
	resp, err := r.RoundTrip(r.Request(ctx, url, fields...))
	if err != nil {
		r.Fatal(err)
	}
	return resp
}

// Get makes a request and reads the answer to its end.
func (r *Cache) Get(url string, fields ...string) (*http.Response, []byte) {
	r.Helper()
	resp := r.Send(r.Context(), url, fields...)
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		r.Fatalf("reading the body: %v after %d bytes", err, len(body))
	}
	return resp, body
}

// watchedBody is a body of a Base that counts how often it is closed, and may
// panic.
type watchedBody struct {
	io.Reader
	close  func()
	closed atomic.Int32
}

func (b *watchedBody) Close() error {
	b.closed.Add(1)
	if b.close != nil {
		b.close()
	}
	return nil
}

// WatchedBodies are the bodies of the responses of a Base.
type WatchedBodies struct {
	Mu  sync.Mutex
	All []*watchedBody
}

func (w *WatchedBodies) Add(r io.Reader, close func()) *watchedBody {
	w.Mu.Lock()
	defer w.Mu.Unlock()
	b := &watchedBody{Reader: r, close: close}
	w.All = append(w.All, b)
	return b
}

// WantClosed waits until every body was closed, and checks that it was once.
func (w *WatchedBodies) WantClosed(t testing.TB, n int) {
	t.Helper()
	w.Mu.Lock()
	all := slices.Clone(w.All)
	w.Mu.Unlock()
	if len(all) != n {
		t.Errorf("%d responses of Base, want %d", len(all), n)
	}
	for _, b := range all {
		Soon(t, "a body is closed", func() bool { return b.closed.Load() > 0 })
	}
	time.Sleep(10 * time.Millisecond)
	for i, b := range all {
		if n := b.closed.Load(); n != 1 {
			t.Errorf("body %d was closed %d times", i, n)
		}
	}
}

// Watch has every body of the real responses of r's Base watched.
func (r *Cache) Watch(close func()) *WatchedBodies {
	bodies := new(WatchedBodies)
	base := r.HTTP
	r.Base = RoundTripperFunc(func(req *http.Request) (*http.Response, error) {
		resp, err := base.RoundTrip(req)
		if err == nil {
			inner := resp.Body
			resp.Body = bodies.Add(inner, func() {
				inner.Close()
				if close != nil {
					close()
				}
			})
		}
		return resp, err
	})
	return bodies
}

// WaitForQuiet waits until what goes on in the background has ended.
func (r *Cache) WaitForQuiet() {
	r.Helper()
	Soon(r, "the background is quiet", func() bool {
		for _, stack := range running(r) {
			if ofTheCache.MatchString(stack) && !strings.Contains(stack, "internal/harness.") {
				return false
			}
		}
		return true
	})
}

// ofTheCache matches the stack of a goroutine that the cache runs, or is called
// by.
var ofTheCache = regexp.MustCompile(`(?m)^github\.com/cachetrip/cachetrip(/internal/\w+)?\.`)
