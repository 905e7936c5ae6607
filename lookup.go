package cachetrip

import (
	"context"
	"net/http"

	"github.com/cachetrip/cachetrip/store"
)

// The look-up of an exchange, and its decision.

// lookup has the stored responses for a request, and the decision.
type lookup struct {
	entries  []*store.Entry
	stored   []response // the entries as the rules see them
	decision decision
	moment   uint64 // the moment before the look-up, for Group.Join
	alone    bool   // this request must ask the origin by itself
}

// lookUp looks up and decides. If blind is set, it does so as if nothing were stored. The error is the
// cause of the end of the caller's context.
func (x *exchange) lookUp(blind bool) (found lookup, err error) {
	found.moment = x.t.requests.Moment()
	if !blind {
		if found.entries, err = x.entries(); err != nil {
			return found, err
		}
	}
	if ctx := x.req.Context(); ctx.Err() != nil { // it ended meanwhile, so Base must not get the request
		return found, context.Cause(ctx)
	}
	found.stored = x.t.views.all(x.key, found.entries)
	if at := x.t.events.InvalidatedAt(x.url()); !at.IsZero() {
		// Another process may have stored a response since then that it had
		// requested before.
		found.stored = invalidateBefore(found.stored, at)
	}
	d := &found.decision
	*d = decide(wallClock(), x.rules, found.stored)
	if d.serves() && x.comesBackTo(found.response()) {
		d.action, d.fwd, d.detail = revalidate, "request", "redirect-loop"
		found.alone = true
	}
	return found, nil
}

// entries returns the entries of the key. It waits for pending writes. The
// error is the cause of the end of the caller's context. A store that fails
// costs a miss.
func (x *exchange) entries() ([]*store.Entry, error) {
	if w := x.t.writes.Of(x.key); w != nil {
		ctx := x.context()
		if w.Wait(ctx); ctx.Err() != nil {
			return nil, context.Cause(ctx)
		} // if the write takes too long, its result is not seen
	}
	ctx := x.req.Context()
	if !x.store().AtOnce() {
		ctx = x.context() // also ends if Request.Cancel is closed, but costs more
	}
	entries, err := x.store().Entries(ctx, x.key)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		x.storeFailed("look up", err)
	}
	return entries, nil
}

// entry returns the selected entry, nil if there is none.
func (l *lookup) entry() *store.Entry {
	if l.decision.selected < 0 {
		return nil
	}
	return l.entries[l.decision.selected]
}

// response returns the selected response, nil if there is none.
func (l *lookup) response() *response {
	if l.decision.selected < 0 {
		return nil
	}
	return &l.stored[l.decision.selected]
}

// status returns the Status of a response for which the request was forwarded. code is the status code
// of the origin's response.
func (l *lookup) status(code int) Status {
	return Status{Fwd: l.decision.fwd, FwdStatus: code, Detail: l.decision.detail}
}

// serveSelected answers with the selected response.
func (x *exchange) serveSelected(found lookup) outcome {
	resp, err := x.serve(found.entry(), found.response(), found.decision.age, Status{Hit: true, Detail: found.decision.detail})
	if err != nil {
		return outcome{next: unreadable}
	}
	if found.decision.ttl > 0 {
		return outcome{kind: answerHit, resp: resp}
	}
	x.t.counters.hits.Add(1) // as well
	return outcome{kind: answerStale, resp: resp}
}

// serveStale answers with the selected response although the origin has failed, with the given status
// code or 0. It returns nil if that is not allowed.
func (x *exchange) serveStale(found *lookup, code int) *http.Response {
	now, r := wallClock(), found.response()
	if r == nil || !staleOnError(now, x.rules, r, x.t.StaleIfError, code) || x.comesBackTo(r) {
		return nil
	}
	status := found.status(code)
	status.Detail = "stale-if-error"
	resp, err := x.serve(found.entry(), r, r.age(now), status)
	if err != nil {
		return nil
	}
	return resp
}

// comesBackTo reports whether r is a redirect that the caller has followed
// before in this chain. r would send it around the circle again, although the
// origin's response may have changed, for example because of a cookie. Browsers
// validate in this case, too.
func (x *exchange) comesBackTo(r *response) bool {
	if x.req.Response == nil || r.status < 300 || r.status > 399 || r.header["Location"] == nil || x.rules.cc.OnlyIfCached {
		return false
	}
	before := x.req.Response
	for range maxRedirects {
		if before == nil || before.Request == nil {
			return false
		}
		if sameTarget(before.Request, x.req) {
			return true
		}
		before = before.Request.Response
	}
	return true
}

// maxRedirects limits how many redirects comesBackTo looks at. Few clients
// follow more.
const maxRedirects = 50

// sameTarget reports whether two requests have the same target URI.
func sameTarget(a, b *http.Request) bool {
	return a.URL != nil && b.URL != nil && primaryURL(a.URL, a.Host) == primaryURL(b.URL, b.Host)
}

// firstAnswer returns the response to req itself. resp is the response to the
// last redirect that Base has followed, if any.
func firstAnswer(req *http.Request, resp *http.Response) *http.Response {
	for range maxRedirects {
		actual := resp.Request
		if actual == nil || actual.Response == nil || actual.Response == req.Response {
			break
		}
		resp = actual.Response
	}
	return resp
}
