package cachetrip

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"github.com/cachetrip/cachetrip/internal/field"
	"github.com/cachetrip/cachetrip/internal/span"
	"github.com/cachetrip/cachetrip/internal/stack"
	"github.com/cachetrip/cachetrip/store"
)

// What an answer of the origin changes in the store, and what it is to those who wait for it.

// answer is a response to a request of an exchange, about to be absorbed.
type originReply struct {
	x         *exchange
	shared    *sharedRequest
	resp      *http.Response
	sent      *http.Request
	stored    []response // what was stored when the origin was asked
	number    uint64     // of the event that the request was sent
	arrived   uint64     // of the event that the response came
	requested time.Time
	received  time.Time
}

// sending returns the request that is answered, as the rules see it.
func (a *originReply) sending() *sending {
	return &sending{asked: a.x.rules, sent: a.sent, target: a.x.own.URL, actual: a.resp.Request}
}

func (a *originReply) redirected() bool { return a.sending().redirected() }

func (a *originReply) sentAs(r *response) bool { return a.sending().sentAs(r) }

// mark notes in e, a new entry or copy, by which credentials from below the cache it was asked for.
func (a *originReply) mark(e *store.Entry) {
	var by string
	by, e.ForeignCredentials = a.sending().foreign(e.Header)
	e.Selecting = selecting(e.Header, a.x.rules)
	if !e.ForeignCredentials {
		return
	}
	if e.Selecting == nil {
		e.Selecting = make(map[string]string)
	}
	e.Selecting[sentBy] = by
}

// markAsked returns e with a note of which requests may complete it, if that matters, and else without.
func (a *originReply) markAsked(e *store.Entry) *store.Entry {
	r := newResponse(e)
	validator, by := r.strongValidator(), ""
	if !r.complete() && validator != "" && !field.IsStrongETag(validator) {
		by = alikeDigest(a.x.rules)
	}
	return withAskedAs(e, by)
}

func withAskedAs(e *store.Entry, by string) *store.Entry {
	if e.Selecting[askedAs] == by {
		return e
	}
	e = e.Clone()
	delete(e.Selecting, askedAs)
	if by == "" {
		return e
	}
	if e.Selecting == nil {
		e.Selecting = make(map[string]string)
	}
	e.Selecting[askedAs] = by
	return e
}

// kept returns h, a header or trailer that is to be stored, without the cookies that it sets. Those
// are for the caller whose request reached the origin, and may be secrets that must not rest.
func (a *originReply) kept(h http.Header) http.Header {
	if a.x.t.KeepSetCookie || h["Set-Cookie"] == nil {
		return h
	}
	h = maps.Clone(h)
	delete(h, "Set-Cookie")
	return h
}

// merged returns the header of a stored response updated by that of a newer one.
func (a *originReply) merged(stored, update http.Header) http.Header {
	return a.kept(freshen(stored, update, a.received))
}

// entry returns the head to be stored for the response.
func (a *originReply) entry() *store.Entry {
	e := &store.Entry{
		Key:          a.x.key,
		URL:          storedURL(a.x.own.URL, a.x.own.Host),
		Method:       a.x.rules.method,
		Status:       a.resp.StatusCode,
		Proto:        a.resp.Proto,
		Header:       storedHeader(a.kept(a.resp.Header)),
		RequestTime:  a.requested,
		ResponseTime: a.received,
		Uncompressed: a.sending().decoded(a.resp, contentLength(a.resp)),
		Length:       contentLength(a.resp),
	}
	a.mark(e)
	if e.Header["Date"] == nil {
		e.Header["Date"] = []string{a.received.UTC().Format(http.TimeFormat)} // RFC 9110, section 6.6.1
	}
	return e
}

// confirmation is what a 304 makes of the entries of a key.
type confirmation struct {
	next    []*store.Entry // the very slice that was given if nothing changes
	use     *store.Entry   // what answers the request; nil if nothing is confirmed
	index   int            // of use in next, -1 if it is not there
	unsaved bool           // use is not what will be stored
}

