package cachetrip

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip/internal/field"
)

// The conditional request, and what its answer validates: RFC 9111, section 4.3.

// etagField is the name of ETag as net/http spells it: so that looking for it need not bring it into that form.
const etagField = "Etag"

// maxETags and maxETagBytes bound the entity tags in one If-None-Match: tags are often 70 bytes long,
// and common servers accept 8 KiB of fields.
const (
	maxETags     = 32
	maxETagBytes = 4 << 10
)

// conditions are the preconditions that the cache adds to a request. Section 4.3.1.
type conditions struct {
	etags    []string // of stored responses, for If-None-Match
	modified string   // the Last-Modified value of the selected response, for If-Modified-Since
}

// conditionsFor returns the preconditions for validating what is stored: the tags of all stored
// responses that the origin may choose for req, but for those that somebody else's secret selected, and the date of the
// selected one if it is the only one that is being validated. If the origin is known to compare
// If-None-Match as a text, it is sent one tag: that of the selected response. If the caller asks about
// other tags by itself, those are sent alone, as without a cache.
func conditionsFor(req *request, stored []response, selected int, oneTag bool) conditions {
	var c conditions
	if req.conditionalAny() || req.signs("If-None-Match") || req.signs("If-Modified-Since") {
		return c // a "*" can't be combined with tags, and its answer would not name one; see signs
	}
	if selected < 0 && req.identified {
		selected = slices.IndexFunc(stored, func(r response) bool { return r.concerns(req) && r.usableFor(req) })
	}
	if selected >= 0 && !stored[selected].headOnly { // a head can as well be asked for anew
		r := &stored[selected]
		if r.invalidatedAt.IsZero() || r.strongDate() || r.invalidatedLater() {
			c.modified, _ = r.validDate("Last-Modified")
		}
		if r.entityTag() == "" {
			return c // tags of other responses would make the origin ignore the date
		}
		c.add(r)
	}
	if oneTag {
		if tags := field.ETags(req.header["If-None-Match"]); slices.ContainsFunc(tags, func(own string) bool { return !slices.Contains(c.etags, own) }) {
			return conditions{}
		}
		return c
	}
	for i := range stored {
		if r := &stored[i]; i != selected && !r.headOnly && r.usableFor(req) && r.codedFor(req) && !r.othersSecret(req) && len(c.etags) < maxETags {
			c.add(r)
		}
	}
	if len(c.etags) > 1 {
		c.modified = ""
	}
	return c
}

// invalidatedLater reports whether what was changed when r was invalidated has another date of last
// modification: that was not in the same second, give or take one, as far as clocks agree. RFC 9110,
// section 8.8.2.2.
func (r *response) invalidatedLater() bool {
	modified, _ := r.lastModified()
	return r.invalidatedAt.Sub(modified) >= 2*time.Second
}

func (c *conditions) add(r *response) {
	length := 0
	for _, tag := range c.etags {
		length += len(tag)
	}
	if tag := r.entityTag(); tag != "" && length+len(tag) <= maxETagBytes && !slices.Contains(c.etags, tag) {
		c.etags = append(c.etags, tag)
	}
}

// entityTag returns the entity tag of r as it can be asked about: not what would be read as several
// tags, or as the question whether anything exists, nor what can't be sent. A request that fails for
// what an earlier response said would be worse than none.
func (r *response) entityTag() string {
	tag := r.header.Get(etagField)
	if tag == "" || field.IsStrongETag(tag) && len(tag) <= maxETagBytes && field.IsValue(tag) { // nearly always
		return tag
	}
	if tags := field.ETags([]string{tag}); len(tags) != 1 || tags[0] != tag || tag == "*" || len(tag) > maxETagBytes || !field.IsValue(tag) {
		return ""
	}
	return tag
}

// comparesAsText reports whether a response to a request with the header sent shows that the origin
// compares If-None-Match as a text, and so never answers 304 to several tags: it sent a response with
// one of them. RFC 9110, section 13.1.2, has it answer 304.
func comparesAsText(sent, received http.Header, status int) bool {
	tag := received.Get(etagField)
	if status != http.StatusOK || tag == "" {
		return false
	}
	tags := field.ETags(sent["If-None-Match"])
	return len(tags) > 1 && slices.ContainsFunc(tags, func(own string) bool { return field.ETagWeakMatch(own, tag) })
}

// none reports whether there is nothing to validate with.
func (c *conditions) none() bool { return len(c.etags) == 0 && c.modified == "" }

