package gregjones_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/gregjones"
	"github.com/cachetrip/cachetrip/store/storetest"
)

// memory is what gregjones/httpcache calls a MemoryCache.
type memory struct {
	mu    sync.RWMutex
	items map[string][]byte
}

func newMemory() *memory { return &memory{items: map[string][]byte{}} }

func (m *memory) Get(key string) ([]byte, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	value, ok := m.items[key]
	return value, ok
}

func (m *memory) Set(key string, value []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.items[key] = value
}

func (m *memory) Delete(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.items, key)
}

// names returns the names of all values.
func (m *memory) names() []string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return slices.Sorted(maps.Keys(m.items))
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		values := newMemory()
		open := func() (store.Store, error) { return gregjones.New(values, gregjones.Options{}), nil }
		s, _ := open()
		flip := func(name string) error {
			value, ok := values.Get(name)
			if !ok {
				return fmt.Errorf("there is no %s among %q", name, values.names())
			}
			value = bytes.Clone(value)
			value[rand.IntN(len(value))] ^= 1
			values.Set(name, value)
			return nil
		}
		return storetest.Subject{
			Store:   s,
			MaxBody: gregjones.DefaultMaxBody,
			Reopen:  open,
			Damage: func(key string, blob store.Blob) error {
				return flip("cachetrip1:body:" + key + ":" + blob.ID)
			},
			Lose: func(key string, blob store.Blob) error {
				values.Delete("cachetrip1:body:" + key + ":" + blob.ID)
				return nil
			},
			DamageEntries: func(key string) error { return flip("cachetrip1:heads:" + key[:32]) },
		}
	})
}

// get makes a request and returns the body's text.
func get(t *testing.T, cache *cachetrip.Transport, url string, fields ...string) (string, cachetrip.Status) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	resp, err := cache.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), cachetrip.StatusOf(resp)
}

// newOrigin returns a server whose bodies are their URL's query and the
// request's language, many times.
func newOrigin(t *testing.T) *httptest.Server {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		w.Header().Set("Vary", "Accept-Language")
		io.WriteString(w, content(r.URL.RawQuery, r.Header.Get("Accept-Language")))
	}))
	t.Cleanup(origin.Close)
	return origin
}

func content(query, language string) string {
	return strings.Repeat(query+"/"+language+"\n", 1+len(query)*3000)
}

