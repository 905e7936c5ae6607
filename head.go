package cachetrip

import (
	"net/http"
	"slices"

	"github.com/cachetrip/cachetrip/store"
)

// The response to a HEAD updates the stored responses to GETs, marks them as outdated, or is stored.
// RFC 9111, section 4.3.5.

// keepHead updates or marks the stored responses to GETs by head, the response to a HEAD. If there
// are none, it stores e, the entry of head.
func (a *originReply) keepHead(e *store.Entry, head *response) result {
	if !concernsOthers(head.status) || head.status == http.StatusPartialContent {
		// A Range field has no meaning in a HEAD, so the answer to it concerns no other request.
		// RFC 9110, section 14.2.
		return a.notStoredHead(e, "status")
	}
	why := storable(a.x.rules, head, a.x.t.StaleIfError > 0)
	var kept *store.Entry
	var concerned bool
	err := a.x.store().Update(a.x.lasting(), a.x.key, func(current []*store.Entry) (next []*store.Entry) {
		stored := responses(current)
		next, kept, concerned = a.updatedByHead(head, current, stored)
		if concerned {
			return next
		}
		admission := admit(a.x.rules, head, stored, a.x.orderBefore(a.sentEvent))
		if why != "" || !admission.keep {
			return current
		}
		kept = e
		return replaceEntries(e, current, admission.replaces)
	})
	o := result{resp: a.resp}
	switch {
	case err != nil:
		o.detail = a.x.keepFailed("store", e, err)
		return o
	case kept == e:
		a.x.wasStored(e)
	case concerned && (kept != nil || why == ""): // the response to a GET was updated or marked
	case why != "":
		o = a.notStoredHead(e, why)
	default:
		o = a.notStoredHead(e, "outdated")
	}
	if kept != nil {
		o.entry, o.response = kept, newResponse(kept)
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
	return withoutForbidden(next), kept, concerned
}
