package cachetrip

import (
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cachetrip/cachetrip/internal/background"
	"github.com/cachetrip/cachetrip/internal/eventlog"
	"github.com/cachetrip/cachetrip/internal/guard"
	"github.com/cachetrip/cachetrip/internal/inflight"
	"github.com/cachetrip/cachetrip/internal/memo"
	"github.com/cachetrip/cachetrip/internal/patience"
	"github.com/cachetrip/cachetrip/internal/pending"
	"github.com/cachetrip/cachetrip/internal/straggler"
	"github.com/cachetrip/cachetrip/store"
)

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

// original is what http.DefaultTransport was before a program may have put a cache in its place.
var original = http.DefaultTransport

// base returns what makes the real requests.
func (t *Transport) base() http.RoundTripper {
	switch {
	case t.Base != nil:
		return t.Base
	case http.DefaultTransport == http.RoundTripper(t):
		return original // instead of itself
	}
	return http.DefaultTransport
}

// shareTimeout returns ShareTimeout, or what it stands for.
func (t *Transport) shareTimeout() time.Duration {
	switch {
	case t.ShareTimeout == 0:
		return patience.Longest
	case t.ShareTimeout < 0:
		return 0
	}
	return t.ShareTimeout
}

// closeGrace is how long Close waits for the header of a response that is
// requested in the background.
const closeGrace = 3 * time.Second