// A cache that is opened again has what was stored, under names that say
// nothing of the URL; credentials are nowhere; and purging leaves nothing
// behind but the secret.
func TestTransport(t *testing.T) {
	origin := newOrigin(t)
	values := newMemory()
	url := origin.URL + "/?page-17"
	for i := range 2 {
		cache := &cachetrip.Transport{Store: gregjones.New(values, gregjones.Options{})}
		for _, fields := range [][]string{{"Accept-Language", "de"}, {"Accept-Language", "en"}, {"Authorization", "Bearer hidden"}} {
			body, status := get(t, cache, url, fields...)
			want := content("page-17", http.Header{fields[0]: fields[1:]}.Get("Accept-Language"))
			if body != want || status.Hit != (i > 0) {
				t.Errorf("round %d, %s: %d bytes with %+v, want %d", i, fields, len(body), status, len(want))
			}
		}
		cache.Close()
	}
	for name, value := range values.items {
		if strings.Contains(name, "page") || bytes.Contains(value, []byte("hidden")) || strings.Contains(name, "hidden") {
			t.Errorf("%s holds %q", name, value)
		}
	}
	if n := len(values.names()); n != 6 { // heads, three bodies, index, secret
		t.Errorf("%d values are stored, want 6: %s", n, values.names())
	}
	cache := &cachetrip.Transport{Store: gregjones.New(values, gregjones.Options{})}
	if err := cache.Invalidate(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	if _, status := get(t, cache, url, "Authorization", "Bearer hidden"); status.Hit {
		t.Error("a hit after Invalidate")
	}
	if err := cache.Purge(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	if got := values.names(); !slices.Equal(got, []string{"cachetrip1:secret"}) {
		t.Errorf("left after Purge: %s", got)
	}
}

// unreliable drops values, and damages some.
type unreliable struct {
	*memory
	mu sync.Mutex
	r  *rand.Rand
}

func (u *unreliable) Get(key string) ([]byte, bool) {
	value, ok := u.memory.Get(key)
	u.mu.Lock()
	defer u.mu.Unlock()
	switch n := u.r.IntN(10); {
	case !ok || n == 0:
		return nil, false
	case n == 1 && len(value) > 0:
		value = bytes.Clone(value)
		value[u.r.IntN(len(value))] ^= 1 << u.r.IntN(8)
	case n == 2:
		value = value[:u.r.IntN(len(value)+1)]
	}
	return value, true
}

// The Transport serves the bytes that the origin sent, even if the cache loses
// or damages values.
func TestUnreliable(t *testing.T) {
	origin := newOrigin(t)
	cache := &cachetrip.Transport{Store: gregjones.New(&unreliable{memory: newMemory(), r: rand.New(rand.NewPCG(1, 2))}, gregjones.Options{})}
	hits := 0
	for i := range 400 {
		query, language := strings.Repeat("q", i%7), []string{"de", "en"}[i%2]
		body, status := get(t, cache, origin.URL+"/?"+query, "Accept-Language", language)
		if want := content(query, language); body != want {
			t.Fatalf("request %d: wrong bytes with %+v", i, status)
		}
		if status.Hit {
			hits++
		}
	}
	if hits < 50 || hits == 400 {
		t.Errorf("%d hits of 400, want some", hits)
	}
}

// Bodies over the bound are passed on, and not stored.
func TestMaxBody(t *testing.T) {
	origin := newOrigin(t)
	values := newMemory()
	cache := &cachetrip.Transport{Store: gregjones.New(values, gregjones.Options{MaxBody: 200_000})}
	for _, test := range []struct {
		query string
		hit   bool
	}{{"small", true}, {"large-as-it-is", false}} {
		for i := range 2 {
			body, status := get(t, cache, origin.URL+"/?"+test.query)
			if want := content(test.query, ""); body != want || status.Hit != (test.hit && i > 0) {
				t.Errorf("%s: %d bytes with %+v, want %d", test.query, len(body), status, len(want))
			}
		}
	}
	s := gregjones.New(values, gregjones.Options{MaxBody: 100})
	if _, err := s.Create(t.Context(), storetest.Key(1, 1), 101); !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("Create: %v, want ErrTooLarge", err)
	}
}

// The heads of a URL do not grow without end with the identities that ask for
// it.
func TestIdentities(t *testing.T) {
	values := newMemory()
	s := gregjones.New(values, gregjones.Options{})
	last := ""
	for i := range 30 {
		last = storetest.Key(1, 0)[:32] + fmt.Sprintf("%x", sha256.Sum256([]byte{byte(i), byte(i >> 8)}))[:32]
		e := &store.Entry{Key: last, Method: http.MethodGet, Length: -1, Header: http.Header{"X": {strings.Repeat("x", 50_000)}}}
		if err := s.Update(t.Context(), last, func([]*store.Entry) []*store.Entry { return []*store.Entry{e} }); err != nil {
			t.Fatal(err)
		}
	}
	for name, value := range values.items {
		if len(value) > 1<<20+100 {
			t.Errorf("%s has %d bytes", name, len(value))
		}
	}
	if got, err := s.Entries(t.Context(), last); err != nil || len(got) != 1 {
		t.Errorf("of the last identity are stored %v, %v", got, err)
	}
}

// TestIndexIsPruned has a cache that holds little drop what was stored first.
// The index does not keep the names of everything that was ever stored.
func TestIndexIsPruned(t *testing.T) {
	values := newMemory()
	s := gregjones.New(values, gregjones.Options{})
	const stored, held = 3000, 100
	url := func(i int) string {
		sum := sha256.Sum256(fmt.Append(nil, i))
		return fmt.Sprintf("ab%x", sum[:31])
	}
	for i := range stored {
		key := url(i)
		err := s.Update(t.Context(), key, func([]*store.Entry) []*store.Entry {
			return []*store.Entry{{Key: key, URL: "https://example.com/", Method: "GET", Status: 200}}
		})
		if err != nil {
			t.Fatal(err)
		}
		if i >= held {
			values.Delete("cachetrip1:heads:" + url(i - held)[:32])
		}
	}
	index, _ := values.Get("cachetrip1:index:ab")
	if n := bytes.Count(index, []byte("\n")) + 1; n > 3*held {
		t.Errorf("the index has %d URLs, and the cache %d", n, held)
	}
	found := 0
	for _, err := range s.All(t.Context(), "ab") {
		if err != nil {
			t.Fatal(err)
		}
		found++
	}
	if found != held {
		t.Errorf("%d of %d entries are listed", found, held)
	}
}
