package cachetrip

import (
	"context"
	"net/http"
	"net/url"
	"slices"

	"github.com/cachetrip/cachetrip/internal/field"
)

// Copies of a caller's request. Callers may change their requests once they are answered, and Base may
// change what it gets.

// outgoing returns the request to send for x, with a header of its own.
func (x *exchange) outgoing(ctx context.Context) *http.Request {
	out := x.own.WithContext(ctx)
	target := *x.own.URL // a copy, because Base might change it
	out.URL = &target
	out.Header = withDirectives(x.own.Header, directivesOf(ctx))
	return out
}

// detach gives x a request of its own. A caller may change its request once it
// has the response, but the exchange may still send it: behind a stale
// response, or for other callers.
func (x *exchange) detach() {
	own := detached(x.req)
	x.own = own
	rules := *x.rules
	rules.header = own.Header
	if h, changed := field.Canonical(own.Header); changed {
		rules.header = h
		own.Header = respelled(own.Header, h)
	}
	x.rules = &rules
}

// detached returns a copy of a request without its body. It does not change
// when the caller changes the original.
func detached(req *http.Request) *http.Request {
	own := *req
	own.URL = new(url.URL)
	*own.URL = *req.URL
	own.Header = req.Header.Clone()
	own.Body = nil
	//lint:ignore SA1019 it concerns the caller alone; see callerContext
	own.Cancel = nil
	return &own
}

// respelled returns h with the fields that the cache may set taken from
// canonical, which is h with canonical names. Other fields keep their spelling,
// because odd servers may depend on it.
func respelled(h, canonical http.Header) http.Header {
	for name := range h {
		if slices.Contains(setFields, http.CanonicalHeaderKey(name)) {
			delete(h, name)
		}
	}
	for _, name := range setFields {
		if lines, ok := canonical[name]; ok {
			h[name] = lines
		}
	}
	return h
}