// apply puts c into the header of a request. The caller's own tags stay, so that one answer can
// serve both; section 4.3.2. The caller's date gives way to that of the stored response.
func (c *conditions) apply(h http.Header) {
	if c.none() {
		return
	}
	tags := slices.Clone(c.etags)
	for _, tag := range field.ETags(h["If-None-Match"]) {
		if !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	delete(h, "If-Modified-Since")
	if len(tags) > 0 {
		h["If-None-Match"] = []string{strings.Join(tags, ", ")}
	}
	if c.modified != "" {
		h["If-Modified-Since"] = []string{c.modified}
	}
}

// validates reports whether a request with c asked about r.
func (c *conditions) validates(r *response) bool {
	if r.headOnly {
		return false
	}
	if tag := r.entityTag(); tag != "" {
		return slices.Contains(c.etags, tag)
	}
	return c.modified != "" && r.header.Get("Last-Modified") == c.modified
}

// identify returns which of the stored responses a 304 with the header h, answering req with c,
// confirms: the one to use, -1 if none, and those to update. Section 4.3.4.
func (c *conditions) identify(req *request, stored []response, h http.Header) (use int, update []int) {
	var candidates []int
	for i := range stored {
		if c.validates(&stored[i]) && stored[i].codedFor(req) && !stored[i].othersSecret(req) {
			candidates = append(candidates, i)
		}
	}
	use = -1
	choose := func(match func(*response) bool) {
		var matching []int
		for _, i := range candidates {
			if !match(&stored[i]) || !stored[i].usableFor(req) {
				continue
			}
			matching = append(matching, i)
			if use < 0 || stored[i].betterFor(req, &stored[use]) {
				use = i
			}
		}
		if use < 0 || stored[use].concerns(req) {
			return
		}
		for _, i := range matching {
			if !stored[i].resembles(&stored[use]) {
				use = -1 // no telling which of several that others had selected is meant
				return
			}
		}
	}
	tag := h.Get(etagField)
	switch {
	case field.IsStrongETag(tag):
		// Each strong validator of the 304 identifies, a strong date as well. Servers that weaken a
		// tag when they compress do not weaken it in a 304, which has nothing to compress: nginx
		// confirms W/"x" with "x" and the same date. A tag of another name contradicts the date.
		same := func(r *response) bool {
			stored := r.header.Get(etagField)
			return field.ETagStrongMatch(tag, stored) ||
				r.concerns(req) && (stored == "" || field.ETagWeakMatch(tag, stored)) && r.sameStrongDate(h)
		}
		choose(same)
		if use >= 0 {
			for _, i := range candidates {
				if same(&stored[i]) {
					update = append(update, i)
				}
			}
			return use, update
		}
		// Without such a date a weak tag is confirmed as well, but a strong validator must not update
		// what lacks it, so that the response is used this once and asked about again. If
		// somebody else selected it, it takes more than that to choose it.
		choose(func(r *response) bool { return r.concerns(req) && field.ETagWeakMatch(tag, r.header.Get(etagField)) })
		return use, nil
	case tag != "":
		choose(func(r *response) bool { return field.ETagWeakMatch(tag, r.header.Get(etagField)) })
	case h.Get("Last-Modified") != "":
		choose(func(r *response) bool {
			modified, ok := field.Date(h.Get("Last-Modified"), r.received)
			stored, valid := r.lastModified()
			return ok && valid && stored.Equal(modified)
		})
	case len(c.etags) <= 1 && len(field.ETags(req.header["If-None-Match"])) == 0:
		// Nothing but the one validator that was sent can have been confirmed. A 304 to a date
		// alone need not repeat it: RFC 9110, section 15.4.5.
		choose(func(*response) bool { return true })
	}
	if use >= 0 {
		update = []int{use}
	}
	return use, update
}

// betterFor reports whether r rather than other is to be used for req, both having been confirmed.
func (r *response) betterFor(req *request, other *response) bool {
	if concerns := r.concerns(req); concerns != other.concerns(req) {
		return concerns
	}
	return r.preferredTo(other, req)
}

// resembles reports whether two confirmed responses are the same representation, for all that can be
// told, so that it does not matter which of them is used.
func (r *response) resembles(other *response) bool {
	for _, name := range []string{"ETag", "Last-Modified", "Content-Encoding", "Content-Language", "Content-Type"} {
		if r.header.Get(name) != other.header.Get(name) {
			return false
		}
	}
	return r.length == other.length && r.uncompressed == other.uncompressed
}

// answersCaller reports whether a 304 with the header h answers the caller's own preconditions.
// added are those that the cache had added to them.
func answersCaller(req *request, added *conditions, h http.Header) bool {
	if !req.conditional() {
		return false
	}
	if added.none() {
		return true
	}
	tag := h.Get(etagField)
	return tag != "" && slices.ContainsFunc(field.ETags(req.header["If-None-Match"]), func(own string) bool {
		return field.ETagWeakMatch(own, tag)
	})
}

// notModified evaluates the caller's preconditions on a stored response that is to be used: true
// means to answer 304. Section 4.3.2; RFC 9110, section 13.2.2.
func (r *response) notModified(req *request) bool {
	if r.status != http.StatusOK || req.plain {
		return false
	}
	if lines, ok := req.header["If-None-Match"]; ok {
		tag := r.header.Get(etagField)
		return slices.ContainsFunc(field.ETags(lines), func(own string) bool {
			return own == "*" || field.ETagWeakMatch(own, tag)
		})
	}
	lines, ok := req.header["If-Modified-Since"]
	if !ok || len(lines) != 1 {
		return false
	}
	since, ok := field.Date(lines[0], r.received)
	if !ok {
		return false
	}
	modified, ok := r.lastModified()
	if !ok {
		modified = r.date()
	}
	return !modified.After(since)
}

// notModifiedHeader returns what of a stored response's header belongs into a 304: not what
// describes content that does not come. RFC 9110, section 15.4.5.
func notModifiedHeader(h http.Header) {
	for _, name := range []string{"Content-Length", "Content-Type", "Content-Encoding", "Content-Language", "Content-Range"} {
		delete(h, name)
	}
	withoutContentDigests(h)
}

// signs reports whether a signature of the request covers a field, so that the origin would refuse the
// request with another value: RFC 9421, section 2.3, and the schemes that name what they cover in
// Authorization, such as SignedHeaders of AWS Signature Version 4.
func (req *request) signs(name string) bool {
	if req.header[name] == nil {
		return false
	}
	covers := func(line string) bool { return strings.Contains(strings.ToLower(line), strings.ToLower(name)) }
	return slices.ContainsFunc(req.header["Authorization"], covers) || slices.ContainsFunc(req.header["Signature-Input"], covers)
}

// conditionalAny reports whether the request asks whether anything exists at all.
func (req *request) conditionalAny() bool {
	return slices.Contains(field.ETags(req.header["If-None-Match"]), "*")
}

// validDate returns the value of a date field as it stands, if it is a valid one.
func (r *response) validDate(name string) (value string, ok bool) {
	value = r.header.Get(name)
	if _, ok = field.Date(value, r.received); !ok {
		return "", false
	}
	return value, true
}

// strongValidator returns a value that two responses share only if their content is the same, byte
// by byte: the strong entity tag, or else a date of last modification that a change within the
// same second cannot have kept; empty if there is none. RFC 9110, sections 8.8.1 and 8.8.2.2.
func (r *response) strongValidator() string {
	if r.header.Get(etagField) != "" {
		if tag := r.entityTag(); field.IsStrongETag(tag) {
			return tag
		}
		return ""
	}
	if !r.strongDate() {
		return ""
	}
	return r.header.Get("Last-Modified")
}

// strongDate reports whether the date of last modification is a strong validator. RFC 9110, section 8.8.2.2.
func (r *response) strongDate() bool {
	modified, ok := r.lastModified()
	date, dated := field.Date(r.header.Get("Date"), r.received)
	return ok && dated && date.Sub(modified) >= time.Second
}

// sameStrongDate reports whether a 304 with the header h has the date of last modification of r, as a
// strong validator in both.
func (r *response) sameStrongDate(h http.Header) bool {
	confirmed := response{header: h, received: r.received}
	modified, ok := confirmed.lastModified()
	stored, valid := r.lastModified()
	return ok && valid && stored.Equal(modified) && r.strongDate() && confirmed.strongDate()
}

// headUpdates reports whether the answer to a HEAD shows that a stored response is still current,
// so that it can be updated; if not, the stored response counts as stale. Of what was invalidated only a
// validator shows that: of a write within the second of a date, not even that. Section 4.3.5.
func headUpdates(stored, head *response) bool {
	same := func(name string) bool {
		return head.header.Get(name) != "" && head.header.Get(name) == stored.header.Get(name)
	}
	if !stored.invalidatedAt.IsZero() && !same("ETag") && !(same("Last-Modified") && stored.invalidatedLater()) {
		return false
	}
	for _, name := range []string{"ETag", "Last-Modified", "Content-Length"} {
		if value := head.header.Get(name); value != "" && value != stored.header.Get(name) &&
			(name != "Content-Length" || value != strconv.FormatInt(stored.length, 10)) {
			return false
		}
	}
	return head.status == stored.status
}
