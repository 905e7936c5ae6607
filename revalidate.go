package cachetrip

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip/internal/field"
)

// Conditional requests, and what their responses validate: RFC 9111, section
// 4.3.

// maxETags limits the entity tags in one If-None-Match. See maxETagBytes for
// their size.
const maxETags = 32

// conditions are the preconditions that the cache adds to a request. Section
// 4.3.1.
type conditions struct {
	etags    []string // of stored responses, for If-None-Match
	modified string   // the Last-Modified value of the selected response, for If-Modified-Since
}

// conditionsFor returns the preconditions for validating the stored responses
// of a key. They are:
//
//   - the entity tags of all responses that the origin may choose for req,
//     except responses stored for another user's secret;
//   - the date of the selected response, if it is the only one to validate.
//
// oneTag says that the origin compares If-None-Match as a text. Then only the
// tag of the selected response is sent. If the caller also sends tags of its
// own, only the caller's tags are sent, as without a cache.
func conditionsFor(req *request, stored []response, selected int, oneTag bool) conditions {
	var c conditions
	if req.conditionalAny() || req.signs("If-None-Match") || req.signs("If-Modified-Since") {
		return c // a "*" can't be combined with tags, and a signed field must stay; see signs
	}
	if selected < 0 && req.identified {
		selected = slices.IndexFunc(stored, func(r response) bool { return r.concerns(req) && r.usableFor(req) })
	}
	if selected >= 0 && !stored[selected].headOnly { // a response to HEAD is requested again instead
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

// invalidatedLater reports whether a change at the time of the invalidation
// would show in the date of last modification. It would if that date is at
// least two seconds earlier: one because dates have whole seconds, one because
// clocks differ. RFC 9110, section 8.8.2.2.
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

// comparesAsText reports whether a response shows that the origin compares
// If-None-Match as a text. Such an origin never answers 304 to several tags. It
// shows when a 200 has one of the tags in sent, where RFC 9110, section 13.1.2,
// requires a 304.
func comparesAsText(sent, received http.Header, status int) bool {
	tag := received.Get(etagField)
	if status != http.StatusOK || tag == "" {
		return false
	}
	tags := field.ETags(sent["If-None-Match"])
	return len(tags) > 1 && slices.ContainsFunc(tags, func(own string) bool { return field.ETagWeakMatch(own, tag) })
}

// none reports whether c has no preconditions.
func (c *conditions) none() bool { return len(c.etags) == 0 && c.modified == "" }

// apply puts c into the header of a request. The caller's own tags stay, so
// that one response can answer both (section 4.3.2). The date of the stored
// response replaces the caller's.
func (c *conditions) apply(h http.Header) {
	if c.none() {
		return
	}
	tags := slices.Clip(c.etags)
	for _, tag := range field.ETags(h["If-None-Match"]) {
		if !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	delete(h, "If-Modified-Since")
	lines := make([]string, 2)
	if len(tags) > 0 {
		lines[0] = strings.Join(tags, ", ")
		h["If-None-Match"] = lines[:1:1]
	}
	if c.modified != "" {
		lines[1] = c.modified
		h["If-Modified-Since"] = lines[1:]
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
	return c.modified != "" && field.First(r.header, "Last-Modified") == c.modified
}

// identify returns which stored responses a 304 with the header h confirms. The
// 304 answers req with the preconditions c. use is the response to serve, or
// -1. update lists the responses to update. Section 4.3.4.
func (c *conditions) identify(req *request, stored []response, h http.Header) (use int, update []int) {
	var candidates []int
	for i := range stored {
		if c.validates(&stored[i]) && stored[i].codedFor(req) && !stored[i].othersSecret(req) {
			candidates = append(candidates, i)
		}
	}
	use = -1
	tag := field.First(h, etagField)
	switch {
	case field.IsStrongETag(tag):
		return identifyByStrongTag(req, stored, candidates, h)
	case tag != "":
		use = chooseFor(req, stored, candidates, func(r *response) bool { return field.ETagWeakMatch(tag, field.First(r.header, etagField)) })
	case field.First(h, "Last-Modified") != "":
		use = chooseFor(req, stored, candidates, func(r *response) bool {
			modified, ok := field.Date(field.First(h, "Last-Modified"), r.received)
			stored, valid := r.lastModified()
			return ok && valid && stored.Equal(modified)
		})
	case len(c.etags) <= 1 && len(field.ETags(req.header["If-None-Match"])) == 0:
		// Only one validator was sent, so the 304 confirms it. A 304 to a date
		// alone need not repeat the date: RFC 9110, section 15.4.5.
		use = chooseFor(req, stored, candidates, func(*response) bool { return true })
	}
	if use >= 0 {
		update = []int{use}
	}
	return use, update
}

// identifyByStrongTag is identify for a 304 with a strong entity tag.
//
// Each strong validator of the 304 identifies responses: the tag, and a strong
// date. Servers that weaken a tag when they compress do not weaken it in a 304.
// For example, nginx confirms W/"x" with "x" and the same date. A different tag
// contradicts the date.
func identifyByStrongTag(req *request, stored []response, candidates []int, h http.Header) (use int, update []int) {
	tag := field.First(h, etagField)
	same := func(r *response) bool {
		stored := field.First(r.header, etagField)
		return field.ETagStrongMatch(tag, stored) ||
			r.concerns(req) && (stored == "" || field.ETagWeakMatch(tag, stored)) && r.sameStrongDate(h)
	}
	if use = chooseFor(req, stored, candidates, same); use >= 0 {
		for _, i := range candidates {
			if same(&stored[i]) {
				update = append(update, i)
			}
		}
		return use, update
	}
	// Without such a date, a response with the weak form of the tag is confirmed
	// as well. But a strong validator must not update a response that lacks it. So
	// the response is served this once, and revalidated next time. It must be
	// selected by req: a weak match is not enough to choose a response to another
	// request.
	return chooseFor(req, stored, candidates, func(r *response) bool {
		return r.concerns(req) && field.ETagWeakMatch(tag, field.First(r.header, etagField))
	}), nil
}

// chooseFor returns the best candidate for req that matches. It returns -1 if
// there is none, or if it is unknown which one a 304 means: several variants of
// other requests match, and they differ.
func chooseFor(req *request, stored []response, candidates []int, match func(*response) bool) (use int) {
	var matching []int
	use = -1
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
		return use
	}
	for _, i := range matching {
		if !stored[i].resembles(&stored[use]) {
			return -1
		}
	}
	return use
}

// betterFor reports whether r is a better response to req than other, if both
// were confirmed.
func (r *response) betterFor(req *request, other *response) bool {
	if concerns := r.concerns(req); concerns != other.concerns(req) {
		return concerns
	}
	return r.preferredTo(other, req)
}

// resembles reports whether two confirmed responses look like the same
// representation. Then either may be served.
func (r *response) resembles(other *response) bool {
	for _, name := range []string{"ETag", "Last-Modified", "Content-Encoding", "Content-Language", "Content-Type"} {
		if r.header.Get(name) != other.header.Get(name) {
			return false
		}
	}
	return r.length == other.length && r.uncompressed == other.uncompressed
}

// answersCaller reports whether a 304 with the header h answers the caller's
// own preconditions. added are the preconditions that the cache added.
func answersCaller(req *request, added *conditions, h http.Header) bool {
	if !req.conditional() {
		return false
	}
	if added.none() {
		return true
	}
	tag := field.First(h, etagField)
	return tag != "" && slices.ContainsFunc(field.ETags(req.header["If-None-Match"]), func(own string) bool {
		return field.ETagWeakMatch(own, tag)
	})
}

// notModified evaluates the caller's preconditions on a stored response. It
// returns true if the caller must get a 304. Section 4.3.2; RFC 9110, section
// 13.2.2.
func (r *response) notModified(req *request) bool {
	if r.status != http.StatusOK || req.plain {
		return false
	}
	if lines, ok := req.header["If-None-Match"]; ok {
		tag := field.First(r.header, etagField)
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

// notModifiedHeader removes the fields of h that a 304 must not have, because
// they describe content. RFC 9110, section 15.4.5.
func notModifiedHeader(h http.Header) {
	for _, name := range []string{"Content-Length", "Content-Type", "Content-Encoding", "Content-Language", "Content-Range"} {
		delete(h, name)
	}
	withoutContentDigests(h)
}

// signs reports whether a signature in the request covers a field. Then the
// origin would refuse another value. Such signatures are HTTP Message
// Signatures (RFC 9421, section 2.3) and schemes that list the covered fields
// in Authorization, such as AWS Signature Version 4 in SignedHeaders.
func (req *request) signs(name string) bool {
	if req.header[name] == nil {
		return false
	}
	covers := func(line string) bool { return strings.Contains(strings.ToLower(line), strings.ToLower(name)) }
	return slices.ContainsFunc(req.header["Authorization"], covers) || slices.ContainsFunc(req.header["Signature-Input"], covers)
}

// conditionalAny reports whether the request has If-None-Match: *, which asks
// whether any representation exists.
func (req *request) conditionalAny() bool {
	return slices.Contains(field.ETags(req.header["If-None-Match"]), "*")
}

// headUpdates reports whether the response to a HEAD shows that a stored
// response is still current. Then it may update the stored response; otherwise
// the stored response becomes stale. After an invalidation, only a validator
// shows that. A date does not if the invalidation came within the same second.
// Section 4.3.5.
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
