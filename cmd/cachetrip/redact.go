package main

import (
	"net/url"
	"strings"
)

// redacted stands for what is not shown, as in (*url.URL).Redacted.
const redacted = "xxxxx"

// redact returns a URL without user information and, unless showQuery, without the values in its
// query, which may be keys and tokens.
func redact(rawURL string, showQuery bool) string {
	before, query, found := strings.Cut(rawURL, "?")
	if u, err := url.Parse(before); err == nil && u.User != nil {
		u.User = nil
		before = u.String()
	}
	switch {
	case !found:
		return before
	case showQuery:
		return before + "?" + query
	}
	parts := strings.Split(query, "&")
	for i, part := range parts {
		if name, _, has := strings.Cut(part, "="); has {
			parts[i] = name + "=" + redacted
		} else if part != "" {
			parts[i] = redacted
		}
	}
	return before + "?" + strings.Join(parts, "&")
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
