package cachetrip

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip/internal/inflight"
	"github.com/cachetrip/cachetrip/internal/patience"
	"github.com/cachetrip/cachetrip/store"
)

// Sharing one request to the origin: which requests may be answered by the response to another one, and how
// long they wait for it. A waiting request may be given a response in two cases only. Either the store could
// serve the response to it at that moment (RFC 9111, section 4), or the response merely lacks a lifetime and
// the two requests are alike.

// joining says how a request takes part in requests that are under way.
type joining int

const (
	joinAny    joining = iota // it waits for the response to another request
	joinLanded                // it has waited long enough: it joins only where the header is there already
	joinNone                  // it asks the origin itself, and no other request waits for it
)

// collapsible reports whether the request may be answered by the response to another one. One that says
// how fresh it wants that may be; one that wants it validated for itself may not, and several ranges are
// never stored. What the request's own preconditions make of it is in collapses.
func (x *exchange) collapsible() bool {
	cc := &x.rules.cc
	if x.rules.plain {
		return x.rules.method == http.MethodGet && !cc.NoCache && cc.MaxAge != 0
	}
	ranges := strings.Join(x.rules.header["Range"], ",")
	return x.rules.method == http.MethodGet && !strings.Contains(ranges, ",") && !cc.NoCache && cc.MaxAge != 0
}

// collapses reports whether the request, of which the origin is to be asked what d says, may wait for the
// answer to another one. A 304 to its own preconditions alone is nothing that can be stored, and so nothing
// that others could be given; one that validates what is stored is.
func (x *exchange) collapses(stored []response, d decision) bool {
	if !x.rules.conditional() {
		return true
	}
	c := x.conditions(stored, d)
	return d.action == revalidate && !c.none()
}

// waitsFor returns how long x may still wait for other requests: altogether no longer than its patience.
func (x *exchange) waitsFor() time.Duration {
	now := time.Now()
	if x.waitsUntil.IsZero() {
		x.waitsUntil = now.Add(patience.Of(x.watch(), now, x.t.shareTimeout()))
	}
	return x.waitsUntil.Sub(now)
}

// shareTimeout returns ShareTimeout, or what it stands for.
func (t *Transport) shareTimeout() time.Duration {
	switch {
	case t.ShareTimeout == 0:
		return patience.Longest
	case t.ShareTimeout < 0:
		return 0
	}
	return t.ShareTimeout
}

// ask has the origin asked, by this exchange or by another that wants the same, and answers. moment
// is from before entries were looked up.
func (x *exchange) ask(entries []*store.Entry, stored []response, d decision, join joining, moment uint64) (*http.Response, next, error) {
	ctx := x.watch()
	asked := x.t.events.Next()
	if x.own == nil {
		x.detach()
	}
	p := x.takePart(ctx, stored, d, join, moment)
	if p == nil {
		return nil, again, nil
	}
	// The part in the request ends here, unless it goes on with a body that the caller reads.
	defer func() {
		if !x.reading {
			p.Leave()
		}
	}()
	if !p.Leads() {
		return x.follow(p, entries, stored, d, asked)
	}
	work := func() result { return x.askAlone(p.Request, entries, stored, d).to(x.rules) }
	if ctx.Done() == nil { // the caller stays until the result is there, and there is no need to hand it over
		p.Request.Do(work)
	} else {
		p.Request.Go(work)
	}
	return x.lead(p, entries, stored, d)
}

// takePart returns the part of x in a request to the origin, which x may lead. It returns nil if what is stored has
// changed since the given moment, so that x has to look again.
func (x *exchange) takePart(ctx context.Context, stored []response, d decision, join joining, moment uint64) *participation {
	if join == joinNone || !x.collapses(stored, d) {
		x.shareKey = inflight.Key{}
		return x.t.requests.New(ctx, resultOwner{x.t})
	}
	waits := join == joinAny && x.waitsFor() > 0
	x.shareKey = x.sharingKey(stored)
	return x.t.requests.Join(ctx, resultOwner{x.t}, x.joinKey(), waits, moment)
}

