package cachetrip

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/cachetrip/cachetrip/internal/field"
	"github.com/cachetrip/cachetrip/internal/span"
)

// Range requests answered from stored responses, and what the cache keeps of a
// 206: RFC 9110, section 14, and RFC 9111, sections 3.3 and 3.4.

// maxSpans is the largest number of ranges in a request that is answered from
// the store. Requests with more go to the origin, because no ordinary program
// sends so many.
const maxSpans = 1024

// rangeAnswer says how a stored response answers a request.
type rangeAnswer int

const (
	wholeAnswer   rangeAnswer = iota // the whole content, whether there is a Range or not
	spansAnswer                      // a 206 with the spans
	noneAnswer                       // 416
	originsAnswer                    // no answer: the origin must be asked
)

// ranges says how the held content of r answers the Range field of req.
func (r *response) ranges(req *request) (rangeAnswer, []span.Span) {
	if req.plain {
		return r.whole()
	}
	lines := req.header["Range"]
	if len(lines) == 0 || req.method == http.MethodHead || r.status != http.StatusOK {
		return r.whole()
	}
	if r.uncompressed || len(lines) > 1 {
		return originsAnswer, nil // offsets in the decoded content differ from those of the origin
	}
	if condition, ok := req.header["If-Range"]; ok && (len(condition) != 1 || !r.isStill(condition[0])) {
		return r.whole()
	}
	spans, ok := parseRanges(lines[0], r.length)
	switch {
	case !ok:
		return originsAnswer, nil
	case len(spans) == 0 && r.length < 0:
		return originsAnswer, nil
	case len(spans) == 0 && r.length == 0:
		return r.whole() // net/http does the same, for clients that always send a Range
	case len(spans) == 0:
		return noneAnswer, nil
	}
	var total int64
	for _, s := range spans {
		if !r.holds(s) {
			return originsAnswer, nil
		}
		total += s.Length()
	}
	if r.length >= 0 && total > r.length {
		return r.whole() // the ranges overlap, and are longer than the whole
	}
	if len(spans) > 1 && r.length < 0 {
		return originsAnswer, nil
	}
	return spansAnswer, spans
}

// isStill evaluates an If-Range field. RFC 9110, section 13.1.5.
func (r *response) isStill(validator string) bool {
	return field.ETagStrongMatch(validator, r.header.Get(etagField)) ||
		validator != "" && validator == r.header.Get("Last-Modified") && r.strongDate()
}

// whole answers with the whole content, if all of it is held.
func (r *response) whole() (rangeAnswer, []span.Span) {
	if r.complete() {
		return wholeAnswer, nil
	}
	return originsAnswer, nil
}

// covers reports whether the held content of r is enough to answer req.
func (r *response) covers(req *request) bool {
	answer, _ := r.ranges(req)
	return answer != originsAnswer
}

// holds reports whether all bytes of s are held.
func (r *response) holds(s span.Span) bool {
	if r.allHeld {
		return s.End <= r.length
	}
	for _, held := range r.held {
		if held.Contains(s) {
			return true
		}
	}
	return false
}

// parseRanges parses a Range field for content of the given length, -1 if
// unknown. It returns the spans that can be satisfied, in the order of the
// field. RFC 9110, section 14.1.2. ok is false if the range can only be
// answered by the origin:
//
//   - the field is malformed or has another unit;
//   - it can't be applied to an unknown length;
//   - servers read it differently: a suffix of no bytes or of empty content, or
//     a position that overflows.
func parseRanges(value string, length int64) (spans []span.Span, ok bool) {
	unit, set, found := strings.Cut(value, "=")
	if !found || !strings.EqualFold(unit, "bytes") {
		return nil, false
	}
	count := 0
	for spec := range strings.SplitSeq(set, ",") {
		spec = strings.Trim(spec, " \t")
		if spec == "" {
			continue
		}
		if count++; count > maxSpans {
			return nil, false
		}
		first, last, found := strings.Cut(spec, "-")
		if !found {
			return nil, false
		}
		if first == "" { // the last bytes
			n, ok := offset(last)
			if !ok || length <= 0 || n == 0 || n == farthest {
				return nil, false
			}
			spans = append(spans, span.Of(max(0, length-n), length))
			continue
		}
		start, ok := offset(first)
		if !ok || start == farthest {
			return nil, false
		}
		end := length
		if last != "" {
			n, ok := offset(last)
			if !ok || n < start || n == farthest {
				return nil, false
			}
			if end = n + 1; length >= 0 {
				end = min(end, length)
			}
		} else if length < 0 {
			return nil, false
		}
		if length < 0 || start < length {
			spans = append(spans, span.Of(start, end))
		}
	}
	return spans, count > 0
}

// farthest stands for every position that is too large to compute with.
const farthest = 1<<62 - 1

// offset parses a position in content. It returns farthest if the number is too
// large.
func offset(s string) (n int64, ok bool) {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		if n > (farthest-9)/10 {
			n = farthest
			continue
		}
		n = min(farthest, n*10+int64(s[i]-'0'))
	}
	return n, s != ""
}

