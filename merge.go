package cachetrip

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip/internal/digest"
	"github.com/cachetrip/cachetrip/internal/field"
)

// Updating stored header fields, and admitting a new response beside the stored
// ones: RFC 9111, sections 3.2, 3.4, 4.3.4 and 4.3.5.

// boundToContent lists the fields that say how to read the stored bytes. An
// update brings no bytes, and must not change these fields. If they change on
// the origin, that is a new representation.
var boundToContent = append([]string{"Content-Length", "Content-Encoding", "Content-Range", digest.ReprField}, contentDigests...)

// freshen returns the header of a stored response updated by that of a newer
// one without content. Section 3.2.
func freshen(stored, update http.Header, received time.Time) http.Header {
	merged := maps.Clone(stored) // the lines are shared, because they never change
	// Age and Date of the update describe its own age. Its receipt starts a new
	// one.
	delete(merged, "Age")
	delete(merged, "Date")
	connection := connectionFields(update)
	for name, values := range update {
		if !slices.Equal(merged[name], values) && isStoredField(name, connection) && !slices.Contains(boundToContent, name) {
			merged[name] = slices.Clone(values)
		}
	}
	if merged["Date"] == nil {
		merged["Date"] = []string{received.UTC().Format(http.TimeFormat)}
	}
	if tag, other := stored.Get(etagField), update.Get(etagField); !field.IsStrongETag(tag) && field.IsStrongETag(other) && field.ETagWeakMatch(tag, other) {
		merged[etagField] = stored[etagField] // the stored bytes may differ from those of the strong tag
	}
	return merged
}

// withoutAsker returns h without the fields that are for the caller of one
// request: Set-Cookie and Access-Control fields.
func withoutAsker(h http.Header) http.Header {
	h = h.Clone()
	for name := range h {
		if strings.HasPrefix(name, "Set-Cookie") || strings.HasPrefix(name, "Access-Control-") {
			delete(h, name)
		}
	}
	return h
}

// admission says how to store a new response beside the stored ones.
type admission struct {
	keep     bool  // store it
	distrust bool  // store it, but validate it before use
	replaces []int // the indexes of the stored responses that it replaces
	join     int   // the index of the one whose content it completes or whose header it updates; -1 if none
}

// admit decides how to store the response fresh to req, which storable has
// allowed. It replaces the responses that req concerns, unless a stored one is
// known to be newer.
func admit(req *request, fresh *response, stored []response, known order) admission {
	a := admission{keep: true, join: -1}
	for i := range stored {
		r := &stored[i]
		if known.invalidatedBehind(fresh, r.invalidatedAt) {
			a.distrust = true
		}
		if !r.concerns(req) && !(r.varies("*") && fresh.varies("*")) { // of responses with Vary: * only one is kept
			continue
		}
		if fresh.headOnly && !r.headOnly || isError(fresh.status) && !isError(r.status) {
			return admission{join: -1} // a response to HEAD or an error does not replace a better response
		}
		later := r.received.After(fresh.requested) || known.overtaken && r.received.Equal(fresh.requested)
		joins := joinable(r, fresh) && r.askedBy(req)
		if r.complete() && len(fresh.held) > 0 && !fresh.complete() && !differentContent(r, fresh) && (later || !joins) {
			return admission{join: -1} // a part does not replace a whole that may be the same content
		}
		if later && !sameContent(r, fresh) {
			// Another response was stored while this one was under way. Date
			// tells which was made later, but only to the second. With equal
			// dates it is unknown.
			switch date, other := fresh.date(), r.date(); {
			case other.After(date):
				return admission{join: -1}
			case other.Equal(date):
				a.distrust = true
			}
		}
		a.replaces = append(a.replaces, i)
		if a.join < 0 && joins {
			a.join = i
		}
	}
	return a
}

// invalidateBefore returns a copy of stored in which every response that was
// requested before at counts as invalidated at that time. Section 4.4.
func invalidateBefore(stored []response, at time.Time) []response {
	stored = slices.Clone(stored)
	for i := range stored {
		if r := &stored[i]; r.requested.Before(at) && r.invalidatedAt.Before(at) {
			r.invalidatedAt = at
		}
	}
	return stored
}

// invalidatedIn reports whether a response for the same key was invalidated
// after r was requested. Then r must be validated, too. Section 4.4.
func (r *response) invalidatedIn(stored []response, known order) bool {
	return slices.ContainsFunc(stored, func(other response) bool { return known.invalidatedBehind(r, other.invalidatedAt) })
}

// order is what this process knows about the order of events for a key. Times
// order the events of other processes. They can be equal, because clocks tick
// slowly.
type order struct {
	overtaken   bool        // another response was stored since the request was sent
	invalidated []time.Time // the times of the last invalidations by this process that came before the request
}

// invalidatedBehind reports whether an invalidation at the time at came after r
// was requested. at is zero if there was none.
func (known order) invalidatedBehind(r *response, at time.Time) bool {
	if at.IsZero() || r.requested.After(at) {
		return false
	}
	return !r.requested.Equal(at) || !slices.ContainsFunc(known.invalidated, at.Equal)
}

// sameContent reports whether two responses are known to have the same content.
func sameContent(a, b *response) bool {
	v := a.strongValidator()
	return v != "" && v == b.strongValidator() && !otherDigest(a.header, b.header)
}

// outdatedBy returns the indexes of the stored responses that fresh, a response
// to req that is not stored, shows to be outdated. They are those that it would
// replace. If it refuses access, they are all that req could be given.
// Responses that are marked as invalid already are left out.
func outdatedBy(req *request, fresh *response, stored []response) (indexes []int) {
	if refusesAccess(fresh.status, fresh.header) {
		for i := range stored {
			if stored[i].concerns(req) && stored[i].invalidatedAt.IsZero() {
				indexes = append(indexes, i)
			}
		}
		return indexes
	}
	admission := admit(req, fresh, stored, order{})
	if !admission.keep {
		return nil
	}
	for _, i := range admission.replaces {
		if r := &stored[i]; r.invalidatedAt.IsZero() && (fresh.mustNotStore() || !sameContent(r, fresh)) {
			indexes = append(indexes, i)
		}
	}
	return indexes
}

// differentContent reports whether two responses are known to have different
// content. If only one of them was decoded on arrival, only their dates can
// show that: the encoded form may have its own entity tag. RFC 9110, section
// 8.8.3.3.
func differentContent(a, b *response) bool {
	if a.uncompressed != b.uncompressed {
		modified, ok := a.lastModified()
		other, also := b.lastModified()
		return ok && also && !modified.Equal(other)
	}
	v, w := a.strongValidator(), b.strongValidator()
	return v != "" && w != "" && v != w
}

// joinable reports whether the bodies of two responses can be combined. Section
// 3.4.
func joinable(a, b *response) bool {
	return sameContent(a, b) && a.selecting[sentBy] == b.selecting[sentBy] && a.status == http.StatusOK && b.status == http.StatusOK &&
		!a.uncompressed && !b.uncompressed && !a.headOnly && !b.headOnly &&
		a.header.Get("Content-Encoding") == b.header.Get("Content-Encoding") &&
		(a.length == b.length || a.length < 0 || b.length < 0) && !(a.complete() && b.complete())
}
