package cachetrip

import (
	"fmt"
	"hash/maphash"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"weak"

	"github.com/cachetrip/cachetrip/internal/span"
	"github.com/cachetrip/cachetrip/store"
	"github.com/google/go-cmp/cmp"
)

// TestViews: entries that are needed again are parsed once more and then
// remembered, but the memory for that is limited. Earlier states of an entry
// take none.
func TestViews(t *testing.T) {
	entry := func(fields int, value string) *store.Entry {
		e := &store.Entry{Status: 200, Header: make(http.Header)}
		for i := range fields {
			e.Header[fmt.Sprint("X-", i)] = []string{value}
		}
		return e
	}
	key := func(i int) string { return fmt.Sprintf("%064d", i) }
	for _, c := range []struct {
		name       string
		e          *store.Entry
		remembered bool
	}{
		{"usual", entry(10, "value"), true},
		{"many fields", entry(maxView+1, ""), false},
		{"long", entry(1, strings.Repeat("x", maxViewBytes)), false},
	} {
		var vs views
		first := vs.of(key(0), 0, c.e)
		if a, b := vs.of(key(0), 0, c.e), vs.of(key(0), 0, c.e); (&a[0] == &b[0]) != c.remembered {
			t.Errorf("%s: remembered = %v, want %v", c.name, !c.remembered, c.remembered)
		} else if &first[0] == &a[0] {
			t.Errorf("%s: remembered at once", c.name)
		}
	}

	var vs views
	var entries []*store.Entry // kept, because views do not keep them
	for i := range 3 * maxViews / maxViewBytes {
		e := entry(2, strings.Repeat("x", maxViewBytes/2-10))
		entries = append(entries, e)
		vs.of(key(i), 0, e)
		vs.of(key(i), 0, e)
	}
	if n := vs.bytes.Load(); n > maxViews+maxViewBytes {
		t.Errorf("views take %d bytes", n)
	}
	vs = views{}
	for i := range 100 {
		e := entry(i%10, "value")
		entries = append(entries, e)
		vs.of(key(0), 0, e)
	}
	if n := vs.bytes.Load(); n > 2<<10 {
		t.Errorf("states of one entry take %d bytes", n)
	}
	if a, b := vs.of(key(0), 0, entries[len(entries)-1]), vs.of(key(0), 0, entries[len(entries)-1]); &a[0] != &b[0] {
		t.Error("the last state of an entry is not remembered")
	}
}

// TestViewsEndWithTheirEntries: the view of an entry keeps in memory what that
// was decoded from, so it must not outlive the entry for long. The views of
// other entries stay.
func TestViewsEndWithTheirEntries(t *testing.T) {
	const entries, each = 64, 128 << 10
	for _, c := range []struct {
		name string
		kept int // how many entries stay in memory
	}{
		{"none stays", 0},
		{"some stay", entries / 4},
		{"all stay", entries},
	} {
		t.Run(c.name, func(t *testing.T) {
			vs := new(views)
			kept := make([]*store.Entry, 0, c.kept)
			before := heapAfterGC()
			for i := range entries {
				text := strings.Repeat("x", each)
				e := &store.Entry{Status: 200, Header: http.Header{"Etag": {text[:10]}}}
				for range 2 {
					vs.of(fmt.Sprintf("%064d", i), 0, e)
				}
				if len(kept) < c.kept {
					kept = append(kept, e)
				}
			}
			one := vs.known.At(maphash.String(keySeed, fmt.Sprintf("%064d", entries-1)))[0].Load().bytes
			want := int64(c.kept) * one
			// Views are dropped after a collection, in another goroutine.
			if !afterGC(func() bool { return vs.bytes.Load() == want }) {
				t.Errorf("views count %d bytes, want %d", vs.bytes.Load(), want)
			}
			if grew, most := heapAfterGC()-before, int64(c.kept+16)*each; grew > most {
				t.Errorf("the memory grew by %d bytes, want at most %d", grew, most)
			}
			for i, e := range kept {
				key := fmt.Sprintf("%064d", i)
				if a, b := vs.of(key, 0, e), vs.of(key, 0, e); &a[0] != &b[0] {
					t.Fatalf("entry %d is in memory, and its view is not", i)
				}
			}
			gone := weak.Make(vs)
			vs = nil
			if !afterGC(func() bool { return gone.Value() == nil }) {
				t.Error("views stay in memory though nobody uses them")
			}
			runtime.KeepAlive(kept)
		})
	}
}

// afterGC collects garbage until f returns true. It gives up and reports false
// after a minute, which is longer than any machine needs.
func afterGC(f func() bool) bool {
	for last := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if runtime.GC(); f() {
			return true
		}
		if time.Now().After(last) {
			return false
		}
	}
}

func heapAfterGC() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestNewResponseLike: newResponseLike takes fields over from an earlier
// response only if the entry says the same.
func TestNewResponseLike(t *testing.T) {
	headers := []http.Header{
		headerOf(),
		headerOf("Cache-Control: max-age=60"),
		headerOf("Cache-Control: max-age=60, no-cache=\"A, B\"", "Vary: A"),
		headerOf("Cache-Control: max-age=61", "Vary: A, B"),
		headerOf("Cache-Control: max-age=61", "Vary: A", "Vary: B"),
		headerOf("Vary: A, B", "Content-Encoding: gzip"),
		headerOf("Vary: *", "Content-Encoding: br"),
	}
	all := cmp.AllowUnexported(response{}, span.Span{})
	for _, before := range headers {
		old := newResponse(&store.Entry{Status: 200, Header: before})
		for _, h := range headers {
			e := &store.Entry{Status: 404, Header: h.Clone()}
			want := newResponse(e)
			if diff := cmp.Diff(newResponseLike(e, &old), want, all); diff != "" {
				t.Errorf("%v after %v (-got +want):\n%s", h, before, diff)
			}
			var vs views
			first := &store.Entry{Status: 200, Header: before}
			vs.of("key", 0, first)
			if got := vs.of("key", 0, e)[0]; !cmp.Equal(got.cc, want.cc) || !slices.Equal(got.names, want.names) {
				t.Errorf("the view of %v after %v has %v and %v", h, before, got.cc, got.names)
			}
			runtime.KeepAlive(first)
		}
	}
}
