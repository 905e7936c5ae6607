package cachetrip

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/cachetrip/cachetrip/internal/field"
	"github.com/cachetrip/cachetrip/internal/guard"
	"github.com/cachetrip/cachetrip/internal/patience"
)

// An exchange: one request that concerns the cache, while it is answered.

// exchange is one request that concerns the cache, while it is answered.
type exchange struct {
	t     *Transport
	req   *http.Request // the caller's
	own   *http.Request // a copy of req to send, which outlives the caller's context; see detach
	shown *http.Request // is shown to hooks and logs instead; may be nil
	rules *request      // req as the rules see it; at first &asked
	asked request
	key   string

	// The caller's context; nil until it is needed. See context. bodyGiven says that the caller reads a
	// body that is on its way: then the end of the body calls unwatch.
	ctx       context.Context
	unwatch   func()
	bodyGiven bool

	behind    bool           // no caller waits: x revalidates behind a stale response
	sharing   *sharing       // nil until the origin has to be asked
	lastReply *http.Response // of the origin
}

// begin returns the exchange for req. If req does not concern the cache, begin returns nil, and the
// status to forward req with.
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

// bypasses returns the reason why a GET or HEAD does not concern the cache, empty if it does. plain
// says that none of its fields matters to the cache.
func bypasses(req *http.Request, plain bool) string {
	switch {
	case req.Body != nil && req.Body != http.NoBody:
		return "content" // has no meaning in these methods: RFC 9110, section 9.3.1
	case plain:
		return ""
	case req.Header["Upgrade"] != nil:
		return "upgrade"
	case req.Header["If-Match"] != nil || req.Header["If-Unmodified-Since"] != nil:
		return "precondition" // only the origin evaluates these: RFC 9111, section 4.3.2
	}
	return ""
}

// identify computes how the rules see the request, and its key. seen is the request with header names
// in canonical form. anonymous says that it carries no credentials that name an identity.
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

// onlyCached reports whether a request must not be forwarded although it does
// not concern the cache. Unsafe methods must always be forwarded. Sections 4
// and 5.2.1.7.
func onlyCached(req *http.Request) bool {
	if !isSafe(req.Method) || req.Method == http.MethodConnect {
		return false
	}
	h, _ := field.Canonical(req.Header)
	return newRequest(req.Method, h, directivesOf(req.Context()), nil).cc.OnlyIfCached
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

// release ends all that x holds when the request is answered, except what the end of the body ends.
func (x *exchange) release() {
	x.sharing.end()
	if x.unwatch != nil && !x.bodyGiven {
		x.unwatch()
	}
}

// request returns the request that hooks and logs get. The caller may change
// its own request once it has the response.
func (x *exchange) request() *http.Request {
	if x.shown != nil {
		return x.shown
	}
	if x.own != nil {
		return x.own
	}
	return x.req
}

// store returns the Store behind its guard, for x.
func (x *exchange) store() guard.Store { return x.t.storeFor(x.request()) }

// lasting returns a context for calls of the Store that must not end with the
// caller's context. They still take no longer than the caller's patience.
func (x *exchange) lasting() context.Context {
	if x.behind {
		return context.WithoutCancel(x.req.Context())
	}
	return patience.Lasting(x.req.Context())
}

// How long a caller waits for an answer.

// errCanceled is the error for a caller that has closed Request.Cancel, as
// net/http has it.
var errCanceled = errors.New("cachetrip: request canceled")

// sameMoment is how close a deadline must be to count as the reason for which
// Request.Cancel was closed.
const sameMoment = 10 * time.Millisecond

// callerContext returns a context that ends when the caller of a request does
// not want an answer any more: with the request's own context, and with
// Request.Cancel, which http.Client uses for its Timeout with every
// RoundTripper but net/http's own. stop must be called when the request is
// over.
func callerContext(req *http.Request) (ctx context.Context, stop func()) {
	//lint:ignore SA1019 programs that still use it must be heard
	canceled := req.Cancel
	if canceled == nil {
		return req.Context(), func() {}
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	go func() {
		select {
		case <-ctx.Done():
			return
		case <-canceled:
		}
		// A Timeout is also a deadline of the request's context. That it has
		// passed says more.
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < sameMoment {
			<-ctx.Done()
		}
		cancel(errCanceled)
	}()
	return ctx, func() { cancel(nil) }
}

// context returns the context of the caller of x. See callerContext.
func (x *exchange) context() context.Context {
	if x.ctx == nil {
		x.ctx, x.unwatch = callerContext(x.req)
	}
	return x.ctx
}

// waitsFor returns how long x may still wait for other requests: altogether no
// longer than its patience.
func (x *exchange) waitsFor() time.Duration {
	now := time.Now()
	if x.sharing.until.IsZero() {
		x.sharing.until = now.Add(patience.Of(x.context(), now, x.t.shareTimeout()))
	}
	return x.sharing.until.Sub(now)
}

// Copies of a caller's request. Callers may change their requests once they are answered, and Base may
// change what it gets.

// outgoing returns the request to send for x, with a header of its own.
func (x *exchange) outgoing(ctx context.Context) *http.Request {
	out := x.own.WithContext(ctx)
	target := *x.own.URL // a copy, because Base might change it
	out.URL = &target
	out.Header = withDirectives(x.own.Header, directivesOf(ctx))
	return out
}

// detach gives x a request of its own. A caller may change its request once it
// has the response, but the exchange may still send it: behind a stale
// response, or for other callers.
func (x *exchange) detach() {
	own := detached(x.req)
	x.own = own
	rules := *x.rules
	rules.header = own.Header
	if h, changed := field.Canonical(own.Header); changed {
		rules.header = h
		own.Header = respelled(own.Header, h)
	}
	x.rules = &rules
}

// detached returns a copy of a request without its body. It does not change
// when the caller changes the original.
func detached(req *http.Request) *http.Request {
	own := *req
	own.URL = new(url.URL)
	*own.URL = *req.URL
	own.Header = req.Header.Clone()
	own.Body = nil
	//lint:ignore SA1019 it concerns the caller alone; see callerContext
	own.Cancel = nil
	return &own
}

// respelled returns h with the fields that the cache may set taken from
// canonical, which is h with canonical names. Other fields keep their spelling,
// because odd servers may depend on it.
func respelled(h, canonical http.Header) http.Header {
	for name := range h {
		if slices.Contains(setFields, http.CanonicalHeaderKey(name)) {
			delete(h, name)
		}
	}
	for _, name := range setFields {
		if lines, ok := canonical[name]; ok {
			h[name] = lines
		}
	}
	return h
}
