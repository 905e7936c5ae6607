package cachetrip

import (
	"net/http"

	"github.com/cachetrip/cachetrip/internal/download"
)

// Requests that the cache has no part in, except for what they invalidate.

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
	returns := false
	defer func() {
		if !returns { // as ModifyResponse refuses it, or something panics
			resp.Body.Close()
		}
	}()
	t.invalidateAfter(req, resp) // before ModifyResponse: whatever that makes of the answer, the origin has acted
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
