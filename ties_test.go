package cachetrip

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTiesOf(t *testing.T) {
	for _, test := range []struct {
		name   string
		h      http.Header
		groups []string
		every  bool
		rule   string
	}{
		{"nothing", http.Header{}, nil, false, ""},
		{"groups", http.Header{"Cache-Groups": {`"b", "a"`, `"a"`}}, []string{"a", "b"}, false, ""},
		{"a rule", http.Header{"No-Vary-Search": {"params"}}, nil, false, "except=()"},
		{"both", http.Header{"Cache-Groups": {`""`}, "No-Vary-Search": {"key-order"}}, []string{""}, false, "key-order"},
		{"malformed fields", http.Header{"Cache-Groups": {"a"}, "No-Vary-Search": {"("}}, nil, false, ""},
		{"a field that is too long", http.Header{"Cache-Groups": {fmt.Sprintf("%q", make([]byte, maxGroupBytes))}}, nil, true, ""},
	} {
		got := tiesOf(test.h)
		if got == nil {
			got = &ties{}
		}
		if diff := cmp.Diff([]any{test.groups, test.every, test.rule}, []any{got.groups, got.every, got.search.String()}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestInvalidatedGroups(t *testing.T) {
	h := http.Header{"Cache-Group-Invalidation": {`"a"`}}
	for method, want := range map[string][]string{
		"POST": {"a"}, "DELETE": {"a"}, "FROB": {"a"},
		"GET": nil, "": nil, "HEAD": nil, "OPTIONS": nil, "QUERY": nil,
	} {
		got, every := invalidatedGroups(method, h)
		if diff := cmp.Diff(want, got); diff != "" || every {
			t.Errorf("%s (-want +got):\n%s", method, diff)
		}
	}
}

// digestOf returns a text that looks like the digest of a name.
func digestOf(name int) string {
	return fmt.Sprintf("%016x%016x", uint64(name)*0x9e3779b97f4a7c15, name)
}

// TestLedger compares ledgers with a list of all invalidations. A ledger may
// have a response validated in vain, but never hides an invalidation.
func TestLedger(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 0))
		names := 1 + random.IntN(600)
		var l ledger
		last := map[int]time.Time{} // the last invalidation of each name
		var lastAll time.Time
		now := start
		l.since = start
		inVain, checked := 0, 0
		for range 800 {
			now = now.Add(time.Duration(random.IntN(3)) * time.Second)
			switch random.IntN(10) {
			case 0, 1, 2, 3, 4:
				name := random.IntN(names)
				last[name] = now
				l = l.marked([]string{digestOf(name)}, false, now)
			case 5:
				if random.IntN(50) == 0 {
					lastAll = now
					l = l.marked(nil, true, now)
				}
			default:
				a, b := random.IntN(names), random.IntN(names)
				requested := start.Add(time.Duration(random.Int64N(int64(now.Sub(start)) + 1)))
				invalid := false
				for _, at := range []time.Time{last[a], last[b], lastAll} {
					invalid = invalid || !at.IsZero() && !requested.After(at)
				}
				got := l.invalidatedAt(requested, []string{digestOf(a), digestOf(b)}, false)
				if invalid && got.IsZero() {
					t.Fatalf("seed %d: a response requested at %v is valid, but %d or %d was invalidated", seed, requested, a, b)
				}
				if checked++; !invalid && !got.IsZero() {
					inVain++
				}
				if anything := l.invalidatedAt(requested, nil, true); invalid && anything.IsZero() {
					t.Fatalf("seed %d: a member of every group, requested at %v, is valid", seed, requested)
				}
			}
			if len(l.marks) > maxMarks {
				t.Fatalf("seed %d: %d marks", seed, len(l.marks))
			}
		}
		if names < maxMarks && lastAll.IsZero() && inVain > 0 {
			t.Errorf("seed %d: %d of %d responses are validated in vain, although there is room for all marks", seed, inVain, checked)
		}
	}
}

// TestLostLedgers looks at responses that no ledger covers.
func TestLostLedgers(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	if (*ledger)(nil).invalidatedAt(start, nil, false).IsZero() || (*ledger)(nil).invalidatedAt(time.Time{}, nil, false).IsZero() {
		t.Error("without a ledger a response is valid")
	}
	for _, test := range []struct {
		name                string
		since               int // of the ledger; -1: there is none
		requested, received int
		changes, valid      bool
	}{
		{"the first response begins one", -1, 5, 6, true, true},
		{"a slow response does not", -1, 5, 16, true, false},
		{"a clock that was set back", -1, 5, 4, true, false},
		{"a response after it began", 5, 5, 6, false, true},
		{"a response that was on its way when it began", 5, 4, 6, true, true},
		{"a slow one", 5, 4, 15, false, false},
		{"an old one", 50, 4, 6, false, false},
	} {
		var before *ledger
		if test.since >= 0 {
			before = &ledger{since: at(test.since), floor: at(-100)}
		}
		l, changed := before.covering(at(test.requested), at(test.received))
		valid := l.invalidatedAt(at(test.requested), nil, false).IsZero()
		if changed != test.changes || valid != test.valid {
			t.Errorf("%s: changed is %t, valid is %t", test.name, changed, valid)
		}
		if before != nil && !l.floor.Equal(before.floor) {
			t.Errorf("%s: the floor is %v", test.name, l.floor)
		}
	}
	damaged := ledger{since: start, marks: []string{digestOf(1)[:markDigits] + "x"}}
	if damaged.invalidatedAt(at(1000), []string{digestOf(1)}, false).IsZero() {
		t.Error("a mark that cannot be read hides an invalidation")
	}
}

func TestNarrows(t *testing.T) {
	for _, test := range []struct {
		own, stored string
		want        bool
	}{
		{"http://a/?x=1&y=2", "http://a/?x=1&y=2", true},
		{"http://a/?x=1&y=2", "http://a/?y=2", true},
		{"http://a/?x=1&y=2", "http://a/?x=1", true},
		{"http://a/?x=1&y=2", "http://a/", true},
		{"http://a/?x=1&y=2", "http://a/?", true},
		{"http://a/?x=1&&y=2&", "http://a/?x=1&&y=2", true},
		{"http://a/", "http://a/?x=1", false},
		{"http://a/?x=1&y=2", "http://a/?y=2&x=1", false},
		{"http://a/?x=1", "http://a/?x=1&x=1", false},
		{"http://a/?x=1", "http://a/?x=2", false},
		{"http://a/?x=1", "http://a/b?x=1", false},
		{"http://a/?x=1", "https://a/?x=1", false},
	} {
		if got := narrows(test.own, test.stored); got != test.want {
			t.Errorf("narrows(%q, %q) = %t", test.own, test.stored, got)
		}
	}
}
