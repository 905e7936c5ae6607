package storetest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/store"
	"github.com/google/go-cmp/cmp"
)

// note returns a note that says lines.
func note(key string, lines []string) *store.Entry {
	at := time.Unix(1_700_000_000, 123_456_789).UTC()
	return &store.Entry{
		Key: key, URL: "https://example.com/", Method: store.NoteMethod, Status: 200,
		Header:      http.Header{"Cache-Control": {"max-age=2592000"}, "Marks": lines},
		RequestTime: at, ResponseTime: at.Add(time.Hour), InvalidatedAt: at.Add(time.Minute),
	}
}

// testNotes lets a note grow, as the ledger of a busy origin does, beside
// responses.
func testNotes(t testing.TB, s store.Store) {
	key := Key(1, 0)
	put(t, s, entry(Key(2, 1), 1), content(1, 100))
	var lines []string
	for i := range 256 {
		lines = append(lines, strings.Repeat(fmt.Sprintf("%x", i%16), 35))
		update(t, s, key, func(current []*store.Entry) []*store.Entry {
			var before []string
			if len(current) > 0 {
				before = current[0].Header["Marks"]
			}
			return []*store.Entry{note(key, append(slices.Clone(before), lines[i]))}
		})
	}
	got := entries(t, s, key)
	if diff := cmp.Diff([]*store.Entry{note(key, lines)}, got); diff != "" {
		t.Fatalf("the note changed (-want +got):\n%s", diff)
	}
	if !got[0].IsNote() {
		t.Error("the note is not known as one")
	}
	found := 0
	for e, err := range s.All(t.Context(), key[:32]) {
		if err != nil {
			t.Error(err)
			continue
		}
		found++
		if diff := cmp.Diff(note(key, lines), e); diff != "" {
			t.Errorf("All yields another note (-want +got):\n%s", diff)
		}
	}
	if found != 1 {
		t.Errorf("All yields %d notes, want 1", found)
	}
	update(t, s, key, func([]*store.Entry) []*store.Entry { return nil })
	if got := entries(t, s, key); len(got) != 0 {
		t.Errorf("%d notes are left after their removal", len(got))
	}
}

// testTwoNotes changes a note in one instance. The other one sees that,
// whatever it remembers, and also if there was no note before.
func testTwoNotes(t testing.TB, sub Subject) {
	a, b := sub.Store, opened(t, "Second", sub.Second)
	key := Key(1, 0)
	for i := range 20 {
		entries(t, b, key)
		want := note(key, []string{fmt.Sprint(i)})
		if i%5 == 4 {
			want = nil
		}
		update(t, a, key, func([]*store.Entry) []*store.Entry {
			if want == nil {
				return nil
			}
			return []*store.Entry{want.Clone()}
		})
		var wanted []*store.Entry
		if want != nil {
			wanted = append(wanted, want)
		}
		eventually(t, "the other instance has the note that was written", func() bool {
			got := entries(t, b, key)
			return len(got) == len(wanted) && cmp.Diff(got, wanted) == ""
		})
		if t.Failed() {
			return
		}
		a, b = b, a
	}
}
