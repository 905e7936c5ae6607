// Package head prepares the header of a stored response for all callers that
// are given it. Copying headers is a large part of the cost of a hit.
package head

import (
	"net/http"
	"sync/atomic"
)

// Lines are the fields of a header that does not change any more, in a slice,
// and their lines in another. Going through slices takes less than going
// through a map. Lines are safe for concurrent use.
type Lines struct {
	Fields []Field
	Values []string // of all fields, in their order

	said atomic.Pointer[Said]
}

// Field is a field with the number of its lines.
type Field struct {
	Name  string
	Lines int
}

// Said is what responses made of a header say of themselves for a second.
type Said struct {
	Age, TTL              int64 // in seconds
	Detail, Value, Status string
}

// Prepare returns the lines of h.
func Prepare(h http.Header) *Lines {
	l := &Lines{Fields: make([]Field, 0, len(h)), Values: make([]string, 0, len(h))}
	for name, values := range h {
		l.Fields = append(l.Fields, Field{name, len(values)})
		l.Values = append(l.Values, values...)
	}
	return l
}

// Copy returns a copy of the header. It has room for more fields, and for more
// lines in the slice that holds all lines. It returns that room as well.
func (l *Lines) Copy(fields, lines int) (h http.Header, room []string) {
	room = make([]string, len(l.Values)+lines)
	copy(room, l.Values)
	h = make(http.Header, len(l.Fields)+fields)
	for _, f := range l.Fields {
		h[f.Name], room = room[:f.Lines:f.Lines], room[f.Lines:]
	}
	return h, room
}

// Copy is [Lines.Copy] of a header that was not prepared. For one copy,
// preparing takes longer.
func Copy(header http.Header, fields, lines int) (h http.Header, room []string) {
	for _, values := range header {
		lines += len(values)
	}
	room = make([]string, lines)
	h = make(http.Header, len(header)+fields)
	for name, values := range header {
		n := copy(room, values)
		h[name], room = room[:n:n], room[n:]
	}
	return h, room
}

// LastSaid returns the value that was remembered last, or nil.
func (l *Lines) LastSaid() *Said { return l.said.Load() }

// Remember keeps what responses say of themselves.
func (l *Lines) Remember(s Said) { l.said.Store(&s) }

// Bytes returns the length of all names and lines.
func (l *Lines) Bytes() (n int) {
	for _, f := range l.Fields {
		n += len(f.Name)
	}
	for _, line := range l.Values {
		n += len(line)
	}
	return n
}
