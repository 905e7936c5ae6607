package eventlog

import (
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestOrder(t *testing.T) {
	var l Log
	start := time.Now()
	first := l.Next()
	if l.InvalidatedSince(first, "a") || l.StoredSince(first, "a") || !l.InvalidatedAt("a").IsZero() {
		t.Error("an empty log knows of events")
	}
	l.Invalidate("a", start)
	l.Stored("a")
	l.Distrust("a", start.Add(time.Second))
	last := l.Next()
	if !l.InvalidatedSince(first, "a") || !l.StoredSince(first, "a") || !l.InvalidatedAt("a").Equal(start) {
		t.Error("events after the first one are not reported")
	}
	if l.InvalidatedSince(last, "a") || l.StoredSince(last, "a") {
		t.Error("events before the last one are reported as after it")
	}
	if l.InvalidatedSince(first, "b") || l.StoredSince(first, "b") || !l.InvalidatedAt("b").IsZero() {
		t.Error("events of another name are reported")
	}
	if times := l.InvalidationsBefore(first, "a", nil); times != nil {
		t.Errorf("invalidations before the first event: %v", times)
	}
	want := []time.Time{start, start.Add(time.Second)}
	if diff := cmp.Diff(want, l.InvalidationsBefore(last, "a", nil)); diff != "" {
		t.Errorf("invalidations before the last event (-want +got):\n%s", diff)
	}
}

// A memory keeps the last events that fit. For a forgotten event, since is not
// too low.
func TestMemoryIsBounded(t *testing.T) {
	var m memory
	start := time.Now()
	at := func(i int) event { return event{uint64(i + 1), start.Add(time.Duration(i) * time.Second)} }
	const n = 5*maxEvents/4 + 1
	for i := range n {
		m.note(strconv.Itoa(i), at(i))
		if size := len(m.last) + len(m.before); size > maxEvents {
			t.Fatalf("%d events are remembered", size)
		}
	}
	for i := range n {
		known, since := m.at(strconv.Itoa(i)), m.since(strconv.Itoa(i))
		if known != at(i) && (known != event{} || i >= n-maxEvents/2) {
			t.Fatalf("at %d: got %v", i, known)
		}
		if since < at(i).number {
			t.Fatalf("since %d: got %v", i, since)
		}
	}
	if known := m.at("other"); known != (event{}) {
		t.Errorf("at of a name without events: got %v", known)
	}
	if since := m.since("other"); since > at(n-maxEvents/2).number {
		t.Errorf("since of a name without events: got %v", since)
	}
	if since := new(memory).since("other"); since != 0 {
		t.Errorf("since in an empty memory: got %v", since)
	}
	m.note("1", at(0))
	if known := m.at("1"); known != at(0) {
		t.Errorf("noted again: got %v", known)
	}
}