// confirms returns what a 304 to the conditions c makes of current. RFC 9111, section 4.3.4.
func (a *originReply) confirms(c *conditions, current []*store.Entry) confirmation {
	stored := a.x.t.views.all(a.x.key, current)
	chosen, updated := c.identify(a.x.rules, stored, a.resp.Header)
	if chosen < 0 || !a.sentAs(&stored[chosen]) {
		return confirmation{next: current, index: -1}
	}
	said := response{cc: field.ParseCacheControl(a.resp.Header["Cache-Control"])}
	forbidden := said.mustNotStore()
	// What other requests selected is not updated: this answer may say things that hold for the
	// one who asked, such as who may read it or which cookie to set.
	next := slices.Clone(current)
	for _, i := range updated {
		if stored[i].concerns(a.x.rules) && (i == chosen || a.sentAs(&stored[i])) {
			next[i] = a.freshened(current[i])
		}
	}
	use := next[chosen]
	if !stored[chosen].concerns(a.x.rules) {
		// But the origin chose one of those to answer this request as well, beside which it is kept,
		// unless no request ever selects it.
		use = use.Clone()
		if use.Header = withoutAsker(use.Header); len(updated) > 0 {
			use = a.freshened(use)
			if stored[chosen].varies("*") {
				next[chosen] = use
			} else {
				next = append(next, use)
			}
		}
	} else if forbidden && !slices.Contains(updated, chosen) {
		next = slices.Delete(next, chosen, chosen+1)
	}
	next = storedStill(next)
	if slices.Equal(next, current) {
		next = current
	}
	return confirmation{next, use, slices.Index(next, use), len(updated) == 0 || forbidden}
}

// confirmed takes a 304 to the conditions c: what it confirms is freshened, in the store and for
// the callers. ok is false if nothing stored is confirmed.
func (a *originReply) confirmed(c *conditions, entries []*store.Entry) (o result, ok bool) {
	if a.redirected() {
		return result{}, false
	}
	var made confirmation
	var err error
	s, handed := a.saveBehind(), false
	defer func() {
		if s != nil && !handed {
			a.x.t.saved(s)
		}
	}()
	if s != nil {
		current, err := a.x.store().Entries(a.x.lasting(), a.x.key)
		if err == nil && slices.EqualFunc(current, entries, unchanged) { // since the origin was asked
			made = a.confirms(c, entries)
		}
	}
	known := made.use != nil
	if !known {
		err = a.freshen(c, nil, &made)
		if err != nil {
			made = a.confirms(c, entries) // what can't be written can be used all the same
		}
	}
	if made.use == nil {
		return result{}, false
	}
	discard(a.resp)
	o = result{entry: made.use, unsaved: err != nil || made.unsaved}
	if made.use.ResponseTime.Equal(a.received) { // else it is used this once, and is as old as before
		o.sent, o.arrived = a.number, a.arrived
	}
	if made.index >= 0 {
		o.response = a.x.t.views.of(a.x.key, made.index, made.use)[0]
	} else {
		o.response = newResponse(made.use)
	}
	if !a.x.t.KeepSetCookie {
		o.cookies = a.resp.Header["Set-Cookie"]
	}
	release := a.x.sharing.lease.take()
	o.audience = a.noteAudience(&o.response)
	shared := o.audience == anyone
	a.shared.Hide()
	if !known {
		release(shared)
		return o, true
	}
	o.pending, handed = s, true
	own, behind := *a.x, *a // which the caller's part goes on with meanwhile
	behind.x = &own
	go func() {
		stack.Grow()
		defer own.t.saved(s)
		defer release(shared) // before anybody who waits asks again, or ends the process
		defer func() {
			if p := recover(); p != nil {
				err := fmt.Errorf("cachetrip: panic in the store: %v\n%s", p, debug.Stack())
				own.t.shielded(func() { own.storeFailed("freshen", err) })
			}
		}()
		behind.freshen(c, entries, &made)
	}()
	return o, true
}

// unchanged reports whether two entries are the same, for all that matters before an Update: stores may read them anew
// each time.
func unchanged(a, b *store.Entry) bool {
	return a == b || a.ResponseTime.Equal(b.ResponseTime) && a.InvalidatedAt.Equal(b.InvalidatedAt) &&
		slices.EqualFunc(a.Parts, b.Parts, func(p, q store.Part) bool { return p.Blob.ID == q.Blob.ID })
}

