// Package redact removes possible secrets from text that is shown to people,
// because such text ends up in bug reports.
package redact

import (
	"net/url"
	"regexp"
	"strings"

	"github.com/cachetrip/cachetrip/internal/field"
)

const (
	// Mark replaces a hidden part, as in [url.URL.Redacted].
	Mark = "xxxxx"

	hidden = "(not shown)"
)

// secretParts are parts of the names of fields that hold credentials. They
// match other names too, which is better than to miss one.
var secretParts = []string{
	"auth", "cookie", "token", "key", "secret", "session", "signature", "credential", "pass", "bearer", "jwt", "csrf", "xsrf", "otp", "pin",
}

// Secret reports whether the name of a header field suggests that its values
// are secrets.
func Secret(name string) bool {
	name = strings.ToLower(name)
	for _, part := range secretParts {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// Field returns the value of a header field without possible secrets. If
// showQuery is set, URLs keep the values in their queries; see [URL].
func Field(name, value string, showQuery bool) string {
	switch strings.ToLower(name) {
	case "authorization", "proxy-authorization", "www-authenticate", "proxy-authenticate":
		// A value without a blank may be credentials without a scheme.
		if scheme, _, found := strings.Cut(strings.TrimLeft(value, " "), " "); found && field.IsToken(scheme) {
			return scheme + " " + hidden
		}
		return hidden
	case "location", "content-location", "referer", "refresh":
		return URL(value, showQuery) // the whole value: a malformed URL may contain anything
	}
	if Secret(name) {
		return hidden
	}
	return Text(value, showQuery)
}

var (
	// urlLike matches the parts of a text that may be URLs: text between
	// brackets, between quotes, or between blanks.
	urlLike = regexp.MustCompile(`<[^>]*>|"[^"]*"|[^\s<>"]+`)

	// badPort matches the message of net/url that quotes a password, which it
	// took for a port.
	badPort = regexp.MustCompile(`invalid port .*? after host`)
)

// Text returns a text in which each URL is redacted as by [URL].
func Text(text string, showQuery bool) string {
	if !strings.ContainsAny(text, "/?") {
		return text // most texts have no URL
	}
	text = badPort.ReplaceAllString(text, "invalid port after host")
	return urlLike.ReplaceAllStringFunc(text, func(piece string) string {
		last := len(piece) - 1
		switch {
		case !strings.ContainsAny(piece, "/?"):
			return piece
		case strings.ContainsRune(`<"`, rune(piece[0])):
			return piece[:1] + URL(piece[1:last], showQuery) + piece[last:]
		}
		return URL(piece, showQuery)
	})
}

// URL returns raw, which need not be a valid URL, without user information.
// Unless showQuery is set, it also hides the fragment and the values in the
// query, which may be keys and tokens.
func URL(raw string, showQuery bool) string {
	raw = withoutUserInfo(raw)
	i := strings.IndexAny(raw, "?#")
	if i < 0 || showQuery {
		return raw
	}
	var b strings.Builder
	b.WriteString(raw[:i])
	query, fragment, fragmented := strings.Cut(raw[i:], "#")
	if query, asked := strings.CutPrefix(query, "?"); asked {
		parts := strings.Split(query, "&")
		for i, part := range parts {
			if name, _, has := strings.Cut(part, "="); has {
				parts[i] = name + "=" + Mark
			} else if part != "" {
				parts[i] = Mark
			}
		}
		b.WriteString("?" + strings.Join(parts, "&"))
	}
	if fragmented {
		b.WriteByte('#')
		if fragment != "" {
			b.WriteString(Mark)
		}
	}
	return b.String()
}

// withoutUserInfo removes the user information after each "//".
func withoutUserInfo(raw string) string {
	last := strings.LastIndexByte(raw, '@')
	var b strings.Builder
	done := 0
	for {
		i := strings.Index(raw[done:], "//")
		if i < 0 || done+i > last {
			b.WriteString(raw[done:])
			return b.String()
		}
		b.WriteString(raw[done : done+i+2])
		done += i + 2
		authority := raw[done:]
		if end := strings.IndexAny(authority, "/?#"); end >= 0 {
			authority = authority[:end]
		}
		host := authority[strings.LastIndexByte(authority, '@')+1:]
		if _, err := url.Parse("//" + host); err != nil && done <= last {
			done = last + 1 // a password contains a character that ends an authority
		} else {
			done += len(authority) - len(host)
		}
	}
}
