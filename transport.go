package cachetrip

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cachetrip/cachetrip/internal/background"
	"github.com/cachetrip/cachetrip/internal/eventlog"
	"github.com/cachetrip/cachetrip/internal/field"
	"github.com/cachetrip/cachetrip/internal/guard"
	"github.com/cachetrip/cachetrip/internal/inflight"
	"github.com/cachetrip/cachetrip/internal/memo"
	"github.com/cachetrip/cachetrip/internal/patience"
	"github.com/cachetrip/cachetrip/internal/pending"
	"github.com/cachetrip/cachetrip/internal/straggler"
	"github.com/cachetrip/cachetrip/store"
)

// The story of a request: look up, decide, then serve, revalidate or fetch, then store.

// Transport is an [http.RoundTripper] that answers requests from a private cache where RFC 9111
// allows it, and keeps what it forwards. Its zero value forwards everything. The fields must not be
// changed while it is in use. A Transport is safe for concurrent use, and must not be copied.
type Transport struct {
	// Store is where responses are kept. If it is nil nothing is stored, and every request is
	// forwarded but those with only-if-cached.
	Store store.Store

	// Base makes the real requests. If it is nil, http.DefaultTransport does, or, if that is this Transport, what it
	// was when the program began. It must not lead back here. If Base follows redirects by itself, the response has the
	// Request that it answers, and is not stored.
	Base http.RoundTripper

	// Identity names on whose behalf a request is made. Responses are shared only between requests
	// of one identity; each has, in effect, a private cache of its own. The name is kept as a
	// digest only. If Identity is nil or returns an empty name, the request's Authorization and
	// Proxy-Authorization values identify, and requests without any share.
	//
	// A name also says that the request's credentials, and those which Base may add below the
	// cache, belong to that identity, whatever their values: tokens may change. Otherwise responses
	// to requests that were given credentials below the cache are never reused without asking the
	// origin. Client certificates and cookies do not identify: see "Keys and identity". The request is
	// the caller's, or a copy whose header names are in canonical form.
	Identity func(*http.Request) string

	// ModifyResponse sees every response from Base before the cache does, those to background
	// requests and 304s included. It may edit the header: the way to cache what an origin forgot to
	// allow. Its error becomes that of RoundTrip, and nothing is stored then. What the answer to an unsafe
	// request invalidates is invalidated all the same, by the header as it came. It must not touch the body.
	ModifyResponse func(*http.Response) error

	// StaleIfError is for how long after it became stale a response may be served when the origin
	// fails (a transport error, a deadline that ran out, a status of 500 or more), even if the
	// origin did not allow it. Responses with must-revalidate or no-cache are never served so.
	// If it is 0, only what request and response allow counts, who speak of 500, 502, 503 and 504 among
	// the statuses. RFC 5861, section 4.
	StaleIfError time.Duration

	// KeepSetCookie stores the Set-Cookie fields of responses and serves them again. By default only the
	// caller whose request reached the origin gets them, as in browsers: cookies served from the store
	// would put an old session back into the client's jar. They are not stored either. If a 304 sets a
	// cookie, the caller who asked gets that cookie. RFC 9111, section 7.3.
	KeepSetCookie bool

	// DrainBytes and DrainTime bound what is done for a response whose body is closed before its
	// end: if at most DrainBytes are missing, Close waits up to DrainTime for them, so that the
	// response can be stored complete. Beyond that the transfer is cut, and at once if the request's
	// context has ended, or the body is a text/event-stream; if its length is unknown, also when nothing
	// comes for a quarter of DrainTime. If they are 0, they are 256 KiB and 100 ms; negative values never wait.
	DrainBytes int64
	DrainTime  time.Duration // see DrainBytes

	// Logger is told what is decided, at debug level, and what goes wrong with the store. URLs are
	// logged without user information and query. If it is nil nothing is logged.
	Logger *slog.Logger

	// ShareTimeout is the longest that a request waits for another one that asks for the same, before it asks the
	// origin itself. It waits for at most a quarter of the time that its own deadline leaves in any case. If
	// ShareTimeout is 0, it is 5 s; if it is negative, requests wait for nobody.
	ShareTimeout time.Duration

	// Trace is told what becomes of every request. If it is nil, or lacks a hook, nothing is called;
	// see also [WithTrace].
	Trace *Trace

	owned         io.Closer // the store that Open made
	counters      counters
	evicted       atomic.Uint64 // evictions of the store that were told
	requests      inflight.Group[result]
	turns         inflight.Turns
	audiences     audiences
	refreshes     background.Jobs // revalidations behind stale responses
	keys          keys
	views         views
	events        eventlog.Log
	pendingWrites pending.Writes
	oneTag        memo.Set // whose origin never answers 304 to several entity tags; see comparesAsText
	guard         guard.Guard
	stragglers    straggler.Counter
	refusals      memo.Refusals
	takes         atomic.Bool // the store took what it was given last

	closed atomic.Bool   // requests are forwarded; set with mu
	ended  chan struct{} // closed when Close has ended; nil before it; needs mu

	mu         sync.Mutex
	background sync.WaitGroup // what is done when callers have been answered
}

