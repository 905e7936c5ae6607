package cachetrip

import (
	"context"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip/internal/field"
	"github.com/cachetrip/cachetrip/store"
)

// Asking the origin, and what its answer is to the cache.

const (
	// maxRefreshes bounds the revalidations behind stale responses that are under way at once; more
	// wait for the next use of their response.
	maxRefreshes = 32

	// refreshTime bounds one of them, as nobody waits who could cancel it, but Close.
	refreshTime = 30 * time.Second

	// discardBytes is what is read of a response that is of no use, so that its connection can be:
	// about what comes with a head in the same packets.
	discardBytes = 16 << 10
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
	if err := t.modify(resp); err != nil {
		return nil, err
	}
	t.counters.misses.Add(1)
	t.invalidateAfter(req, resp)
	status.FwdStatus = resp.StatusCode
	if f := t.twin(req, resp); f != nil {
		status.Stored = true
		resp.Body = f.download.reader(req.Context(), func() { t.leave(f) })
	} else {
		resp.Body = t.counted(resp, nil)
	}
	resp.Request = req
	setStatus(resp.Header, status)
	t.tell(answerMiss, req, resp, Status{})
	return resp, nil
}

// outgoing returns the request to send for x, with a header of its own.
func (x *exchange) outgoing(ctx context.Context) *http.Request {
	out := x.own.WithContext(ctx)
	out.Header = withDirectives(x.rules.header, directivesOf(ctx))
	return out
}

// question returns the request that asks the origin what d calls for, and the preconditions that
// were added to it.
func (x *exchange) question(ctx context.Context, stored []response, d decision) (*http.Request, conditions) {
	out := x.outgoing(ctx)
	var added conditions
	switch d.action {
	case revalidate:
		added = conditionsFor(x.rules, stored, d.selected)
		added.apply(out.Header)
	case resume:
		r := &stored[d.selected]
		r.resumeFrom(r.held[0].end, out.Header)
	}
	return out, added
}

// askOrigin makes the flight f happen.
func (x *exchange) askOrigin(f *flight, entries []*store.Entry, stored []response, d decision) outcome {
	var detail string
	for {
		out, added := x.question(f.ctx, stored, d)
		requested := wallClock()
		resp, err := x.send(out)
		if err != nil {
			return x.unshared(f, outcome{err: err})
		}
		if err := x.modify(resp); err != nil {
			return x.unshared(f, outcome{err: err, final: true})
		}
		a := &answer{exchange: x, flight: f, resp: resp, requested: requested, received: wallClock(), sent: out}
		switch {
		case d.action == resume && resp.StatusCode == http.StatusPartialContent:
			if o, ok := a.resumed(entries[d.selected], &stored[d.selected]); ok {
				return o
			}
		case d.action == resume && resp.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		case resp.StatusCode == http.StatusNotModified && !added.none():
			if o, ok := a.confirmed(&added, entries); ok {
				return o
			}
			if answersCaller(x.rules, &added, resp.Header) {
				return x.unshared(f, outcome{resp: resp})
			}
			detail = "unmatched-304"
		default:
			o := a.absorbed(stored)
			if detail != "" {
				o.detail = detail
			}
			return o
		}
		discard(resp.Body)
		d.action = fetch // what is stored is of no use: ask as if it were not there
	}
}

// unshared marks f as of no use to others, and keeps the next requests from waiting for the like.
func (x *exchange) unshared(f *flight, o outcome) outcome {
	x.flights.separate(f.key, time.Now())
	x.flights.remove(f)
	return o
}

// answer is a response to a request of an exchange, about to be absorbed.
type answer struct {
	*exchange
	flight    *flight
	resp      *http.Response
	sent      *http.Request
	requested time.Time
	received  time.Time
}

// sentBy is where the selecting fields of an entry with foreign credentials keep the digest of those;
// no field has this name.
const sentBy = ":sent-by"

