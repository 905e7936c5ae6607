// Package field reads the values of the HTTP fields that caching is decided by. It is pure: text
// in, values out. Where a value is malformed, the reading that reuses less wins.
package field

import (
	"net/http"
	"net/textproto"
	"slices"
	"strings"
)

// Members calls yield for each member of a comma-separated list that may stand on several lines,
// without surrounding white space and empty members. Commas within quoted strings do not separate;
// a quote that is never closed is an ordinary character. RFC 9110, section 5.6.1.
func Members(lines []string, yield func(member string) bool) {
	for _, line := range lines {
		quotes := true
		for line != "" {
			end := memberEnd(line, &quotes)
			member := trim(line[:end])
			if member != "" && !yield(member) {
				return
			}
			line = strings.TrimPrefix(line[end:], ",")
		}
	}
}

// Combined returns the lines of a field as one value, without white space around the commas that separate
// members. Quoted strings stay as they are, and so do empty members, which may mean something where the
// field is no list. RFC 9110, section 5.3.
func Combined(lines []string) string {
	rest := trim(strings.Join(lines, ", "))
	combined := make([]byte, 0, len(rest))
	for quotes := true; ; {
		end := memberEnd(rest, &quotes)
		combined = append(combined, trim(rest[:end])...)
		if end == len(rest) {
			return string(combined)
		}
		combined = append(combined, ',')
		rest = rest[end+1:]
	}
}

// memberEnd returns where the first member of list ends: at a comma or at the end. quotes tells
// whether there may be quoted strings: once a quote is never closed, none that follows it is, and
// looking again for each would cost the square of the length.
func memberEnd(list string, quotes *bool) int {
	for i := 0; i < len(list); i++ {
		switch {
		case list[i] == ',':
			return i
		case list[i] == '"' && *quotes:
			end := quotedEnd(list[i:])
			if *quotes = end > 0; *quotes {
				i += end - 1
			}
		}
	}
	return len(list)
}

// quotedEnd returns the length of the quoted string that s begins with, 0 if it is never closed.
func quotedEnd(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return 0
}

// maxNames bounds the names in one list, each of which costs something for each variant; what depends
// on more fields than this can as well be taken to depend on everything.
const maxNames = 256

// Names returns the canonical field names listed in lines, as in Vary and Connection, without
// duplicates and in order. "*" stands for itself, for what cannot be a field name, and for the rest
// of a list that is too long.
func Names(lines []string) []string {
	if len(lines) == 1 && IsToken(lines[0]) && textproto.CanonicalMIMEHeaderKey(lines[0]) == lines[0] {
		return lines[:1:1] // as nearly all are
	}
	var names []string
	var known map[string]bool // instead of comparing each with all, once that is much
	Members(lines, func(member string) bool {
		name := "*"
		if len(names) < maxNames && IsToken(member) {
			name = textproto.CanonicalMIMEHeaderKey(member)
		}
		if known == nil && len(names) >= 16 {
			known = make(map[string]bool)
			for _, name := range names {
				known[name] = true
			}
		}
		if known != nil && !known[name] || known == nil && !contains(names, name) {
			names = append(names, name)
			if known != nil {
				known[name] = true
			}
		}
		return len(names) <= maxNames
	})
	return names
}

// Canonical returns h with all its names in canonical form, the lines of names that become one
// together; changed tells that it is a copy, and not h itself.
func Canonical(h http.Header) (canonical http.Header, changed bool) {
	var odd []string
	for name := range h {
		if textproto.CanonicalMIMEHeaderKey(name) != name {
			odd = append(odd, name)
		}
	}
	if odd == nil {
		return h, false
	}
	slices.Sort(odd) // so that the same header always becomes the same
	canonical = h.Clone()
	for _, name := range odd {
		delete(canonical, name)
		if lines := h[name]; len(lines) > 0 {
			name = textproto.CanonicalMIMEHeaderKey(name)
			canonical[name] = append(canonical[name], lines...)
		}
	}
	return canonical, true
}

// IsToken reports whether s is a token. RFC 9110, section 5.6.2.
func IsToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isTokenChar(s[i]) {
			return false
		}
	}
	return s != ""
}

func isTokenChar(c byte) bool { return isAlnum(c) || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0 }

// IsValue reports whether s can be sent as a field value: it has no control characters but tabs.
// RFC 9110, section 5.5.
func IsValue(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' && s[i] != '\t' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// MaxSeconds is what larger numbers of seconds are taken for, about 68 years. RFC 9111, section 1.2.2.
const MaxSeconds = 1 << 31

// Seconds reads delta-seconds: digits only, bounded by MaxSeconds. RFC 9111, section 1.2.2.
func Seconds(s string) (seconds int64, ok bool) {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		seconds = min(seconds*10+int64(s[i]-'0'), MaxSeconds)
	}
	return seconds, s != ""
}

// Age reads the Age field: its first member counts, and an invalid one is none. RFC 9111, section 5.1.
func Age(lines []string) (seconds int64, ok bool) {
	if len(lines) == 0 {
		return 0, false
	}
	first, _, _ := strings.Cut(lines[0], ",")
	return Seconds(trim(first))
}

func trim(s string) string { return strings.Trim(s, " \t") }

func isAlnum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
