package cachetrip

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cachetrip/cachetrip/store"
)

// What the cache asks for that its caller did not ask for, preconditions and the rest of a body, and what to do about
// origins that refuse a request because of it: firewalls, signed URLs and careless handlers do. A 304 that matches nothing
// stored is of no more use than a refusal.

const (
	// refusalTime is for how long a URL is asked without what was refused there. If the refusal was about something
	// else, this costs one body that a 304 would have saved.
	refusalTime = 10 * time.Minute

	// refusingURLs is how many URLs of an origin have to refuse the same before its other URLs are taken to do so.
	refusingURLs = 3

	// maxRefusals limits the URLs and origins that are remembered. To forget one costs one more request.
	maxRefusals = 4096
)

// extra is something that the cache adds to a request.
type extra string

const (
	ownConditions extra = "conditions" // preconditions that validate what is stored
	ownRange      extra = "range"      // Range and If-Range, for the rest of what is stored in part
)

// refusals remembers where extras are refused. Its zero value is ready for use.
type refusals struct {
	used atomic.Bool // most programs never meet such an origin
	mu   sync.Mutex
	by   map[refusalKey]refusal
}

// refusalKey is an extra and a URL, or an origin.
type refusalKey struct {
	extra extra
	where string
}

type refusal struct {
	until  time.Time
	helped bool // the request was answered otherwise without the extra
	urls   int  // of an origin: how many refused the extra
}

// expects reports whether a request for the URL, of the origin, is refused if it has the extra, as far as is known.
func (rs *refusals) expects(what extra, url, origin string, now time.Time) bool {
	if !rs.used.Load() {
		return false
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if now.Before(rs.by[refusalKey{what, url}].until) {
		return true
	}
	whole := rs.by[refusalKey{what, origin}]
	return whole.urls >= refusingURLs && now.Before(whole.until)
}

// note remembers that a request with the extra was refused, and whether it helped to repeat it without. origin is empty
// if that tells nothing about its other URLs.
func (rs *refusals) note(what extra, url, origin string, helped bool, now time.Time) {
	rs.used.Store(true)
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.by == nil || len(rs.by) >= maxRefusals {
		rs.by = make(map[refusalKey]refusal)
	}
	until := now.Add(refusalTime)
	rs.by[refusalKey{what, url}] = refusal{until: until, helped: helped}
	if !helped || origin == "" { // which tells nothing about other URLs
		return
	}
	whole := rs.by[refusalKey{what, origin}]
	if !now.Before(whole.until) {
		whole = refusal{}
	}
	whole.until = until
	whole.urls++
	rs.by[refusalKey{what, origin}] = whole
}

// relent forgets, once the URL is answered again, a refusal that was not about what the cache had added.
func (rs *refusals) relent(url string) {
	if !rs.used.Load() {
		return
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, what := range [...]extra{ownConditions, ownRange} {
		key := refusalKey{what, url}
		if known, ok := rs.by[key]; ok && !known.helped {
			delete(rs.by, key)
		}
	}
}

// expectsRefusal reports whether the origin is known to refuse requests of x that have the extra.
func (x *exchange) expectsRefusal(what extra) bool {
	return x.t.refusals.expects(what, x.refusing(), originOf(x.own.URL), time.Now())
}

// refusing names what x asks for, on whose behalf ever: what a HEAD comes to says nothing about a GET.
func (x *exchange) refusing() string { return x.rules.method + " " + x.key[:urlDigits] }

// refusesConditions reports whether a response with the status and the header h may be due to preconditions that the
// caller did not send, so that the request is worth being repeated without them.
func refusesConditions(status int, h http.Header) bool {
	return mayRefuseExtras(status) && !rateLimited(status, h)
}

// aboutRange reports whether a refusal with the status can only have been about the range, or the part that the range
// was to complete, as a request without a range is not answered so.
func aboutRange(status int) bool {
	switch status {
	case http.StatusPartialContent, http.StatusNotModified, http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable:
		return true
	}
	return false
}

// refused is a request that was refused for an extra, as far as is known before it is answered without.
type refused struct {
	extra  extra // empty if none was refused
	status int   // of the refusal, 0 if the connection broke
}

// judge learns from resp, the answer to a request that may be the repetition of a refused one. What is stored in part
// has proved useless if it helped to repeat the request without a range.
func (x *exchange) judge(was refused, resp *http.Response, part *store.Entry) {
	url := x.refusing()
	if was.extra == "" {
		if resp.StatusCode < http.StatusBadRequest {
			x.t.refusals.relent(url)
		}
		return
	}
	helped := !isFailure(resp.StatusCode) && (resp.StatusCode != was.status || was.extra == ownRange && aboutRange(was.status))
	origin := originOf(x.own.URL)
	if was.status == http.StatusNotModified && was.extra == ownConditions {
		origin = "" // a 304 that matches nothing is about one response
	}
	x.t.refusals.note(was.extra, url, origin, helped, time.Now())
	if was.extra == ownRange && helped {
		x.drop(part, "dropped a part that the origin does not complete")
	}
}
