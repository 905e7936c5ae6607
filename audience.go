package cachetrip

import (
	"net/http"
	"time"
)

// The other requests that may get the response to a request that is under way.
// See the top of share.go.

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
