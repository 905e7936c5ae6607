package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestAllReadsAhead lists a cache with one reader and with several. In a
// bubble, a reader that is left behind fails the test.
func TestAllReadsAhead(t *testing.T) {
	dir := t.TempDir()
	d := openTest(t, dir, DiskOptions{})
	want := make(map[string]int)
	for i := range 1000 {
		key := fmt.Sprintf("%02x%062x", i%7*17, i) // more of a shard than is read ahead
		mustPut(t, d, key, pattern(byte(i), 8000))
		want[key] = 1
	}
	for _, readers := range []int{1, 4} {
		for _, test := range []struct {
			name string
			take func(n int, cancel context.CancelFunc) bool // is called after n entries
			want int                                         // entries; -1: some
			err  error
		}{
			{"to the end", func(int, context.CancelFunc) bool { return true }, 1000, nil},
			{"only the first", func(n int, _ context.CancelFunc) bool { return n < 1 }, 1, nil},
			{"until the context ends", func(_ int, cancel context.CancelFunc) bool { cancel(); return true }, -1, context.Canceled},
		} {
			t.Run(fmt.Sprintf("%s, %d readers", test.name, readers), func(t *testing.T) {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(readers))
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					got, n := make(map[string]int), 0
					var last error
					for e, err := range d.All(ctx, "") {
						if last != nil {
							t.Fatalf("an item follows the error %v", last)
						}
						if last = err; err != nil {
							continue
						}
						got[e.Key]++
						if n++; !test.take(n, cancel) {
							break
						}
					}
					if !errors.Is(last, test.err) {
						t.Errorf("got the error %v, want %v", last, test.err)
					}
					if test.want >= 0 && n != test.want || test.want < 0 && (n == 0 || n == len(want)) {
						t.Errorf("%d entries, want %d", n, test.want)
					}
					if n == len(want) {
						if diff := cmp.Diff(want, got); diff != "" {
							t.Errorf("keys (-want +got):\n%s", diff)
						}
					}
				})
			})
		}
	}
}

// TestMatching compares Matching with All, for files with one entry or more,
// updated, freshened, invalidated, cut off and damaged.
func TestMatching(t *testing.T) {
	d := openTest(t, t.TempDir(), DiskOptions{})
	newer := func(e *Entry) *Entry {
		e = e.Clone()
		e.ResponseTime = e.ResponseTime.Add(time.Minute)
		e.Header = e.Header.Clone()
		e.Header.Set("X-Updated", "yes")
		return e
	}
	for i := range 240 {
		key := testKey(i)
		entry := func(n int) *Entry {
			e := testHead(key)
			e.URL = fmt.Sprintf("https://host%d.example/%d", n%4, i)
			e.Method, e.Length, e.Selecting = "GET", 0, map[string]string{"accept": fmt.Sprint(n)}
			return e
		}
		update := func(change func([]*Entry) []*Entry) {
			if err := d.Update(t.Context(), key, change); err != nil {
				t.Fatal(err)
			}
		}
		update(func([]*Entry) []*Entry { return []*Entry{entry(i)} })
		path := d.path(key)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		switch i / 4 % 6 {
		case 1:
			update(func(es []*Entry) []*Entry { return append([]*Entry{entry(i + 1)}, es...) })
		case 2:
			update(func(es []*Entry) []*Entry { return []*Entry{newer(es[0])} })
		case 3:
			update(func(es []*Entry) []*Entry { return []*Entry{entry(i + 2)} })
		case 4:
			os.WriteFile(path, append(b, b[:20]...), 0o600)
		case 5:
			b[len(b)-1] ^= 1
			os.WriteFile(path, b, 0o600)
		}
	}
	for _, host := range []string{"host0", "host1", "host2", "host3", "host4", "host"} {
		match := func(url string) bool { return strings.HasPrefix(url, "https://"+host) }
		var got, want []*Entry
		for e, err := range d.All(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			if match(e.URL) {
				want = append(want, e)
			}
		}
		for e, err := range d.Matching(t.Context(), "", match) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e)
		}
		byKey := func(a, b *Entry) int { return strings.Compare(a.Key+a.URL, b.Key+b.URL) }
		slices.SortFunc(got, byKey)
		slices.SortFunc(want, byKey)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", host, diff)
		}
	}
}

// TestMatchingDecodesFewEntries counts the allocations for files without a
// match.
func TestMatchingDecodesFewEntries(t *testing.T) {
	d := openTest(t, t.TempDir(), DiskOptions{})
	const keys = 200
	for i := range keys {
		mustPut(t, d, sameShard(testKey(0), i), pattern(byte(i), 1000))
	}
	prefix := testKey(0)[:2] // one shard: one reader
	all := testing.AllocsPerRun(5, func() {
		for _, err := range d.All(t.Context(), prefix) {
			if err != nil {
				t.Fatal(err)
			}
		}
	})
	none := testing.AllocsPerRun(5, func() {
		for e, err := range d.Matching(t.Context(), prefix, func(string) bool { return false }) {
			t.Fatal(e, err)
		}
	})
	if none > all*6/10 { // a third on Linux; opening a file takes more on Windows
		t.Errorf("%v allocations for %d keys without a match, %v for all", none, keys, all)
	}
}

// TestMatchPanics: a panic of the function that the caller gave reaches the
// caller.
func TestMatchPanics(t *testing.T) {
	d := openTest(t, t.TempDir(), DiskOptions{})
	for i := range 20 {
		mustPut(t, d, testKey(i), pattern(1, 10))
	}
	defer func() {
		if p := recover(); p != "match" {
			t.Errorf("recovered %v, want the panic of match", p)
		}
	}()
	for range d.Matching(t.Context(), "", func(string) bool { panic("match") }) {
	}
	t.Error("match did not panic")
}
