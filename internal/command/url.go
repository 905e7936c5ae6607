package command

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"

	"github.com/cachetrip/cachetrip/internal/redact"
)

// otherScheme matches the beginning of URLs that no request can be made for.
// Without "//", only well-known schemes are told apart from a host with a port.
var otherScheme = regexp.MustCompile(`^(?i:[a-z][a-z0-9+.-]*://|(mailto|data|file|ftp|javascript|about|blob|tel|urn):)`)

// missingSlashes matches URLs with a slash or two missing. A number after http:
// is the port of a host of that name.
var missingSlashes = regexp.MustCompile(`^(?i:https?:)(/?$|/?[^/0-9]|/[0-9])`)

// parseURL parses a URL that a user typed. Without a scheme it is https, or
// http for the user's own machine.
func parseURL(raw string) (*url.URL, error) {
	const example = "enter a URL such as https://example.com/"
	shown := redact.URL(raw, true)
	lower := strings.ToLower(raw)
	full := raw
	switch {
	case strings.HasPrefix(lower, "http://"), strings.HasPrefix(lower, "https://"):
	case missingSlashes.MatchString(raw):
		return nil, usagef("%q is not a URL: after %s there must be //; %s", shown, lower[:strings.IndexByte(lower, ':')+1], example)
	case otherScheme.MatchString(raw):
		return nil, usagef("%q is not an http or https URL; %s", shown, example)
	case raw == "" || strings.ContainsRune("/.?#:", rune(raw[0])):
		return nil, usagef("%q is not a URL: it has no host; %s", shown, example)
	default:
		full = "https://" + raw
	}
	u, err := url.Parse(full)
	if err != nil {
		return nil, usagef("%q is not a URL: %s; %s", shown, parseReason(err), example)
	}
	if u.Hostname() == "" {
		return nil, usagef("%q is not a URL: it has no host; %s", shown, example)
	}
	u.RawQuery = escapeQuery(u.RawQuery)
	if full != raw && isLoopback(u.Hostname()) {
		u.Scheme = "http"
	}
	return u, nil
}

// escapeQuery escapes the bytes that no query may contain, as browsers do.
// net/url accepts them in a query, and would send them as they are.
func escapeQuery(query string) string {
	var b strings.Builder
	for i := range len(query) {
		if c := query[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"<>`, c) >= 0 {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// isLoopback reports whether a host is the user's own machine.
func isLoopback(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && (ip.IsLoopback() || ip.IsUnspecified())
}

// parseReason says in words why net/url refuses a URL. It never repeats parts
// that may be a password.
func parseReason(err error) string {
	var escape url.EscapeError
	var host url.InvalidHostError
	text := err.Error()
	switch {
	case errors.As(err, &escape):
		return fmt.Sprintf("%q is no escape; write a percent sign as %%25", string(escape))
	case errors.As(err, &host):
		return fmt.Sprintf("the host contains %q", string(host))
	case strings.Contains(text, "invalid port"):
		return "the port is not a number"
	case strings.Contains(text, "control character"):
		return "it contains a control character"
	case strings.Contains(text, "missing ']'"):
		return "the ] after the address is missing"
	case strings.Contains(text, "userinfo"):
		return "the user name or password must be escaped"
	case strings.Contains(text, "invalid character"):
		return "the host contains a character that no host has"
	}
	return "its host cannot be read"
}
