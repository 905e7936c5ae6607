package cachetrip

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip/internal/inflight"
	"github.com/cachetrip/cachetrip/internal/patience"
)

// Sharing one request to the origin: which requests may be answered by the
// response to another request, and how long they wait for it. A waiting request
// may be given a response in two cases only. Either the store could serve the
// response to it at that moment (RFC 9111, section 4), or the response only
// lacks a lifetime and the two requests are alike.

// collapsible reports whether the request may be answered by the response to
// another request. A request that wants the response validated for itself may
// not, and neither may a request for several ranges, which are never stored.
// For the request's own preconditions, see collapses.
func (x *exchange) collapsible() bool {
	cc := &x.rules.cc
	if x.rules.policy.Mode.wantsOrigin() {
		return false
	}
	if x.rules.plain {
		return x.rules.method != http.MethodHead && !cc.NoCache && cc.MaxAge != 0
	}
	ranges := strings.Join(x.rules.header["Range"], ",")
	return x.rules.method != http.MethodHead && !strings.Contains(ranges, ",") && !cc.NoCache && cc.MaxAge != 0
}

// collapses reports whether the request may wait for another one, as far as its
// own preconditions allow. A 304 to these alone cannot be stored, so others
// could not be given it. A 304 that also validates a stored response can.
func (x *exchange) collapses(found lookup) bool {
	if !x.rules.conditional() {
		return true
	}
	c := x.conditions(&found)
	return found.decision.action == revalidate && !c.none()
}

// ask answers with what the origin says, which this exchange or another one
// asks.
func (x *exchange) ask(found lookup, join joining) outcome {
	ctx := x.req.Context()
	if cancelOf(x.req) == nil { // otherwise x.context would start a goroutine
		ctx = x.context()
	}
	asked := x.t.events.Next()
	if x.own == nil {
		x.detach()
	}
	if x.sharing == nil {
		x.sharing = new(sharing)
	}
	p := x.takePart(ctx, found, join)
	if p == nil {
		return outcome{next: again}
	}
	defer func() {
		if !x.bodyGiven { // else the part ends with the body
			p.Leave()
		}
	}()
	if !p.Leads() {
		return x.follow(p, found, asked)
	}
	work := func() result { return x.askAlone(p.Request, found).to(x.rules) }
	if ctx.Done() == nil && cancelOf(x.req) == nil { // the caller cannot leave: it needs no other goroutine
		p.Request.Do(work)
	} else {
		p.Request.Go(work)
	}
	return x.lead(p, found)
}

// takePart returns the participation of x in a shared request, which x may
// lead. It returns nil if the stored responses may have changed since the
// look-up. Then x must look again.
func (x *exchange) takePart(ctx context.Context, found lookup, join joining) *participation {
	if join == joinNone || found.alone || !x.collapses(found) {
		x.sharing.key = inflight.Key{}
		return x.t.requests.New(ctx, resultOwner{x.t})
	}
	waits := x.waitsFor() > 0 && join == joinAny
	x.sharing.key = x.sharingKey(found.stored)
	return x.t.requests.Join(ctx, resultOwner{x.t}, x.joinKey(), waits, found.moment)
}

// lead answers with the result of the request that this exchange leads.
func (x *exchange) lead(p *participation, found lookup) outcome {
	if err := x.awaitOwn(p.Request); err != nil {
		return x.waitedInVain(err, found)
	}
	o := p.Request.Result()
	switch {
	case o.panicked != nil:
		panic(o.panicked)
	case o.err != nil && (o.final || errors.Is(o.err, context.Canceled)):
		return outcome{err: o.err}
	case o.err != nil:
		return x.staleOr(outcome{err: o.err}, found)
	case o.elsewhere:
		return x.lookAgain()
	case o.confirmed():
		return x.revalidated(o, found)
	case o.failed:
		if resp := x.serveStale(&found, o); resp != nil {
			return outcome{kind: answerStale, resp: resp}
		}
	}
	return outcome{kind: answerMiss, resp: x.leaderResponse(p, found)}
}

// awaitOwn waits for the result of the request that x leads. If the caller
// leaves before, the error is the cause. It does not call x.context, because
// the work may be copying x.
func (x *exchange) awaitOwn(r *sharedRequest) error {
	ctx := x.ctx
	if ctx == nil { // the request has Cancel, which no goroutine watches before it is closed
		select {
		case <-r.Done():
			return nil
		case <-cancelOf(x.req):
		case <-x.req.Context().Done():
		}
		var stop func()
		ctx, stop = callerContext(x.req)
		defer stop()
	}
	return r.Wait(ctx, patience.Unlimited)
}

// revalidated answers with the stored response that the origin has confirmed.
func (x *exchange) revalidated(o *result, found lookup) outcome {
	status := found.status(http.StatusNotModified)
	status.Stored = !o.unsaved
	resp, err := x.serve(o.entry, &o.response, o.response.age(wallClock()), status)
	x.awaitWrite(resp, o.pending)
	if err != nil {
		return outcome{next: again}
	}
	if len(o.cookies) > 0 {
		resp.Header["Set-Cookie"] = o.cookies
	}
	return outcome{kind: answerRevalidated, resp: resp}
}

// waitedInVain answers a caller whose context ended before the result was
// there.
func (x *exchange) waitedInVain(err error, found lookup) outcome {
	if errors.Is(x.req.Context().Err(), context.DeadlineExceeded) { // err may be a cause that somebody gave the context
		return x.staleOr(outcome{err: err}, found)
	}
	return outcome{err: err}
}

