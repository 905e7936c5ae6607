// Package urlpattern matches URLs with the patterns that the command and
// programs use to choose stored responses.
package urlpattern

import "strings"

// Match reports whether a pattern matches a whole URL. A star stands for any
// text. A pattern without a scheme is compared with the part after "://", and
// one that is a host alone stands for the host's root.
func Match(pattern, url string) bool {
	if !strings.Contains(pattern, "://") {
		_, url, _ = strings.Cut(url, "://")
		if !strings.ContainsAny(pattern, "/*") {
			pattern += "/" // a host without a path
		}
	}
	parts := strings.Split(pattern, "*")
	rest, found := strings.CutPrefix(url, parts[0])
	if !found {
		return false
	}
	if len(parts) == 1 {
		return rest == ""
	}
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(rest, part)
		if i < 0 {
			return false
		}
		rest = rest[i+len(part):]
	}
	return strings.HasSuffix(rest, parts[len(parts)-1])
}
