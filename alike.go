package cachetrip

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/cachetrip/cachetrip/internal/field"
)

// Rules that say which other requests may get the response to a request that is
// under way. See the top of share.go.

// alike reports whether two requests for the same key ask for the same URL, and
// differ only in harmless fields. The origin has no reason to answer them
// differently.
func alike(a, b *request) bool {
	same := func(a, b http.Header) bool {
		for name, lines := range a {
			if !slices.Equal(lines, b[name]) && !harmless(name) {
				return false
			}
		}
		return true
	}
	return same(a.header, b.header) && same(b.header, a.header) && a.target() == b.target()
}

// alikeDigest returns a digest of a request. Two requests for the same key have
// the same digest if they are alike.
func alikeDigest(req *request) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(req.header)) {
		if harmless(name) {
			continue
		}
		b.WriteString("\n" + name)
		for _, line := range req.header[name] {
			b.WriteString("\n:" + line)
		}
	}
	if target := req.target(); target != "" {
		b.WriteString("\n\n" + target)
	}
	return req.digest.value(b.String())
}

// harmless reports whether two requests that differ in this field may get the
// same response. Harmless are fields that trace a request, and fields that the
// cache itself evaluates for each request.
func harmless(name string) bool {
	switch name {
	case "Cache-Control", "Pragma", "If-None-Match", "If-Modified-Since", "Range", "If-Range":
		return true
	case "Traceparent", "Tracestate", "B3", "X-Request-Id", "Request-Id", "X-Correlation-Id", "Correlation-Id", "X-Trace-Id",
		"X-Amzn-Trace-Id", "X-Cloud-Trace-Context", "Uber-Trace-Id", "Sentry-Trace", "X-Ms-Client-Request-Id", "X-Client-Trace-Id",
		"Amz-Sdk-Invocation-Id", "Amz-Sdk-Request", "Newrelic":
		return true
	}
	return strings.HasPrefix(name, "X-B3-") || strings.HasPrefix(name, "X-Datadog-")
}

// askedAs is the name in Entry.Selecting for the digest of the request for a
// part that only a date identifies. No field has this name.
const askedAs = ":asked-as"

// askedBy reports whether req may complete r, which is held in part. A date
// alone joins only responses to alike requests, because origins give the pages
// of all users the same date.
func (r *response) askedBy(req *request) bool {
	return field.IsStrongETag(r.strongValidator()) || r.selecting[askedAs] == alikeDigest(req)
}
