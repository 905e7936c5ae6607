package cachetrip

import (
	"net/http"

	"github.com/cachetrip/cachetrip/internal/span"
)

// A new response of the origin is stored while it is read.

// keep stores the response, if that is allowed, and returns the result for all
// callers that share it. It handles all responses except those that confirm or
// complete a stored one.
func (a *originReply) keep() result {
	if a.redirected() {
		a.x.notStored(a.resp.StatusCode, contentLength(a.resp), "redirected", nil)
		return a.x.unshared(a.shared, result{resp: a.resp, detail: "redirected", redirected: true})
	}
	e := a.entry()
	r := newResponse(e)
	switch {
	case a.x.rules.method == http.MethodHead:
		return a.x.unshared(a.shared, a.keepHead(e, &r))
	case a.resp.StatusCode == http.StatusPartialContent:
		return a.keepPartial(e)
	}
	why := storable(a.x.rules, &r, a.x.t.StaleIfError > 0)
	if why == "" && !admit(a.x.rules, &r, a.stored, order{}).keep {
		why = "error"
	}
	if why != "" {
		a.x.notStored(r.status, r.length, why, nil)
		a.outdateReplaced(&r)
		return a.x.unshared(a.shared, result{resp: a.resp, detail: why})
	}
	return a.record(e, span.Of(0, e.Length), nil)
}
