package cachetrip

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
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
	if date, otherDate := r.date(), other.date(); !date.Equal(otherDate) {
		return date.After(otherDate)
	}
	return r.received.After(other.received)
}

// matches reports whether the selecting fields of req match those of the request that r answered.
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
// to be stored with it.
func selecting(h http.Header, req *request) map[string]string {
	var values map[string]string
	for _, name := range selectingFields(h) {
		if value, ok := selectingValue(name, req); ok {
			if values == nil {
				values = make(map[string]string)
			}
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

// normalise returns a form of a field value that is equal for values with the
// same meaning. It joins lines and removes white space around commas.
//
// In fields that weigh alternatives it also ignores empty members, upper and
// lower case, and the spelling of weights. In Accept and Accept-Language it
// sorts members by weight, and keeps the order of members with the same weight:
// many origins take the first, so `en, de` is not `de, en`. In Accept-Charset
// and Accept-Encoding it sorts the members, because every acceptable choice is
// the same text.
func normalise(name string, lines []string) string {
	weighted, ranked := false, false
	switch name {
	case "Accept", "Accept-Language":
		weighted, ranked = true, true
	case "Accept-Charset", "Accept-Encoding":
		weighted = true
	}
	if len(lines) == 1 && isNormal(lines[0], weighted) {
		return lines[0]
	}
	quoted := func(line string) bool { return strings.Contains(line, `"`) } // a comma in quotes would be misread
	if !weighted || slices.ContainsFunc(lines, quoted) {
		return field.Combined(lines)
	}
	var members []string
	field.Members(lines, func(member string) bool {
		members = append(members, normaliseWeighted(member))
		return true
	})
	if ranked {
		rank(members)
	} else {
		slices.Sort(members)
	}
	return strings.Join(members, ",")
}

// maxRanked is the largest number of members that are sorted by weight.
// Browsers send about ten.
const maxRanked = 32

// rank sorts normalised members by weight, the greatest first, and keeps the
// order of equal weights. It changes nothing if a weight is malformed or a name
// occurs twice, because then the order may matter.
func rank(members []string) {
	if len(members) < 2 || len(members) > maxRanked {
		return
	}
	type weighted struct {
		member, name string
		weight       float64
	}
	ranked := make([]weighted, 0, maxRanked)
	for _, member := range members {
		name, weight, ok := weightOf(member)
		if !ok || slices.ContainsFunc(ranked, func(other weighted) bool { return other.name == name }) {
			return
		}
		ranked = append(ranked, weighted{member, name, weight})
	}
	slices.SortStableFunc(ranked, func(a, b weighted) int { return cmp.Compare(b.weight, a.weight) })
	for i := range ranked {
		members[i] = ranked[i].member
	}
}

// isNormal reports whether a value is a single member that needs no
// normalisation. It may say false for some that need none.
func isNormal(value string, weighted bool) bool {
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c <= ' ' || c == ',' || c == '"' || c >= 0x7f:
			return false
		case weighted && (c == ';' || 'A' <= c && c <= 'Z'):
			return false
		}
	}
	return value != ""
}

// normaliseWeighted normalises one alternative with its parameters. RFC 9110, section 12.4.2.
func normaliseWeighted(member string) string {
	parts := strings.Split(member, ";")
	kept := parts[:0]
	for i, part := range parts {
		part = strings.Trim(part, " \t")
		name, value, has := strings.Cut(part, "=")
		name = strings.ToLower(strings.Trim(name, " \t"))
		if !has {
			part = name
		} else {
			value = strings.Trim(value, " \t")
			if name == "q" && i > 0 && kept[0] != "" && isWeight(value) {
				if strings.Contains(value, ".") {
					value = strings.TrimRight(strings.TrimRight(value, "0"), ".")
				}
				if value == "1" {
					continue // the default
				}
			}
			part = name + "=" + value
		}
		kept = append(kept, part)
	}
	return strings.Join(kept, ";")
}

// isWeight reports whether a value is a weight, of any number of digits.
func isWeight(value string) bool {
	whole, fraction, _ := strings.Cut(value, ".")
	return (whole == "0" || whole == "1") && strings.Trim(fraction, "0123456789") == ""
}

// prefersLanguage reports whether a stored response is in the one language that
// the request prefers to all others. Then no other response could suit the
// request better.
func prefersLanguage(accepted string, contentLanguage []string) bool {
	var stored []string
	field.Members(contentLanguage, func(member string) bool {
		stored = append(stored, strings.ToLower(member))
		return true
	})
	if len(stored) != 1 {
		return false
	}
	best, alone := -1.0, false
	preferred := ""
	for member := range strings.SplitSeq(accepted, ",") {
		language, weight := splitWeight(member)
		switch {
		case weight > best:
			best, alone, preferred = weight, true, language
		case weight == best:
			alone = false
		}
	}
	return alone && best > 0 && preferred == stored[0]
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

// acceptsCoding reports whether a normalised Accept-Encoding accepts a coding,
// by name or by "*". "identity" is accepted unless the field excludes it.
func acceptsCoding(accepted, coding string) bool {
	coding = strings.TrimPrefix(coding, "x-") // RFC 9110, section 8.4.1
	answer := coding == "identity"
	for member := range strings.SplitSeq(accepted, ",") {
		name, weight := splitWeight(member)
		switch {
		case strings.TrimPrefix(name, "x-") == coding:
			return weight > 0
		case name == "*":
			answer = weight > 0
		}
	}
	return answer
}

// splitWeight splits a normalised member into name and weight. A malformed
// weight counts as 0.
func splitWeight(member string) (name string, weight float64) {
	name, weight, ok := weightOf(member)
	if !ok {
		return name, 0
	}
	return name, weight
}

// weightOf splits a normalised member into name and weight. ok is false if the
// weight is malformed. Parameters after the weight are not part of the name.
func weightOf(member string) (name string, weight float64, ok bool) {
	name, q, has := strings.Cut(member, ";q=")
	if !has {
		return name, 1, true
	}
	q, _, _ = strings.Cut(q, ";")
	weight, err := strconv.ParseFloat(q, 64)
	return name, weight, err == nil && weight >= 0 && weight <= 1
}
