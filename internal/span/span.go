// Package span is about stretches of bytes.
package span

// Span is a stretch of bytes, from Start up to but without End. An End of -1
// says that nobody knows yet where the stretch ends.
type Span struct{ Start, End int64 }

// Of returns the span from start up to end.
func Of(start, end int64) Span { return Span{start, end} }

// Length returns how many bytes s has. It means nothing while End is unknown.
func (s Span) Length() int64 { return s.End - s.Start }

// Contains reports whether all of other lies within s.
func (s Span) Contains(other Span) bool { return s.Start <= other.Start && other.End <= s.End }
