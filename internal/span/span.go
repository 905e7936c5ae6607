// Package span is about stretches of bytes.
package span

import "strconv"

// Span is a stretch of bytes, from Start up to but without End. An End of -1
// says that nobody knows yet where the stretch ends.
type Span struct{ Start, End int64 }

// Of returns the span from start up to end.
func Of(start, end int64) Span { return Span{start, end} }

// Length returns how many bytes s has. It means nothing while End is unknown.
func (s Span) Length() int64 { return s.End - s.Start }

// Contains reports whether all of other lies within s.
func (s Span) Contains(other Span) bool { return s.Start <= other.Start && other.End <= s.End }

// ContentRange returns the Content-Range field of a response that brings s of
// content of the given length, -1 if that is unknown: RFC 9110, section 14.4.
func (s Span) ContentRange(length int64) string {
	complete := "*"
	if length >= 0 {
		complete = strconv.FormatInt(length, 10)
	}
	return "bytes " + strconv.FormatInt(s.Start, 10) + "-" + strconv.FormatInt(s.End-1, 10) + "/" + complete
}
