package cachetrip

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/cachetrip/cachetrip/internal/field"
	"github.com/cachetrip/cachetrip/internal/span"
	"github.com/cachetrip/cachetrip/store"
)

// Conversion of stored entries to the form that the rules use, and joining of
// their parts.

// newResponse returns e in the form that the rules use.
func newResponse(e *store.Entry) response { return newResponseLike(e, nil) }

// newResponseLike is newResponse for an entry whose header may be like that of
// a response which was read before. Fields that both have in common are not
// parsed again. like may be nil.
func newResponseLike(e *store.Entry, like *response) response {
	r := response{
		status:        e.Status,
		header:        e.Header,
		requested:     e.RequestTime,
		received:      e.ResponseTime,
		headOnly:      e.Method == http.MethodHead,
		length:        e.Length,
		selecting:     e.Selecting,
		uncompressed:  e.Uncompressed,
		invalidatedAt: e.InvalidatedAt,
		foreign:       e.ForeignCredentials,
	}
	same := func(name string) bool { return like != nil && slices.Equal(e.Header[name], like.header[name]) }
	if same("Vary") && same("Content-Encoding") {
		r.names = like.names
	} else {
		r.names = selectingFields(e.Header)
	}
	if same("Cache-Control") {
		r.cc = like.cc
	} else {
		r.cc = field.ParseCacheControl(e.Header["Cache-Control"])
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
	var like *response // variants mostly have the same Vary
	for i, e := range entries {
		stored[i] = newResponseLike(e, like)
		like = &stored[0]
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

// directivesOf returns the Cache-Control of h. One of the responses that were
// read may have the same.
func directivesOf(h http.Header, read []response) field.CacheControl {
	lines := h["Cache-Control"]
	for i := range read {
		if slices.Equal(read[i].header["Cache-Control"], lines) {
			return read[i].cc
		}
	}
	return field.ParseCacheControl(lines)
}

// withoutForbidden returns the entries that may be stored under the policy p.
// An updated header may forbid it. Entries that are unchanged since current,
// which read has in another form, stay.
func withoutForbidden(p *Policy, entries, current []*store.Entry, read []response) []*store.Entry {
	return slices.DeleteFunc(entries, func(e *store.Entry) bool {
		if slices.Contains(current, e) {
			return false
		}
		r := p.of(response{status: e.Status, cc: directivesOf(e.Header, read)})
		return r.mustNotStore()
	})
}

// withAskedAs returns e with the digest by of the requests that may complete
// it, or without any if by is empty.
func withAskedAs(e *store.Entry, by string) *store.Entry {
	if e.Selecting[askedAs] == by {
		return e
	}
	e = e.Clone()
	delete(e.Selecting, askedAs)
	if by != "" {
		noteIn(e, askedAs, by)
	}
	return e
}

// noteIn notes a value in the Selecting of e, which may be that of another
// entry.
func noteIn(e *store.Entry, name, value string) {
	noted := make(map[string]string, len(e.Selecting)+1)
	maps.Copy(noted, e.Selecting)
	noted[name] = value
	e.Selecting = noted
}

// noteChecked notes in e, a new entry, that its parts together have the digests
// of the header.
func noteChecked(e *store.Entry) { noteIn(e, checked, "yes") }

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

// replaceEntries returns fresh, followed by the current entries except those
// with the given indexes.
func replaceEntries(fresh *store.Entry, current []*store.Entry, indexes []int) []*store.Entry {
	next := []*store.Entry{fresh}
	for i, other := range current {
		if !slices.Contains(indexes, i) {
			next = append(next, other)
		}
	}
	return next
}

// asComplete is newResponseLike as if all content of e were stored. Readers of
// a download get all content.
func asComplete(e *store.Entry, like *response) response {
	r := newResponseLike(e, like)
	r.allHeld, r.held = true, nil
	return r
}

// wallClock returns the time of day, as it is read from a store: in UTC, and
// without a monotonic clock reading, because that means nothing to other
// processes, and stops while a machine sleeps.
func wallClock() time.Time { return time.Now().Round(0).UTC() }

// later returns the later one of two times.
func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
