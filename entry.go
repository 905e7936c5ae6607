package cachetrip

import (
	"hash/maphash"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"
	"weak"

	"github.com/cachetrip/cachetrip/internal/field"
	"github.com/cachetrip/cachetrip/internal/head"
	"github.com/cachetrip/cachetrip/internal/span"
	"github.com/cachetrip/cachetrip/store"
)

// Conversion of stored entries to the form that the rules use, and joining of
// their parts.

// newResponse returns e in the form that the rules use.
func newResponse(e *store.Entry) response { return responseOf(e, nil) }

// responseOf is newResponse with the names of the selecting fields, if they are known.
func responseOf(e *store.Entry, names []string) response {
	if names == nil {
		names = selectingFields(e.Header)
	}
	r := response{
		names:         names,
		status:        e.Status,
		header:        e.Header,
		cc:            field.ParseCacheControl(e.Header["Cache-Control"]),
		requested:     e.RequestTime,
		received:      e.ResponseTime,
		headOnly:      e.Method == http.MethodHead,
		length:        e.Length,
		selecting:     e.Selecting,
		uncompressed:  e.Uncompressed,
		invalidatedAt: e.InvalidatedAt,
		foreign:       e.ForeignCredentials,
	}
	if len(e.Parts) == 1 && e.Parts[0].Offset == 0 && e.Parts[0].Length == e.Length {
		r.allHeld = true
		return r
	}
	for _, part := range e.Parts {
		if last := len(r.held) - 1; last >= 0 && r.held[last].End == part.Offset {
			r.held[last].End += part.Length
			continue
		}
		r.held = append(r.held, span.Of(part.Offset, part.Offset+part.Length))
	}
	return r
}

func responses(entries []*store.Entry) []response {
	if len(entries) == 0 {
		return nil
	}
	stored := make([]response, len(entries))
	for i, e := range entries {
		var names []string
		if i > 0 && slices.Equal(e.Header["Vary"], stored[0].header["Vary"]) && slices.Equal(e.Header["Content-Encoding"], stored[0].header["Content-Encoding"]) {
			names = stored[0].names // variants mostly have the same Vary
		}
		stored[i] = responseOf(e, names)
	}
	return stored
}

// maxParts limits the parts of one body, because each part makes the metadata
// larger. When ranges are joined beyond the limit, the smallest part is
// dropped. A download that is continued beyond the limit writes its parts into
// one blob.
const maxParts = 64

// joinParts adds to others the stretches of part that they do not hold. The
// result is in order.
func joinParts(others []store.Part, part store.Part) []store.Part {
	var joined []store.Part
	position, end := part.Offset, part.Offset+part.Length
	gap := func(until int64) {
		if until = min(until, end); position < until {
			joined = append(joined, store.Part{
				Offset: position, Length: until - position,
				Skip: part.Skip + position - part.Offset, Blob: part.Blob,
			})
		}
	}
	for _, other := range others {
		gap(other.Offset)
		joined = append(joined, other)
		position = max(position, other.Offset+other.Length)
	}
	gap(end)
	slices.SortFunc(joined, func(a, b store.Part) int {
		switch {
		case a.Offset < b.Offset:
			return -1
		case a.Offset > b.Offset:
			return 1
		}
		return 0
	})
	return joined
}

// joined returns e with the parts of other, a response with the same content.
// If there are more than maxParts, it drops the smallest parts of other. Of
// equally small parts it drops the first, because readers continue forwards.
// RFC 9111, section 3.4.
func joined(other, e *store.Entry) *store.Entry {
	both := e.Clone()
	both.Length = max(other.Length, e.Length)
	if other.Complete() { // other holds all content, so e only updates the header
		both.Parts, both.Trailer = slices.Clone(other.Parts), other.Trailer.Clone()
		return both
	}
	for _, part := range other.Parts {
		both.Parts = joinParts(both.Parts, part)
	}
	own := func(part store.Part) bool {
		return slices.ContainsFunc(e.Parts, func(own store.Part) bool { return own.Offset == part.Offset })
	}
	for len(both.Parts) > maxParts {
		smallest := -1
		for i, part := range both.Parts {
			if !own(part) && (smallest < 0 || part.Length < both.Parts[smallest].Length) {
				smallest = i
			}
		}
		if smallest < 0 {
			break
		}
		both.Parts = slices.Delete(both.Parts, smallest, smallest+1)
	}
	return both
}

