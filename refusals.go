package cachetrip

import (
	"net/http"
	"time"

	"github.com/cachetrip/cachetrip/internal/memo"
	"github.com/cachetrip/cachetrip/store"
)

// The cache adds preconditions to requests, and a range for the rest of a body.
// Their callers did not ask for these. Firewalls, signed URLs and careless
// handlers refuse a request because of that. This file learns from such
// refusals. A 304 that matches nothing stored helps as little as a refusal.

// expectsRefusal reports whether the origin is known to refuse requests like x that have the extra.
func (x *exchange) expectsRefusal(what memo.Extra) bool {
	return x.t.refusals.Expects(what, x.refusalName(), originOf(x.own.URL), time.Now())
}

// refusalName names the URL and method of x, for every identity. The method
// counts, because the response to a HEAD says nothing about a GET.
func (x *exchange) refusalName() string { return x.rules.method + " " + x.url() }

// refused is a request that is repeated as the caller made it. It may have been refused for an extra.
type refused struct {
	extra  memo.Extra // empty if nothing was refused
	status int        // of the refusal, 0 if the connection broke
	why    string     // why the request is repeated, as Status.Detail
}

// learnFrom notes what resp says about was, an earlier attempt that was refused. part is stored in
// part. If repeating the request without a range helped, part is useless and is dropped.
func (x *exchange) learnFrom(was refused, resp *http.Response, part *store.Entry) {
	name := x.refusalName()
	if was.extra == "" {
		if resp.StatusCode < http.StatusBadRequest {
			x.t.refusals.Relent(name)
		}
		return
	}
	helped := !isFailure(resp.StatusCode) && (resp.StatusCode != was.status || was.extra == memo.Range && refusesRange(was.status))
	origin := originOf(x.own.URL)
	if was.status == http.StatusNotModified && was.extra == memo.Conditions {
		origin = "" // a 304 that matches nothing is about one response
	}
	x.t.refusals.Note(was.extra, name, origin, helped, time.Now())
	if was.extra == memo.Range && helped {
		x.drop(part, "dropped a part that the origin does not complete")
	}
}
