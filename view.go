package cachetrip

import (
	"hash/maphash"
	"sync/atomic"
	"weak"

	"github.com/cachetrip/cachetrip/internal/head"
	"github.com/cachetrip/cachetrip/store"
)

// The rules parse the header of a stored response once, and remember the result
// for later requests.

// read returns r together with the conclusions from its header.
func (r response) read() response {
	known := &conclusions{date: r.date(), initialAge: r.initialAge()}
	known.lifetime, known.from = r.lifetimeFrom()
	r.known, r.lines = known, head.Prepare(r.header)
	return r
}

// views remembers entries as the rules see them, while the store has them in
// memory. An entry is unchanged as long as its address is, so a view holds a
// weak pointer to its entry. The zero value is ready for use.
type views struct {
	slots [viewSlots]atomic.Pointer[view]
}

const (
	// viewSlots is the number of remembered entries. If there are more, they
	// share slots, and some are parsed again.
	viewSlots = 4096

	// maxView limits the number of fields in a header that is remembered, which
	// may outlive its entry. Most responses have half as many. All slots
	// together take at most some 20 MiB.
	maxView = 64

	// maxViewBytes limits the total size of the names and values of a
	// remembered header.
	maxViewBytes = 4 << 10
)

type view struct {
	entry    weak.Pointer[store.Entry]
	response [1]response
}

// of returns e, which is entry i of a key, as the rules see it. The slice has
// this one element and must not be changed.
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

// all returns the entries of a key as the rules see them. The caller must not
// change them.
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
