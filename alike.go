package cachetrip

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Rules that say which other requests may get the response to a request that is
// under way. See the top of share.go.

// audience says which other requests may get the response to a request.
type audience int

const (
	anyone     audience = iota // every request that section 4 allows; the default for a key with no history
	alikesOnly                 // only alike requests; see alike
	nobody
)

// unsharedCookies reports whether a response sets cookies that are for its own
// request only.
func unsharedCookies(h http.Header, public bool) bool { return h["Set-Cookie"] != nil && !public }

// alike reports whether two requests for the same key differ only in harmless
// fields. The origin has no reason to answer them differently.
func alike(a, b *request) bool {
	same := func(a, b http.Header) bool {
		for name, lines := range a {
			if !slices.Equal(lines, b[name]) && !harmless(name) {
				return false
			}
		}
		return true
	}
	return same(a.header, b.header) && same(b.header, a.header)
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

// audienceOf returns which other requests may get r, the origin's response to
// req. h is its header and code its status.
func audienceOf(req *request, r *response, h http.Header, code int, now time.Time) audience {
	if unsharedCookies(h, r.cc.Public) {
		return nobody
	}
	req = req.sharing(code)
	d := decide(now, &request{method: http.MethodGet, header: req.header, further: req.further, digest: req.digest, cc: neutral}, []response{*r})
	switch {
	case d.serves():
		return anyone
	case d.lapsed():
		return alikesOnly
	}
	return nobody
}

// sharing returns the form of req for a comparison with a request that has the
// same Range and got a response with status code. If the origin ignored the
// range, that form has no Range: all callers get the whole body.
func (req *request) sharing(code int) *request {
	if req.header["Range"] == nil || code == 0 || code == http.StatusPartialContent {
		return req
	}
	whole := *req
	whole.header = req.header.Clone()
	delete(whole.header, "Range")
	return &whole
}
