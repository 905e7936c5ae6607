package cachetrip

import (
	"context"
	"net/http"

	"github.com/cachetrip/cachetrip/internal/memo"
)

// Asking the origin, and what its answer is to the cache.

// send is that of the Transport. What has come is closed if something panics before there is a result.
func (x *exchange) send(req *http.Request) (resp *http.Response, err error) {
	resp, err = x.t.send(req)
	x.lastReply = resp
	return resp, err
}

// question returns the request that the decision calls for, and the preconditions that it adds. If
// the origin is known to refuse what would be added, the decision becomes a plain fetch.
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

// conditions returns the preconditions for validating what is stored.
func (x *exchange) conditions(found *lookup) conditions {
	return conditionsFor(x.rules, found.stored, found.decision.selected, x.t.singleTag.Has(x.url()))
}

// askOrigin asks the origin what the decision calls for, and does what the response calls for. It
// repeats a request as the caller made it if the caller cannot use the response because of what the
// cache has added to the request.
func (x *exchange) askOrigin(shared *sharedRequest, found lookup) result {
	var was refused // the request that was repeated
	for {
		out, added := x.question(shared.Context(), &found)
		a := &originReply{x: x, shared: shared, sent: out, stored: found.stored, sentEvent: x.t.events.Next(), requested: wallClock()}
		resp, err := x.send(out)
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
		a.resp, a.arrivedEvent, a.received = resp, x.t.events.Next(), wallClock()
		o, refusal := a.absorb(&added, &found, was)
		if refusal == nil {
			return o
		}
		was = *refusal
		discard(resp)
		found.decision.action = fetch // what is stored is of no use: ask as if it were not there
	}
}

// absorb does what the response calls for, and returns the result. If the caller cannot use the
// response, absorb returns why the request was refused instead. was is an earlier request that was
// refused and is repeated by this one.
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
	o = a.keep()
	o.repeated = was.why
	if resumes && status == http.StatusOK && o.entry == nil { // the whole came, and is not kept
		a.x.drop(found.entry(), "dropped a part that the origin does not complete")
	}
	return o, nil
}

// notModified takes a 304 to a request with the added conditions.
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

// passOn returns the result of a 304 to the caller's own conditions: the caller gets it.
func (a *originReply) passOn() result {
	why := "redirected"
	if !a.redirected() {
		why = "status"
		current := newResponse(a.entry())
		current.status = http.StatusOK // which the caller has
		a.outdateReplaced(&current)
	}
	a.x.notStored(a.resp.StatusCode, contentLength(a.resp), why, nil)
	return a.x.unshared(a.shared, result{resp: a.resp, redirected: a.redirected()})
}
