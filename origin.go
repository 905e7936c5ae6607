package cachetrip

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
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
	if err := t.modify(resp); err != nil {
		return nil, err
	}
	t.counters.misses.Add(1)
	t.invalidateAfter(req, resp)
	status.FwdStatus = resp.StatusCode
	if f := t.twin(req, resp); f != nil {
		status.Stored = true
		resp = t.taken(f, req)
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
		r.askFor(r.missing(), out.Header)
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
		discard(resp)
		d.action = fetch // what is stored is of no use: ask as if it were not there
	}
}

// unshared marks f as of no use to others, and keeps the next requests from waiting for the like.
func (x *exchange) unshared(f *flight, o outcome) outcome {
	if f.ctx.Err() == nil { // else it was of no use to anybody because all had left
		x.flights.separate(f, time.Now())
	}
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
	discard(a.resp)
	o = outcome{entry: use, response: newResponse(use)}
	a.markShared(&o.response)
	a.flights.remove(a.flight)
	return o, true
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
	a.markShared(&r)
	return a.record(e, span{0, e.Length}, nil)
}

// markShared remembers whether others that wait for the like of r could share it.
func (a *answer) markShared(r *response) {
	if decide(a.received, &request{method: http.MethodGet, header: a.rules.header, digest: a.rules.digest, cc: neutral}, []response{*r}).action == serve {
		a.flights.together(a.flight)
	} else {
		a.flights.separate(a.flight, time.Now()) // stale at once
	}
}

// arriving returns e as the rules are to see it for those who read along: as if its content were
// there already.
func arriving(e *store.Entry) response {
	r := newResponse(e)
	r.allHeld, r.held = true, nil
	return r
}

// neutral are the directives of a request without any.
var neutral = field.ParseCacheControl(nil)

// record has the content of the response stored as it is read, as that of e. If held is not nil, the
// response brings the stretch of the content that is missing in it.
func (a *answer) record(e *store.Entry, brings span, held *content) outcome {
	o := outcome{resp: a.resp, entry: e, response: newResponse(e), announced: a.resp.ContentLength, trailer: a.resp.Trailer.Clone()}
	if a.resp.StatusCode != http.StatusPartialContent {
		o.response = arriving(e)
	}
	if held == nil && a.resp.Body == http.NoBody {
		e.Length = 0
		a.put(e)
		a.flights.remove(a.flight)
		return o
	}
	length := int64(-1)
	if brings.end >= 0 {
		length = brings.length()
	}
	draft, err := a.Store.Create(a.flight.ctx, a.key, length)
	if err != nil {
		if held != nil {
			held.Close()
		}
		return a.unshared(a.flight, outcome{resp: a.resp, detail: a.keepFailed("create", e, err)})
	}
	d := newDownload(a.resp.Body, a.flight.cancel, draft, length)
	d.received = &a.counters.bytesReceived
	d.lost = func() { a.flights.remove(a.flight) }
	if held != nil {
		d.between(held, brings, e.Length)
	}
	// Callers may do with the header what they like, and net/http with the trailer, until the end.
	continues := o.response.continuable() && (held != nil || a.takesRanges())
	if continues && a.rules.header["Range"] == nil && a.sent.Method != http.MethodPost {
		d.again = a.continuation(o.response, brings.end)
	}
	d.finish = func(draft store.Draft, taken int64, end error) {
		defer a.flights.remove(a.flight)
		switch {
		case a.isReleased():
			a.notStored(e.Status, e.Length, "closed", nil)
		case draft == nil:
			a.keepFailed("write", e, d.refused)
		case end == errLength:
			a.notStored(e.Status, e.Length, "length", nil)
		case end == io.EOF:
			whole := e.Clone()
			whole.Trailer = a.resp.Trailer.Clone()
			if brings.end < 0 {
				whole.Length = brings.start + taken
			}
			a.finish(whole, held, draft, span{brings.start, brings.start + taken})
		case continues && taken > 0:
			a.finish(e.Clone(), held, draft, span{brings.start, brings.start + taken})
		default:
			a.notStored(e.Status, e.Length, "incomplete", nil)
		}
	}
	o.download = d
	return o
}

// finish stores e with the stretch of its content that the draft has taken.
func (a *answer) finish(e *store.Entry, held *content, draft store.Draft, taken span) {
	blob, err := draft.Commit()
	if err != nil {
		a.keepFailed("commit", e, err)
		return
	}
	if held != nil {
		e.Parts = held.parts
	}
	if taken.length() > 0 {
		e.Parts = joinParts(e.Parts, store.Part{Offset: taken.start, Length: taken.length(), Blob: blob})
	}
	a.put(e)
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
			kept = joined(current[admission.join], e)
			if a.resp.StatusCode == http.StatusPartialContent { // else it brought a whole header
				kept.Header = freshen(current[admission.join].Header, e.Header, a.received)
			}
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
	return a.record(e, s, nil)
}

// wholeOf makes the head of a partial response that of the response that it is a part of, with a
// content of the given length.
func wholeOf(e *store.Entry, length int64) {
	e.Status = http.StatusOK
	e.Length = length
	delete(e.Header, "Content-Range")
	delete(e.Header, "Content-Length")
}