// foreign reports whether something below the cache gave the request other credentials, or other
// values of the fields that a response with the header h was selected by, than the cache knows of;
// by is a digest of those. Base may have done so in a copy of the request or, though it must not,
// in the request itself: what counts is what the caller sent. If Identity named whose the request
// is, credentials are no news.
func (a *answer) foreign(h http.Header) (by string, foreign bool) {
	actual := a.resp.Request
	if actual == nil {
		return "", false
	}
	query := !a.rules.identified && actual.URL != nil && actual.URL.RawQuery != a.sent.URL.RawQuery
	foreign = query
	names := append(selectingFields(h), credentialFields...)
	for _, name := range names {
		foreign = foreign || !slices.Equal(actual.Header[name], a.known(name)) && (!a.rules.identified || !secretField(name))
	}
	if !foreign {
		return "", false
	}
	slices.Sort(names)
	var b strings.Builder
	if query {
		b.WriteString(actual.URL.RawQuery)
	}
	for _, name := range slices.Compact(names) {
		b.WriteString("\n" + name)
		for _, line := range actual.Header[name] {
			b.WriteString("\n:" + line)
		}
	}
	return a.rules.digest.value(b.String()), true
}

// known returns the lines of a request field that the cache knows of.
func (a *answer) known(name string) []string {
	switch name {
	case "Cache-Control", "If-None-Match", "If-Modified-Since", "Range", "If-Range":
		return a.sent.Header[name] // which the cache itself may have set
	}
	return a.rules.header[name]
}

// sentAs reports whether the request that is answered was sent with the credentials with which r
// was asked for, as far as those came from below the cache. If not, not even a 304 says that r may
// be used: dates and careless entity tags do not tell users apart.
func (a *answer) sentAs(r *response) bool {
	by, _ := a.foreign(r.header)
	return by == r.selecting[sentBy]
}

// mark notes in e, a new entry or copy, by which credentials from below the cache it was asked for.
func (a *answer) mark(e *store.Entry) {
	var by string
	by, e.ForeignCredentials = a.foreign(e.Header)
	e.Selecting = selecting(e.Header, a.rules)
	if !e.ForeignCredentials {
		return
	}
	if e.Selecting == nil {
		e.Selecting = make(map[string]string)
	}
	e.Selecting[sentBy] = by
}

// entry returns the head to be stored for the response.
func (a *answer) entry() *store.Entry {
	e := &store.Entry{
		Key:          a.key,
		URL:          storedURL(a.own.URL, a.own.Host),
		Method:       a.rules.method,
		Status:       a.resp.StatusCode,
		Proto:        a.resp.Proto,
		Header:       storedHeader(a.resp.Header),
		RequestTime:  a.requested,
		ResponseTime: a.received,
		Uncompressed: a.resp.Uncompressed,
		Length:       contentLength(a.resp),
	}
	a.mark(e)
	if e.Header["Date"] == nil {
		e.Header["Date"] = []string{a.received.UTC().Format(http.TimeFormat)} // RFC 9110, section 6.6.1
	}
	return e
}

// confirmed takes a 304 to the conditions c: what it confirms is freshened, in the store and for
// the callers. ok is false if nothing stored is confirmed. RFC 9111, section 4.3.4.
func (a *answer) confirmed(c *conditions, entries []*store.Entry) (o outcome, ok bool) {
	var use *store.Entry
	change := func(current []*store.Entry) []*store.Entry {
		use = nil
		stored := responses(current)
		chosen, updated := c.identify(a.rules, stored, a.resp.Header)
		if chosen < 0 || !a.sentAs(&stored[chosen]) {
			return current
		}
		// What other requests selected is not updated: this answer may say things that hold for the
		// one who asked, such as who may read it or which cookie to set.
		next := slices.Clone(current)
		for _, i := range updated {
			if stored[i].concerns(a.rules) && a.sentAs(&stored[i]) {
				next[i] = a.freshened(current[i])
			}
		}
		use = next[chosen]
		if !stored[chosen].concerns(a.rules) {
			// But the origin chose one of those to answer this request as well, beside which it is kept.
			if use = withoutAsker(use); len(updated) > 0 {
				use = a.freshened(use)
				next = append(next, use)
			}
		}
		return next
	}
	if err := a.Store.Update(a.flight.ctx, a.key, change); err != nil {
		a.storeFailed("freshen", err)
		change(entries) // what can't be written can be used all the same
	}
	if use == nil {
		return outcome{}, false
	}
	discard(a.resp.Body)
	a.flights.remove(a.flight)
	return outcome{entry: use, response: newResponse(use)}, true
}

