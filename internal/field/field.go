// Package field reads the values of the HTTP fields that caching is decided by. It is pure: text
// in, values out. Where a value is malformed, the reading that reuses less wins.
package field

import (
	"net/textproto"
	"strings"
)

// Members calls yield for each member of a comma-separated list that may stand on several lines,
// without surrounding white space and empty members. Commas within quoted strings do not separate;
// a quote that is never closed is an ordinary character. RFC 9110, section 5.6.1.
func Members(lines []string, yield func(member string) bool) {
	for _, line := range lines {
		for line != "" {
			end := memberEnd(line)
			member := trim(line[:end])
			if member != "" && !yield(member) {
				return
			}
			line = strings.TrimPrefix(line[end:], ",")
		}
	}
}

// memberEnd returns where the first member of list ends: at a comma or at the end.
func memberEnd(list string) int {
	for i := 0; i < len(list); i++ {
		switch list[i] {
		case ',':
			return i
		case '"':
			if end := quotedEnd(list[i:]); end > 0 {
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

// Names returns the canonical field names listed in lines, as in Vary and Connection, without
// duplicates and in order. What cannot be a field name, "*" but for, is left out.
func Names(lines []string) []string {
	var names []string
	Members(lines, func(member string) bool {
		if member != "*" && !IsToken(member) {
			return true
		}
		name := textproto.CanonicalMIMEHeaderKey(member)
		for _, known := range names {
			if known == name {
				return true
			}
		}
		names = append(names, name)
		return true
	})
	return names
}

// IsToken reports whether s is a token. RFC 9110, section 5.6.2.
func IsToken(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !isAlnum(c) && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
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
