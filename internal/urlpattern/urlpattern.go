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
	return MatchText(pattern, url)
}

// MatchText reports whether a pattern matches a whole text. A star stands for
// any text.
func MatchText(pattern, text string) bool {
	part, more, star := strings.Cut(pattern, "*")
	rest, found := strings.CutPrefix(text, part)
	if !found || !star {
		return found && rest == ""
	}
	for {
		if part, more, star = strings.Cut(more, "*"); !star {
			return strings.HasSuffix(rest, part)
		}
		i := strings.Index(rest, part)
		if i < 0 {
			return false
		}
		rest = rest[i+len(part):]
	}
}