// lead answers with the result of the request that this exchange leads.
func (x *exchange) lead(p *participation, entries []*store.Entry, stored []response, d decision) (*http.Response, next, error) {
	if err := p.Request.Wait(x.ctx, patience.Unlimited); err != nil {
		if errors.Is(x.ctx.Err(), context.DeadlineExceeded) { // err may be a cause that somebody gave it
			if resp := x.serveStale(entries, stored, d, 0); resp != nil {
				return resp, answered, nil
			}
		}
		return nil, answered, err
	}
	o := p.Request.Result()
	switch {
	case o.panicked != nil:
		panic(o.panicked)
	case o.err != nil:
		if !o.final && !errors.Is(o.err, context.Canceled) {
			if resp := x.serveStale(entries, stored, d, 0); resp != nil {
				return resp, answered, nil
			}
		}
		return nil, answered, o.err
	case o.elsewhere:
		x.waited = true
		return nil, again, nil
	case o.confirmed():
		resp, err := x.serve(wallClock(), o.entry, &o.response, Status{Fwd: d.fwd, FwdStatus: http.StatusNotModified, Stored: !o.unsaved, Detail: d.detail})
		x.settles(resp, o.pending)
		if err != nil {
			return nil, again, nil
		}
		if len(o.cookies) > 0 {
			resp.Header["Set-Cookie"] = o.cookies
		}
		x.t.counters.revalidations.Add(1)
		x.t.tell(answerRevalidated, x.req, resp, Status{})
		return resp, answered, nil
	}
	if isFailure(o.code) {
		if resp := x.serveStale(entries, stored, d, o.code); resp != nil {
			return resp, answered, nil
		}
	}
	x.t.counters.misses.Add(1)
	resp := x.receive(p, d)
	x.t.tell(answerMiss, x.req, resp, Status{})
	return resp, answered, nil
}

// follow answers with the result of another exchange's request, if that can be shared with this
// request, which asked at the event of that number. Errors are never shared: each belongs to the one who asked.
func (x *exchange) follow(p *participation, entries []*store.Entry, stored []response, d decision, asked uint64) (*http.Response, next, error) {
	switch err := p.Request.Wait(x.ctx, x.waitsFor()); {
	case err == patience.ErrExhausted:
		p.Request.Hide() // nor does anybody who comes later queue behind it
		return nil, impatient, nil
	case err != nil:
		if errors.Is(x.ctx.Err(), context.DeadlineExceeded) {
			if resp := x.serveStale(entries, stored, d, 0); resp != nil {
				return resp, answered, nil
			}
		}
		return nil, answered, err
	}
	o := p.Request.Result()
	same := o.err == nil && alike(o.asked, x.rules)
	switch {
	case o.elsewhere:
		x.waited = true
		return nil, again, nil
	case o.err != nil:
		x.takeTurn()
		return nil, impatient, nil
	case isFailure(o.code):
		if same {
			if resp := x.serveStale(entries, stored, d, o.code); resp != nil {
				return resp, answered, nil
			}
		}
		if o.entry == nil {
			x.takeTurn()
			return nil, impatient, nil
		}
	}
	if o.entry == nil || o.audience == nobody {
		return nil, alone, nil
	}
	if x.invalidatedSince(o.sent) || o.response.invalidatedIn(stored, x.orderBefore(o.sent)) {
		return nil, alone, nil // something unsafe was done since: what was asked for before that won't do
	}
	if d.selected >= 0 && stored[d.selected].received.After(o.response.received) {
		return nil, alone, nil // another process has stored something newer since
	}
	now := wallClock()
	switch shared := decide(now, x.rules.sharing(o.code), []response{o.response}); {
	case shared.serves():
	case shared.fwd == "vary-miss" && !o.response.varies("*"):
		x.others = append(x.others, o.response) // wait for those who want the same variant only
		return nil, again, nil
	case !shared.lapsed() || o.arrived < asked:
		return nil, alone, nil
	case !same:
		return nil, again, nil // wait for those that are alike only
	}
	if o.download != nil && o.code == http.StatusPartialContent {
		if answer, spans := o.response.ranges(x.rules); answer != spansAnswer || spans[0] != o.response.held[0] {
			return nil, alone, nil // the origin sent another part than was asked for
		}
	}
	status := Status{Fwd: d.fwd, FwdStatus: o.code, Collapsed: true, Stored: !o.unsaved, Detail: d.detail}
	if o.confirmed() {
		status.FwdStatus = http.StatusNotModified
	}
	var resp *http.Response
	if o.download == nil || o.response.notModified(x.rules) { // which reads no content
		var err error
		if resp, err = x.serve(now, o.entry, &o.response, status); err != nil {
			return nil, alone, nil
		}
		if o.download == nil {
			x.settles(resp, o.pending)
		}
	} else if resp = x.share(p, status); resp == nil {
		return nil, again, nil
	}
	x.t.counters.collapsed.Add(1)
	x.t.tell(answerCollapsed, x.req, resp, Status{})
	return resp, answered, nil
}

// takeTurn has x ask the origin in turn with the others that waited for a request that has failed.
func (x *exchange) takeTurn() {
	if x.turn == nil {
		x.turn = x.t.turns.Take(x.shareKey)
	}
}
