package cachetrip

import (
	"net/http"
	"time"

	"github.com/cachetrip/cachetrip/internal/field"
)

// Validators of a response: entity tags and dates. RFC 9110, section 8.8.

// maxETagBytes limits the size of all entity tags in one If-None-Match, and so
// of each. Tags are often 70 bytes long, and common servers accept 8 KiB of
// header fields.
const maxETagBytes = 4 << 10

// etagField is the name of ETag in the canonical form of net/http, so that it
// can index a header.
const etagField = "Etag"

// entityTag returns the entity tag of r in a form that can be sent, or "". It
// rejects tags that an origin would read as several tags or as "*", and tags
// that net/http cannot send. A request must not fail because of an earlier
// response.
func (r *response) entityTag() string {
	tag := field.First(r.header, etagField)
	if tag == "" || field.IsStrongETag(tag) && len(tag) <= maxETagBytes && field.IsValue(tag) { // nearly always
		return tag
	}
	if tags := field.ETags([]string{tag}); len(tags) != 1 || tags[0] != tag || tag == "*" || len(tag) > maxETagBytes || !field.IsValue(tag) {
		return ""
	}
	return tag
}

// validDate returns the unchanged value of a date field if it is a valid date.
func (r *response) validDate(name string) (value string, ok bool) {
	value = r.header.Get(name)
	if _, ok = field.Date(value, r.received); !ok {
		return "", false
	}
	return value, true
}

// strongValidator returns a validator that two responses share only if their
// bodies are the same byte by byte, or "". It is the strong entity tag, or else
// a Last-Modified that is a strong validator. RFC 9110, sections 8.8.1 and
// 8.8.2.2.
func (r *response) strongValidator() string {
	if field.First(r.header, etagField) != "" {
		if tag := r.entityTag(); field.IsStrongETag(tag) {
			return tag
		}
		return ""
	}
	if !r.strongDate() {
		return ""
	}
	return field.First(r.header, "Last-Modified")
}

// strongDate reports whether the date of last modification is a strong
// validator. RFC 9110, section 8.8.2.2.
func (r *response) strongDate() bool {
	modified, ok := r.lastModified()
	date, dated := field.Date(field.First(r.header, "Date"), r.received)
	return ok && dated && date.Sub(modified) >= time.Second
}

// sameStrongDate reports whether r and a 304 with the header h have the same
// Last-Modified, and it is a strong validator in both.
func (r *response) sameStrongDate(h http.Header) bool {
	confirmed := response{header: h, received: r.received}
	modified, ok := confirmed.lastModified()
	stored, valid := r.lastModified()
	return ok && valid && stored.Equal(modified) && r.strongDate() && confirmed.strongDate()
}
