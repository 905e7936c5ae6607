package field

import "strings"

// ETags returns the entity tags of an If-None-Match or If-Match field, as
// written; "*" counts as one. Some servers send tags without quotes; these are
// kept as they are. Unlike quoted strings, entity tags have no escapes. RFC
// 9110, section 8.8.3.
func ETags(lines []string) []string {
	var tags []string
	for _, line := range lines {
		for {
			line = strings.TrimLeft(line, " \t,")
			if line == "" {
				break
			}
			end := etagEnd(line)
			tags = append(tags, trim(line[:end]))
			line = line[end:]
		}
	}
	return tags
}

// etagEnd returns the length of the entity tag that s begins with.
func etagEnd(s string) int {
	opaque := 0
	if strings.HasPrefix(s, "W/") {
		opaque = 2
	}
	if opaque < len(s) && s[opaque] == '"' {
		if n := strings.IndexByte(s[opaque+1:], '"'); n >= 0 {
			return opaque + 1 + n + 1
		}
	}
	if comma := strings.IndexByte(s, ','); comma >= 0 {
		return comma
	}
	return len(s)
}

// IsStrongETag reports whether tag is a well-formed strong entity tag.
func IsStrongETag(tag string) bool {
	return len(tag) >= 2 && tag[0] == '"' && strings.IndexByte(tag[1:], '"') == len(tag)-2
}

// ETagStrongMatch compares entity tags by the strong comparison of RFC 9110,
// section 8.8.3.2.
func ETagStrongMatch(a, b string) bool { return a == b && IsStrongETag(a) }

// ETagWeakMatch compares entity tags by the weak comparison of RFC 9110,
// section 8.8.3.2.
func ETagWeakMatch(a, b string) bool {
	a = strings.TrimPrefix(a, "W/")
	return a != "" && a == strings.TrimPrefix(b, "W/")
}
