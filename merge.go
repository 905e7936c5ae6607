package cachetrip

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip/internal/field"
)

// Freshening stored header fields, and what a new response does to the stored ones: RFC 9111,
// sections 3.2, 3.4, 4.3.4 and 4.3.5.

// boundToContent lists the fields that say how the stored bytes are to be read. An update must not
// relabel bytes that it does not bring; a change of them on the origin is a new representation.
var boundToContent = append([]string{"Content-Length", "Content-Encoding", "Content-Range"}, contentDigests...)

// contentDigests lists the fields that vouch for the content of the one message that they came with, and
// for no part or completion of it, unlike Repr-Digest: RFC 9530, section 2, and what it takes the place of,
// of which Digest was read either way. Those of Amazon S3 are of the whole object, and its clients verify
// the content of whatever message they stand in.
var contentDigests = []string{
	"Content-Digest", "Content-Md5", "Digest",
	"X-Amz-Checksum-Crc32", "X-Amz-Checksum-Crc32c", "X-Amz-Checksum-Crc64nvme", "X-Amz-Checksum-Sha1", "X-Amz-Checksum-Sha256",
}

func withoutContentDigests(h http.Header) {
	for _, name := range contentDigests {
		delete(h, name)
	}
}

// freshen returns the header of a stored response updated by that of a newer one without content.
// Section 3.2.
func freshen(stored, update http.Header, received time.Time) http.Header {
	merged := maps.Clone(stored) // with the same lines, which do not change
	// These tell the age of the response that they came with.
	delete(merged, "Age")
	merged["Date"] = []string{received.UTC().Format(http.TimeFormat)}
	connection := connectionFields(update)
	for name, values := range update {
		if isStoredField(name, connection) && !slices.Equal(merged[name], values) {
			merged[name] = slices.Clone(values)
		}
	}
	if tag, other := stored.Get(etagField), update.Get(etagField); !field.IsStrongETag(tag) && field.IsStrongETag(other) && field.ETagWeakMatch(tag, other) {
		merged[etagField] = stored[etagField] // the stored bytes need not be those of the strong tag
	}
	for _, name := range boundToContent {
		delete(merged, name)
		if values, ok := stored[name]; ok {
			merged[name] = values
		}
	}
	return merged
}

// withoutAsker returns h without the fields that concern whoever asked, as far as they are known by
// name, rather than the response.
func withoutAsker(h http.Header) http.Header {
	h = h.Clone()
	for name := range h {
		if strings.HasPrefix(name, "Set-Cookie") || strings.HasPrefix(name, "Access-Control-") {
			delete(h, name)
		}
	}
	return h
}

// admission says what becomes of a new response beside the stored ones.
type admission struct {
	keep     bool  // store it
	distrust bool  // store it as in need of validation
	replaces []int // the stored responses that it takes the place of
	join     int   // the one of these whose content it completes, or updates the header of, -1 if none
}

// admit decides about a response to req that is allowed to be stored. It takes the place of what
// req would have selected, unless that is known to be newer.
func admit(req *request, fresh *response, stored []response, known order) admission {
	a := admission{keep: true, join: -1}
	for i := range stored {
		r := &stored[i]
		if known.invalidatedBehind(fresh, r.invalidatedAt) {
			a.distrust = true
		}
		if !r.concerns(req) && !(r.varies("*") && fresh.varies("*")) { // of these one is enough
			continue
		}
		if fresh.headOnly && !r.headOnly || isError(fresh.status) && !isError(r.status) {
			return admission{join: -1} // neither a head nor an error is worth a good response
		}
		later := r.received.After(fresh.requested) || known.overtaken && r.received.Equal(fresh.requested)
		joins := joinable(r, fresh) && r.askedBy(req)
		if r.complete() && len(fresh.held) > 0 && !fresh.complete() && !differentContent(r, fresh) && (later || !joins) {
			return admission{join: -1} // a part of what may be the same is worth less than the whole
		}
		if later && !sameContent(r, fresh) {
			// Another answer came while this one was under way. Which of them was made later is
			// told by Date, to the second; within one it can't be known.
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

// invalidateBefore returns stored with what was requested before a time marked as invalidated then. Section 4.4.
func invalidateBefore(stored []response, at time.Time) []response {
	stored = slices.Clone(stored)
	for i := range stored {
		if r := &stored[i]; r.requested.Before(at) && r.invalidatedAt.Before(at) {
			r.invalidatedAt = at
		}
	}
	return stored
}

// invalidatedIn reports whether something stored for the same key was invalidated after r was
// requested, so that r must be validated as well. Section 4.4.
func (r *response) invalidatedIn(stored []response, known order) bool {
	return slices.ContainsFunc(stored, func(other response) bool { return known.invalidatedBehind(r, other.invalidatedAt) })
}

// order is what this process knows of the order in which things happened to a key. Times, which have to do for what
// other processes do, may be equal.
type order struct {
	overtaken   bool        // something was stored since the response was asked for
	invalidated []time.Time // when this process invalidated the key last, before the response was asked for
}

// invalidatedBehind reports whether a time of invalidation, zero if there is none, is not before r was requested.
func (known order) invalidatedBehind(r *response, at time.Time) bool {
	if at.IsZero() || r.requested.After(at) {
		return false
	}
	return !r.requested.Equal(at) || !slices.ContainsFunc(known.invalidated, at.Equal)
}

// sameContent reports whether two responses are known to have the same content.
func sameContent(a, b *response) bool {
	v := a.strongValidator()
	return v != "" && v == b.strongValidator()
}

// differentContent reports whether two responses are known not to have the same content. One that was
// coded on its way, as net/http asks for behind the caller's back, has a tag of its own if that is strong,
// and says nothing about another without the coding but by its date: RFC 9110, section 8.8.3.3.
func differentContent(a, b *response) bool {
	if a.uncompressed != b.uncompressed {
		modified, ok := a.lastModified()
		other, also := b.lastModified()
		return ok && also && !modified.Equal(other)
	}
	v, w := a.strongValidator(), b.strongValidator()
	return v != "" && w != "" && v != w
}

// joinable reports whether the content of two responses can be combined. Section 3.4.
func joinable(a, b *response) bool {
	return sameContent(a, b) && a.selecting[sentBy] == b.selecting[sentBy] && a.status == http.StatusOK && b.status == http.StatusOK &&
		!a.uncompressed && !b.uncompressed && !a.headOnly && !b.headOnly &&
		a.header.Get("Content-Encoding") == b.header.Get("Content-Encoding") &&
		(a.length == b.length || a.length < 0 || b.length < 0) && !(a.complete() && b.complete())
}