// Open returns a Transport that keeps its cache in the directory dir, which is created if needed,
// with defaults fit for most programs: 1 GiB at most, http.DefaultTransport below. Any number of
// Transports and processes may share a directory. The error says why a path can't be a cache: it
// is, or leads through, a file, or can't be created. A directory that can't be written is opened
// and served from.
func Open(dir string) (*Transport, error) {
	disk, err := store.OpenDisk(dir, store.DiskOptions{})
	if err != nil {
		return nil, err
	}
	return &Transport{Store: disk, owned: disk}, nil
}

// Client returns an http.Client that uses t.
func (t *Transport) Client() *http.Client { return &http.Client{Transport: t} }

// Close waits for what is being stored of responses that callers have, and for background revalidations, and, if
// [Open] made t, closes its store. It cancels revalidations that the origin has not begun to answer after 3 s; the
// others end 30 s after they began at the latest. For calls of Base and of the Store that do not return although they
// were cancelled, Close waits up to 5 s more; only their goroutines can outlive it. Afterwards requests are forwarded and
// not stored, and the Store is not used any more, except that responses that are being read can be read to their end.
func (t *Transport) Close() error {
	t.mu.Lock()
	if t.ended != nil {
		t.mu.Unlock()
		<-t.ended // somebody else closes t, or has done so
		return nil
	}
	t.ended = make(chan struct{})
	t.closed.Store(true)
	t.mu.Unlock()
	defer close(t.ended)
	timer := time.AfterFunc(closeGrace, t.refreshes.GiveUp)
	t.background.Wait() // which may still store what the origin sends
	timer.Stop()
	limit := time.Now().Add(patience.Longest)
	t.requests.Wait(limit)
	t.stragglers.Wait(limit)
	t.guard.Shut(time.Until(limit))
	if t.owned == nil {
		return nil
	}
	return t.owned.Close()
}

// beginBackground has Close wait until t.background is done once more, and reports false if t is closed already.
func (t *Transport) beginBackground() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed.Load() {
		return false
	}
	t.background.Add(1)
	return true
}

// RoundTrip answers req from the cache, or with the help of Base. It keeps the contract of
// [http.RoundTripper]. The response says in Cache-Status how it came about; see [StatusOf]. One that came
// from the store, or by another's request, has no TLS, whatever the scheme, as no connection brought it, and
// the Proto with which it once came. The error is that of Base, ModifyResponse or the request's context.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	t.counters.requests.Add(1)
	if ctx := req.Context(); ctx.Err() != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, context.Cause(ctx)
	}
	x, status := t.begin(req)
	if ctx := req.Context(); x == nil && ctx.Err() != nil { // meanwhile, so that Base has no part in it
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, context.Cause(ctx)
	}
	if x == nil && !onlyCached(req) {
		return t.forward(req, status)
	}
	if req.Body != nil {
		req.Body.Close()
	}
	if x == nil {
		return t.refuse(req, status), nil
	}
	defer x.release()
	return x.run()
}