// contentRange parses the Content-Range of a 206 with one part. It returns the
// span and the complete length, which is -1 if unknown. RFC 9110, section 14.4.
func contentRange(h http.Header) (s span.Span, length int64, ok bool) {
	lines := h["Content-Range"]
	if len(lines) != 1 || strings.HasPrefix(lower(h.Get("Content-Type")), "multipart/byteranges") {
		return span.Span{}, 0, false // in a multipart body each part has its own range
	}
	unit, rest, found := strings.Cut(lines[0], " ")
	positions, complete, slash := strings.Cut(rest, "/")
	first, last, dash := strings.Cut(positions, "-")
	if !found || !slash || !dash || !strings.EqualFold(unit, "bytes") {
		return span.Span{}, 0, false
	}
	start, ok1 := offset(first)
	end, ok2 := offset(last)
	length, ok3 := offset(complete)
	if complete == "*" {
		length, ok3 = -1, true
	}
	if !ok1 || !ok2 || !ok3 || end < start || length >= 0 && end >= length {
		return span.Span{}, 0, false
	}
	return span.Of(start, end+1), length, true
}

// part returns the span of the content that a 206 brings, and the complete
// length. ok is false if the part can't be stored.
//
// A part without a strong validator is never joined to others, and only answers
// requests for its own bytes. If such a part reaches the end, and its
// Content-Length is one byte shorter than its Content-Range, the length counts.
// Some servers count the last position one too large.
func (r *response) part() (s span.Span, length int64, ok bool) {
	s, length, ok = contentRange(r.header)
	if !ok || r.uncompressed {
		return span.Span{}, 0, false
	}
	if r.length < 0 || r.length == s.Length() {
		return s, length, true
	}
	if r.strongValidator() == "" && s.Start > 0 && s.End == length && r.length == s.Length()-1 && r.length > 0 {
		return span.Of(s.Start, s.End-1), s.End - 1, true
	}
	return span.Span{}, 0, false
}

// endsAt reports whether a 416 says that r ends at position. h is the header of
// the 416. The request asked for the bytes from position on, with If-Range: for
// another representation the origin would have sent all of it. RFC 9110,
// sections 13.1.5 and 14.4.
func (r *response) endsAt(position int64, h http.Header) bool {
	tag := h.Get(etagField)
	return strings.EqualFold(strings.Join(h["Content-Range"], ","), "bytes */"+strconv.FormatInt(position, 10)) &&
		(r.length < 0 || r.length == position) && (tag == "" || tag == r.header.Get(etagField))
}

// continuable reports whether the rest of an incomplete response may be
// requested later. That requires a strong validator, and offsets that mean the
// same to the origin. A response that is encoded while it is sent has no length
// beforehand, and the origin's ranges may be those of the file before encoding.
// RFC 9111, section 3.3.
func (r *response) continuable() bool {
	ranges := strings.Join(r.header["Accept-Ranges"], ",")
	codedOnTheWay := r.header["Content-Encoding"] != nil && r.header["Content-Length"] == nil
	return r.status == http.StatusOK && !r.uncompressed && !codedOnTheWay && r.strongValidator() != "" && !strings.EqualFold(ranges, "none")
}

// missing returns the shortest span that contains all missing bytes: the whole
// content if neither end is held. Its end is -1 if the length is unknown. Held
// bytes between two gaps are transferred again, because one request with one
// part costs less.
func (r *response) missing() span.Span {
	s := span.Of(0, r.length)
	if len(r.held) == 0 {
		return s
	}
	if first := r.held[0]; first.Start == 0 {
		s.Start = first.End
	}
	if last := r.held[len(r.held)-1]; r.length >= 0 && last.End == r.length {
		s.End = last.Start
	}
	return s
}

// askFor sets Range and If-Range in the header of a request for the span s of
// r. If the end of s is unknown or that of r, the range is open. RFC 9110,
// section 13.1.5.
func (r *response) askFor(s span.Span, h http.Header) {
	last := ""
	if s.End >= 0 && s.End != r.length {
		last = strconv.FormatInt(s.End-1, 10)
	}
	h["Range"] = []string{"bytes=" + strconv.FormatInt(s.Start, 10) + "-" + last}
	h["If-Range"] = []string{r.strongValidator()}
}

// continues reports whether a 206 brings exactly the requested span of r. It
// returns the span and the complete length. RFC 9110, section 15.3.7.
func (r *response) continues(partial *response, asked span.Span) (s span.Span, length int64, ok bool) {
	s, length, ok = contentRange(partial.header)
	if asked.End < 0 {
		asked.End = length
	}
	if !ok || partial.uncompressed || s != asked || length < 0 || r.length >= 0 && length != r.length ||
		partial.length >= 0 && partial.length != s.Length() || otherDigest(r.header, partial.header) {
		return span.Span{}, 0, false
	}
	if coding, ok := partial.header["Content-Encoding"]; ok && !slices.Equal(coding, r.header["Content-Encoding"]) {
		return span.Span{}, 0, false
	}
	if field.IsStrongETag(r.strongValidator()) {
		return s, length, partial.strongValidator() == r.strongValidator()
	}
	// The request had a date in If-Range. Then the 206 may omit it.
	modified := partial.header.Get("Last-Modified")
	return s, length, partial.header.Get(etagField) == "" && (modified == "" || modified == r.strongValidator())
}

// usableFor reports whether the held content of r is enough for req: all of it,
// or the requested range. A HEAD needs no content, but all fields of the
// header. Some may be missing with a part (section 3.3), and with a body that
// was decoded on arrival, such as its length. Then only the origin can answer a
// HEAD.
func (r *response) usableFor(req *request) bool {
	if r.headOnly {
		return req.method == http.MethodHead
	}
	if r.uncompressed && req.method == http.MethodHead {
		return false
	}
	return r.covers(req)
}
