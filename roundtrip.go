package cachetrip

import (
	"context"
	"log/slog"
	"net/http"
)

// The Transport: its options, and how it is opened and closed.

// RoundTrip answers req from the cache, or with the help of Base. It keeps the
// contract of [http.RoundTripper]. Cache-Status in the response tells how it
// was obtained; see [StatusOf].
//
// A response from the store, or from another caller's request, has no TLS,
// because no connection brought it. Its Proto is that of the original response.
// An error is that of Base, ModifyResponse or the request's context.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	t.counters.requests.Add(1)
	if ctx := req.Context(); ctx.Err() != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, context.Cause(ctx)
	}
	x, status := t.begin(req)
	if ctx := req.Context(); x == nil && ctx.Err() != nil { // the context ended meanwhile, so Base must not get the request
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

// run answers the request. Each attempt looks up, decides, and carries out the
// decision.
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

// carryOut carries out the decision of a look-up.
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

// attempt is one try of an exchange to answer its request.
type attempt struct {
	count int     // the number of tries before it
	join  joining // whether it may join other requests
	blind bool    // as if nothing were stored
}

// then returns the attempt after t, which has led to next.
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

// maxTries is how often a request may start again and still wait for others.
// Only by chance do the stored responses change more often under one request.
const maxTries = 4