// onlyCached reports whether a request must not be forwarded, though the cache has no part in it. Methods
// that are not safe have to be written through, whatever the request says. Sections 4 and 5.2.1.7.
func onlyCached(req *http.Request) bool {
	if !isSafe(req.Method) || req.Method == http.MethodConnect {
		return false
	}
	h, _ := field.Canonical(req.Header)
	return newRequest(req.Method, h, directivesOf(req.Context()), nil).cc.OnlyIfCached
}

// exchange is one request that concerns the cache, while it is being answered.
type exchange struct {
	t     *Transport
	req   *http.Request // as given
	own   *http.Request // a copy of req to send, which outlives the caller's context; see detach
	asker *http.Request // what hooks and logs are told, if that is neither
	rules *request      // as the rules see it; at first asked
	asked request
	key   string

	// The caller's context, once it matters; see context. A body that is on its way is read as long as it lasts.
	ctx     context.Context
	unwatch func()
	reading bool

	behind bool // nobody waits for the answer: x revalidates behind a stale response

	sharing *sharing // nil before the origin is to be asked

	reply *http.Response // to what was sent last
}

// begin returns the exchange for req, or nil and the status to forward it with, if the cache has no
// part in it.
func (t *Transport) begin(req *http.Request) (*exchange, Status) {
	if !t.keeps() || t.closed.Load() || req.URL == nil || req.URL.Host == "" || lower(req.URL.Scheme) != "http" && lower(req.URL.Scheme) != "https" {
		return nil, Status{Fwd: "bypass"}
	}
	method := req.Method
	switch {
	case method == "":
		method = http.MethodGet
	case method != http.MethodGet && method != http.MethodHead:
		return nil, Status{Fwd: "method"}
	}
	seen := req
	canonical, plain, anonymous := survey(req.Header)
	if !canonical { // net/http sends names as they are spelled
		seen = req.WithContext(req.Context())
		seen.Header, _ = field.Canonical(req.Header)
	}
	if detail := bypasses(seen, plain); detail != "" {
		return nil, Status{Fwd: "bypass", Detail: detail}
	}
	x := &exchange{t: t, req: req}
	if err := x.identify(method, seen, plain, anonymous); err != nil {
		if req.Context().Err() == nil {
			t.storeFailed(req, "secret", err)
		}
		return nil, Status{Fwd: "bypass", Detail: "store-error"}
	}
	if x.rules.cc.NoStore {
		return nil, Status{Fwd: "request", Detail: "no-store"}
	}
	return x, Status{}
}

// bypasses names what makes a GET or HEAD none of the cache's business; empty if nothing does.
func bypasses(req *http.Request, plain bool) string {
	switch {
	case req.Body != nil && req.Body != http.NoBody:
		return "content" // whose meaning is not defined for these methods: RFC 9110, section 9.3.1
	case plain:
		return ""
	case req.Header["Upgrade"] != nil:
		return "upgrade"
	case req.Header["If-Match"] != nil || req.Header["If-Unmodified-Since"] != nil:
		return "precondition" // for the origin to evaluate: RFC 9111, section 4.3.2
	}
	return ""
}

// identify reads the request, seen with canonical names, and computes its key.
func (x *exchange) identify(method string, seen *http.Request, plain, anonymous bool) error {
	digest, err := x.t.digester(seen.Context())
	if err != nil {
		return err
	}
	if further := directivesOf(seen.Context()); plain && further == nil {
		x.asked = request{method: method, header: seen.Header, digest: digest, cc: neutral}
	} else {
		x.asked = newRequest(method, seen.Header, further, digest)
	}
	x.asked.plain = plain
	x.rules = &x.asked
	name := ""
	if x.t.Identity != nil {
		name = x.t.Identity(seen)
	}
	x.rules.identified = name != ""
	var room buffer
	identity := room[:0]
	if name != "" || !anonymous {
		identity = appendIdentity(identity, seen, name)
	}
	x.key = x.t.keys.of(digest, seen.URL, seen.Host, identity)
	return nil
}

