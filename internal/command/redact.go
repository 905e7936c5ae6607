package command

import (
	"strings"

	"github.com/cachetrip/cachetrip/store"
)

// redacted stands for what is not shown, as in (*url.URL).Redacted.
const redacted = "xxxxx"

// redact returns a URL without user information and, unless showQuery, without the values in its
// query, which may be keys and tokens.
func redact(rawURL string, showQuery bool) string {
	shown := (&store.Entry{URL: rawURL}).RedactedURL()
	if before, _, found := strings.Cut(shown, "?"); found && showQuery {
		_, query, _ := strings.Cut(rawURL, "?")
		return before + "?" + query
	}
	return shown
}

// redactField returns the value of a header field, without what may be a secret.
func redactField(name, value string, showQuery bool) string {
	switch strings.ToLower(name) {
	case "authorization", "proxy-authorization":
		scheme, _, _ := strings.Cut(value, " ")
		return scheme + " (not shown)"
	case "cookie", "set-cookie":
		return "(not shown)"
	case "location", "content-location":
		return redact(value, showQuery)
	}
	return value
}
