package cachetrip

import (
	"context"
	"net/http"
	"slices"
	"time"

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
	blind    bool   // as if nothing were stored
}

// lookUp looks up and decides. If blind is set, it does so as if nothing were
// stored. The error is the cause of the end of the caller's context.
func (x *exchange) lookUp(blind bool) (found lookup, err error) {
	found.moment, found.blind = x.t.requests.Moment(), blind
	if x.exact != nil {
		x.key, x.exact = x.exact.key, nil
	}
	if !blind {
		if found.entries, err = x.entries(); err != nil {
			return found, err
		}
	}
	if ctx := x.req.Context(); ctx.Err() != nil { // it ended meanwhile, so Base must not get the request
		return found, context.Cause(ctx)
	}
	found.stored = x.rules.policy.ofAll(x.t.views.all(x.key, found.entries))
	if at := x.t.events.InvalidatedAt(x.url()); !at.IsZero() {
		// Another process may have stored a response since then that it had
		// requested before.
		found.stored = invalidateBefore(found.stored, at)
	}
	found.stored = x.judged(found.stored, nil)
	d := &found.decision
	*d = decide(wallClock(), x.rules, found.stored)
	if !blind && x.lastReply == nil && x.seeksEquivalent(&found, nil) { // once x has asked, it may be storing under its key
		x.useEquivalent(&found, nil)
	}
	if d.serves() && x.comesBackTo(found.response()) {
		d.action, d.fwd, d.detail = revalidate, "request", "redirect-loop"
		found.alone = true
	}
	return found, nil
}

// seekPause is how long a miss does without a look for responses with
// No-Vary-Search, after one that found none. Meanwhile those of other processes
// cost requests that they could have saved.
const seekPause = 10 * time.Second

// seeksEquivalent reports whether stored responses of equivalent URLs are of
// use. d is the decision without them. Most programs never meet the field,
// which then costs one look at the store in a while.
func (x *exchange) seeksEquivalent(found *lookup, read reader) bool {
	d := &found.decision
	if d.serves() {
		return false
	}
	if r := found.response(); r != nil {
		t := r.ties()
		return t != nil && t.equals
	}
	if x.t.searches.Load() {
		return true
	}
	now := time.Now().UnixNano()
	if since := time.Duration(now - x.t.searchesSought.Load()); since >= 0 && since < seekPause {
		return false
	}
	entries, err := x.readBy(read, x.t.searchNote(x.rules.digest))
	if err != nil || len(entries) == 0 {
		x.t.searchesSought.Store(now)
		return false
	}
	x.t.searches.Store(true)
	return true
}

// useEquivalent has x answer with stored responses of an equivalent URL, if
// they are of more use than those found.
func (x *exchange) useEquivalent(found *lookup, read reader) {
	best, ok := x.equivalent(read)
	if !ok || !best.serves() && len(found.entries) > 0 {
		return
	}
	if r := found.response(); r != nil && r.newerThan(best.response()) {
		return
	}
	if best.serves() && best.detail == "" {
		best.detail = "no-vary-search"
	}
	x.exact, x.key = &exactMatch{x.key, found.stored}, best.key
	found.entries, found.stored, found.decision = best.entries, best.stored, best.decision
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
	var room []*store.Entry
	if x.room != nil && x.room.entries[0] == nil { // a second look-up must not change what the first has found
		room = x.room.entries[:0]
	}
	entries, err := x.store().AppendEntries(ctx, room, x.key)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		x.storeFailed("look up", err)
	}
	return slices.Clip(entries), nil
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

// status returns the Status of a response for which the request was forwarded.
// code is the status code of the origin's response.
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

// serveStale answers with the selected response although the origin has failed,
// with the result o. It returns nil if that is not allowed.
func (x *exchange) serveStale(found *lookup, o *result) *http.Response {
	now, r := wallClock(), found.response()
	if r == nil || !staleOnError(now, x.rules, r, x.staleIfError(), o.code) || x.comesBackTo(r) {
		return nil
	}
	status := found.status(o.code)
	status.Detail, status.RetryAfter = "stale-if-error", o.retryAfter
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
