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

// Transport is an [http.RoundTripper] that answers requests from a private
// cache where RFC 9111 allows it, and stores the responses that it forwards.
// Its zero value forwards everything. Do not change the fields while it is in
// use. A Transport is safe for concurrent use, and must not be copied.
type Transport struct {
	// Store keeps the responses. If it is nil, nothing is stored, and every
	// request is forwarded except those with only-if-cached.
	Store store.Store

	// Base makes the real requests. If it is nil, http.DefaultTransport does.
	// If http.DefaultTransport is this Transport, its value at the start of the
	// program does. Base must not lead back to this Transport. If Base follows
	// redirects by itself, the response has the Request that it answers, and is
	// not stored.
	Base http.RoundTripper

	// Identity names the user of a request. Requests of different identities
	// share no responses: in effect, each identity has a private cache of its
	// own. Only a digest of the name is kept. If Identity is nil or returns "",
	// the values of Authorization and Proxy-Authorization are the identity.
	// Requests without these fields then have the same identity.
	//
	// All credentials of a request count as those of the named user, including
	// credentials that Base adds below the cache. So tokens may change. Without
	// a name, a response to a request that got credentials below the cache is
	// never reused without asking the origin. Client certificates and cookies
	// do not identify; see "Keys and identity". The argument is the caller's
	// request, or a copy whose header names are in canonical form. Identity may be
	// called concurrently.
	Identity func(*http.Request) string

	// Policy says what the program wants for a request, such as a lifetime or
	// another URL to store under; see [Policy]. It is called once for each
	// request, before anything is looked up, with the caller's request, which it
	// must not change. It must depend on the request alone. After a redirect,
	// [http.Request.Response] leads to the requests before. It is also called
	// with a GET request made from a URL, for Invalidate, Purge, and the URLs
	// that an unsafe request invalidates.
	//
	// If Policy is nil, returns an invalid field or panics, the zero Policy
	// applies. The Logger gets the first such problem. Policy may be called
	// concurrently.
	Policy func(*http.Request) Policy

	// ModifyResponse gets every response from Base before the cache does,
	// including 304s and responses to background requests. It may edit the
	// header. Use it to cache responses that an origin forgot to allow. It must
	// not touch the body. It may be called concurrently.
	//
	// If it returns an error, RoundTrip returns that error and nothing is
	// stored. A response to an unsafe request still invalidates, according to
	// its original header.
	ModifyResponse func(*http.Response) error

	// StaleIfError is how long a response may be served after it became stale,
	// if the origin fails. A transport error, an expired deadline, a status of
	// 500 or more, and a used-up rate limit are failures: a 429, or a 403 with
	// Retry-After or with X-RateLimit-Remaining: 0. Other 4xx are none. The
	// origin need not allow it, but responses with must-revalidate or no-cache
	// are never served so.
	//
	// If 0, only a stale-if-error directive in the request or response applies.
	// It covers errors and the statuses 500, 502, 503 and 504. RFC 5861,
	// section 4.
	StaleIfError time.Duration

	// KeepSetCookie stores the Set-Cookie fields of responses and serves them
	// again. By default they are not stored, and only the caller whose request
	// reached the origin gets them, as in browsers. A cookie from the store
	// could put an old session back into the client's jar. If a 304 sets a
	// cookie, the caller whose request it answers gets that cookie. RFC 9111,
	// section 7.3.
	KeepSetCookie bool

	// DrainBytes and DrainTime apply if a body is closed before its end. If at
	// most DrainBytes are missing, Close waits up to DrainTime for them, so
	// that the whole response can be stored. Otherwise the transfer is cut.
	//
	// Close does not wait if the request's context has ended, or if the body is
	// a text/event-stream. If the length is unknown, it waits only until
	// nothing arrives for a quarter of DrainTime. The defaults are 256 KiB and
	// 100 ms. If either is negative, Close never waits.
	DrainBytes int64
	DrainTime  time.Duration // see DrainBytes

	// Logger gets each decision at debug level, and failures of the store at
	// warn level. URLs are logged without user information and query. If nil,
	// nothing is logged.
	Logger *slog.Logger

	// ShareTimeout is how long a request waits at most for another request for
	// the same thing. Then it asks the origin itself. It never waits longer
	// than a quarter of the time until its own deadline. If 0, ShareTimeout is
	// 5 s. If negative, requests do not wait for each other.
	ShareTimeout time.Duration

	// Trace has hooks for what happens to each request. If it or a hook is nil,
	// nothing is called. See also [WithTrace].
	Trace *Trace

	owned    io.Closer // the store that Open made
	guard    guard.Guard
	counters counters
	evicted  atomic.Uint64 // evictions of the Store that hooks were told of

	keys       keys
	views      views
	events     eventlog.Log
	stamps     eventlog.Stamps // of requests, and of invalidations in ledgers
	writes     pending.Writes
	refusals   memo.Refusals
	singleTag  memo.Set               // URLs whose origin answers no 304 to several entity tags; see comparesAsText
	policyTold atomic.Bool            // a problem with a Policy was logged
	storeWorks atomic.Bool            // the Store took the last entry that it was given
	searches   atomic.Bool            // the Store has responses with No-Vary-Search
	searchKey  atomic.Pointer[string] // see searchNote

	searchesSought atomic.Int64 // when the Store was last seen to have none, in Unix nanoseconds

	requests  inflight.Group[result]
	turns     inflight.Turns
	audiences audiences
	refreshes background.Jobs // revalidations behind stale responses

	closed atomic.Bool   // requests are forwarded; set with mu
	ended  chan struct{} // closed when Close has ended; nil before Close; needs mu

	mu         sync.Mutex     // also orders background.Add before Close
	background sync.WaitGroup // work for callers that have their response
	stragglers straggler.Counter
}

