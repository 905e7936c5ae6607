package cachetrip

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/cachetrip/cachetrip/internal/inflight"
	"github.com/cachetrip/cachetrip/internal/memo"
	"github.com/cachetrip/cachetrip/internal/patience"
	"github.com/cachetrip/cachetrip/store"
)

// Requests to the origin, and the meaning of its responses.

// send calls Transport.sendBorrowing. The response is closed if something
// panics before there is a result.
func (x *exchange) send(req *http.Request, borrows bool) (resp *http.Response, err error) {
	resp, err = x.t.sendBorrowing(req, borrows)
	x.lastReply = resp
	return resp, err
}

// question returns the request that the decision requires, and the
// preconditions that it adds. If the origin is known to refuse these, the
// decision becomes a plain fetch.
func (x *exchange) question(ctx context.Context, found *lookup) (*http.Request, conditions) {
	out := x.outgoing(ctx)
	var added conditions
	action := &found.decision.action
	if *action == revalidate && x.expectsRefusal(memo.Conditions) || *action == resume && x.expectsRefusal(memo.Range) {
		*action = fetch
	}
	switch *action {
	case revalidate:
		added = x.conditions(found)
		added.apply(out.Header)
	case resume:
		r := found.response()
		r.askFor(r.missing(), out.Header)
	}
	return out, added
}

// conditions returns the preconditions for validating the stored responses.
func (x *exchange) conditions(found *lookup) conditions {
	return conditionsFor(x.rules, found.stored, found.decision.selected, x.t.singleTag.Has(x.url()))
}

// askOrigin sends the request that the decision requires, and acts on the
// response. If the caller cannot use the response because of fields that the
// cache added, askOrigin repeats the request as the caller made it.
func (x *exchange) askOrigin(shared *sharedRequest, found lookup) result {
	var was refused // the request that was repeated
	for {
		out, added := x.question(shared.Context(), &found)
		a := &originReply{x: x, shared: shared, sent: out, stored: found.stored, sentEvent: x.t.events.Next(), requested: x.t.stamps.Request(wallClock())}
		resp, err := x.send(out, !added.none())
		switch {
		case err != nil && found.decision.action == resume && connectionLost(err) && shared.Context().Err() == nil:
			was = refused{extra: memo.Range, why: "range-refused"}
			found.decision.action = fetch
			continue
		case err != nil:
			return x.unshared(shared, result{err: err})
		}
		if err := x.t.modify(resp); err != nil {
			return x.unshared(shared, result{err: err, final: true})
		}
		a.resp, a.arrivedEvent, a.received = resp, x.t.events.Next(), later(wallClock(), a.requested)
		o, refusal := a.absorb(&added, &found, was)
		if refusal == nil {
			return o
		}
		was = *refusal
		discard(resp)
		found.decision.action = fetch // the stored response is of no use, so fetch
	}
}

// absorb acts on the response, and returns the result. If the caller cannot use
// the response, absorb instead returns why the request was refused. was is an
// earlier refused request that this one repeats.
func (a *originReply) absorb(added *conditions, found *lookup, was refused) (o result, again *refused) {
	status, resumes := a.resp.StatusCode, found.decision.action == resume
	switch {
	case resumes && status == http.StatusPartialContent:
		if o, ok := a.resume(found.entry(), found.response()); ok {
			return o, nil
		}
		return result{}, &refused{memo.Range, status, "range-refused"}
	case resumes && status != http.StatusOK && !rateLimited(status, a.resp.Header):
		return result{}, &refused{memo.Range, status, "range-refused"}
	case status == http.StatusNotModified && !added.none():
		return a.notModified(added, found)
	case !added.none() && refusesConditions(status, a.resp.Header):
		return result{}, &refused{memo.Conditions, status, "conditions-refused"}
	}
	if comparesAsText(a.sent.Header, a.resp.Header, status) {
		a.x.t.singleTag.Add(a.x.url())
	}
	a.x.learnFrom(was, a.resp, found.entry())
	a.leaveEquivalent()
	o = a.keep()
	o.repeated = was.why
	if resumes && status == http.StatusOK && o.entry == nil { // the whole came, and is not stored
		a.x.drop(found.entry(), "dropped a part that the origin does not complete")
	}
	return o, nil
}

// leaveEquivalent has the response of the origin stored under the URL that it
// answers, although a response of an equivalent URL was to be validated.
func (a *originReply) leaveEquivalent() {
	if a.x.exact == nil {
		return
	}
	own := *a.x // the caller's goroutine uses the other
	own.key, own.exact = a.x.exact.key, nil
	a.stored, a.x = a.x.exact.stored, &own
}