// freshened returns e updated by the answer, for requests like the one that is answered.
func (a *answer) freshened(e *store.Entry) *store.Entry {
	fresh := e.Clone()
	fresh.Header = freshen(e.Header, a.resp.Header, a.received)
	a.mark(fresh)
	fresh.RequestTime, fresh.ResponseTime = a.requested, a.received
	if !a.requested.Before(e.InvalidatedAt) {
		fresh.InvalidatedAt = time.Time{}
	}
	return fresh
}

// absorbed takes any other answer: it is stored if it may be.
func (a *answer) absorbed(stored []response) outcome {
	e := a.entry()
	r := newResponse(e)
	switch {
	case a.rules.method == http.MethodHead:
		a.absorbHead(e, &r)
		return a.unshared(a.flight, outcome{resp: a.resp})
	case a.resp.StatusCode == http.StatusPartialContent:
		return a.absorbPartial(e)
	}
	why := storable(a.rules, &r, a.StaleIfError > 0)
	if why == "" && !admit(a.rules, &r, stored).keep {
		why = "error"
	}
	if why != "" {
		a.notStored(r.status, r.length, why, nil)
		return a.unshared(a.flight, outcome{resp: a.resp, detail: why})
	}
	r = arriving(e)
	if decide(a.received, &request{method: http.MethodGet, header: a.rules.header, digest: a.rules.digest, cc: neutral}, []response{r}).action != serve {
		a.flights.separate(a.flight.key, time.Now()) // stale at once: nobody can share it
	}
	return a.record(e, 0, nil)
}

// arriving returns e as the rules are to see it for those who read along: as if its content were
// there already.
func arriving(e *store.Entry) response {
	r := newResponse(e)
	r.held = []span{{0, r.length}}
	return r
}

// neutral are the directives of a request without any.
var neutral = field.ParseCacheControl(nil)

// record has the content of the response stored as it is read, as that of e from an offset on.
// before is what was held already, if the response is to be read together with that.
func (a *answer) record(e *store.Entry, offset int64, before *content) outcome {
	o := outcome{resp: a.resp, entry: e, response: newResponse(e)}
	if a.resp.StatusCode != http.StatusPartialContent {
		o.response = arriving(e)
	}
	if before == nil && a.resp.Body == http.NoBody {
		e.Length = 0
		a.put(e)
		a.flights.remove(a.flight)
		return o
	}
	draft, err := a.Store.Create(a.flight.ctx, a.key, contentLength(a.resp))
	if err != nil {
		if before != nil {
			before.Close()
		}
		return a.unshared(a.flight, outcome{resp: a.resp, detail: a.keepFailed("create", e, err)})
	}
	d := newDownload(a.resp.Body, a.flight.cancel, draft)
	d.received = &a.counters.bytesReceived
	d.length = contentLength(a.resp)
	if before != nil {
		d.after(before)
		if d.length >= 0 {
			d.length += d.base
		}
	}
	d.finish = func(draft store.Draft, taken int64, end error) {
		defer a.flights.remove(a.flight)
		switch {
		case a.isReleased():
			a.notStored(e.Status, e.Length, "closed", nil)
		case draft == nil:
			a.keepFailed("write", e, d.refused)
		default:
			a.finish(e, before, draft, offset, taken, end)
		}
	}
	o.download = d
	return o
}

