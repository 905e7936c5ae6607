// Package eventlog orders what happens to the keys of a cache within one
// process. Clocks cannot: two events may have the same time, and a clock may be
// set back.
//
// Each event has a number. A later event has a higher number. The log remembers
// the last invalidation, write and distrusted write of each name, in bounded
// memory. If it has forgotten an event, it reports a later one. So a caller
// validates too often rather than too rarely. A name is any string: a key, or
// the prefix that all keys of a URL share.
package eventlog

import (
	"sync"
	"sync/atomic"
	"time"
)

// Log numbers events and remembers the last ones. Its zero value is ready for
// use. It is safe for concurrent use.
type Log struct {
	count       atomic.Uint64
	invalidated memory
	stored      memory
	distrusted  memory
}

// Next returns the number of an event that happens now.
func (l *Log) Next() uint64 { return l.count.Add(1) }

// Invalidate records that the stored responses under a name are invalid from
// now on.
func (l *Log) Invalidate(name string, now time.Time) {
	l.invalidated.note(name, event{l.Next(), now})
}

// Stored notes that something was stored under a name.
func (l *Log) Stored(name string) { l.stored.note(name, event{number: l.Next()}) }

// Distrust notes that a response was stored under a name as invalid from the
// time now on.
func (l *Log) Distrust(name string, now time.Time) {
	l.distrusted.note(name, event{l.Next(), now})
}

// InvalidatedAt returns the time of the last invalidation of a name. It is zero
// if there was none, or if it was forgotten. Use it for stored responses: it
// never reports the invalidation of another name.
func (l *Log) InvalidatedAt(name string) time.Time { return l.invalidated.at(name).time }

// InvalidatedSince reports whether a name was invalidated after the event with
// the given number. Use it for requests under way: if the log has forgotten, it
// reports true.
func (l *Log) InvalidatedSince(number uint64, name string) bool {
	return l.invalidated.since(name) > number
}

// StoredSince reports whether something was stored under a name after the event
// with the given number. If the log has forgotten, it reports true.
func (l *Log) StoredSince(number uint64, name string) bool { return l.stored.since(name) > number }

// InvalidationsBefore appends to times when a name was last invalidated, and
// when a response was last stored under it as invalid. Only events with smaller
// numbers than the given one count.
func (l *Log) InvalidationsBefore(number uint64, name string, times []time.Time) []time.Time {
	for _, e := range [...]event{l.invalidated.at(name), l.distrusted.at(name)} {
		if e.number != 0 && e.number < number {
			times = append(times, e.time)
		}
	}
	return times
}

// event is something that happened, with its number and time.
type event struct {
	number uint64
	time   time.Time
}

// memory remembers the last event of each name. Its zero value is ready for
// use.
type memory struct {
	used         atomic.Bool // most programs never send anything unsafe to what they cache
	mu           sync.Mutex
	last, before map[string]event // the most recent events, and those before them
	turned       uint64           // the number of the event with which last became before
	forgotten    uint64           // no event that was forgotten has a higher number
}

// maxEvents limits the events of one memory. Beyond it the older half is
// forgotten.
const maxEvents = 4096

func (m *memory) note(name string, e event) {
	m.used.Store(true)
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.last) >= maxEvents/2 {
		m.forgotten, m.turned = m.turned, e.number
		m.before, m.last = m.last, nil
	}
	if m.last == nil {
		m.last = make(map[string]event)
	}
	if e.number > m.last[name].number {
		m.last[name] = e
	}
}

// at returns the last event of a name. It is zero if there was none, or if it
// was forgotten.
func (m *memory) at(name string) event {
	if !m.used.Load() {
		return event{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.last[name]; ok {
		return e
	}
	return m.before[name]
}

// since returns the number of the last event of a name, or a higher one. It is
// 0 if there was none.
func (m *memory) since(name string) uint64 {
	if e := m.at(name); e.number != 0 || !m.used.Load() {
		return e.number
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.forgotten
}
