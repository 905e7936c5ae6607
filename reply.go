package cachetrip

import (
	"maps"
	"net/http"
	"strconv"
	"time"

	"github.com/cachetrip/cachetrip/internal/field"
	"github.com/cachetrip/cachetrip/store"
)

// A response of the origin together with its request, and what they say about
// stored responses.

// originReply is a response of the origin to a request of an exchange.
type originReply struct {
	x         *exchange
	shared    *sharedRequest
	resp      *http.Response
	sent      *http.Request
	stored    []response // the stored responses when the request was sent
	requested time.Time
	received  time.Time

	like *response // the response as the rules see it, for newResponseLike; nil if it was not parsed

	request sending // the result of the method; zero before its first call

	sentEvent, arrivedEvent uint64 // the events of sending the request and of receiving the response
}

// sending returns the request as the rules see it. It is first called before
// other goroutines have a.
func (a *originReply) sending() *sending {
	if a.request.sent == nil {
		a.request = sendingOf(a.x.rules, a.sent, a.x.own.URL, a.resp.Request)
	}
	return &a.request
}

// redirected reports whether the response answers another URL, because Base
// followed redirects.
func (a *originReply) redirected() bool { return a.sending().redirected() }

// sentAs reports whether the request carried the credentials that r was
// requested with.
func (a *originReply) sentAs(r *response) bool { return a.sending().sentAs(r) }

// noteCredentials notes in e, a new entry or a copy, the request fields that
// select it, and the credentials that were added to the request below the
// cache.
func (a *originReply) noteCredentials(e *store.Entry) {
	var by string
	by, e.ForeignCredentials = a.sending().foreign(e.Header)
	e.Selecting = selecting(e.Header, a.x.rules, e.Selecting)
	if a.x.rules.policy.URL != nil && e.Header["Cache-Groups"] != nil {
		noteIn(e, sentFrom, a.x.rules.digest.origin(primaryURL(a.x.own.URL, a.x.own.Host)))
	}
	if e.ForeignCredentials {
		noteIn(e, sentBy, by)
	}
}

// noteAsker returns e with a note of which requests may complete its content.
// Only a part that a date alone identifies has such a note.
func (a *originReply) noteAsker(e *store.Entry) *store.Entry {
	by := ""
	if !e.Complete() {
		r := newResponse(e)
		if validator := r.strongValidator(); !r.complete() && validator != "" && !field.IsStrongETag(validator) {
			by = alikeDigest(a.x.rules)
		}
	}
	return withAskedAs(e, by)
}

// withoutCookies returns h, a header or trailer to be stored, without
// Set-Cookie. Cookies are for the caller whose request reached the origin. They
// may be secrets that must not be stored.
func (a *originReply) withoutCookies(h http.Header) http.Header {
	if a.x.t.KeepSetCookie || h["Set-Cookie"] == nil {
		return h
	}
	h = maps.Clone(h)
	delete(h, "Set-Cookie")
	return h
}

// updatedHeader returns the header of a stored response, updated by that of a
// newer one.
func (a *originReply) updatedHeader(stored, update http.Header) http.Header {
	return a.withoutCookies(freshen(stored, update, a.received))
}

// entry returns the metadata to be stored for the response.
func (a *originReply) entry() *store.Entry {
	e := &store.Entry{
		Key:          a.x.key,
		URL:          storedURL(storedAs(&a.x.rules.policy, a.x.own)),
		Method:       a.x.rules.method,
		Status:       a.resp.StatusCode,
		Proto:        a.resp.Proto,
		Header:       storedHeader(a.withoutCookies(a.resp.Header)),
		RequestTime:  a.requested,
		ResponseTime: a.received,
		Uncompressed: a.sending().decoded(a.resp, contentLength(a.resp)),
		Length:       contentLength(a.resp),
	}
	a.noteCredentials(e)
	if e.Header["Date"] == nil {
		e.Header["Date"] = []string{a.received.UTC().Format(http.TimeFormat)} // RFC 9110, section 6.6.1
	}
	return e
}

// joinedHeader returns the header of a response that is joined from parts. The
// last part came with the header update. length is that of all content, -1 if
// it is unknown. RFC 9111, section 3.4.
func (a *originReply) joinedHeader(stored, update http.Header, length int64) http.Header {
	h := a.updatedHeader(stored, update)
	if length >= 0 {
		h["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	}
	return h
}

// unshared returns o as a result that no other caller can use. Next requests
// for the same will not wait for each other. A failure of the origin, or the
// end of all callers, does not count.
func (x *exchange) unshared(shared *sharedRequest, o result) result {
	if shared.Context().Err() == nil && o.err == nil && !isError(o.resp.StatusCode) {
		x.noteAudience(nobody)
	}
	shared.Hide()
	return o
}

// noteAudience returns which other requests may share r, which the origin has
// sent or confirmed. It remembers the answer.
func (a *originReply) noteAudience(r *response) audience {
	who := audienceOf(a.x.rules, r, a.resp.Header, a.resp.StatusCode, a.received)
	a.x.noteAudience(who)
	return who
}
