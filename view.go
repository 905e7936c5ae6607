package cachetrip

import (
	"net/http"
	"sync/atomic"
	"time"
	"weak"

	"github.com/cachetrip/cachetrip/store"
)

// What a stored response says is read once, not at every request that uses it.

// reading is what the rules conclude from the header of a response that does not change any more.
type reading struct {
	date       time.Time
	initialAge time.Duration
	lifetime   time.Duration
	from       string // see lifetimeFrom
	fields     []headerField
	lines      int // of all fields
}

// headerField is a field with its lines: going through a slice of them takes less than through a map.
type headerField struct {
	name  string
	lines []string
}

// read returns r with what can be concluded from its header.
func (r response) read() response {
	known := &reading{date: r.date(), initialAge: r.initialAge()}
	known.lifetime, known.from = r.lifetimeFrom()
	known.fields, known.lines = headerFields(r.header)
	r.known = known
	return r
}

func headerFields(h http.Header) (fields []headerField, lines int) {
	fields = make([]headerField, 0, len(h))
	for name, values := range h {
		fields = append(fields, headerField{name, values})
		lines += len(values)
	}
	return fields, lines
}

// views remember entries as the rules see them, one for each slot, as long as the store has them in
// memory: an entry is the same for as long as it is at the same address. Its zero value is ready for
// use.
type views struct {
	slots [viewSlots]atomic.Pointer[view]
}

const (
	// viewSlots is a power of two; more keys than that share them, and are read anew now and then.
	viewSlots = 1024

	// maxView bounds the fields of a header that is remembered, which may outlive its entry: about
	// twice what responses mostly have, and with viewSlots some MiB at the very most.
	maxView = 64

	// maxViewBytes bounds their names and values.
	maxViewBytes = 4 << 10
)

type view struct {
	entry    weak.Pointer[store.Entry]
	response response
}

// of returns e, which is entry i of a key, as the rules see it.
func (vs *views) of(key string, i int, e *store.Entry) response {
	slot := &vs.slots[slotOf(key, i)]
	if v := slot.Load(); v != nil && v.entry.Value() == e {
		return v.response
	}
	r := newResponse(e).read()
	if rememberable(r.known) {
		slot.Store(&view{weak.Make(e), r})
	}
	return r
}

// all returns the entries of a key as the rules see them.
func (vs *views) all(key string, entries []*store.Entry) []response {
	stored := make([]response, len(entries))
	for i, e := range entries {
		stored[i] = vs.of(key, i, e)
	}
	return stored
}

// slotOf takes the slot from the digits that differ most between keys: of the URL and of the identity.
func slotOf(key string, i int) int {
	slot := i * 37
	for j := range 4 {
		slot = slot*31 + int(key[j])
		slot = slot*31 + int(key[urlDigits+j])
	}
	return slot & (viewSlots - 1)
}

func rememberable(known *reading) bool {
	if len(known.fields) > maxView {
		return false
	}
	bytes := 0
	for _, f := range known.fields {
		bytes += len(f.name)
		for _, line := range f.lines {
			bytes += len(line)
		}
	}
	return bytes <= maxViewBytes
}
