package store

import (
	"context"
	"fmt"
	"testing"

	"github.com/cachetrip/cachetrip/internal/testtier"
)

// putFor stores a response of an origin.
func putFor(t *testing.T, s Store, origin, key string, size int) {
	t.Helper()
	ctx := context.Background()
	draft, err := s.Create(ctx, key, int64(size))
	if err != nil {
		t.Fatal(err)
	}
	defer draft.Close()
	if _, err := draft.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	blob, err := draft.Commit()
	if err != nil {
		t.Fatal(err)
	}
	e := testHead(key)
	e.URL, e.Length, e.Parts = origin+"/"+key, int64(size), []Part{{Length: int64(size), Blob: blob}}
	if err := s.Update(ctx, key, func([]*Entry) []*Entry { return []*Entry{e} }); err != nil {
		t.Fatal(err)
	}
}

// TestFairShare has an origin store far more than fits. Entries of other
// origins stay, unless they themselves take more than half of the limit. Of its
// own entries, the most recently used stay.
func TestFairShare(t *testing.T) {
	t.Parallel()
	const bound, size = 4 << 20, 14_000
	for name, open := range map[string]func(t *testing.T) Store{
		"disk":   func(t *testing.T) Store { return openTest(t, scratchDir(t), DiskOptions{MaxBytes: bound}) },
		"memory": func(t *testing.T) Store { return NewMemory(bound) },
	} {
		for _, test := range []struct {
			name    string
			others  []int // how many responses each of the others stores before
			flooder string
			keeps   bool // what others have stored
		}{
			{"one that has little", []int{20}, "https://evil.example", true},
			{"many that have little", []int{20, 30, 5, 40, 1}, "https://evil.example", true},
			{"another port", []int{20}, "https://good0.example:8443", true},
			{"the same origin", []int{20}, "https://good0.example", false},
		} {
			t.Run(name+", "+test.name, func(t *testing.T) {
				t.Parallel()
				s := open(t)
				var before []string
				for i, n := range test.others {
					for range n {
						key := testKey(len(before))
						before = append(before, key)
						putFor(t, s, fmt.Sprintf("https://good%d.example", i), key, size)
					}
				}
				flood := testtier.Pick(4*bound/3, 2*bound) / size
				for i := range flood {
					putFor(t, s, test.flooder, testKey(10_000+i), size)
				}
				held := func(key string) bool {
					es, err := s.Entries(t.Context(), key)
					if err != nil {
						t.Fatal(err)
					}
					return len(es) > 0
				}
				kept := 0
				for _, key := range before {
					if held(key) {
						kept++
					}
				}
				if want := map[bool]int{true: len(before)}[test.keeps]; kept != want {
					t.Errorf("%d of %d responses of others are there, want %d", kept, len(before), want)
				}
				last := 0
				for i := flood - 50; i < flood; i++ {
					if held(testKey(10_000 + i)) {
						last++
					}
				}
				if last < 45 {
					t.Errorf("%d of the last 50 responses are there", last)
				}
			})
		}
	}
}

// TestSharesBounded: keys are forgotten one by one, and their bytes are no
// longer counted.
func TestSharesBounded(t *testing.T) {
	t.Parallel()
	var s shares
	var of [1000][]*Entry
	for i := range of {
		of[i] = []*Entry{{URL: fmt.Sprintf("https://%d.example/a?b", i), Parts: []Part{{Length: 5000}}}}
	}
	keys := make([]string, maxShares+1000)
	for i := range keys {
		keys[i] = testKey(i)
		s.set(keys[i], of[i%len(of)])
	}
	if len(s.keys) != maxShares || len(s.origins) != 1000 {
		t.Errorf("got %d keys of %d origins", len(s.keys), len(s.origins))
	}
	for _, key := range keys {
		s.set(key, nil)
	}
	if len(s.keys) != 0 || len(s.origins) != 0 || s.top.bytes != 0 {
		t.Errorf("got %d keys of %d origins, and %d bytes", len(s.keys), len(s.origins), s.top.bytes)
	}
}
