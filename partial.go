package cachetrip

import (
	"net/http"

	"github.com/cachetrip/cachetrip/internal/span"
	"github.com/cachetrip/cachetrip/internal/stored"
	"github.com/cachetrip/cachetrip/store"
)

// Responses with a part of the content: RFC 9111, sections 3.3 and 3.4.

// keepPartial stores a 206 to a range that a caller requested.
func (a *originReply) keepPartial(e *store.Entry) result {
	received := newResponse(e)
	s, length, ok := received.part()
	why := storable(a.x.rules, &received, a.x.t.StaleIfError > 0)
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
	o := a.record(e, s, nil)
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
	if r := asComplete(e); storable(a.x.rules, &r, a.x.t.StaleIfError > 0) != "" {
		return result{}, false // the stored part must not be joined to it
	}
	held := new(stored.Content)
	if err := a.x.open(held, before); err != nil {
		return result{}, false
	}
	// From here on the response counts as a whole one.
	a.resp.StatusCode = http.StatusOK
	a.resp.Status = statusLine(http.StatusOK)
	header := e.Header.Clone()
	if cookies, ok := a.resp.Header["Set-Cookie"]; ok {
		header["Set-Cookie"] = cookies
	}
	a.resp.Header = header
	a.resp.ContentLength = length
	o := a.record(e, brings, held)
	if o.download == nil {
		return result{}, false // without a draft the stored part cannot be given to the caller
	}
	return o, true
}