// stillHeld returns e without the parts whose blobs were released meanwhile. A
// blob was released if none of the current entries names it, unless it is
// newBlob.
func stillHeld(e *store.Entry, current []*store.Entry, newBlob string) *store.Entry {
	gone := func(part store.Part) bool {
		return part.Blob.Inline == nil && part.Blob.ID != newBlob && !slices.ContainsFunc(current, func(other *store.Entry) bool {
			return slices.ContainsFunc(other.Parts, func(p store.Part) bool { return p.Blob.ID == part.Blob.ID })
		})
	}
	if !slices.ContainsFunc(e.Parts, gone) {
		return e
	}
	rest := e.Clone()
	rest.Parts = slices.DeleteFunc(rest.Parts, gone)
	return rest
}

// without returns entries except those for which out is true. It returns the
// same slice if there are none.
func without(entries []*store.Entry, out func(*store.Entry) bool) []*store.Entry {
	if !slices.ContainsFunc(entries, out) {
		return entries
	}
	return slices.DeleteFunc(slices.Clone(entries), out)
}

func sharesBlob(a, b *store.Entry) bool {
	for _, part := range a.Parts {
		for _, other := range b.Parts {
			if part.Blob.ID == other.Blob.ID {
				return true
			}
		}
	}
	return false
}

// sameStored reports whether two entries are the same in all that an Update
// depends on. A store may decode an entry again at each look-up.
func sameStored(a, b *store.Entry) bool {
	return a == b || a.ResponseTime.Equal(b.ResponseTime) && a.InvalidatedAt.Equal(b.InvalidatedAt) &&
		slices.EqualFunc(a.Parts, b.Parts, func(p, q store.Part) bool { return p.Blob.ID == q.Blob.ID })
}

// withoutForbidden returns the entries that may be stored: an updated header may forbid it.
func withoutForbidden(entries []*store.Entry) []*store.Entry {
	return slices.DeleteFunc(entries, func(e *store.Entry) bool {
		r := response{cc: field.ParseCacheControl(e.Header["Cache-Control"])}
		return r.mustNotStore()
	})
}

// withAskedAs returns e with the digest by of the requests that may complete it, or without any if by
// is empty.
func withAskedAs(e *store.Entry, by string) *store.Entry {
	if e.Selecting[askedAs] == by {
		return e
	}
	e = e.Clone()
	delete(e.Selecting, askedAs)
	if by == "" {
		return e
	}
	if e.Selecting == nil {
		e.Selecting = make(map[string]string)
	}
	e.Selecting[askedAs] = by
	return e
}

// makeWhole turns e, the metadata of a 206, into the metadata of the whole
// response. length is that of the whole content, or -1.
func makeWhole(e *store.Entry, length int64) {
	e.Status = http.StatusOK
	e.Length = length
	delete(e.Header, "Content-Range")
	delete(e.Header, "Content-Length")
	if length >= 0 {
		e.Header["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	}
	withoutContentDigests(e.Header)
}

// markedInvalid returns e in need of validation from the time now on.
func markedInvalid(e *store.Entry, now time.Time) *store.Entry {
	e = e.Clone()
	e.InvalidatedAt = now
	return e
}

// replaceEntries returns fresh, followed by the current entries except those with the given indexes.
func replaceEntries(fresh *store.Entry, current []*store.Entry, indexes []int) []*store.Entry {
	next := []*store.Entry{fresh}
	for i, other := range current {
		if !slices.Contains(indexes, i) {
			next = append(next, other)
		}
	}
	return next
}

// asComplete returns e as the rules see it, as if all its content were stored. Readers of a download
// get all content.
func asComplete(e *store.Entry) response {
	r := newResponse(e)
	r.allHeld, r.held = true, nil
	return r
}

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
	return vs.in(&vs.slots[slotOf(maphash.String(keySeed, key), i)], e)
}

// in returns e, for which a slot is, as the rules see it.
func (vs *views) in(slot *atomic.Pointer[view], e *store.Entry) []response {
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
	if len(entries) == 0 {
		return nil
	}
	hash := maphash.String(keySeed, key)
	stored := make([]response, len(entries))
	for i, e := range entries {
		stored[i] = vs.in(&vs.slots[slotOf(hash, i)], e)[0]
	}
	return stored
}

func slotOf(hash uint64, i int) int { return int((hash + uint64(i)) % viewSlots) }

func rememberable(lines *head.Lines) bool {
	return len(lines.Fields) <= maxView && lines.Bytes() <= maxViewBytes
}

// wallClock returns the time of day, as stored with responses. It has no
// monotonic clock reading, because that means nothing to other processes, and
// stops while a machine sleeps.
func wallClock() time.Time { return time.Now().Round(0) }