// freshen has the store keep what the answer makes of what it holds, which is known already if that is entries, and
// else is made.
func (a *originReply) freshen(c *conditions, entries []*store.Entry, made *confirmation) error {
	known := *made
	err := a.x.store().Update(a.x.lasting(), a.x.key, func(current []*store.Entry) []*store.Entry {
		if *made = known; known.use != nil && slices.Equal(current, entries) {
			made.next = slices.Clone(known.next)
		} else {
			*made = a.confirms(c, current)
		}
		if slices.Equal(made.next, current) {
			return current
		}
		a.x.t.events.Stored(a.x.key)
		return made.next
	})
	if err != nil {
		a.x.storeFailed("freshen", err)
		return err
	}
	a.x.t.takes.Store(true)
	return nil
}

// storedStill returns those of the entries that may stay, as what an update has made of one may forbid
// to store it.
func storedStill(entries []*store.Entry) []*store.Entry {
	return slices.DeleteFunc(entries, func(e *store.Entry) bool {
		r := response{cc: field.ParseCacheControl(e.Header["Cache-Control"])}
		return r.mustNotStore()
	})
}

// freshened returns e updated by the answer, for requests like the one that is answered.
func (a *originReply) freshened(e *store.Entry) *store.Entry {
	fresh := new(store.Entry)
	*fresh = *e // what the two share does not change
	fresh.Header = a.merged(e.Header, a.resp.Header)
	a.mark(fresh)
	fresh = withAskedAs(fresh, e.Selecting[askedAs])
	fresh.RequestTime, fresh.ResponseTime = a.requested, a.received
	if !a.requested.Before(e.InvalidatedAt) && !a.x.invalidatedSince(a.number) {
		fresh.InvalidatedAt = time.Time{}
	}
	if len(e.Parts) == 0 || e.Complete() {
		return fresh
	}
	if before, after := newResponse(e), newResponse(fresh); before.strongValidator() != after.strongValidator() {
		// The new Date would make the date of last modification look stronger than it was when
		// the bytes came, and others would be joined to them.
		return e.Clone()
	}
	return fresh
}

// absorbed takes any other answer: it is stored if it may be.
func (a *originReply) absorbed() result {
	if a.redirected() {
		a.x.notStored(a.resp.StatusCode, contentLength(a.resp), "redirected", nil)
		return a.x.unshared(a.shared, result{resp: a.resp, detail: "redirected", redirected: true})
	}
	e := a.entry()
	r := newResponse(e)
	switch {
	case a.x.rules.method == http.MethodHead:
		return a.x.unshared(a.shared, a.absorbHead(e, &r))
	case a.resp.StatusCode == http.StatusPartialContent:
		return a.absorbPartial(e)
	}
	why := storable(a.x.rules, &r, a.x.t.StaleIfError > 0)
	if why == "" && !admit(a.x.rules, &r, a.stored, order{}).keep {
		why = "error"
	}
	if why != "" {
		a.x.notStored(r.status, r.length, why, nil)
		a.superseded(&r)
		return a.x.unshared(a.shared, result{resp: a.resp, detail: why})
	}
	return a.record(e, span.Of(0, e.Length), nil)
}

// noteAudience remembers, and returns, who may share r, which the response of the origin has brought or confirmed.
func (a *originReply) noteAudience(r *response) audience {
	who := audienceOf(a.x.rules, r, a.resp.Header, a.resp.StatusCode, a.received)
	a.x.noteAudience(who)
	return who
}

// arriving returns e as the rules are to see it for those who read along: as if its content were
// there already.
func arriving(e *store.Entry) response {
	r := newResponse(e)
	r.allHeld, r.held = true, nil
	return r
}