// url returns the prefix of all keys of the URL.
func (x *exchange) url() string { return x.key[:urlDigits] }

// invalidatedSince reports whether this Transport may have invalidated the key, or its URL, since
// the event with the given number.
func (x *exchange) invalidatedSince(number uint64) bool {
	return x.t.events.InvalidatedSince(number, x.key) || x.t.events.InvalidatedSince(number, x.url())
}

// orderBefore returns what is known of the order of events of the key, for a response whose request
// was the event with the given number.
func (x *exchange) orderBefore(number uint64) order {
	times := x.t.events.InvalidationsBefore(number, x.key, nil)
	return order{
		overtaken:   x.t.events.StoredSince(number, x.key),
		invalidated: x.t.events.InvalidationsBefore(number, x.url(), times),
	}
}

// release ends what x holds when the request is answered, but for what goes on while the caller reads.
func (x *exchange) release() {
	x.sharing.end()
	if x.unwatch != nil && !x.reading {
		x.unwatch()
	}
}

// run answers the request.
func (x *exchange) run() (*http.Response, error) {
	join := joinAny
	if !x.collapsible() {
		join = joinNone
	}
	for blind, tries := false, 0; ; tries++ {
		moment := x.t.requests.Moment()
		var entries []*store.Entry
		if !blind {
			var err error
			if entries, err = x.lookup(); err != nil {
				return nil, err
			}
		}
		if ctx := x.req.Context(); ctx.Err() != nil { // meanwhile, so that Base has no part in it
			return nil, context.Cause(ctx)
		}
		stored := x.t.views.all(x.key, entries)
		if at := x.t.events.InvalidatedAt(x.url()); !at.IsZero() {
			stored = invalidateBefore(stored, at) // another process may have stored since what it had asked for before
		}
		now := wallClock()
		d := decide(now, x.rules, stored)
		if d.serves() && x.comesBackTo(&stored[d.selected]) {
			d.action, d.fwd, d.detail = revalidate, "request", "redirect-loop"
			join = joinNone
		}
		switch d.action {
		case serve, serveRevalidate:
			resp, err := x.serve(now, entries[d.selected], &stored[d.selected], Status{Hit: true, Detail: d.detail})
			if err != nil {
				blind = true // what is stored can't be read: ask as if it were not there
				continue
			}
			kind := answerHit
			if d.ttl <= 0 {
				x.t.counters.hits.Add(1) // as well
				kind = answerStale
			}
			x.t.tell(kind, x.req, resp, Status{})
			if d.action == serveRevalidate {
				x.refresh(entries, stored, d)
			}
			return resp, nil
		case refuse:
			return x.t.refuse(x.req, Status{Fwd: d.fwd, Detail: d.detail}), nil
		}
		if x.t.logs(x.req.Context()) {
			x.t.log(x.req, "asking the origin", slog.String("action", d.action.String()), slog.String("fwd", d.fwd), slog.String("detail", d.detail))
		}
		resp, next, err := x.ask(entries, stored, d, join, moment)
		switch next {
		case answered:
			return resp, err
		case alone:
			join = joinNone
		case impatient:
			join = max(join, joinReady)
			if err := x.sharing.turn.Wait(x.context(), x.waitsFor()); err != nil {
				return nil, err
			}
		case again:
			blind = blind || tries > maxTries
		}
		if tries >= maxTries {
			join = joinNone
		}
	}
}

