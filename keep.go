package cachetrip

import (
	"net/http"
	"slices"

	"github.com/cachetrip/cachetrip/internal/span"
	"github.com/cachetrip/cachetrip/internal/stored"
	"github.com/cachetrip/cachetrip/store"
)

// A new response of the origin: whole, a part, or to a HEAD. keep decides what
// becomes of it. RFC 9111, sections 3, 3.3, 3.4 and 4.3.5.

// keep stores the response, if that is allowed, and returns the result for all
// callers that share it. It handles all responses except those that confirm or
// complete a stored one.
func (a *originReply) keep() result {
	if a.redirected() {
		a.x.notStored(a.resp.StatusCode, contentLength(a.resp), "redirected", nil)
		return a.x.unshared(a.shared, result{resp: a.resp, detail: "redirected", redirected: true})
	}
	e := a.entry()
	r := a.x.responseOf(e)
	a.like = &r
	switch {
	case a.x.rules.method == http.MethodHead:
		return a.x.unshared(a.shared, a.keepHead(e, &r))
	case a.resp.StatusCode == http.StatusPartialContent:
		return a.keepPartial(e)
	}
	why := a.x.storable(&r)
	if why == "" && !admit(a.x.rules, &r, a.stored, order{}).keep {
		why = "error"
	}
	if why != "" {
		a.x.notStored(r.status, r.length, why, nil)
		a.outdateReplaced(&r)
		return a.x.unshared(a.shared, result{resp: a.resp, detail: why})
	}
	all := span.Of(0, e.Length)
	return a.record(e, all, nil, messageCheck(a.resp.Header, e.Uncompressed, all, e.Length), false)
}

// keepPartial stores a 206 to a range that a caller requested.
func (a *originReply) keepPartial(e *store.Entry) result {
	received := newResponse(e)
	s, length, ok := received.part()
	why := a.x.storable(&received)
	if !ok && why == "" {
		why = "content-range"
	}
	if why != "" {
		a.x.notStored(e.Status, e.Length, why, nil)
		if ok {
			a.outdateReplaced(&received)
		}
		return a.x.unshared(a.shared, result{resp: a.resp, detail: why})
	}
	makeWhole(e, length)
	r := newResponse(e)
	r.held = []span.Span{s}
	o := a.record(e, s, nil, messageCheck(a.resp.Header, e.Uncompressed, s, length), false)
	if o.download != nil && !admit(a.x.rules, &r, a.stored, order{}).keep {
		o.unsaved, o.detail = true, "outdated"
	}
	return o
}

// resume joins a 206 to before, a partial entry. incomplete is before as the
// rules see it. ok is false if the two do not fit. Then the whole must be
// requested.
func (a *originReply) resume(before *store.Entry, incomplete *response) (_ result, ok bool) {
	e := a.entry()
	partial := newResponse(e)
	brings, length, ok := incomplete.continues(&partial, incomplete.missing())
	if !ok || !a.sentAs(incomplete) || a.redirected() {
		return result{}, false
	}
	makeWhole(e, length)
	e.Header = a.joinedHeader(before.Header, e.Header, length)
	a.noteCredentials(e)
	if r := a.x.wholeOf(e); a.x.storable(&r) != "" {
		return result{}, false // the stored part must not be joined to it
	}
	held := new(stored.Content)
	if err := a.x.open(held, before); err != nil {
		return result{}, false
	}
	// From here on the response counts as a whole one.
	check, ofRest := resumedCheck(a.resp.Header, brings, e.Header, length)
	a.resp.StatusCode = http.StatusOK
	a.resp.Status = statusLine(http.StatusOK)
	header := e.Header.Clone()
	if cookies, ok := a.resp.Header["Set-Cookie"]; ok {
		header["Set-Cookie"] = cookies
	}
	a.resp.Header = header
	a.resp.ContentLength = length
	o := a.record(e, brings, held, check, ofRest)
	if o.download == nil {
		return result{}, false // without a draft the stored part cannot be given to the caller
	}
	return o, true
}

// keepHead updates or marks the stored responses to GETs by head, the response
// to a HEAD. If there are none, it stores e, the entry of head.
func (a *originReply) keepHead(e *store.Entry, head *response) result {
	if !concernsOthers(head.status) || head.status == http.StatusPartialContent {
		// A Range field has no meaning in a HEAD, so the answer to it concerns
		// no other request. RFC 9110, section 14.2.
		return a.notStoredHead(e, "status")
	}
	why := a.x.storable(head)
	if why == "" {
		a.cover(e.Header)
	}
	var kept *store.Entry
	var concerned, trusted bool
	err := a.x.store().Update(a.x.lasting(), a.x.key, func(current []*store.Entry) (next []*store.Entry) {
		stored := responses(current)
		trusted = false
		next, kept, concerned = a.updatedByHead(head, current, stored)
		if concerned {
			return next
		}
		admission := admit(a.x.rules, head, stored, a.x.orderBefore(a.sentEvent))
		if why != "" || !admission.keep {
			return current
		}
		kept, trusted = a.marked(e, &admission)
		return replaceEntries(kept, current, admission.replaces)
	})
	if trusted && a.x.invalidatedSince(a.sentEvent) {
		a.distrustStored()
	}
	o := result{resp: a.resp}
	switch {
	case err != nil:
		o.detail = a.x.keepFailed("store", e, err)
		return o
	case kept != nil && !concerned:
		a.x.wasStored(kept)
	case concerned && (kept != nil || why == ""): // the response to a GET was updated or marked
	case why != "":
		o = a.notStoredHead(e, why)
	default:
		o = a.notStoredHead(e, "outdated")
	}
	if kept != nil {
		o.entry, o.response = kept, a.x.responseOf(kept)
	}
	return o
}

// notStoredHead tells that the response to a HEAD is not stored, and why.
func (a *originReply) notStoredHead(e *store.Entry, why string) result {
	a.x.notStored(e.Status, e.Length, why, nil)
	return result{resp: a.resp, detail: why}
}

// updatedByHead returns current, with the responses to GETs that head concerns.
// It updates them, or marks them as invalid. kept is the last one that was
// updated. concerned is false if head concerns none.
func (a *originReply) updatedByHead(head *response, current []*store.Entry, stored []response) (next []*store.Entry, kept *store.Entry, concerned bool) {
	next = slices.Clone(current)
	for i := range stored {
		r := &stored[i]
		if r.headOnly || !r.matches(a.x.rules) || isError(head.status) && !refusesAccess(head.status, head.header) {
			continue
		}
		concerned = true
		switch {
		case headUpdates(r, head) && a.sentAs(r):
			next[i] = a.updated(current[i])
			kept = next[i]
		case r.uncompressed && r.status == head.status && !differentContent(r, head):
			// The HEAD is about another coding. Its entity tag and length say nothing.
		case current[i].InvalidatedAt.IsZero():
			a.x.t.events.Invalidate(a.x.key, a.received)
			next[i] = markedInvalid(current[i], a.received)
		}
	}
	if head.mustNotStore() {
		kept = nil
	}
	return withoutForbidden(&a.x.rules.policy, next, current, nil), kept, concerned
}
