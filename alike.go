package cachetrip

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Rules: who may be given the response to another one's request while that is under way. See the top of share.go.

// audience says who may be given the response to another one's request.
type audience int

const (
	anyone     audience = iota // whoever section 4 allows; assumed of a key that nothing is known of
	alikesOnly                 // requests that are alike: see alike
	nobody
)

// unsharedCookies reports whether the header of a response sets cookies for the one who asked alone.
func unsharedCookies(h http.Header, public bool) bool { return h["Set-Cookie"] != nil && !public }

// alike reports whether the origin can't tell two requests for one key apart, but by fields that say nothing
// about what the response should be.
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

// alikeDigest returns a digest that requests for one key have in common if they are alike.
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

// harmless reports whether two requests may differ in a field and still be given one response. These are the
// fields that trace a request, and those that the cache itself evaluates for each request.
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

// audienceOf returns who may be given r, a response of the origin with the header h to req, without a request of
// their own.
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

// sharing returns the request as it is to be compared with a response of the given status code to another request,
// which had the same Range. If the origin took no notice of the range, all are to have the whole.
func (req *request) sharing(code int) *request {
	if req.header["Range"] == nil || code == 0 || code == http.StatusPartialContent {
		return req
	}
	whole := *req
	whole.header = req.header.Clone()
	delete(whole.header, "Range")
	return &whole
}
