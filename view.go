package cachetrip

import (
	"hash/maphash"
	"sync/atomic"
	"weak"

	"github.com/cachetrip/cachetrip/internal/head"
	"github.com/cachetrip/cachetrip/store"
)

// What a stored response says is read once, not at every request that uses it.

// read returns r with what can be concluded from its header.
func (r response) read() response {
	known := &conclusions{date: r.date(), initialAge: r.initialAge()}
	known.lifetime, known.from = r.lifetimeFrom()
	r.known, r.lines = known, head.Prepare(r.header)
	return r
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
	if rememberable(v.response[0].lines) {
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

func rememberable(lines *head.Lines) bool {
	return len(lines.Fields) <= maxView && lines.Bytes() <= maxViewBytes
}