// notModified handles a 304 to a request with the added conditions.
func (a *originReply) notModified(added *conditions, found *lookup) (o result, again *refused) {
	if o, ok := a.confirm(added, found.entries); ok {
		return o, nil
	}
	if answersCaller(a.x.rules, added, a.resp.Header) {
		return a.passOn(), nil
	}
	again = &refused{why: "unmatched-304"}
	if chosen, _ := added.identify(a.x.rules, found.stored, a.resp.Header); chosen < 0 { // else it is another user's
		again.extra, again.status = memo.Conditions, a.resp.StatusCode
	}
	return result{}, again
}

// passOn returns the result of a 304 to the caller's own conditions: the caller
// gets it.
func (a *originReply) passOn() result {
	why := "redirected"
	if !a.redirected() {
		why = "status"
		current := newResponse(a.entry())
		current.status = http.StatusOK // the status of the response that the caller has
		current = a.x.rules.policy.of(current)
		a.outdateReplaced(&current)
	}
	a.x.notStored(a.resp.StatusCode, contentLength(a.resp), why, nil)
	a.resp.Header = a.resp.Header.Clone() // it is borrowed
	return a.x.unshared(a.shared, result{resp: a.resp, redirected: a.redirected()})
}

// One request to the origin for all processes that share a store, if the store
// has leases.

// askAlone does the work of the shared request r. If another process was doing
// the same, or did it since the look-up, all participants look again at what is
// stored instead.
func (x *exchange) askAlone(r *sharedRequest, found lookup) result {
	if key := r.Key(); key != (inflight.Key{}) {
		// An exchange waits for another process only once: having waited in
		// vain, it does not wait for the next one.
		most := x.waitsFor()
		if x.sharing.waited {
			most = 0
		}
		deadline, _ := x.lasting().Deadline()
		release, granted := x.store().Lease(patience.Until(r.Context(), deadline), key.Subject, key.Variant, most)
		if !granted {
			r.Hide()
			return result{elsewhere: true}
		}
		if release != nil {
			held := &lease{release: release}
			x.sharing.lease = held
			r.OnHide(func() { held.end(true) })
			if most > 0 && x.outdated(r.Context(), &found) {
				r.Hide()
				return result{elsewhere: true}
			}
		}
	}
	returns := false
	defer func() {
		if !returns && x.lastReply != nil {
			x.lastReply.Body.Close()
		}
	}()
	o := x.askOrigin(r, found)
	returns = true
	return o
}

// outdated reports whether another process has stored or confirmed a response
// for the key since x looked it up. The lease keeps others from doing so from
// now on.
func (x *exchange) outdated(ctx context.Context, found *lookup) bool {
	if found.blind {
		return false
	}
	now, err := x.store().AppendEntries(ctx, nil, x.key)
	return err == nil && slices.ContainsFunc(now, func(e *store.Entry) bool {
		return !slices.ContainsFunc(found.entries, func(seen *store.Entry) bool {
			return seen == e || seen.RequestTime.Equal(e.RequestTime) && seen.ResponseTime.Equal(e.ResponseTime)
		})
	})
}

// The cache adds preconditions to requests, and a range for the rest of a body.
// Their callers did not ask for these. Firewalls, signed URLs and careless
// handlers refuse a request because of that. The cache learns from such
// refusals. A 304 that matches nothing stored helps as little as a refusal.

// expectsRefusal reports whether the origin is known to refuse requests like x
// that have the extra.
func (x *exchange) expectsRefusal(what memo.Extra) bool {
	return x.t.refusals.Any() && x.t.refusals.Expects(what, x.refusalName(), originOf(x.own.URL), time.Now())
}

// refusalName names the URL and method of x, for every identity. The method
// counts, because the response to a HEAD says nothing about a GET.
func (x *exchange) refusalName() string { return x.rules.method + " " + x.url() }

// refused is a request that is repeated as the caller made it. It may have been
// refused for an extra.
type refused struct {
	extra  memo.Extra // empty if nothing was refused
	status int        // of the refusal, 0 if the connection broke
	why    string     // why the request is repeated, as Status.Detail
}

// learnFrom notes what resp says about was, an earlier attempt that was
// refused. part is stored in part. If repeating the request without a range
// helped, part is useless and is dropped.
func (x *exchange) learnFrom(was refused, resp *http.Response, part *store.Entry) {
	if was.extra == "" {
		if resp.StatusCode < http.StatusBadRequest && x.t.refusals.Any() {
			x.t.refusals.Relent(x.refusalName())
		}
		return
	}
	name := x.refusalName()
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
