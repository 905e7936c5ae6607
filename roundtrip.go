package cachetrip

import (
	"context"
	"log/slog"
	"net/http"
)

// The story of a request: look up, decide, then serve, revalidate or fetch, then store.

// RoundTrip answers req from the cache, or with the help of Base. It keeps the contract of
// [http.RoundTripper]. The response says in Cache-Status how it came about; see [StatusOf]. One that came
// from the store, or by another's request, has no TLS, whatever the scheme, as no connection brought it, and
// the Proto with which it once came. The error is that of Base, ModifyResponse or the request's context.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	t.counters.requests.Add(1)
	if ctx := req.Context(); ctx.Err() != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, context.Cause(ctx)
	}
	x, status := t.begin(req)
	if ctx := req.Context(); x == nil && ctx.Err() != nil { // meanwhile, so that Base has no part in it
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, context.Cause(ctx)
	}
	if x == nil && !onlyCached(req) {
		return t.forward(req, status)
	}
	if req.Body != nil {
		req.Body.Close()
	}
	if x == nil {
		resp := refusal(req)
		t.tell(answerRefused, req, resp, status)
		return resp, nil
	}
	defer x.release()
	return x.run()
}

// run answers the request. Each attempt looks up and decides, and carries out the decision.
func (x *exchange) run() (*http.Response, error) {
	var try attempt
	if !x.collapsible() {
		try.join = joinNone
	}
	for {
		found, err := x.lookUp(try.blind)
		if err != nil {
			return nil, err
		}
		a := x.carryOut(found, try.join)
		if a.next == answered && a.err != nil {
			return nil, a.err
		}
		if a.next == answered {
			x.t.tell(a.kind, x.req, a.resp, a.status)
			if found.decision.action == serveRevalidate {
				x.refresh(found)
			}
			return a.resp, nil
		}
		if a.next == impatient {
			if err := x.sharing.turn.Wait(x.context(), x.waitsFor()); err != nil {
				return nil, err
			}
		}
		try = try.then(a.next)
	}
}

// carryOut does what was decided.
func (x *exchange) carryOut(found lookup, join joining) answer {
	switch found.decision.action {
	case serve, serveRevalidate:
		return x.serveSelected(found)
	case refuse:
		return answer{kind: answerRefused, resp: refusal(x.req), status: found.status(0)}
	}
	if d := &found.decision; x.t.logs(x.req.Context()) {
		x.t.log(x.req, "asking the origin", slog.String("action", d.action.String()), slog.String("fwd", d.fwd), slog.String("detail", d.detail))
	}
	return x.ask(found, join)
}

// attempt says how an exchange tries to answer its request.
type attempt struct {
	count int     // how often it has begun again
	join  joining // how it takes part in the requests of others
	blind bool    // as if nothing were stored
}

// then returns the attempt after one that has led to next.
func (t attempt) then(next next) attempt {
	switch next {
	case alone:
		t.join = joinNone
	case impatient:
		t.join = max(t.join, joinReady)
	case again:
		t.blind = t.blind || t.count > maxTries
	case unreadable:
		t.blind = true
	}
	if t.count >= maxTries {
		t.join = joinNone
	}
	t.count++
	return t
}

// maxTries is how often a request may begin again and still wait for others: more than what it
// waits for changes under its hands, other than by chance.
const maxTries = 4