// comesBackTo reports whether r is a redirect that the caller, following redirects, has been given before:
// r would send it round again, although what it has met on the way, such as a cookie, can have changed the
// answer of the origin. Browsers validate then as well.
func (x *exchange) comesBackTo(r *response) bool {
	if x.req.Response == nil || r.status < 300 || r.status > 399 || r.header["Location"] == nil || x.rules.cc.OnlyIfCached {
		return false
	}
	before := x.req.Response
	for range maxRedirects {
		if before == nil || before.Request == nil {
			return false
		}
		if sameTarget(before.Request, x.req) {
			return true
		}
		before = before.Request.Response
	}
	return true
}

// maxRedirects bounds the redirects that are looked back at: few clients follow more.
const maxRedirects = 50

// sameTarget reports whether two requests have the same target URI.
func sameTarget(a, b *http.Request) bool {
	return a.URL != nil && b.URL != nil && primaryURL(a.URL, a.Host) == primaryURL(b.URL, b.Host)
}

// maxTries is how often a request may begin again and still wait for others: more than what it
// waits for changes under its hands, other than by chance.
const maxTries = 4

// next is how an exchange goes on after the origin was asked.
type next int

const (
	answered  next = iota
	alone          // without waiting for others, whose answer was of no use
	impatient      // from the beginning, without waiting for others any more
	again          // from the beginning: what is stored has changed
)

// serveStale answers with the selected response although the origin failed, with the given status
// code or none, if that is allowed; else it returns nil.
func (x *exchange) serveStale(entries []*store.Entry, stored []response, d decision, code int) *http.Response {
	now := wallClock()
	if d.selected < 0 || !staleOnError(now, x.rules, &stored[d.selected], x.t.StaleIfError, code) || x.comesBackTo(&stored[d.selected]) {
		return nil
	}
	resp, err := x.serve(now, entries[d.selected], &stored[d.selected], Status{Fwd: d.fwd, FwdStatus: code, Detail: "stale-if-error"})
	if err != nil {
		return nil
	}
	return resp
}

// lookup returns what is stored under the key, what is just being stored included, or an error if the caller's
// context ends before that is. A store that fails costs a miss.
func (x *exchange) lookup() ([]*store.Entry, error) {
	if w := x.t.pendingWrites.Of(x.key); w != nil {
		ctx := x.context()
		if w.Wait(ctx); ctx.Err() != nil {
			return nil, context.Cause(ctx)
		} // else what is being stored is not there yet, if that takes too long
	}
	ctx := x.req.Context()
	if !x.store().AtOnce() {
		ctx = x.context() // which costs more, and ends the waiting also if Request.Cancel is closed
	}
	entries, err := x.store().Entries(ctx, x.key)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		x.storeFailed("look up", err)
	}
	return entries, nil
}

// WrappedRoundTripper returns what makes the real requests: Base, or what stands for it if that is nil. Programs that
// look for a RoundTripper of a certain kind below others, as Kubernetes' clients do, find it by this method.
func (t *Transport) WrappedRoundTripper() http.RoundTripper { return t.base() }

// CloseIdleConnections closes the connections of Base that are not in use, if Base can do that, as
// [http.Client.CloseIdleConnections] has it.
func (t *Transport) CloseIdleConnections() {
	if base, ok := t.base().(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// drainBudget returns DrainBytes and DrainTime, or what stands for them.
func (t *Transport) drainBudget() (int64, time.Duration) {
	budget, patience := t.DrainBytes, t.DrainTime
	if budget == 0 {
		budget = 256 << 10 // more than nearly all API responses have
	}
	if patience == 0 {
		patience = 100 * time.Millisecond // hardly felt by who closes, and many round trips
	}
	if budget < 0 || t.closed.Load() {
		patience = 0
	}
	return budget, patience
}

var silent = slog.New(slog.DiscardHandler)

func (t *Transport) logger() *slog.Logger {
	if t.Logger != nil {
		return t.Logger
	}
	return silent
}

// String names the action for logs.
func (a action) String() string {
	return [...]string{"fetch", "revalidate", "resume", "serve", "serve-and-revalidate", "refuse"}[a]
}
