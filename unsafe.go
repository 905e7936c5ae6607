package cachetrip

import (
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// What the answer to an unsafe request does to what is stored: RFC 9111, section 4.4.

// invalidateAfter invalidates what the answer to an unsafe request makes doubtful.
// RFC 9111, section 4.4.
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
	ctx, done := interest(req)
	defer done()
	if err := t.changeKeys(ctx, req, urls, markInvalid); err != nil && ctx.Err() == nil {
		t.storeFailed(req, "invalidate", err)
	}
}

// firstAnswer returns the response to req itself, from which Base may have followed redirects to resp.
func firstAnswer(req *http.Request, resp *http.Response) *http.Response {
	for range maxRedirects {
		actual := resp.Request
		if actual == nil || actual.Response == nil || actual.Response == req.Response {
			break
		}
		resp = actual.Response
	}
	return resp
}

// targetURL returns the target URI of a request: its Host may be another than that which it is sent to.
// RFC 9110, section 7.1.
func targetURL(req *http.Request) *url.URL {
	target := *req.URL
	if req.Host != "" {
		target.Host = req.Host
	}
	return &target
}

// twin has the answer to a POST stored for later GETs, if it says that it serves for those. If it returns a flight, the
// content is to be read from the download of that. RFC 9110, section 9.3.3.
func (t *Transport) twin(req *http.Request, resp *http.Response) (o outcome, f *flight) {
	if req.Method != http.MethodPost || resp.Header["Content-Location"] == nil || resp.ContentLength == 0 {
		return outcome{}, nil
	}
	get := req.WithContext(req.Context())
	get.Method, get.Body = http.MethodGet, nil
	x, _ := t.begin(get)
	if x == nil {
		return outcome{}, nil
	}
	x.detach()
	x.asker = detached(req)
	f = newFlight(req.Context())
	// The request was sent with the caller's context, so that only closing the body, which its download does,
	// ends it.
	f.cancel = func(error) {}
	// The request is taken to have been made now, after what it invalidated.
	a := &answer{exchange: x, flight: f, resp: resp, sent: req, requested: wallClock(), received: wallClock()}
	e := a.entry()
	r := newResponse(e)
	if !describesTarget(req.Method, targetURL(req), &r) || storable(x.rules, &r, false) != "" {
		return outcome{}, nil
	}
	o = a.record(e, span{0, e.Length}, nil)
	if o.download == nil {
		return o, nil
	}
	t.land(f, o)
	return o, f
}

// unsafeLog remembers when URLs were last invalidated, so that what was asked for before and
// arrives after is not taken for newer. Its zero value is ready for use.
type unsafeLog struct {
	used         atomic.Bool // most programs never send anything unsafe to what they cache
	mu           sync.Mutex
	last, before map[string]time.Time // of what was invalidated most recently, and of that before it
	turned       time.Time            // when last became before
	forgotten    time.Time            // a time not before any that was forgotten
}

// maxUnsafe bounds the URLs that are remembered. Beyond it the older half is forgotten, and what has been under
// way since before that has to be validated.
const maxUnsafe = 4096

func (l *unsafeLog) note(prefix string, now time.Time) {
	l.used.Store(true)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.last) >= maxUnsafe/2 {
		l.forgotten, l.turned = l.turned, now
		l.before, l.last = l.last, nil
	}
	if l.last == nil {
		l.last = make(map[string]time.Time)
	}
	l.last[prefix] = now
}

// at returns when the URL of a key's prefix was last invalidated by this Transport, zero if it was not as far as
// is remembered: for what is stored, on which what others invalidate must have no effect.
func (l *unsafeLog) at(prefix string) time.Time {
	if !l.used.Load() {
		return time.Time{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if at, ok := l.last[prefix]; ok {
		return at
	}
	return l.before[prefix]
}

// since returns when the URL of a key's prefix was last invalidated by this Transport, or a later
// time; zero if it was not: for what is under way.
func (l *unsafeLog) since(prefix string) time.Time {
	at := l.at(prefix)
	if !at.IsZero() || !l.used.Load() {
		return at
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.forgotten
}
