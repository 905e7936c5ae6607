package cachetrip

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/cachetrip/cachetrip/internal/download"
	"github.com/cachetrip/cachetrip/internal/field"
	"github.com/cachetrip/cachetrip/internal/memo"
	"github.com/cachetrip/cachetrip/store"
)

// Asking the origin, and what its answer is to the cache.

const (
	// discardBytes is what is read of a response that is of no use, so that its connection can be:
	// about what comes with a head in the same packets.
	discardBytes = 16 << 10

	// discardTime bounds the wait for it, should the origin have said that more comes than does.
	discardTime = 50 * time.Millisecond
)

// wallClock returns the time of day, as it is kept with what is stored: the monotonic clock of a
// process means nothing to the next, and stops while a machine sleeps.
func wallClock() time.Time { return time.Now().Round(0) }

// forward sends a request that the cache has no part in, but for what it invalidates.
func (t *Transport) forward(req *http.Request, status Status) (*http.Response, error) {
	out := req
	if req.URL != nil {
		if directives := directivesOf(req.Context()); len(directives) > 0 {
			out = req.WithContext(req.Context())
			out.Header = withDirectives(req.Header, directives)
		}
	}
	resp, err := t.send(out)
	if err != nil {
		return nil, err
	}
	returns := false
	defer func() {
		if !returns { // as ModifyResponse refuses it, or something panics
			resp.Body.Close()
		}
	}()
	t.invalidateAfter(req, resp) // before ModifyResponse: whatever that makes of the answer, the origin has acted
	if err := t.modify(resp); err != nil {
		return nil, err
	}
	status.FwdStatus = resp.StatusCode
	elsewhere := req.URL != nil && followed(resp, out, req.URL)
	var o result
	var p *participation
	if !elsewhere {
		o, p = t.twin(req, resp)
	}
	o.describe(&status)
	if p != nil {
		ctx, done := callerContext(req)
		resp = t.takeBody(p, req, download.Caller{Context: ctx, Leave: t.leaving(p, done)})
	} else {
		resp.Body = t.counted(resp)
	}
	if !elsewhere {
		resp.Request = req
	}
	setStatus(resp.Header, status)
	t.tell(answerMiss, req, resp, Status{})
	returns = true
	return resp, nil
}

// send is that of the Transport. What has come is closed if something panics before there is a result.
func (x *exchange) send(req *http.Request) (resp *http.Response, err error) {
	resp, err = x.t.send(req)
	x.reply = resp
	return resp, err
}

// outgoing returns the request to send for x, with a header of its own.
func (x *exchange) outgoing(ctx context.Context) *http.Request {
	out := x.own.WithContext(ctx)
	target := *x.own.URL // which Base may change, though it must not
	out.URL = &target
	out.Header = withDirectives(x.own.Header, directivesOf(ctx))
	return out
}

// detach gives x a request of its own, as callers may change theirs once they are answered, while it
// is still to be sent: behind a stale response, or for others who wait for the same.
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

// detached returns a copy of a request, but for its body, that stays when the caller changes it.
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

// respelled returns h, which is also given with its names in canonical form, with these for what the
// cache itself may set. Other fields keep their spelling, on which odd servers may depend.
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

// question returns the request that asks the origin what d calls for, and the preconditions that
// were added to it. Where the origin is known to refuse what would be added, d becomes a plain fetch.
func (x *exchange) question(ctx context.Context, stored []response, d *decision) (*http.Request, conditions) {
	out := x.outgoing(ctx)
	var added conditions
	if d.action == revalidate && x.expectsRefusal(memo.Conditions) || d.action == resume && x.expectsRefusal(memo.Range) {
		d.action = fetch
	}
	switch d.action {
	case revalidate:
		added = x.conditions(stored, *d)
		added.apply(out.Header)
	case resume:
		r := &stored[d.selected]
		r.askFor(r.missing(), out.Header)
	}
	return out, added
}

