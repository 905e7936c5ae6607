package cachetrip

import (
	"net/http"
	"slices"
	"strings"

	"github.com/cachetrip/cachetrip/internal/field"
)

// Which stored response a request selects: RFC 9111, section 4.1.

// selectStored returns the index of the stored response that req selects, or
// -1. If several match, it prefers, in this order: a response that suffices for
// req, a response with a Vary field, and the most recent one. Sections 4 and
// 4.1.
func selectStored(req *request, stored []response) int {
	best := -1
	sent := presented{req: req}
	for i := range stored {
		r := &stored[i]
		if r.headOnly && req.method != http.MethodHead || r.mismatchOf(&sent, nil) != "" {
			continue
		}
		if best < 0 || r.preferredTo(&stored[best], req) {
			best = i
		}
	}
	return best
}

func (r *response) preferredTo(other *response, req *request) bool {
	if usable := r.usableFor(req); usable != other.usableFor(req) {
		return usable
	}
	if vary := r.header["Vary"] != nil; vary != (other.header["Vary"] != nil) {
		return vary
	}
	return r.newerThan(other)
}

// matches reports whether the selecting fields of req match those of the
// request that r answered.
func (r *response) matches(req *request) bool { return r.mismatch(req, nil) == "" }

// concerns reports whether the origin's response to req is about r. That is so
// if req selects r, or would select it with the credentials of the request that
// r answered, for the same identity. Tokens change more often than what they
// give access to, and a replaced token is not sent again.
func (r *response) concerns(req *request) bool {
	if req.identified {
		return r.mismatch(req, rotatedFields) == ""
	}
	return r.matches(req)
}

// rotatedFields are the fields whose values change while the identity stays the
// same.
var rotatedFields = []string{"Authorization", "Proxy-Authorization"}

// mismatch returns the name of the first selecting field that does not match,
// except ignored ones. It returns "*" if no request can match, and "" if all
// fields match.
func (r *response) mismatch(req *request, ignored []string) string {
	return r.mismatchOf(&presented{req: req}, ignored)
}

// presented has the values of a request's selecting fields. It keeps them for
// the next variant, because a value may be a digest.
type presented struct {
	req   *request
	known [4]struct { // most responses have fewer selecting fields
		name, value string
		has         bool
	}
	n int
}

// value returns selectingValue for the request.
func (p *presented) value(name string) (value string, has bool) {
	for i := range p.known[:p.n] {
		if k := &p.known[i]; k.name == name {
			return k.value, k.has
		}
	}
	value, has = selectingValue(name, p.req)
	if p.n < len(p.known) {
		k := &p.known[p.n]
		k.name, k.value, k.has = name, value, has
		p.n++
	}
	return value, has
}

// mismatchOf is mismatch for a request of which values may be known.
func (r *response) mismatchOf(sent *presented, ignored []string) string {
	for _, name := range r.fields() {
		if name == "*" {
			return name
		}
		if slices.Contains(ignored, name) {
			continue
		}
		original, had := r.selecting[name]
		value, has := sent.value(name)
		if had == has && original == value {
			continue
		}
		if name == "Accept-Language" && has && prefersLanguage(value, r.header["Content-Language"]) {
			continue
		}
		return name
	}
	return ""
}

// othersSecret reports whether r was stored for another value of a credential
// field than req has. Then r must not be used for req, even if a 304 confirms
// it. Many origins tell users apart by such a field, but give the pages of all
// users the same entity tag. A request that Identity names may use every
// variant of its key.
func (r *response) othersSecret(req *request) bool {
	if req.identified {
		return false
	}
	return slices.ContainsFunc(r.fields(), func(name string) bool {
		if !credentialField(name) {
			return false
		}
		original, had := r.selecting[name]
		presented, has := selectingValue(name, req)
		return had != has || original != presented
	})
}

// varies reports whether name is among the selecting fields of r.
func (r *response) varies(name string) bool { return slices.Contains(r.fields(), name) }

// fields returns the selecting fields of r. It uses the result that newResponse
// has stored, if any.
func (r *response) fields() []string {
	if r.names != nil {
		return r.names
	}
	return selectingFields(r.header)
}

// selectingFields returns the canonical names of the fields that select a
// response. If the response has a content coding, Accept-Encoding is one of
// them even if Vary does not say so. A caller that did not ask for a coding
// must not get encoded content: net/http would have decoded it.
func selectingFields(h http.Header) []string {
	vary := h["Vary"]
	coded := h["Content-Encoding"] != nil
	if vary == nil && !coded {
		return nil
	}
	names := field.Names(vary)
	if coded && !slices.Contains(names, "Accept-Encoding") {
		names = append(names, "Accept-Encoding")
	}
	return names
}

// selecting returns the values of req that select a response with the header h,
// to be stored with it. If known has the same values, it returns known.
func selecting(h http.Header, req *request, known map[string]string) map[string]string {
	names, sent := selectingFields(h), presented{req: req}
	same, n := true, 0
	for _, name := range names {
		if value, ok := sent.value(name); ok {
			before, had := known[name]
			same = same && had && before == value
			n++
		}
	}
	switch {
	case n == 0:
		return nil
	case same && n == len(known):
		return known
	}
	values := make(map[string]string, n)
	for _, name := range names {
		if value, ok := sent.value(name); ok {
			values[name] = value
		}
	}
	return values
}

// selectingValue returns the normalised value of a selecting field, or its
// digest if it may be a secret. ok is false if the request does not have the
// field.
func selectingValue(name string, req *request) (value string, ok bool) {
	lines, ok := req.lines(name)
	switch {
	case !ok:
		return "", false
	case !secretField(name):
		return normalise(name, lines), true
	case credentialField(name):
		return req.digest.value(strings.Join(lines, "\n")), true // not normalised, because it may not be a list
	}
	return req.digest.value(normalise(name, lines)), true
}

// secretField reports whether only digests of a request field's values are
// stored. It is true for every field that is not known to say nothing about the
// user.
func secretField(name string) bool {
	switch name {
	case "Accept", "Accept-Encoding", "Accept-Language", "Origin", "User-Agent":
		return false // by far the most frequent fields
	case "Access-Control-Request-Headers", "Access-Control-Request-Method", "Cache-Control", "Content-Type", "Device-Memory", "Dnt", "Downlink", "Dpr", "Ect",
		"Pragma", "Prefer", "Range", "Rtt", "Save-Data", "Sec-Gpc", "Te", "Upgrade-Insecure-Requests", "Viewport-Width", "Width", "X-Requested-With":
		return false
	}
	for _, prefix := range []string{"Accept-", "Sec-Ch-", "Sec-Fetch-"} {
		if strings.HasPrefix(name, prefix) {
			return false
		}
	}
	return true
}

// codedFor reports whether req can be answered with the content coding of r. It
// can if the origin chose that coding for the same Accept-Encoding, or if req
// accepts the coding. Without Accept-Encoding, net/http asks for gzip and
// decodes the response itself, so its caller could not read an encoded body.
// RFC 9110, section 12.5.3.
func (r *response) codedFor(req *request) bool {
	const name = "Accept-Encoding"
	accepted, asks := selectingValue(name, req)
	codings := r.header["Content-Encoding"]
	if codings == nil {
		return !asks || acceptsCoding(accepted, "identity")
	}
	if original, had := r.selecting[name]; had == asks && original == accepted {
		return true
	}
	readable := true
	field.Members(codings, func(coding string) bool {
		coding = strings.ToLower(coding)
		readable = (asks || coding == "identity") && acceptsCoding(accepted, coding)
		return readable
	})
	return readable
}