// put stores e, which brings a blob that is new, or none, beside or instead of what is there. It returns why it did
// not, a word such as "store-error", or nothing.
func (a *originReply) put(ctx context.Context, brought *store.Entry, blobID string) (reason string) {
	e := brought
	outdated := false
	err := a.x.store().Update(ctx, a.x.key, func(current []*store.Entry) []*store.Entry {
		e = stillHeld(brought, current, blobID)
		r := newResponse(e)
		admission := admit(a.x.rules, &r, responses(current), a.x.orderBefore(a.number))
		outdated = !admission.keep
		if outdated {
			return current
		}
		kept := e
		if admission.join >= 0 {
			kept = joined(current[admission.join], e)
			if a.resp.StatusCode == http.StatusPartialContent { // else it brought a whole header
				kept.Header = a.joinedHeader(current[admission.join].Header, e.Header, kept.Length)
				a.mark(kept)
			}
		}
		kept = a.markAsked(kept)
		if admission.distrust || a.x.invalidatedSince(a.number) {
			a.x.t.events.Distrust(a.x.key, a.received)
			kept = kept.Clone()
			kept.InvalidatedAt = a.received
		}
		a.x.t.events.Stored(a.x.key)
		next := []*store.Entry{kept}
		for i, other := range current {
			if !slices.Contains(admission.replaces, i) {
				next = append(next, other)
			}
		}
		return storedStill(next)
	})
	switch {
	case err != nil:
		return a.notKept("store", brought, err)
	case outdated:
		a.x.notStored(e.Status, e.Length, "outdated", nil)
		return "outdated"
	}
	a.x.wasStored(e)
	return ""
}

// notKept is keepFailed for what would have taken the place of something.
func (a *originReply) notKept(op string, e *store.Entry, err error) (reason string) {
	reason = a.x.keepFailed(op, e, err)
	r := newResponse(e)
	a.superseded(&r)
	return reason
}

// superseded has what r, which is not stored, would have taken the place of validated before it is used
// again: it is no longer what the origin says. So is what r refuses to give out. Section 4.
func (a *originReply) superseded(r *response) {
	if !concernsOthers(r.status) {
		return
	}
	refused := refusesAccess(r.status, r.header)
	// outdated returns the stored responses that are concerned, and not marked yet.
	outdated := func(stored []response) (indices []int) {
		if refused {
			for i := range stored {
				if stored[i].concerns(a.x.rules) && stored[i].invalidatedAt.IsZero() {
					indices = append(indices, i)
				}
			}
			return indices
		}
		if admission := admit(a.x.rules, r, stored, order{}); admission.keep {
			for _, i := range admission.replaces {
				if s := &stored[i]; s.invalidatedAt.IsZero() && (r.mustNotStore() || !sameContent(s, r)) {
					indices = append(indices, i)
				}
			}
		}
		return indices
	}
	if outdated(a.stored) == nil { // nearly always, and without asking the store
		return
	}
	err := a.x.store().Invalidate(a.x.lasting(), a.x.key, func(current []*store.Entry) []*store.Entry {
		next := slices.Clone(current)
		for _, i := range outdated(responses(current)) {
			a.x.t.events.Invalidate(a.x.key, a.received)
			next[i] = next[i].Clone()
			next[i].InvalidatedAt = a.received
		}
		return next
	})
	if err != nil {
		a.x.t.events.Invalidate(a.x.url(), a.received) // so that at least this process validates
		a.x.storeFailed("invalidate", err)
	}
}

