package cachetrip

import (
	"net/http"
	"slices"

	"github.com/cachetrip/cachetrip/internal/field"
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
