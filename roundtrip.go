package cachetrip

import (
	"context"
	"log/slog"
	"net/http"
)

// The way of a request: look up, decide, then serve, revalidate or fetch, then
// store.

// RoundTrip answers req from the cache, or with the help of Base. It keeps the
// contract of [http.RoundTripper]. Cache-Status in the response tells how it
// was obtained; see [StatusOf].
//
// A response from the store, or from another caller's request, has no TLS,
// because no connection brought it. Its Proto is that of the original response.
// An error is that of Base, ModifyResponse or the request's context.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	t.counters.requests.Add(1)
	if req.Context().Err() != nil {
		closeBody(req)
		return nil, context.Cause(req.Context())
	}
	w := t.wishesFor(req)
	x, status := t.begin(req, &w)
	switch {
	case x != nil:
		closeBody(req)
		defer x.release()
		return x.run()
	case req.Context().Err() != nil: // it has ended meanwhile: Base has no part in it
		closeBody(req)
		return nil, context.Cause(req.Context())
	case onlyCached(req, &w):
		closeBody(req)
		resp := refusal(req, status)
		t.tell(answerRefused, req, "", resp, Status{})
		return resp, nil
	}
	return t.forward(req, &w, status)
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
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
			x.t.tell(a.kind, x.req, x.key, a.resp, a.status)
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
func (x *exchange) carryOut(found lookup, join joining) outcome {
	switch found.decision.action {
	case serve, serveRevalidate:
		return x.serveSelected(found)
	case refuse:
		return outcome{kind: answerRefused, resp: refusal(x.req, found.status(0))}
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
