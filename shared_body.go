package cachetrip

import (
	"context"
	"io"
	"maps"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/cachetrip/cachetrip/internal/download"
)

// The response of a shared request, for the caller that led and for those that
// joined, while its body arrives.

// leaderResponse returns the origin's response to the request that x has led.
func (x *exchange) leaderResponse(p *participation, found lookup) *http.Response {
	o := p.Request.Result()
	status := found.status(o.code)
	if o.resumes {
		status.FwdStatus = http.StatusPartialContent
	}
	o.describe(&status)
	var resp *http.Response
	if o.download != nil {
		resp = x.t.takeBody(p, x.req, x.reader(p))
	} else {
		resp = o.resp
		if !o.redirected {
			resp.Request = x.req
		}
		resp.Body = x.claim(p)
	}
	x.bodyGiven = true
	setStatus(resp.Header, status)
	return resp
}

// takeBody returns the response of p with its body, for the caller that led,
// whose request is req. It is a copy: callers may do with theirs what they
// like, while others read the body.
func (t *Transport) takeBody(p *participation, req *http.Request, caller download.Caller) *http.Response {
	o := p.Request.Result()
	resp := new(http.Response)
	*resp = *o.resp
	resp.Request = req
	o.attachBody(resp, o.download.Take(caller))
	return resp
}

// leaving returns what a caller that reads the body does when it stops reading:
// it ends its part in p. The last caller first has the remaining bytes read, if
// they are few, unless its context has stopped it. done is called in the end.
func (t *Transport) leaving(p *participation, done func()) func(ended bool) {
	return func(ended bool) {
		defer done()
		if ended {
			p.LeaveAfter(func() {})
			return
		}
		p.LeaveAfter(func() { p.Request.Result().download.Drain(t.drainBudget()) })
	}
}

// reader returns the caller of x as a reader of the body.
func (x *exchange) reader(p *participation) download.Caller {
	ctx := x.context()
	return download.Caller{Context: ctx, Leave: x.t.leaving(p, x.unwatch), Alone: x.alone(p.Request.Result())}
}

// followerResponse returns the response to the request that x has joined, or
// nil if the beginning of its body cannot be had any more.
func (x *exchange) followerResponse(p *participation, status Status) *http.Response {
	o := p.Request.Result()
	body := o.download.Join(x.reader(p))
	if body == nil {
		return nil
	}
	x.bodyGiven = true
	r := x.rules.policy.of(o.response)
	age := r.age(wallClock())
	status.TTL = r.lifetime() - age
	resp := new(http.Response)
	x.head(resp, o.entry, o.entry.Header.Clone())
	resp.ContentLength = o.announced
	if o.code == http.StatusPartialContent {
		partHeader(resp, o.response.held[0], o.response.length)
	}
	withoutValidation(resp.Header, &o.response)
	resp.Header["Age"] = []string{strconv.FormatInt(int64(age/time.Second), 10)}
	setStatus(resp.Header, status)
	resp.Status = statusLine(resp.StatusCode)
	o.attachBody(resp, body)
	if resp.StatusCode == http.StatusOK {
		trailed(resp)
	}
	return resp
}

// attachBody makes body the body of resp. At its end resp gets the trailer.
func (o *result) attachBody(resp *http.Response, body *download.Reader) {
	resp.Body = body
	resp.Trailer = o.trailer.Clone()
	body.AtEnd(func() {
		trailer := o.given.Trailer.Clone()
		if o.resumes {
			withoutContentDigests(trailer)
		}
		if resp.Trailer == nil {
			resp.Trailer = trailer
			return
		}
		maps.Copy(resp.Trailer, trailer) // http.Response.Write holds that map since it began
	})
}

// claim returns the body of the response that came by p, for the caller who
// led: the end of the caller's interest ends the request, and so does the end
// of the body, and closing it. The connection that a 101 brings is the caller's
// from now on, and p is over: only the end of the request's context still ends
// that of Base's request.
func (x *exchange) claim(p *participation) io.ReadCloser {
	ctx := x.context()
	o := p.Request.Result()
	o.claimed = true
	if o.resp.StatusCode == http.StatusSwitchingProtocols {
		p.Request.KeepContext()
		ctx = x.req.Context()
	}
	unwatch := context.AfterFunc(ctx, func() { p.Request.Cancel(context.Cause(ctx)) })
	leave := sync.OnceFunc(func() {
		unwatch()
		p.Leave()
		x.unwatch()
	})
	body := x.t.counted(o.resp)
	switch b, ok := body.(*originBody); {
	case ok:
		b.ctx, b.leave = x.ctx, leave
	case o.resp.StatusCode == http.StatusSwitchingProtocols:
		p.Leave()
		x.unwatch()
	default:
		leave()
	}
	return body
}
