package cachetrip

import (
	"net/http"

	"github.com/cachetrip/cachetrip/internal/download"
)

// Requests that do not concern the cache, except that unsafe ones invalidate.

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
