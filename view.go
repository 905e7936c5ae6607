package cachetrip

import (
	"hash/maphash"
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
	lines      []string // of all fields, in their order

	said atomic.Pointer[said] // what was said last of a hit
}

// headerField is a field with the number of its lines: going through a slice of them takes less than through a map.
type headerField struct {
	name  string
	lines int
}

// read returns r with what can be concluded from its header.
func (r response) read() response {
	known := &reading{date: r.date(), initialAge: r.initialAge()}
	known.lifetime, known.from = r.lifetimeFrom()
	known.fields, known.lines = headerFields(r.header)
	r.known = known
	return r
}

func headerFields(h http.Header) (fields []headerField, lines []string) {
	fields = make([]headerField, 0, len(h))
	lines = make([]string, 0, len(h))
	for name, values := range h {
		fields = append(fields, headerField{name, len(values)})
		lines = append(lines, values...)
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
	// viewSlots is how many slots there are; more keys than that share them, and are read anew now and then.
	viewSlots = 4096

	// maxView bounds the fields of a header that is remembered, which may outlive its entry: about
	// twice what responses mostly have, and with viewSlots some 20 MiB at the very most.
	maxView = 64

	// maxViewBytes bounds their names and values.
	maxViewBytes = 4 << 10
)

type view struct {
	entry    weak.Pointer[store.Entry]
	response [1]response
}

// of returns e, which is entry i of a key, as the rules see it: alone in a slice, which must not be changed.
func (vs *views) of(key string, i int, e *store.Entry) []response {
	slot := &vs.slots[slotOf(key, i)]
	if v := slot.Load(); v != nil && v.entry.Value() == e {
		return v.response[:]
	}
	v := &view{weak.Make(e), [1]response{newResponse(e).read()}}
	if rememberable(v.response[0].known) {
		slot.Store(v)
	}
	return v.response[:]
}

// all returns the entries of a key as the rules see them. They must not be changed.
func (vs *views) all(key string, entries []*store.Entry) []response {
	if len(entries) == 1 { // nearly always
		return vs.of(key, 0, entries[0])
	}
	var stored []response
	for i, e := range entries {
		stored = append(stored, vs.of(key, i, e)...)
	}
	return stored
}

func slotOf(key string, i int) int {
	return int((maphash.String(keySeed, key) + uint64(i)) % viewSlots)
}

func rememberable(known *reading) bool {
	if len(known.fields) > maxView {
		return false
	}
	bytes := 0
	for _, f := range known.fields {
		bytes += len(f.name)
	}
	for _, line := range known.lines {
		bytes += len(line)
	}
	return bytes <= maxViewBytes
}