// staleOr answers with the selected response, if it may be used although the
// origin has not answered, and otherwise with a.
func (x *exchange) staleOr(a outcome, found lookup) outcome {
	if resp := x.serveStale(&found, &result{}); resp != nil {
		return outcome{kind: answerStale, resp: resp}
	}
	return a
}

// lookAgain has x begin again, because another process has asked the origin
// meanwhile.
func (x *exchange) lookAgain() outcome {
	x.sharing.waited = true
	return outcome{next: again}
}

// askInTurn has x ask the origin itself. It takes turns with the other
// exchanges that waited for a request that failed.
func (x *exchange) askInTurn() outcome {
	if x.sharing.turn == nil {
		x.sharing.turn = x.t.turns.Take(x.sharing.key)
	}
	return outcome{next: impatient}
}

// follow answers with the result of another exchange's request, if x may be
// given it. Errors are never shared, because each belongs to the caller that
// led. asked is the number of the event that x began to ask.
func (x *exchange) follow(p *participation, found lookup, asked uint64) outcome {
	switch err := p.Request.Wait(x.context(), x.waitsFor()); {
	case err == patience.ErrExhausted:
		p.Request.Hide() // later requests do not queue behind it either
		return outcome{next: impatient}
	case err != nil:
		return x.waitedInVain(err, found)
	}
	o := p.Request.Result()
	switch {
	case o.elsewhere:
		return x.lookAgain()
	case o.err != nil:
		return x.askInTurn()
	case o.failed:
		if alike(o.asked, x.rules) {
			if resp := x.serveStale(&found, o); resp != nil {
				return outcome{kind: answerStale, resp: resp}
			}
		}
		if o.entry == nil {
			return x.askInTurn()
		}
	}
	now := wallClock()
	if next := x.shares(o, found, asked, now); next != answered {
		return outcome{next: next}
	}
	return x.collapsed(p, found, now)
}

// shares returns answered if x may be given the result of another exchange's
// request at the time now. Otherwise it returns how x goes on.
func (x *exchange) shares(o *result, found lookup, asked uint64, now time.Time) next {
	switch {
	case o.entry == nil || o.audience == nobody:
		return alone
	case x.invalidatedSince(o.sent) || o.response.invalidatedIn(found.stored, x.orderBefore(o.sent)):
		return alone // an unsafe request was made since
	case o.entry.Key != x.key && o.entry.Key != x.exactKey() || x.tiesInvalidatedSince(o.sent, &o.response):
		return alone // the same, or the response of an equivalent URL that this request did not find
	case found.decision.selected >= 0 && found.response().received.After(o.response.received):
		return alone // another process has stored a newer response
	}
	switch shared := decide(now, x.rules.sharing(o.code), []response{x.rules.policy.of(o.response)}); {
	case shared.serves():
	case shared.fwd == "vary-miss" && !o.response.varies("*"):
		x.sharing.others = append(x.sharing.others, o.response) // next time x waits for its own variant only
		return again
	case !shared.lapsed() || o.arrived < asked:
		return alone
	case !alike(o.asked, x.rules):
		return again // next time x waits for alike requests only
	}
	if o.download != nil && o.code == http.StatusPartialContent {
		if answer, spans := o.response.ranges(x.rules); answer != spansAnswer || spans[0] != o.response.held[0] {
			return alone // the origin sent another range than x wants
		}
	}
	return answered
}

// collapsed answers with the result of another exchange's request.
func (x *exchange) collapsed(p *participation, found lookup, now time.Time) outcome {
	o := p.Request.Result()
	status := found.status(o.code)
	status.Collapsed, status.Stored = true, !o.unsaved
	if o.confirmed() {
		status.FwdStatus = http.StatusNotModified
	}
	if o.download != nil && !o.response.notModified(x.rules) {
		resp := x.followerResponse(p, status)
		if resp == nil {
			return outcome{next: again}
		}
		return outcome{kind: answerCollapsed, resp: resp}
	}
	r := x.rules.policy.of(o.response)
	resp, err := x.serve(o.entry, &r, r.age(now), status)
	if err != nil {
		return outcome{next: alone}
	}
	if o.download == nil {
		x.awaitWrite(resp, o.pending)
	}
	return outcome{kind: answerCollapsed, resp: resp}
}

// resultOwner releases the results of shared requests.
type resultOwner struct{ t *Transport }

// Failed returns the result of a request during which Base panicked, or ended
// its goroutine. The caller that led passes the panic on.
func (o resultOwner) Failed(p any, stack []byte) result {
	if p == nil {
		return result{err: errGone, final: true}
	}
	o.t.panicked(p, stack)
	return result{err: fmt.Errorf("cachetrip: panic in Base: %v", p), panicked: p}
}

// Unread has the readers that joined a body no longer wait for the caller that
// led.
func (o resultOwner) Unread(r *sharedRequest) {
	if d := r.Result().download; d != nil {
		d.Decline()
	}
}

// Release closes the body, if it has no owner by now.
func (o resultOwner) Release(r *sharedRequest) {
	o.t.shielded(func() {
		switch res := r.Result(); {
		case res.download != nil:
			res.download.Close(func() { r.Cancel(inflight.ErrAbandoned) })
		case res.resp != nil && !res.claimed:
			res.resp.Body.Close()
		}
	})
}

// errGone is the error of a request whose goroutine was ended below the cache
// by runtime.Goexit, as testing.T.FailNow does it.
var errGone = errors.New("cachetrip: Base or ModifyResponse ended the goroutine that called it")
