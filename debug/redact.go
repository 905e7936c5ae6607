package debug

import (
	"net/url"
	"strings"

	"github.com/cachetrip/cachetrip/internal/redact"
)

// This file decides which parts of URLs and header fields are shown.

// maxShown is the number of bytes of a URL or field value that are shown.
const maxShown = 500

// redact returns the form of a URL that the page shows: without user
// information and fragment. Unless the page is unredacted, it also hides the
// values in the query, which may be keys and tokens.
func (h *Handler) redact(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return "(not a URL)"
	}
	return h.redactURL(u)
}

func (h *Handler) redactURL(given *url.URL) string {
	if given.Opaque != "" {
		return "(not a URL with a host)"
	}
	u := *given
	u.User, u.Fragment, u.RawFragment = nil, "", ""
	return shorten(redact.URL(u.String(), h.opts.Unredacted))
}

// shownFields are the response fields that matter to caching and do not
// identify the user.
var shownFields = map[string]bool{
	"Accept-Ranges": true, "Age": true, "Cache-Control": true, "Cache-Status": true, "Content-Encoding": true,
	"Content-Language": true, "Content-Length": true, "Content-Range": true, "Content-Type": true, "Date": true,
	"Etag": true, "Expires": true, "Last-Modified": true, "Pragma": true, "Vary": true,
}

// field returns the value of a stored header field as it is shown; false if it
// is hidden.
func (h *Handler) field(name string, lines []string) (value string, shown bool) {
	if !shownFields[name] && (!h.opts.Unredacted || redact.Secret(name)) {
		return "not shown", false
	}
	values := make([]string, len(lines))
	for i, line := range lines {
		values[i] = redact.Field(name, line, h.opts.Unredacted)
	}
	return shorten(strings.Join(values, ", ")), true
}

func shorten(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) > maxShown {
		return strings.ToValidUTF8(s[:maxShown], "") + "…"
	}
	return s
}