// finish stores e with the content that the draft has taken from an offset on.
func (a *answer) finish(e *store.Entry, before *content, draft store.Draft, offset, taken int64, end error) {
	stored := e.Clone()
	switch {
	case end != io.EOF:
		if r := newResponse(e); taken == 0 || !r.continuable() || !a.takesRanges() {
			a.notStored(e.Status, e.Length, "incomplete", nil)
			return
		}
	case a.resp.StatusCode != http.StatusPartialContent:
		stored.Length = offset + taken
	}
	if stored.Length >= 0 && offset+taken > stored.Length {
		a.notStored(e.Status, e.Length, "length", nil) // more than the origin said there is
		return
	}
	stored.Trailer = maps.Clone(a.resp.Trailer)
	blob, err := draft.Commit()
	if err != nil {
		a.keepFailed("commit", e, err)
		return
	}
	if before != nil {
		stored.Parts = before.parts
	}
	if taken > 0 {
		stored.Parts = joinParts(stored.Parts, store.Part{Offset: offset, Length: taken, Blob: blob})
	}
	a.put(stored)
}

// takesRanges reports whether the origin is known to answer Range requests for the response.
func (a *answer) takesRanges() bool {
	return a.resp.StatusCode == http.StatusPartialContent ||
		strings.EqualFold(strings.Join(a.resp.Header["Accept-Ranges"], ","), "bytes")
}

// put stores e beside or instead of what is there.
func (a *answer) put(e *store.Entry) {
	outdated := false
	err := a.Store.Update(context.WithoutCancel(a.flight.ctx), a.key, func(current []*store.Entry) []*store.Entry {
		r := newResponse(e)
		admission := admit(a.rules, &r, responses(current))
		outdated = !admission.keep
		if outdated {
			return current
		}
		kept := e
		if admission.join >= 0 {
			kept = joined(current[admission.join], e, a.received)
		}
		if at := a.unsafe.since(a.key[:urlDigits]); admission.distrust || !at.Before(a.requested) {
			kept = kept.Clone()
			kept.InvalidatedAt = a.received
		}
		next := []*store.Entry{kept}
		for i, other := range current {
			if !slices.Contains(admission.replaces, i) {
				next = append(next, other)
			}
		}
		return next
	})
	switch {
	case err != nil:
		a.keepFailed("store", e, err)
	case outdated:
		a.notStored(e.Status, e.Length, "outdated", nil)
	default:
		a.wasStored(e)
	}
}

