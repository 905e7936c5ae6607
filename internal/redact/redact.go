// Package redact leaves out of what is shown to people what may be a secret: such output ends up in bug
// reports.
package redact

import (
	"net/url"
	"regexp"
	"strings"

	"github.com/cachetrip/cachetrip/internal/field"
)

const (
	// Mark stands for a part that is not shown, as in [url.URL.Redacted].
	Mark = "xxxxx"

	hidden = "(not shown)"
)

// secretParts are what the names of fields with credentials have in them. They hit others too, which costs
// less than to miss one.
var secretParts = []string{
	"auth", "cookie", "token", "key", "secret", "session", "signature", "credential", "pass", "bearer", "jwt", "csrf", "xsrf", "otp", "pin",
}

// Secret reports whether the values of a header field may be secrets, going by its name.
func Secret(name string) bool {
	name = strings.ToLower(name)
	for _, part := range secretParts {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// Field returns the value of a header field without what may be a secret; see [URL] for those that hold URLs.
func Field(name, value string, showQuery bool) string {
	switch strings.ToLower(name) {
	case "authorization", "proxy-authorization", "www-authenticate", "proxy-authenticate":
		// Without a blank it is no scheme with credentials, but credentials alone.
		if scheme, _, found := strings.Cut(strings.TrimLeft(value, " "), " "); found && field.IsToken(scheme) {
			return scheme + " " + hidden
		}
		return hidden
	case "location", "content-location", "referer", "refresh":
		return URL(value, showQuery) // as a whole: a broken one may have anything in it
	}
	if Secret(name) {
		return hidden
	}
	return Text(value, showQuery)
}

var (
	// urlLike are the pieces of a text that may be URLs: between brackets, between quotes, or between blanks.
	urlLike = regexp.MustCompile(`<[^>]*>|"[^"]*"|[^\s<>"]+`)

	// badPort is how net/url calls a password that it took for a port.
	badPort = regexp.MustCompile(`invalid port .*? after host`)
)

// Text returns a text with all URLs in it as [URL] has them.
func Text(text string, showQuery bool) string {
	if !strings.ContainsAny(text, "/?") {
		return text // most are
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

// URL returns a URL, or what was meant to be one, without user information and, unless showQuery, without
// the values in its query and its fragment, which may be keys and tokens.
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

// withoutUserInfo removes what is before the host, after each "//".
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
			done = last + 1 // it is the beginning of a password with what ends an authority
		} else {
			done += len(authority) - len(host)
		}
	}
}
