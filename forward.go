package cachetrip

import (
	"net/http"
	"net/url"

	"github.com/cachetrip/cachetrip/internal/download"
	"github.com/cachetrip/cachetrip/internal/span"
)

// Requests that do not concern the cache, except that unsafe ones invalidate:
// RFC 9111, section 4.4.

// forward sends a request that does not concern the cache. If its method is
// unsafe, it invalidates stored responses.
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
	returns := false
	defer func() {
		if !returns { // ModifyResponse refuses the response, or a hook panics
			resp.Body.Close()
		}
	}()
	t.invalidateAfter(req, resp) // before ModifyResponse, because the origin has acted even if that refuses the response
	if err := t.modify(resp); err != nil {
		return nil, err
	}
	status.FwdStatus = resp.StatusCode
	elsewhere := req.URL != nil && followed(resp, out, req.URL)
	var o result
	var p *participation
	if !elsewhere {
		o, p = t.twin(req, resp)
	}
	o.describe(&status)
	if p != nil {
		ctx, done := callerContext(req)
		resp = t.takeBody(p, req, download.Caller{Context: ctx, Leave: t.leaving(p, done)})
	} else {
		resp.Body = t.counted(resp)
	}
	if !elsewhere {
		resp.Request = req
	}
	setStatus(resp.Header, status)
	t.tell(answerMiss, req, resp, Status{})
	returns = true
	return resp, nil
}

// invalidateAfter invalidates the stored responses that the response to an
// unsafe request makes doubtful. RFC 9111, section 4.4.
func (t *Transport) invalidateAfter(req *http.Request, resp *http.Response) {
	if !t.keeps() || isSafe(req.Method) || t.closed.Load() || req.URL == nil {
		return
	}
	resp = firstAnswer(req, resp)
	var urls []string
	for _, target := range invalidated(req.Method, targetURL(req), resp.StatusCode, resp.Header) {
		at := *target
		at.Host = req.URL.Host // the server that answers for this Host
		urls = append(urls, primaryURL(&at, target.Host))
	}
	if urls == nil {
		return
	}
	ctx, done := callerContext(req)
	defer done()
	if err := t.changeKeys(ctx, req, urls, markInvalid); err != nil && ctx.Err() == nil {
		t.storeFailed(req, "invalidate", err)
	}
}

// targetURL returns the target URI of a request. It has the request's Host,
// which may differ from the host of its URL. RFC 9110, section 7.1.
func targetURL(req *http.Request) *url.URL {
	target := *req.URL
	if req.Host != "" {
		target.Host = req.Host
	}
	return &target
}

// twin stores the response to a POST for later GETs, if it says that it may be
// used for them. If twin returns a participation, the content must be read from
// the download of its request. RFC 9110, section 9.3.3.
func (t *Transport) twin(req *http.Request, resp *http.Response) (o result, p *participation) {
	if req.Method != http.MethodPost || resp.Header["Content-Location"] == nil || resp.ContentLength == 0 {
		return result{}, nil
	}
	get := req.WithContext(req.Context())
	get.Method, get.Body = http.MethodGet, nil
	x, _ := t.begin(get)
	if x == nil {
		return result{}, nil
	}
	x.detach()
	x.shown = detached(req)
	// The request has the caller's context, so only closing the body ends it.
	// The download does that.
	p = t.requests.New(req.Context(), resultOwner{t})
	// The request counts as made now, after its own invalidation.
	a := &originReply{x: x, shared: p.Request, resp: resp, sent: req, sentEvent: t.events.Next(), requested: wallClock(), received: wallClock()}
	e := a.entry()
	r := newResponse(e)
	if !describesTarget(req.Method, targetURL(req), &r) || storable(x.rules, &r, false) != "" {
		return result{}, nil
	}
	o = a.record(e, span.Of(0, e.Length), nil)
	if o.download == nil {
		return o, nil
	}
	p.Request.Publish(o.to(x.rules))
	return o, p
}
