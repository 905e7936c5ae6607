package cachetrip

import (
	"hash/maphash"
	"runtime"
	"sync/atomic"
	"weak"

	"github.com/cachetrip/cachetrip/internal/head"
	"github.com/cachetrip/cachetrip/internal/memo"
	"github.com/cachetrip/cachetrip/store"
)

// The rules parse the header of a stored response once, and remember the result
// for later requests.

// read returns r together with the conclusions from its header.
func (r response) read() response {
	known := &conclusions{date: r.date()}
	r.known = known // the others follow from the date
	known.initialAge, known.ties = r.initialAge(), tiesOf(r.header)
	known.lifetime, known.from = r.lifetimeFrom()
	known.all = true
	return r
}

// views remembers entries as the rules see them, while the store has them in
// memory. An entry is unchanged as long as its address is, so a view holds a
// weak pointer to its entry. The zero value is ready for use.
type views struct {
	known   memo.Table[view]
	bytes   atomic.Int64 // of all views, about
	watched atomic.Bool  // the next garbage collection calls dropGone
}

const (
	// maxViews limits views.bytes. Beyond the limit entries are parsed again,
	// unless a new view takes the place of others.
	maxViews = 20 << 20

	// maxView limits the number of fields in a header that is remembered. Most
	// responses have half as many.
	maxView = 64

	// maxViewBytes limits the total size of the names and values of a
	// remembered header.
	maxViewBytes = 4 << 10
)

type view struct {
	entry    weak.Pointer[store.Entry]
	hash     uint64
	bytes    int64
	response [1]response
}

// of returns e, which is entry i of a key, as the rules see it. The slice has
// this one element and must not be changed.
func (vs *views) of(key string, i int, e *store.Entry) []response {
	return vs.in(maphash.String(keySeed, key)+uint64(i), e)
}

// in returns e, which has the given hash, as the rules see it. It remembers the
// view when it is needed again.
func (vs *views) in(hash uint64, e *store.Entry) []response {
	var like *response // an earlier state of the entry
	if place := vs.known.At(hash); place != nil {
		for i := range place {
			v := place[i].Load()
			if v == nil || v.hash != hash {
				continue
			}
			if v.entry.Value() == e {
				return v.response[:]
			}
			if old := &v.response[0]; old.sharesVary(e) {
				like = old
			}
		}
	}
	r := newResponseLike(e, like).read()
	if !vs.known.Again(hash) {
		return []response{r}
	}
	r.lines = head.Prepare(r.header)
	v := &view{entry: weak.Make(e), hash: hash, response: [1]response{r}}
	vs.remember(v)
	return v.response[:]
}

// sharesVary reports whether the parsed fields of r have only strings that e
// has, too. Other strings would keep the text alive that r was decoded from.
func (r *response) sharesVary(e *store.Entry) bool {
	own, lines := r.header["Vary"], e.Header["Vary"]
	return r.cc.NoCacheFields == nil && (r.names == nil || len(own) > 0 && len(lines) > 0 && &own[0] == &lines[0])
}

// remember remembers v, if there is room for it.
func (vs *views) remember(v *view) {
	lines := v.response[0].lines
	size := lines.Bytes()
	if len(lines.Fields) > maxView || size > maxViewBytes {
		return
	}
	v.bytes = int64(size + 64*len(lines.Fields) + 512)
	full := vs.bytes.Load() > maxViews
	if place := vs.known.At(v.hash); place != nil {
		for i := range place {
			if old := place[i].Load(); old != nil && old.hash == v.hash { // an earlier state of the entry
				if place[i].CompareAndSwap(old, v) {
					vs.bytes.Add(v.bytes - old.bytes)
				}
				return
			}
		}
		full = full && !place.IsFull()
	}
	if full {
		return
	}
	vs.bytes.Add(v.bytes)
	if displaced := vs.known.Put(v.hash, v); displaced != nil {
		vs.bytes.Add(-displaced.bytes)
	}
	vs.watch()
}

// watch has the views of entries that no longer exist dropped after the next
// garbage collection. The strings of a view are mostly parts of the file that
// its entry was decoded from: with small bodies, and up to 4 MiB long. So views
// without an entry would take many times the memory that they count.
func (vs *views) watch() {
	if !vs.watched.CompareAndSwap(false, true) {
		return
	}
	type garbage struct{ _ *byte } // it is no tiny object: those are freed late
	runtime.AddCleanup(new(garbage), func(vs weak.Pointer[views]) {
		if vs := vs.Value(); vs != nil {
			vs.dropGone()
		}
	}, weak.Make(vs))
}

// dropGone drops the views of entries that no longer exist.
func (vs *views) dropGone() {
	vs.watched.Store(false) // before the look, so that none is missed
	gone := func(v *view) bool { return v.entry.Value() == nil }
	left := vs.known.Drop(gone, func(v *view) { vs.bytes.Add(-v.bytes) })
	if left > 0 {
		vs.watch()
	}
}

// all returns the entries of a key as the rules see them. The caller must not
// change them.
func (vs *views) all(key string, entries []*store.Entry) []response {
	if len(entries) == 1 { // nearly always
		return vs.of(key, 0, entries[0])
	}
	if len(entries) == 0 {
		return nil
	}
	hash := maphash.String(keySeed, key)
	stored := make([]response, len(entries))
	for i, e := range entries {
		stored[i] = vs.in(hash+uint64(i), e)[0]
	}
	return stored
}