// absorbHead updates, marks or adds to what is stored by the answer to a HEAD. RFC 9111, section 4.3.5.
func (a *answer) absorbHead(e *store.Entry, head *response) {
	why := storable(a.rules, head, a.StaleIfError > 0)
	if a.rules.cc.NoStore || a.resp.StatusCode == http.StatusNotModified {
		return
	}
	var kept, concerned bool
	err := a.Store.Update(a.flight.ctx, a.key, func(current []*store.Entry) []*store.Entry {
		next := slices.Clone(current)
		stored := responses(current)
		kept, concerned = false, false
		for i := range stored {
			if stored[i].headOnly || !stored[i].matches(a.rules) || isError(head.status) {
				continue
			}
			concerned = true
			if headUpdates(&stored[i], head) && a.sentAs(&stored[i]) {
				next[i] = a.freshened(current[i])
			} else if current[i].InvalidatedAt.IsZero() {
				next[i] = current[i].Clone()
				next[i].InvalidatedAt = a.received
			}
		}
		if concerned {
			return next
		}
		admission := admit(a.rules, head, stored)
		if why != "" || !admission.keep {
			return current
		}
		kept = true
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
		a.keepFailed("store", e, err)
	case kept:
		a.wasStored(e)
	case concerned: // what is stored of a GET was updated or marked
	case why != "":
		a.notStored(e.Status, e.Length, why, nil)
	default:
		a.notStored(e.Status, e.Length, "outdated", nil)
	}
}

// absorbPartial keeps a part that a caller asked for. RFC 9111, sections 3.3 and 3.4.
func (a *answer) absorbPartial(e *store.Entry) outcome {
	received := newResponse(e)
	s, length, ok := received.part()
	why := storable(a.rules, &received, a.StaleIfError > 0)
	if !ok && why == "" {
		why = "content-range"
	}
	if why != "" {
		a.notStored(e.Status, e.Length, why, nil)
		return a.unshared(a.flight, outcome{resp: a.resp, detail: why})
	}
	wholeOf(e, length)
	return a.record(e, s.start, nil)
}

// wholeOf makes the head of a partial response that of the response that it is a part of, with a
// content of the given length.
func wholeOf(e *store.Entry, length int64) {
	e.Status = http.StatusOK
	e.Length = length
	delete(e.Header, "Content-Range")
	delete(e.Header, "Content-Length")
}

// resumed takes a 206 that is to bring the rest of what before holds.
func (a *answer) resumed(before *store.Entry, stored *response) (outcome, bool) {
	position := stored.held[0].end
	partial := newResponse(a.entry())
	if !stored.continues(&partial, position) || !a.sentAs(stored) {
		return outcome{}, false
	}
	held, err := a.open(before)
	if err != nil {
		return outcome{}, false
	}
	e := a.entry()
	_, length, _ := contentRange(a.resp.Header)
	wholeOf(e, length)
	e.Header = freshen(before.Header, e.Header, a.received)
	a.resp.StatusCode = http.StatusOK
	a.resp.Status = "200 OK"
	a.resp.Header = e.Header.Clone()
	o := a.record(e, position, held)
	if o.download == nil {
		// What is held can't be given without the recording; ask for the whole.
		return outcome{}, false
	}
	a.resp.ContentLength = length
	return o, true
}

// discard reads a little of a body that is of no use, and closes it.
func discard(body io.ReadCloser) {
	io.CopyN(io.Discard, body, discardBytes)
	body.Close()
}

// variant returns what tells requests for one key apart that are known to select different
// responses, so that they do not wait for each other.
func (x *exchange) variant(stored []response) string {
	var b strings.Builder
	for i := range stored {
		for _, name := range selectingFields(stored[i].header) {
			value, _ := selectingValue(name, x.rules)
			b.WriteString("\n" + name + ":" + value)
		}
	}
	return b.String()
}

// refresh revalidates behind a stale response that was served: once for all who were served it
// meanwhile. RFC 5861, section 3.
func (x *exchange) refresh(entries []*store.Entry, stored []response, d decision) {
	key := x.key + x.variant(stored)
	x.mu.Lock()
	if x.closed || x.refreshing[key] || len(x.refreshing) >= maxRefreshes {
		x.mu.Unlock()
		return
	}
	if x.refreshing == nil {
		x.refreshing = make(map[string]bool)
	}
	x.refreshing[key] = true
	x.background.Add(1)
	x.mu.Unlock()

	own := *x
	own.detach()
	own.req = own.own
	d.action = revalidate
	go func() {
		defer own.background.Done()
		own.refreshNow(key, entries, stored, d)
		own.mu.Lock()
		delete(own.refreshing, key)
		own.mu.Unlock()
	}()
}

// refreshNow asks the origin, unless somebody else does so already, and has the answer stored.
func (x *exchange) refreshNow(key string, entries []*store.Entry, stored []response, d decision) {
	ctx := context.WithoutCancel(x.req.Context())
	f, leads := x.flights.join(ctx, key, time.Now())
	if f == nil {
		f, leads = newFlight(ctx), true
	}
	defer x.leave(f)
	if !leads {
		return
	}
	timer := time.AfterFunc(refreshTime, func() { f.cancel(context.DeadlineExceeded) })
	defer timer.Stop()
	x.fly(f, func(f *flight) outcome { return x.askOrigin(f, entries, stored, d) })
	switch {
	case f.download != nil:
		r := f.download.reader(f.ctx, func() {})
		io.Copy(io.Discard, r)
		r.Close()
	case f.confirmed():
		x.counters.revalidations.Add(1)
		x.tell(answerRevalidated, x.own, nil, Status{
			Fwd: d.fwd, FwdStatus: http.StatusNotModified, Stored: true, Detail: d.detail,
			TTL: f.response.lifetime() - f.response.age(wallClock()),
		})
	}
}

// detach gives x a request of its own, as callers may change theirs once they are answered, while it
// is still to be sent: behind a stale response, or for others who wait for the same.
func (x *exchange) detach() {
	own := *x.req
	own.URL = new(url.URL)
	*own.URL = *x.req.URL
	own.Header = x.req.Header.Clone()
	own.Body = nil
	x.own = &own
	rules := *x.rules
	rules.header = own.Header
	x.rules = &rules
}