// absorbHead updates, marks or adds to what is stored by the answer to a HEAD. RFC 9111, section 4.3.5.
func (a *originReply) absorbHead(e *store.Entry, head *response) result {
	o := result{resp: a.resp}
	why := storable(a.x.rules, head, a.x.t.StaleIfError > 0)
	if !concernsOthers(head.status) || head.status == http.StatusPartialContent {
		// What a Range came to, which has no meaning here, is about no other request: RFC 9110, section 14.2.
		o.detail = "status"
		a.x.notStored(e.Status, e.Length, o.detail, nil)
		return o
	}
	var concerned bool
	var kept *store.Entry
	err := a.x.store().Update(a.x.lasting(), a.x.key, func(current []*store.Entry) []*store.Entry {
		next := slices.Clone(current)
		stored := responses(current)
		kept, concerned = nil, false
		for i := range stored {
			if stored[i].headOnly || !stored[i].matches(a.x.rules) || isError(head.status) && !refusesAccess(head.status, head.header) {
				continue
			}
			concerned = true
			switch {
			case headUpdates(&stored[i], head) && a.sentAs(&stored[i]):
				next[i] = a.freshened(current[i])
				kept = next[i]
			case stored[i].uncompressed && stored[i].status == head.status && !differentContent(&stored[i], head):
				// The HEAD is about another coding, whose tag and length say nothing.
			case current[i].InvalidatedAt.IsZero():
				a.x.t.events.Invalidate(a.x.key, a.received)
				next[i] = current[i].Clone()
				next[i].InvalidatedAt = a.received
			}
		}
		if concerned {
			if head.mustNotStore() {
				kept = nil
			}
			return storedStill(next)
		}
		admission := admit(a.x.rules, head, stored, a.x.orderBefore(a.number))
		if why != "" || !admission.keep {
			return current
		}
		kept = e
		next = []*store.Entry{e}
		for i, other := range current {
			if !slices.Contains(admission.replaces, i) {
				next = append(next, other)
			}
		}
		return next
	})
	switch {
	case err != nil:
		o.detail = a.x.keepFailed("store", e, err)
		return o
	case kept == e:
		a.x.wasStored(e)
	case concerned && (kept != nil || why == ""): // what is stored of a GET was updated or marked
	case why != "":
		o.detail = why
		a.x.notStored(e.Status, e.Length, why, nil)
	default:
		o.detail = "outdated"
		a.x.notStored(e.Status, e.Length, o.detail, nil)
	}
	if kept != nil {
		o.entry, o.response = kept, newResponse(kept)
	}
	return o
}

// absorbPartial keeps a part that a caller asked for. RFC 9111, sections 3.3 and 3.4.
func (a *originReply) absorbPartial(e *store.Entry) result {
	received := newResponse(e)
	s, length, ok := received.part()
	why := storable(a.x.rules, &received, a.x.t.StaleIfError > 0)
	if !ok && why == "" {
		why = "content-range"
	}
	if why != "" {
		a.x.notStored(e.Status, e.Length, why, nil)
		if ok {
			a.superseded(&received)
		}
		return a.x.unshared(a.shared, result{resp: a.resp, detail: why})
	}
	wholeOf(e, length)
	r := newResponse(e)
	r.held = []span.Span{s}
	o := a.record(e, s, nil)
	if o.download != nil && !admit(a.x.rules, &r, a.stored, order{}).keep {
		o.unsaved, o.detail = true, "outdated"
	}
	return o
}

// wholeOf makes the head of a partial response that of the response that it is a part of, with a
// content of the given length.
func wholeOf(e *store.Entry, length int64) {
	e.Status = http.StatusOK
	e.Length = length
	delete(e.Header, "Content-Range")
	delete(e.Header, "Content-Length")
	if length >= 0 {
		e.Header["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	}
	withoutContentDigests(e.Header)
}

// resumed takes a 206 that is to bring what is missing in before.
func (a *originReply) resumed(before *store.Entry, stored *response) (result, bool) {
	e := a.entry()
	partial := newResponse(e)
	brings, length, ok := stored.continues(&partial, stored.missing())
	if !ok || !a.sentAs(stored) || a.redirected() {
		return result{}, false
	}
	wholeOf(e, length)
	e.Header = a.joinedHeader(before.Header, e.Header, length)
	a.mark(e)
	if r := arriving(e); storable(a.x.rules, &r, a.x.t.StaleIfError > 0) != "" {
		return result{}, false // what is held must not be joined to it
	}
	held, err := a.x.open(new(content), before)
	if err != nil {
		return result{}, false
	}
	// From here on it is as if all of it came.
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
		// What is held can't be given without the recording; ask for the whole.
		return result{}, false
	}
	return o, true
}

// joinedHeader returns the header of a response that is joined from parts, of the given length or -1, whose last part
// came with the header update. RFC 9111, section 3.4.
func (a *originReply) joinedHeader(stored, update http.Header, length int64) http.Header {
	h := a.merged(stored, update)
	if length >= 0 {
		h["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	}
	return h
}
