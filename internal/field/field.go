// Package field parses the values of the HTTP fields that decide about caching.
// It is pure: text in, values out. If a value is malformed, the interpretation
// that reuses less wins.
package field

import (
	"net/http"
	"net/textproto"
	"slices"
	"strings"
)

// Members calls yield for each member of a comma-separated list, which may
// stand on several lines. It drops surrounding white space and empty members.
// Commas within quoted strings do not separate members. A quote that is never
// closed is an ordinary character. RFC 9110, section 5.6.1.
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

// Combined returns the lines of a field as one value, without white space
// around the commas that separate members. Quoted strings stay as they are.
// Empty members stay too, because they may have a meaning in a field that is
// not a list. RFC 9110, section 5.3.
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

// memberEnd returns where the first member of list ends: at a comma or at the
// end. quotes says whether list may contain quoted strings. Once a quote is
// never closed, no later quote is closed either, and searching again for each
// would take quadratic time.
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

// quotedEnd returns the length of the quoted string that s begins with, 0 if it
// is never closed.
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

// maxNames limits the names in one list, because each name costs work for each
// variant. A response that depends on more fields is treated as if it depended
// on everything.
const maxNames = 256

// Names returns the canonical field names listed in lines, as in Vary and
// Connection, in order and without duplicates. "*" stands for itself, for a
// member that is not a field name, and for the rest of a list that is too long.
func Names(lines []string) []string {
	if len(lines) == 1 && IsToken(lines[0]) && IsCanonical(lines[0]) {
		return lines[:1:1] // the common case
	}
	var names []string
	var known map[string]bool // used for long lists, where comparing all names would be slow
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

// First is h.Get(name) for a name in canonical form. It takes less.
func First(h http.Header, name string) string {
	if lines := h[name]; len(lines) > 0 {
		return lines[0]
	}
	return ""
}

// Canonical returns h with all its names in canonical form. Lines of names that
// become equal are joined. If changed is true, canonical is a copy; otherwise
// it is h itself.
func Canonical(h http.Header) (canonical http.Header, changed bool) {
	return canonicalBut(h, func(name string, _ []string) bool { return !IsCanonical(name) })
}

// Received is Canonical for the header of a response. It leaves out names
// without lines, for which an origin would have sent nothing. A request keeps
// them: they tell net/http to set no User-Agent, for example.
func Received(h http.Header) (canonical http.Header, changed bool) {
	return canonicalBut(h, func(name string, lines []string) bool { return len(lines) == 0 || !IsCanonical(name) })
}

// canonicalBut returns h with the lines of odd names under their canonical
// ones.
func canonicalBut(h http.Header, isOdd func(name string, lines []string) bool) (canonical http.Header, changed bool) {
	var odd []string
	for name, lines := range h {
		if isOdd(name, lines) {
			odd = append(odd, name)
		}
	}
	if odd == nil {
		return h, false
	}
	slices.Sort(odd) // so that equal headers have equal results
	canonical = h.Clone()
	for _, name := range odd {
		delete(canonical, name)
	}
	for _, name := range odd {
		if lines := h[name]; len(lines) > 0 {
			name = textproto.CanonicalMIMEHeaderKey(name)
			canonical[name] = append(canonical[name], lines...)
		}
	}
	return canonical, true
}

// IsCanonical reports whether name is in the canonical form of net/http. Nearly
// all names are. To see that takes less than to make the form.
func IsCanonical(name string) bool {
	first := true // of a word
	for i := 0; i < len(name); i++ {
		c := name[i]
		if first && 'a' <= c && c <= 'z' || !first && 'A' <= c && c <= 'Z' {
			return textproto.CanonicalMIMEHeaderKey(name) == name // it has other characters than a token
		}
		first = c == '-'
	}
	return true
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

// MaxSeconds, about 68 years, replaces larger numbers of seconds. RFC 9111,
// section 1.2.2.
const MaxSeconds = 1 << 31

// parseSeconds parses delta-seconds: digits only. A larger number than
// MaxSeconds becomes MaxSeconds. RFC 9111, section 1.2.2.
func parseSeconds(s string) (seconds int64, ok bool) {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		seconds = min(seconds*10+int64(s[i]-'0'), MaxSeconds)
	}
	return seconds, s != ""
}

// Age parses the Age field. Only its first member counts; if it is invalid, ok
// is false. RFC 9111, section 5.1.
func Age(lines []string) (seconds int64, ok bool) {
	if len(lines) == 0 {
		return 0, false
	}
	first, _, _ := strings.Cut(lines[0], ",")
	return parseSeconds(trim(first))
}

func trim(s string) string { return strings.Trim(s, " \t") }

func isAlnum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
