package cachetrip

import (
	"cmp"
	"net/http"
	"time"

	"github.com/cachetrip/cachetrip/internal/download"
	"github.com/cachetrip/cachetrip/internal/inflight"
	"github.com/cachetrip/cachetrip/internal/pending"
	"github.com/cachetrip/cachetrip/internal/span"
	"github.com/cachetrip/cachetrip/store"
)

// The outcome of an attempt for its caller, and the result of a request to the
// origin for all callers that share it.

type (
	// sharedRequest is a request to the origin and all callers that wait for
	// its result or read its body.
	sharedRequest = inflight.Request[result]

	// participation is the part of one caller in a shared request.
	participation = inflight.Participation[result]
)

// result is what a request to the origin has led to. Its fields do not change
// once it is published, but for claimed.
type result struct {
	asked *request // the request of the exchange that led

	// If the origin was not asked, or in vain:
	err       error
	final     bool // err is to be returned, whatever is stored
	panicked  any  // what Base panicked with. The caller that led passes it on
	elsewhere bool // another process has asked meanwhile, so that what is stored has changed

	// The origin's response, unless it is a 304 that confirms a stored one. It
	// is for the caller that led.
	resp       *http.Response // nil: there is none
	code       int            // the status code of resp; 0 if there is none
	failed     bool           // resp says that the origin failed, or that it does not answer more requests now
	retryAfter time.Duration  // if failed, how long the origin asked to wait; 0 if it did not say
	redirected bool           // resp answers another URL, because Base followed redirects
	claimed    bool           // the caller that led has the body
	repeated   string         // why the request had to be repeated, as Status.Detail; empty if it had not

	// The body of resp, if it is being stored.
	download  *download.Download // nil: it is not
	announced int64              // the length, -1 if unknown, and the trailer of resp before the body ended
	trailer   http.Header
	given     *http.Response // what resp is a copy of. Its trailer is complete when the download ends
	brings    span.Span      // what the download brings of the content
	resumes   bool           // the download begins with a stored part
	continues bool           // the origin can be asked for the rest if the download breaks off

	// The response that is stored, or about to be: that of the origin, or the
	// one that a 304 confirmed.
	entry         *store.Entry
	response      response       // entry, as the rules see it
	audience      audience       // who may be given it
	sent, arrived uint64         // the events that the request was sent and that the response came
	unsaved       bool           // it is used, but not stored: the store has failed, or it must not be stored any more
	pending       *pending.Write // writes what a 304 has updated; nil if that is done
	cookies       []string       // of a 304, for the caller that led. They are not stored
	detail        string         // why the response is not stored
}

// to returns o as the result of the request asked, ready to be published.
func (o result) to(asked *request) result {
	o.asked = asked
	if o.resp != nil {
		o.code = o.resp.StatusCode
		if o.failed = isFailure(o.code) || rateLimited(o.code, o.resp.Header); o.failed {
			o.retryAfter = retryAfter(o.resp.Header, wallClock())
		}
	}
	return o
}

// confirmed reports whether the origin confirmed a stored response.
func (o *result) confirmed() bool { return o.entry != nil && o.resp == nil }

// describe notes in status what is known of storing the response: that it is
// stored, or is about to be, and for how long it is fresh, or why it is not
// stored.
func (o *result) describe(status *Status) {
	status.Detail = cmp.Or(o.repeated, status.Detail, o.detail)
	if status.Stored = o.entry != nil && !o.unsaved; status.Stored {
		status.TTL = o.response.lifetime() - o.response.age(wallClock())
	}
}

// answerKind is how a request was answered.
type answerKind int

const (
	answerHit answerKind = iota
	answerStale
	answerRevalidated
	answerCollapsed
	answerMiss
	answerRefused
)

// String names how a request was answered, for logs.
func (k answerKind) String() string {
	return [...]string{"hit", "stale hit", "revalidated", "collapsed", "miss", "refused"}[k]
}

func (k answerKind) hook(t *Trace) func(AnswerInfo) {
	return [...]func(AnswerInfo){t.Hit, t.StaleHit, t.Revalidated, t.Collapsed, t.Miss, t.Refused}[k]
}

// outcome is the result of an attempt.
type outcome struct {
	next   next
	kind   answerKind     // of resp
	resp   *http.Response // the caller's response, if next is answered and err is nil
	err    error          // the caller's error
	status Status         // the status, where StatusOf cannot tell it from resp
}

// next says how an exchange continues after an attempt.
type next int

const (
	answered   next = iota
	alone           // try again without waiting for others, because their response was of no use
	impatient       // try again, and do not wait for others any more
	again           // try again, because the stored responses have changed
	unreadable      // try again as if nothing were stored
)
