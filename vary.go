package cachetrip

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/cachetrip/cachetrip/internal/field"
)

// Which stored response is selected by a request: RFC 9111, section 4.1.

// sel returns the index of the stored response that req selects, -1 if none: of those that match,
// one that suffices for req before one that does not, one with a Vary field before one without, and
// the most recent. Sections 4 and 4.1.
func sel(req *request, stored []response) int {
	best := -1
	for i := range stored {
		r := &stored[i]
		if r.headOnly && req.method != http.MethodHead || !r.matches(req) {
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

// concerns reports whether the answer to req is about r: req selects it, or would if it had the
// credentials with which r was asked for, and which stand for the same identity. Tokens change more
// often than what they give access to, and one that is gone is of no use any more.
func (r *response) concerns(req *request) bool {
	if req.identified {
		return r.mismatch(req, rotatedFields) == ""
	}
	return r.matches(req)
}

// rotatedFields are those whose values change while the identity stays the same.
var rotatedFields = []string{"Authorization", "Proxy-Authorization"}

// mismatch returns the name of the first selecting field that does not match, but for those ignored: "*"
// if no request can match, "" if all fields match.
func (r *response) mismatch(req *request, ignored []string) string {
	for _, name := range r.fields() {
		if name == "*" {
			return name
		}
		if slices.Contains(ignored, name) {
			continue
		}
		original, had := r.selecting[name]
		presented, has := selectingValue(name, req)
		if had == has && original == presented {
			continue
		}
		if name == "Accept-Language" && has && prefersLanguage(presented, r.header["Content-Language"]) {
			continue
		}
		return name
	}
	return ""
}

// othersSecret reports whether r was selected by another value of a field that holds credentials than req has. Then
// not even the origin's word that r may be used for req counts: origins that tell users apart by such a
// field, but give all that they send the same entity tag, are common. Whom Identity names has all
// secrets of a key.
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

// fields returns the selecting fields of r, which newResponse has read already: there can be many.
func (r *response) fields() []string {
	if r.names != nil {
		return r.names
	}
	return selectingFields(r.header)
}

// selectingFields returns the canonical names of the fields that a response was selected by. A
// coded response also depends on Accept-Encoding, whether it says so or not: net/http decodes for
// callers who did not ask for a coding, and they must not be given what others asked for.
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

// selecting returns what is to be remembered of req for a response with the header h.
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

// selectingValue returns the normalised value of a selecting field, or a digest of it if it may be
// a secret; ok is false if the request does not have the field.
func selectingValue(name string, req *request) (value string, ok bool) {
	lines, ok := req.lines(name)
	switch {
	case !ok:
		return "", false
	case !secretField(name):
		return normalise(name, lines), true
	case credentialField(name):
		return req.digest.value(strings.Join(lines, "\n")), true // they need not be lists
	}
	return req.digest.value(normalise(name, lines)), true
}

// secretField reports whether the values of a request field are kept as digests only: those of all that are not
// known to say nothing about who asks.
func secretField(name string) bool {
	switch name {
	case "Accept", "Accept-Encoding", "Accept-Language", "Origin", "User-Agent":
		return false // asked most often, and by far
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

// normalise brings a field value into a form in which values of the same meaning are equal: lines
// are joined and white space around commas goes. In fields that weigh alternatives, empty members, the
// case of names and the spelling of weights mean nothing. Nor does the order of members with different
// weights. Of those with the same weight, many origins take the first: `en, de` is not `de, en`. That
// holds for Accept and Accept-Language. All that is acceptable by Accept-Charset and Accept-Encoding is
// the same text, so that their members are sorted.
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
	quoted := func(line string) bool { return strings.Contains(line, `"`) } // which may not end in its member
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

// maxRanked is the number of members up to which their weights are compared; browsers send about ten.
const maxRanked = 32

// rank sorts normalised members by their weights, the greatest first, and else leaves their order. If a
// weight can't be read, or two members have one name, the order may mean anything, and stays.
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

// isNormal reports whether a value with one member is surely in normal form as it is.
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

// prefersLanguage reports whether the one language of a stored response is what the request
// prefers to all others: then no other response could be a better answer to it.
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

// codedFor reports whether r is in a coding that req can be answered in: the one that the origin chose
// for a request with the same Accept-Encoding, or one that req asks for. Without that field net/http
// asks for a coding itself, and the origin answers to that: with what callers can't read. RFC 9110,
// section 12.5.3.
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

// acceptsCoding reports whether a normalised Accept-Encoding names a coding, or all others, with a
// weight. What has no coding is accepted unless it says otherwise.
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

// splitWeight takes a normalised member apart; a weight that can't be read counts as none.
func splitWeight(member string) (name string, weight float64) {
	name, weight, ok := weightOf(member)
	if !ok {
		return name, 0
	}
	return name, weight
}

// weightOf takes a normalised member apart; ok is false if its weight can't be read. What follows the
// weight is not part of the name.
func weightOf(member string) (name string, weight float64, ok bool) {
	name, q, has := strings.Cut(member, ";q=")
	if !has {
		return name, 1, true
	}
	q, _, _ = strings.Cut(q, ";")
	weight, err := strconv.ParseFloat(q, 64)
	return name, weight, err == nil && weight >= 0 && weight <= 1
}
