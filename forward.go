package cachetrip

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/cachetrip/cachetrip/internal/download"
	"github.com/cachetrip/cachetrip/internal/span"
)

// Requests that do not concern the cache, except that unsafe ones invalidate:
// RFC 9111, section 4.4.

// forward sends a request that does not concern the cache. If its method is
// unsafe, it invalidates stored responses.
func (t *Transport) forward(req *http.Request, w *wishes, status Status) (*http.Response, error) {
	out := req
	if req.URL != nil && len(w.directives) > 0 || w.body != nil {
		out = req.WithContext(req.Context())
		out.Header = withDirectives(req.Header, w.directives)
	}
	if w.body != nil {
		out.Body = w.body
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
	t.invalidateAfter(req, w, resp) // before ModifyResponse, because the origin has acted even if that refuses the response
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
	t.tell(answerMiss, req, "", resp, Status{})
	returns = true
	return resp, nil
}

// invalidateAfter invalidates the stored responses that the response to an
// unsafe request makes doubtful. RFC 9111, section 4.4.
func (t *Transport) invalidateAfter(req *http.Request, w *wishes, resp *http.Response) {
	if !t.keeps() || isSafe(req.Method) || w.policy.readsOnly(req.Method) || t.closed.Load() || req.URL == nil {
		return
	}
	resp = firstAnswer(req, resp)
	var urls []string
	for _, target := range invalidated(req.Method, targetURL(req), resp.StatusCode, resp.Header) {
		at := *target
		at.Host = req.URL.Host // the server that answers for this Host
		urls = t.appendStoredURLs(urls, req.Context(), &at, target.Host)
	}
	if p := &w.policy; p.URL != nil && urls != nil {
		urls = appendURL(urls, primaryURL(p.URL, ""))
	}
	groups, every := invalidatedGroups(req.Method, resp.Header)
	if urls == nil && groups == nil && !every {
		return
	}
	ctx, done := callerContext(req)
	defer done()
	failed := t.changeURLs(ctx, req, urls, markInvalid, false)
	if groups != nil || every {
		failed = errors.Join(failed, t.invalidateGroups(ctx, req, groups, every))
	}
	if failed != nil && ctx.Err() == nil {
		t.storeFailed(req, "invalidate", failed)
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
	w := t.wishesFor(get)
	x, _ := t.begin(get, &w)
	if x == nil {
		return result{}, nil
	}
	x.detach()
	x.shown = detached(req)
	// The request has the caller's context, so only closing the body ends it.
	// The download does that.
	p = t.requests.New(req.Context(), resultOwner{t})
	// The request counts as made now, after its own invalidation.
	now := t.stamps.Request(wallClock())
	a := &originReply{x: x, shared: p.Request, resp: resp, sent: req, sentEvent: t.events.Next(), requested: now, received: now}
	e := a.entry()
	r := x.responseOf(e)
	if !describesTarget(req.Method, targetURL(req), &r) || storable(x.rules, &r, false) != "" {
		return result{}, nil
	}
	all := span.Of(0, e.Length)
	o = a.record(e, all, nil, messageCheck(resp.Header, e.Uncompressed, all, e.Length), false)
	if o.download == nil {
		return o, nil
	}
	p.Request.Publish(o.to(x.rules))
	return o, p
}