// resumed takes a 206 that is to bring what is missing in before.
func (a *answer) resumed(before *store.Entry, stored *response) (outcome, bool) {
	e := a.entry()
	partial := newResponse(e)
	brings, length, ok := stored.continues(&partial, stored.missing())
	if !ok || !a.sentAs(stored) {
		return outcome{}, false
	}
	held, err := a.open(before)
	if err != nil {
		return outcome{}, false
	}
	wholeOf(e, length)
	e.Header = freshen(before.Header, e.Header, a.received)
	e.Header["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	// From here on it is as if all of it came.
	a.resp.StatusCode = http.StatusOK
	a.resp.Status = statusLine(http.StatusOK)
	a.resp.Header = e.Header.Clone()
	a.resp.ContentLength = length
	o := a.record(e, brings, held)
	if o.download == nil {
		// What is held can't be given without the recording; ask for the whole.
		return outcome{}, false
	}
	return o, true
}

// continuation returns what asks for the rest of a transfer of r that has broken off on its way to
// callers, up to a limit if that is not negative: a connection that breaks in the middle of a large
// download costs them but a pause. Whatever speaks against joining the rest to what they have ends
// this for good, and so do too many attempts without progress: then they get the error as it came.
func (a *answer) continuation(r response, limit int64) func(position int64, err error) (io.ReadCloser, int64) {
	tries, from := 0, int64(0)
	return func(position int64, _ error) (io.ReadCloser, int64) {
		if position-from >= worthwhile {
			tries, from = 0, position
		}
		for tries < len(pauses) && pause(a.flight.ctx, pauses[tries]) {
			tries++
			resp, length, err := a.askAgain(&r, span{position, limit})
			if resp != nil {
				r.length = length
				return resp.Body, length
			}
			if err == errDisagrees {
				tries = len(pauses)
			}
		}
		return nil, 0
	}
}

// pauses are the times to wait before asking again, for as long as there is no progress: a broken
// connection is replaced at once, a server that restarts takes a moment. Altogether it is less than
// callers who watch would take to try for themselves.
var pauses = []time.Duration{0, 100 * time.Millisecond, 400 * time.Millisecond}

// worthwhile is how much an attempt has to bring to count as progress: more than asking costs.
const worthwhile = 16 << 10

// pause waits, and reports false if ctx ended before.
func pause(ctx context.Context, d time.Duration) bool {
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return ctx.Err() == nil
}

// errDisagrees reports an answer to a continuation that can't be joined to what was there.
var errDisagrees = errors.New("cachetrip: not a continuation")

// askAgain asks for the stretch s of r. The error tells that there is no answer; only if it is not
// errDisagrees it is worth it to try again.
func (a *answer) askAgain(r *response, s span) (*http.Response, int64, error) {
	out := a.outgoing(a.flight.ctx)
	delete(out.Header, "If-None-Match")
	delete(out.Header, "If-Modified-Since")
	r.askFor(s, out.Header)
	resp, err := a.send(out)
	if err != nil {
		return nil, 0, err
	}
	if err := a.modify(resp); err != nil {
		return nil, 0, errDisagrees
	}
	if isFailure(resp.StatusCode) {
		discard(resp)
		return nil, 0, errors.New(resp.Status)
	}
	rest := &answer{exchange: a.exchange, resp: resp, sent: out, requested: a.requested, received: wallClock()}
	partial := newResponse(rest.entry())
	if _, length, ok := r.continues(&partial, s); ok && resp.StatusCode == http.StatusPartialContent && rest.sentAs(r) {
		a.log(a.request(), "continued", slog.Int64("position", s.start), slog.Int64("length", length))
		return resp, length, nil
	}
	resp.Body.Close()
	return nil, 0, errDisagrees
}

// discard takes the body of a response that is of no use, if that is little, and closes it.
func discard(resp *http.Response) {
	if resp.ContentLength >= 0 && resp.ContentLength <= discardBytes {
		timer := time.AfterFunc(discardTime, func() { resp.Body.Close() })
		defer timer.Stop()
		io.CopyN(io.Discard, resp.Body, discardBytes)
	}
	resp.Body.Close()
}

// variant returns what tells requests for one key apart that are known to select different
// responses, so that they do not wait for each other.
func (x *exchange) variant(stored []response) string {
	var names []string
	for _, responses := range [][]response{stored, x.others} {
		for i := range responses {
			names = append(names, selectingFields(responses[i].header)...)
		}
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	var b strings.Builder
	for _, name := range slices.Compact(names) {
		value, _ := selectingValue(name, x.rules)
		b.WriteString("\n" + name + ":" + value)
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
	f, leads := x.flights.join(ctx, key, math.MaxUint64, time.Now())
	defer x.leave(f)
	if !leads {
		return
	}
	timer := time.AfterFunc(refreshTime, func() { f.cancel(context.DeadlineExceeded) })
	defer timer.Stop()
	x.fly(f, func(f *flight) outcome { return x.askOrigin(f, entries, stored, d) })
	switch {
	case f.download != nil:
		r := f.download.take(f.ctx, func(bool) {})
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
