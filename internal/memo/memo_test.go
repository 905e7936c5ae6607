package memo

import (
	"strconv"
	"testing"
	"time"
)

func TestSet(t *testing.T) {
	var s Set
	if s.Has("a") {
		t.Error("an empty set has a string")
	}
	s.Add("a")
	if !s.Has("a") || s.Has("b") {
		t.Error("a set does not have what was added alone")
	}
	for i := range 100 * setSlots {
		name := strconv.Itoa(i)
		if s.Add(name); !s.Has(name) {
			t.Fatalf("the set does not have %q, which was added last", name)
		}
	}
	if s.Has("a") {
		t.Error("nothing was displaced")
	}
}

func TestRefusals(t *testing.T) {
	const origin = "https://example.com"
	now := time.Now()
	tests := []struct {
		name string
		note func(*Refusals)
		what Extra
		url  string
		at   time.Duration
		want bool
	}{
		{"nothing is known", func(rs *Refusals) {}, Range, "a", 0, false},
		{"the same URL", func(rs *Refusals) { rs.Note(Range, "a", origin, true, now) }, Range, "a", 0, true},
		{"another extra", func(rs *Refusals) { rs.Note(Range, "a", origin, true, now) }, Conditions, "a", 0, false},
		{"another URL", func(rs *Refusals) { rs.Note(Range, "a", origin, true, now) }, Range, "b", 0, false},
		{"later", func(rs *Refusals) { rs.Note(Range, "a", origin, true, now) }, Range, "a", refusalTime, false},
		{"another URL, after many have refused", func(rs *Refusals) { noteMany(rs, origin, true, now) }, Range, "b", 0, true},
		{"another URL, later", func(rs *Refusals) { noteMany(rs, origin, true, now) }, Range, "b", refusalTime, false},
		{"another URL, where repeating did not help", func(rs *Refusals) { noteMany(rs, origin, false, now) }, Range, "b", 0, false},
		{"another URL, of an origin that is not told", func(rs *Refusals) { noteMany(rs, "", true, now) }, Range, "b", 0, false},
		{"answered again", func(rs *Refusals) { rs.Note(Range, "a", origin, false, now); rs.Relent("a") }, Range, "a", 0, false},
		{"answered again, where repeating helped", func(rs *Refusals) { rs.Note(Range, "a", origin, true, now); rs.Relent("a") }, Range, "a", 0, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var rs Refusals
			test.note(&rs)
			if got := rs.Expects(test.what, test.url, origin, now.Add(test.at)); got != test.want {
				t.Errorf("Expects: got %v, want %v", got, test.want)
			}
		})
	}
}

func noteMany(rs *Refusals, origin string, helped bool, now time.Time) {
	for i := range refusingURLs {
		rs.Note(Range, strconv.Itoa(i), origin, helped, now)
	}
}

func TestRefusalsAreBounded(t *testing.T) {
	var rs Refusals
	for i := range 3 * maxRefusals {
		rs.Note(Conditions, strconv.Itoa(i), "origin "+strconv.Itoa(i), true, time.Now())
		if len(rs.by) > maxRefusals+1 {
			t.Fatalf("%d refusals are remembered", len(rs.by))
		}
	}
}
