package eventlog

import (
	"testing"
	"time"
)

func TestStamps(t *testing.T) {
	var s Stamps
	now := time.Unix(1_000_000, 0)
	first := s.Request(now)
	if !first.Equal(now) {
		t.Errorf("a request has the time %v, want that of the clock", first)
	}
	for range 3 { // the clock stands still
		at := s.Invalidation(now)
		if at.Before(first) {
			t.Errorf("an invalidation at %v counts as made before a request at %v that it follows", at, first)
		}
		if first = s.Request(now); !first.After(at) {
			t.Errorf("a request at %v counts as made before an invalidation at %v that it follows", first, at)
		}
	}
	if got := s.Request(now.Add(-time.Hour)); !got.Equal(now.Add(-time.Hour)) {
		t.Errorf("after the clock was set back by an hour, a request has the time %v", got)
	}
	if got := s.Invalidation(now.Add(-2 * time.Hour)); !got.Equal(now.Add(-2 * time.Hour)) {
		t.Errorf("after the clock was set back again, an invalidation has the time %v", got)
	}
}
