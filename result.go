package cachetrip

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"

	"github.com/cachetrip/cachetrip/internal/download"
	"github.com/cachetrip/cachetrip/internal/inflight"
	"github.com/cachetrip/cachetrip/internal/pending"
	"github.com/cachetrip/cachetrip/internal/span"
	"github.com/cachetrip/cachetrip/store"
)

// What a request to the origin has led to, for all who share it.

type (
	// sharedRequest is a request to the origin and all callers that wait for its result or read its body.
	sharedRequest = inflight.Request[result]

	// participation is the part of one caller in a shared request.
	participation = inflight.Participation[result]
)

// result is what a request to the origin has led to.
type result struct {
	err      error
	final    bool               // err is to be returned, whatever is stored
	asked    *request           // the request of the exchange that led
	resp     *http.Response     // the origin's last response, for the one who asked alone; nil if it failed
	code     int                // the status code of resp; 0 if there is none
	claimed  bool               // the body of resp was given to the caller whose request this was
	audience audience           // who may be given the response
	download *download.Download // the content of resp while it is being stored; nil if it is not
	// What was announced with the download, as its end may change both.
	announced     int64
	trailer       http.Header
	given         *http.Response // what resp is a copy of: its trailer is complete at the end of the download
	brings        span.Span      // of the content, by the download
	resumes       bool           // the download begins with what is held
	continues     bool           // the rest of the content can be asked for, should the download break off
	redirected    bool           // resp answers another URL: Base followed redirects
	repeated      string         // why the request had to be repeated, as Status.Detail; empty if it had not
	entry         *store.Entry   // what is or is being stored: of resp, or confirmed by it
	unsaved       bool           // what was confirmed is not stored: the store failed, or it may not be any more
	pending       *pending.Write // what was confirmed is being stored; nil if that was done before
	response      response       // entry, as the rules see it
	sent, arrived uint64         // the events that its request was sent and that it came
	cookies       []string       // what a 304 sets for the one who asked, if that is not to be stored
	detail        string         // why resp was not stored, or that it was asked for twice
	elsewhere     bool           // another process has asked meanwhile: what is stored has changed
	panicked      any            // what Base panicked with, for the one who asked to pass on
}

// to returns o as the result of the request asked, ready to be published.
func (o result) to(asked *request) result {
	o.asked = asked
	if o.resp != nil {
		o.code = o.resp.StatusCode
	}
	return o
}

// confirmed reports whether the origin confirmed a stored response.
func (o *result) confirmed() bool { return o.entry != nil && o.resp == nil }

// describe notes in status what is known of storing the response: that it is stored, or is about to be, and for how long
// it is fresh, or why it is not stored.
func (o *result) describe(status *Status) {
	status.Detail = cmp.Or(o.repeated, status.Detail, o.detail)
	if status.Stored = o.entry != nil && !o.unsaved; status.Stored {
		status.TTL = o.response.lifetime() - o.response.age(wallClock())
	}
}

// errGone is the error of a request whose goroutine was ended below the cache by runtime.Goexit, as testing.T.FailNow
// does it.
var errGone = errors.New("cachetrip: Base or ModifyResponse ended the goroutine that called it")

// resultOwner releases the results of shared requests.
type resultOwner struct{ t *Transport }

// Failed returns the result of a request during which Base panicked, or ended its goroutine. The caller that led passes
// the panic on.
func (o resultOwner) Failed(p any, stack []byte) result {
	if p == nil {
		return result{err: errGone, final: true}
	}
	o.t.panicked(p, stack)
	return result{err: fmt.Errorf("cachetrip: panic in Base: %v", p), panicked: p}
}

// Unread has the readers that joined a body no longer wait for the caller that led.
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
