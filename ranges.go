package cachetrip

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/cachetrip/cachetrip/internal/field"
	"github.com/cachetrip/cachetrip/internal/span"
)

// Answering Range requests from what is stored, and what of a 206 can be kept: RFC 9110, section
// 14, and RFC 9111, sections 3.3 and 3.4.

// maxSpans bounds the ranges of one request that are answered from the store; a request with more
// is left to the origin, as nothing that reads content needs so many.
const maxSpans = 1024

// rangeAnswer says how a stored response answers a request.
type rangeAnswer int

const (
	wholeAnswer   rangeAnswer = iota // with all of the content, Range or not
	spansAnswer                      // 206, with the spans
	noneAnswer                       // 416
	originsAnswer                    // not at all: the origin has to be asked
)

// ranges says how r, as far as it is held, answers the Range field of req.
func (r *response) ranges(req *request) (rangeAnswer, []span.Span) {
	if req.plain {
		return r.whole()
	}
	lines := req.header["Range"]
	if len(lines) == 0 || req.method != http.MethodGet || r.status != http.StatusOK {
		return r.whole()
	}
	if r.uncompressed || len(lines) > 1 {
		return originsAnswer, nil // the offsets are not those of the bytes that are held
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
		return r.whole() // as net/http does for clients that always send a Range
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
		return r.whole() // overlapping ranges that would cost more than the whole
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

// whole answers with all of the content, if it is held.
func (r *response) whole() (rangeAnswer, []span.Span) {
	if r.complete() {
		return wholeAnswer, nil
	}
	return originsAnswer, nil
}

// covers reports whether what is held of an incomplete response answers the Range of req.
func (r *response) covers(req *request) bool {
	answer, _ := r.ranges(req)
	return answer != originsAnswer
}

// holds reports whether s is part of what is held.
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

// parseRanges reads a Range field for content of the given length, -1 if unknown: the spans that
// can be satisfied, in the order asked for. ok is false if the field is malformed, of another unit,
// can't be applied to an unknown length, or is one of those that servers read differently: the last
// bytes of nothing, the last no bytes, and positions beyond what can be counted. RFC 9110, section
// 14.1.2.
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

// farthest is the largest position that can be counted past.
const farthest = 1<<62 - 1

// offset reads digits as a position in content; larger ones than anything holds are taken for
// farthest.
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

// contentRange reads the Content-Range of a 206 with one part: the span, and the complete length or
// -1. RFC 9110, section 14.4.
func contentRange(h http.Header) (s span.Span, length int64, ok bool) {
	lines := h["Content-Range"]
	if len(lines) != 1 || strings.HasPrefix(lower(h.Get("Content-Type")), "multipart/byteranges") {
		return span.Span{}, 0, false // several parts tell their ranges themselves
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

// part returns which part of which length a 206 brings, to be kept; ok is false if it is not one that
// can be. Without a strong validator it is never joined to others, and serves but to answer for what
// it holds. Then, if it is an end, and its framing says that it is one byte shorter, the framing is
// believed: the last position of a range is easily given one too large.
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

// endsAt reports whether a 416 with the header h, to a request for what follows a position of r, says that
// this is the end of r. Of another representation the origin would have sent the whole. RFC 9110,
// sections 13.1.5 and 14.4.
func (r *response) endsAt(position int64, h http.Header) bool {
	tag := h.Get(etagField)
	return strings.EqualFold(strings.Join(h["Content-Range"], ","), "bytes */"+strconv.FormatInt(position, 10)) &&
		(r.length < 0 || r.length == position) && (tag == "" || tag == r.header.Get(etagField))
}

// formatContentRange is the inverse of contentRange.
func formatContentRange(s span.Span, length int64) string {
	complete := "*"
	if length >= 0 {
		complete = strconv.FormatInt(length, 10)
	}
	return fmt.Sprintf("bytes %d-%d/%s", s.Start, s.End-1, complete)
}

// continuable reports whether the rest of an incomplete response may be asked for later: its bytes
// can be told from those of any other representation, and mean what the origin's offsets mean. A response that
// is coded as it is sent has no length beforehand, and the ranges of its origin may be those of the file before
// coding. RFC 9111, section 3.3.
func (r *response) continuable() bool {
	ranges := strings.Join(r.header["Accept-Ranges"], ",")
	codedOnTheWay := r.header["Content-Encoding"] != nil && r.header["Content-Length"] == nil
	return r.status == http.StatusOK && !r.uncompressed && !codedOnTheWay && r.strongValidator() != "" && !strings.EqualFold(ranges, "none")
}

// missing returns the shortest stretch of content that all that is not held lies within: everything
// if nothing is held at either end. Its end is -1 if the length is unknown. What is held between two gaps
// is asked for again: one request and one answer of one part are worth more than those bytes.
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

// askFor puts the question for a stretch of r, to its end if that of s is unknown, into the header of
// a request. RFC 9110, section 13.1.5.
func (r *response) askFor(s span.Span, h http.Header) {
	last := ""
	if s.End >= 0 && s.End != r.length {
		last = strconv.FormatInt(s.End-1, 10)
	}
	h["Range"] = []string{"bytes=" + strconv.FormatInt(s.Start, 10) + "-" + last}
	h["If-Range"] = []string{r.strongValidator()}
}

// continues reports whether a 206 brings exactly the stretch of r that was asked for, and returns
// that, and the length of all. RFC 9110, section 15.3.7.
func (r *response) continues(partial *response, asked span.Span) (s span.Span, length int64, ok bool) {
	s, length, ok = contentRange(partial.header)
	if asked.End < 0 {
		asked.End = length
	}
	if !ok || partial.uncompressed || s != asked || length < 0 || r.length >= 0 && length != r.length ||
		partial.length >= 0 && partial.length != s.Length() {
		return span.Span{}, 0, false
	}
	if coding, ok := partial.header["Content-Encoding"]; ok && !slices.Equal(coding, r.header["Content-Encoding"]) {
		return span.Span{}, 0, false
	}
	if field.IsStrongETag(r.strongValidator()) {
		return s, length, partial.strongValidator() == r.strongValidator()
	}
	// A date was sent in If-Range; the 206 may leave it out then.
	modified := partial.header.Get("Last-Modified")
	return s, length, partial.header.Get(etagField) == "" && (modified == "" || modified == r.strongValidator())
}