// conditions returns the preconditions for validating what is stored.
func (x *exchange) conditions(stored []response, d decision) conditions {
	return conditionsFor(x.rules, stored, d.selected, x.t.oneTag.Has(x.url()))
}

// askOrigin makes the request shared. A request whose answer is of no use to the caller, because of what the cache
// has added to the request, is repeated as the caller made it.
func (x *exchange) askOrigin(shared *sharedRequest, entries []*store.Entry, stored []response, d decision) result {
	var part *store.Entry // which is to be completed
	if d.action == resume {
		part = entries[d.selected]
	}
	var was refused
	var repeated string
	for {
		out, added := x.question(shared.Context(), stored, &d)
		number, requested := x.t.events.Next(), wallClock()
		resp, err := x.send(out)
		if err != nil && d.action == resume && connectionLost(err) && shared.Context().Err() == nil {
			was, repeated, d.action = refused{extra: memo.Range}, "range-refused", fetch
			continue
		}
		if err != nil {
			return x.unshared(shared, result{err: err})
		}
		if err := x.t.modify(resp); err != nil {
			return x.unshared(shared, result{err: err, final: true})
		}
		a := &originReply{x: x, shared: shared, resp: resp, sentEvent: number, arrivedEvent: x.t.events.Next(), requested: requested, received: wallClock(), sent: out, stored: stored}
		status := resp.StatusCode
		switch {
		case d.action == resume && status == http.StatusPartialContent:
			if o, ok := a.resume(part, &stored[d.selected]); ok {
				return o
			}
			was, repeated = refused{memo.Range, status}, "range-refused"
		case d.action == resume && status != http.StatusOK && !rateLimited(status, resp.Header):
			was, repeated = refused{memo.Range, status}, "range-refused"
		case status == http.StatusNotModified && !added.none():
			if o, ok := a.confirm(&added, entries); ok {
				return o
			}
			if answersCaller(x.rules, &added, resp.Header) {
				current := newResponse(a.entry())
				current.status = http.StatusOK // which the caller has
				why := "status"
				if a.redirected() {
					why = "redirected"
				} else {
					a.outdateReplaced(&current)
				}
				a.x.notStored(resp.StatusCode, contentLength(resp), why, nil)
				return x.unshared(shared, result{resp: resp, redirected: a.redirected()})
			}
			repeated = "unmatched-304"
			if chosen, _ := added.identify(x.rules, stored, resp.Header); chosen < 0 { // else it is another user's
				was = refused{memo.Conditions, status}
			}
		case !added.none() && refusesConditions(status, resp.Header):
			was, repeated = refused{memo.Conditions, status}, "conditions-refused"
		default:
			if comparesAsText(out.Header, resp.Header, resp.StatusCode) {
				x.t.oneTag.Add(x.url())
			}
			x.learnFrom(was, resp, part)
			o := a.keep()
			o.repeated = repeated
			if d.action == resume && status == http.StatusOK && o.entry == nil { // the whole came, and is not kept
				x.drop(part, "dropped a part that the origin does not complete")
			}
			return o
		}
		discard(resp)
		d.action = fetch // what is stored is of no use: ask as if it were not there
	}
}

// unshared marks a request as of no use to others, and keeps the next requests from waiting for the like. That an
// origin failed, or that all had left, does not tell what comes next.
func (x *exchange) unshared(shared *sharedRequest, o result) result {
	if shared.Context().Err() == nil && o.err == nil && !isError(o.resp.StatusCode) {
		x.noteAudience(nobody)
	}
	shared.Hide()
	return o
}

// discard takes the body of a response that is of no use, if that is little, and closes it.
func discard(resp *http.Response) {
	if _, ok := resp.Body.(*originBody); ok && resp.ContentLength >= 0 && resp.ContentLength <= discardBytes {
		timer := time.AfterFunc(discardTime, func() { resp.Body.Close() })
		defer timer.Stop()
		io.CopyN(io.Discard, resp.Body, discardBytes)
	}
	resp.Body.Close()
}