// Open returns a Transport that keeps its cache in the directory dir. It
// creates the directory if needed. The defaults suit most programs: a size
// limit of 1 GiB, and http.DefaultTransport as Base. A last argument of type
// [store.DiskOptions] changes those of the store; only the first one counts.
// Any number of Transports and processes may share a directory. Close also
// closes the store.
//
// Open returns an error if dir, or a part of its path, is a file, or if the
// directory cannot be created. A directory that cannot be written to is opened,
// and responses are served from it.
func Open(dir string, opts ...store.DiskOptions) (*Transport, error) {
	var diskOptions store.DiskOptions
	if len(opts) > 0 {
		diskOptions = opts[0]
	}
	disk, err := store.OpenDisk(dir, diskOptions)
	if err != nil {
		return nil, err
	}
	return &Transport{Store: disk, owned: disk}, nil
}

// Client returns a new http.Client that uses t. It has no Timeout and no cookie
// jar; the caller may set them.
func (t *Transport) Client() *http.Client { return &http.Client{Transport: t} }

// Close waits until responses that callers have read are stored, and until
// background revalidations end. After 3 s it cancels revalidations whose origin
// has not begun to answer. Others end at most 30 s after they began. If calls
// of Base or the Store ignore their cancellation, Close waits up to 5 s more
// for them. Only their goroutines can outlive it. If [Open] made t, Close
// closes its store.
//
// After Close, requests are forwarded and responses are not stored. The Store
// is not used any more, except by bodies that are being read: they can be read
// to their end.
func (t *Transport) Close() error {
	t.mu.Lock()
	if t.ended != nil {
		t.mu.Unlock()
		<-t.ended // another call closes t, or has closed it
		return nil
	}
	t.ended = make(chan struct{})
	t.closed.Store(true)
	t.mu.Unlock()
	defer close(t.ended)
	timer := time.AfterFunc(closeGrace, t.refreshes.GiveUp)
	t.background.Wait() // background work may still store responses
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

// beginBackground makes Close wait until t.background is done once more. It
// reports false if t is already closed.
func (t *Transport) beginBackground() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed.Load() {
		return false
	}
	t.background.Add(1)
	return true
}

// WrappedRoundTripper returns Base, or the default if Base is nil. Programs
// that look for a RoundTripper below others, such as Kubernetes' clients, use
// this method.
func (t *Transport) WrappedRoundTripper() http.RoundTripper { return t.base() }

// CloseIdleConnections closes the idle connections of Base, if Base can do
// that. [http.Client.CloseIdleConnections] calls it.
func (t *Transport) CloseIdleConnections() {
	if base, ok := t.base().(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// drainBudget returns DrainBytes and DrainTime, or their defaults.
func (t *Transport) drainBudget() (int64, time.Duration) {
	budget, patience := t.DrainBytes, t.DrainTime
	if budget == 0 {
		budget = 256 << 10 // larger than nearly all API responses
	}
	if patience == 0 {
		patience = 100 * time.Millisecond // hardly noticeable, but many round trips
	}
	if budget < 0 || t.closed.Load() {
		patience = 0
	}
	return budget, patience
}

// original is http.DefaultTransport at the start of the program. The program
// may put a Transport in its place later.
var original = http.DefaultTransport

// base returns Base or its default.
func (t *Transport) base() http.RoundTripper {
	switch {
	case t.Base != nil:
		return t.Base
	case http.DefaultTransport == http.RoundTripper(t):
		return original // not t itself
	}
	return http.DefaultTransport
}

// shareTimeout returns ShareTimeout or its default.
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
