package cachetrip

import (
	"net/http"

	"github.com/cachetrip/cachetrip/internal/digest"
	"github.com/cachetrip/cachetrip/internal/span"
)

// The bytes that the digests of a response are about: RFC 9530. Only digests in
// the header count. Digests in a trailer come too late: by then the body has
// been read without hashing it.

// stated returns c with the digest that a field of h states of the stretch s.
func stated(c *digest.Check, h http.Header, field string, s span.Span) *digest.Check {
	lines := h[field]
	if lines == nil {
		return c
	}
	if d, ok := digest.Of(field, lines); ok {
		return c.With(d, s)
	}
	return c
}

// messageCheck returns the check of one message with the header h. Its
// positions count from the beginning of the message, which brings s of content
// that has the given length, or -1. The result is nil if there is nothing to
// check. Content that was decoded on arrival is not checked, because the
// digests are those of the encoded form.
func messageCheck(h http.Header, uncompressed bool, s span.Span, length int64) *digest.Check {
	if uncompressed {
		return nil
	}
	all := span.Of(0, -1)
	c := stated(nil, h, digest.ContentField, all)
	if s.Start == 0 && s.End == length {
		c = stated(c, h, digest.ReprField, all)
	}
	return c
}

// resumedCheck returns the check of content that is joined from stored parts
// and a 206, which brings s. h is the header of the result, and length that of
// all content. In h, Content-Digest is that of a message with all content that
// broke off. If h states no digest, the check is that of the 206 alone.
// Otherwise the 206's own says nothing more, and some origins send that of the
// whole.
func resumedCheck(partial http.Header, s span.Span, h http.Header, length int64) (c *digest.Check, ofRest bool) {
	if c = joinedCheck(h, length); c != nil {
		return c, false
	}
	return stated(nil, partial, digest.ContentField, s), true
}

// joinedCheck returns the check of content that is joined from stored parts. h
// is the stored header.
func joinedCheck(h http.Header, length int64) *digest.Check {
	all := span.Of(0, length)
	return stated(stated(nil, h, digest.ContentField, all), h, digest.ReprField, all)
}

// otherDigest reports whether two headers state different digests of the
// representation. Then their bytes must not be joined, whatever the validators
// say.
func otherDigest(a, b http.Header) bool {
	return digest.Differ(a[digest.ReprField], b[digest.ReprField])
}

// checked is the name in Entry.Selecting of a note: the parts were hashed as
// they were joined, and match the digests of the header. No field has this
// name.
const checked = ":checked"
