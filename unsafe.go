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
func (t *Transport) twin(req *http.Request, resp *http.Response) (o result, f *flight) {
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
	x.asker = detached(req)
	f = newFlight(req.Context())
	// The request was sent with the caller's context, so that only closing the body, which its download does,
	// ends it.
	f.cancel = func(error) {}
	// The request is taken to have been made now, after what it invalidated.
	a := &originReply{x: x, flight: f, resp: resp, sent: req, number: t.events.next(), requested: wallClock(), received: wallClock()}
	e := a.entry()
	r := newResponse(e)
	if !describesTarget(req.Method, targetURL(req), &r) || storable(x.rules, &r, false) != "" {
		return result{}, nil
	}
	o = a.record(e, span{0, e.Length}, nil)
	if o.download == nil {
		return o, nil
	}
	t.land(f, o)
	return o, f
}

// events gives what happens in this process numbers in its order, which clocks do not tell: two things may happen at one
// time, as far as a clock can tell times apart. It remembers when URLs were last invalidated, so that what was asked for
// before and arrives after is not taken for newer. Times remain for what other processes do. Its zero value is ready for
// use.
type events struct {
	count       atomic.Uint64
	invalidated eventLog // URLs, by the prefix of their keys, and keys
	brought     eventLog // keys for which something was stored
	distrusted  eventLog // keys for which something was stored as in need of validation
}

// next returns the number of what happens now.
func (es *events) next() uint64 { return es.count.Add(1) }

// invalidate notes that what is stored is invalid from now on under a key, or the keys with a prefix that stands for a
// URL.
func (es *events) invalidate(key string, now time.Time) {
	es.invalidated.note(key, event{es.next(), now})
}

// bring notes that something was stored under a key.
func (es *events) bring(key string) { es.brought.note(key, event{number: es.next()}) }

// distrust notes that what was stored under a key at a time counts as invalid from then on.
func (es *events) distrust(key string, now time.Time) { es.distrusted.note(key, event{es.next(), now}) }

// invalidatedAt returns when the URL of a key was last invalidated by this Transport, zero if it was not as far as
// is remembered: for what is stored, on which what others invalidate must have no effect.
func (es *events) invalidatedAt(key string) time.Time { return es.invalidated.at(key[:urlDigits]).time }

// invalidatedSince reports whether this Transport has invalidated a key, or its URL, since the event with a number:
// for what is under way. It may do so if it does not remember.
func (es *events) invalidatedSince(number uint64, key string) bool {
	return es.invalidated.since(key) > number || es.invalidated.since(key[:urlDigits]) > number
}

// order returns what is known of the order of events of a key, for a response whose request was the event with a number.
func (es *events) order(number uint64, key string) order {
	known := order{overtaken: es.brought.since(key) > number}
	for _, e := range [...]event{es.invalidated.at(key), es.invalidated.at(key[:urlDigits]), es.distrusted.at(key)} {
		if e.number != 0 && e.number < number {
			known.invalidated = append(known.invalidated, e.time)
		}
	}
	return known
}

// event is something that happened, with its number and time.
type event struct {
	number uint64
	time   time.Time
}

// eventLog remembers the last events of URLs or keys. Its zero value is ready for use.
type eventLog struct {
	used         atomic.Bool // most programs never send anything unsafe to what they cache
	mu           sync.Mutex
	last, before map[string]event // the most recent ones, and those before them
	turned       uint64           // the number of the event with which last became before
	forgotten    uint64           // a number not below that of any event that was forgotten
}

// maxEvents limits the events that a log remembers. Beyond it the older half is forgotten, and what has been under
// way since before that has to be validated.
const maxEvents = 4096

func (l *eventLog) note(key string, e event) {
	l.used.Store(true)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.last) >= maxEvents/2 {
		l.forgotten, l.turned = l.turned, e.number
		l.before, l.last = l.last, nil
	}
	if l.last == nil {
		l.last = make(map[string]event)
	}
	if e.number > l.last[key].number {
		l.last[key] = e
	}
}

// at returns the last event of a key, zero if there was none as far as is remembered.
func (l *eventLog) at(key string) event {
	if !l.used.Load() {
		return event{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.last[key]; ok {
		return e
	}
	return l.before[key]
}

// since returns the number of the last event of a key, or a higher one; 0 if there was none.
func (l *eventLog) since(key string) uint64 {
	if e := l.at(key); e.number != 0 || !l.used.Load() {
		return e.number
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.forgotten
}
