package cachetrip

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/cachetrip/cachetrip/internal/content"
	"github.com/cachetrip/cachetrip/internal/field"
	"github.com/cachetrip/cachetrip/internal/guard"
	"github.com/cachetrip/cachetrip/internal/patience"
	"github.com/cachetrip/cachetrip/store"
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
	key   string      // of the stored responses
	exact *exactMatch // nil unless key is that of an equivalent URL

	content *content.Content // of a QUERY, or of a POST by Policy.CacheContent; else nil

	// The caller's context; nil until it is needed. See context. bodyGiven says
	// that the caller reads a body that is on its way: then the end of the body
	// calls unwatch.
	ctx       context.Context
	unwatch   func()
	bodyGiven bool

	room *room // for what a hit allocates; nil if it is used, or if there is none

	behind    bool           // no caller waits: x revalidates behind a stale response
	sharing   *sharing       // nil until the origin has to be asked
	lastReply *http.Response // of the origin
}

// newExchange returns an exchange with room, which takes one allocation. Most
// requests are hits.
func newExchange(t *Transport, req *http.Request) *exchange {
	both := new(struct {
		exchange
		room
	})
	x := &both.exchange
	x.t, x.req, x.room = t, req, &both.room
	return x
}

// newFromStore returns room for a response. The exchange stays in memory as
// long as a response in its own room, so that is only for requests that were
// not sent on.
func (x *exchange) newFromStore() *fromStore {
	if x.room == nil || x.own != nil {
		return new(fromStore)
	}
	whole := &x.room.response
	x.room = nil
	return whole
}

// begin returns the exchange for req with the wishes w. If req does not concern
// the cache, begin returns nil, and the status to forward req with.
func (t *Transport) begin(req *http.Request, w *wishes) (*exchange, Status) {
	if !t.keeps() || t.closed.Load() || req.URL == nil || !storableURL(req.URL) {
		return nil, Status{Fwd: "bypass"}
	}
	method := req.Method
	hasContent := w.policy.readsOnly(method)
	switch {
	case method == "":
		method = http.MethodGet
	case method != http.MethodGet && method != http.MethodHead && !hasContent:
		return nil, Status{Fwd: "method"}
	}
	if w.policy.Mode == ModeNoStore {
		return nil, Status{Fwd: "bypass", Detail: ModeNoStore.detail()}
	}
	seen := req
	canonical, plain, anonymous := survey(req.Header)
	if !canonical { // net/http sends names as they are spelled
		seen = req.WithContext(req.Context())
		seen.Header, _ = field.Canonical(req.Header)
	}
	if detail := bypasses(seen, hasContent, plain); detail != "" {
		return nil, Status{Fwd: "bypass", Detail: detail}
	}
	x := newExchange(t, req)
	digest, err := t.digester(seen.Context())
	if err != nil {
		if req.Context().Err() == nil {
			t.storeFailed(req, "secret", err)
		}
		return nil, Status{Fwd: "bypass", Detail: "store-error"}
	}
	x.understand(method, seen, w, plain, digest)
	if x.rules.cc.NoStore {
		return nil, Status{Fwd: "request", Detail: "no-store"}
	}
	// From here on the content may be read, so that only takeContent knows what
	// to forward.
	if hasContent && !x.takeContent(w) {
		return nil, Status{Fwd: "bypass", Detail: "content-unknown"}
	}
	x.identify(method, seen, w, anonymous)
	return x, Status{}
}

// bypasses returns the reason why a request with a method that the cache
// answers does not concern it, empty if it does. hasContent says that content
// has a meaning in the method, and plain that none of the fields matters to the
// cache.
func bypasses(req *http.Request, hasContent, plain bool) string {
	switch {
	case !hasContent && req.Body != nil && req.Body != http.NoBody:
		return "content" // has no meaning in GET and HEAD: RFC 9110, section 9.3.1
	case plain:
		return ""
	case req.Header["Upgrade"] != nil:
		return "upgrade"
	case req.Header["If-Match"] != nil || req.Header["If-Unmodified-Since"] != nil:
		return "precondition" // only the origin evaluates these: RFC 9111, section 4.3.2
	}
	return ""
}

// takeContent reads the content of the request, which is part of its key. If it
// cannot be known, takeContent puts the body to send into w, and returns false.
// A trailer comes after the content, and is sent only with a body of unknown
// length.
func (x *exchange) takeContent(w *wishes) bool {
	req := x.req
	if len(req.Trailer) > 0 {
		return false
	}
	if w.sparesBody && req.GetBody == nil && req.Body != nil && req.Body != http.NoBody {
		return false
	}
	ctx := req.Context()
	x.content, w.body = content.Take(ctx, patience.Of(ctx, time.Now(), patience.Longest), req.Body, req.GetBody, req.ContentLength, &x.t.stragglers)
	return x.content != nil
}

// understand sets how the rules see the request. seen is the request with
// header names in canonical form.
func (x *exchange) understand(method string, seen *http.Request, w *wishes, plain bool, digest digester) {
	if plain && w.directives == nil {
		x.asked = request{method: method, header: seen.Header, digest: digest, cc: neutral}
	} else {
		x.asked = newRequest(method, seen.Header, w.directives, digest)
	}
	x.asked.plain = plain
	if x.asked.policy = w.policy; w.policy.URL != nil {
		x.asked.url, x.asked.host = seen.URL, seen.Host
	}
	if w.policy.Mode == ModeOnlyIfCached {
		x.asked.cc.OnlyIfCached = true
	}
	x.rules = &x.asked
}

// identify sets whose request it is, and its key. anonymous says that it
// carries no credentials that name an identity.
func (x *exchange) identify(method string, seen *http.Request, w *wishes, anonymous bool) {
	digest := x.rules.digest
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
	if x.content != nil {
		identity = appendContent(room[:0], digest.identity(identity), method, seen.Header, x.content.Sum)
	}
	target, host := storedAs(&w.policy, seen)
	x.key = x.t.keys.of(digest, target, host, identity)
}

// onlyCached reports whether a request must not be forwarded although it does
// not concern the cache. Unsafe methods must always be forwarded. Sections 4
// and 5.2.1.7.
func onlyCached(req *http.Request, w *wishes) bool {
	if !isSafe(req.Method) && !w.policy.readsOnly(req.Method) || req.Method == http.MethodConnect {
		return false
	}
	h, _ := field.Canonical(req.Header)
	return w.policy.Mode == ModeOnlyIfCached || newRequest(req.Method, h, w.directives, nil).cc.OnlyIfCached
}

// url returns the prefix of all keys of the URL.
func (x *exchange) url() string { return x.key[:urlDigits] }

// responseOf returns e as the rules see it for x.
func (x *exchange) responseOf(e *store.Entry) response { return x.rules.policy.of(newResponse(e)) }

// wholeOf is responseOf as if all content of e were stored.
func (x *exchange) wholeOf(e *store.Entry) response { return x.rules.policy.of(asComplete(e, nil)) }

// staleIfError returns how long the owner of the cache lets a stale response be
// served when the origin fails.
func (x *exchange) staleIfError() time.Duration {
	return cmp.Or(x.rules.policy.StaleIfError, x.t.StaleIfError)
}

// keepsStale reports whether stale responses may be served even if they do not
// allow it.
func (x *exchange) keepsStale() bool {
	return x.staleIfError() > 0 || x.rules.policy.Mode.takesStale()
}

// storable returns why r, the response to the request of x, is not stored, or
// "" if it may be.
func (x *exchange) storable(r *response) (why string) { return storable(x.rules, r, x.keepsStale()) }

// exactMatch is what the request's own URL has in the store, if stored
// responses of an equivalent URL are used.
type exactMatch struct {
	key    string
	stored []response
}

// exactKey returns the key of the request's own URL.
func (x *exchange) exactKey() string {
	if x.exact != nil {
		return x.exact.key
	}
	return x.key
}

// invalidatedSince reports whether this Transport may have invalidated the key,
// or its URL, since the event with the given number.
func (x *exchange) invalidatedSince(number uint64) bool {
	return x.t.events.InvalidatedSince(number, x.key) || x.t.events.InvalidatedSince(number, x.url()) ||
		x.exact != nil && x.t.events.InvalidatedSince(number, x.exact.key[:urlDigits])
}

// orderBefore returns what is known of the order of events of the key, for a
// response whose request was the event with the given number.
func (x *exchange) orderBefore(number uint64) order {
	times := x.t.events.InvalidationsBefore(number, x.key, nil)
	return order{
		overtaken:   x.t.events.StoredSince(number, x.key),
		invalidated: x.t.events.InvalidationsBefore(number, x.url(), times),
	}
}

// release ends all that x holds when the request is answered, except what the
// end of the body ends.
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

// Copies of a caller's request. Callers may change their requests once they are
// answered, and Base may change what it gets.

// outgoing returns the request to send for x, with a header of its own.
func (x *exchange) outgoing(ctx context.Context) *http.Request {
	out := x.own.WithContext(ctx)
	target := *x.own.URL // a copy, because Base might change it
	out.URL = &target
	out.Header = withDirectives(x.own.Header, x.rules.further)
	if x.content != nil {
		out.Body, out.GetBody, out.ContentLength = x.content.Body(), x.content.Open, x.content.Length
	}
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
	if u := rules.policy.URL; u != nil { // it may be the URL of the caller's request
		kept := *u
		rules.policy.URL, rules.url = &kept, own.URL
	}
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
	own.Body, own.GetBody, own.ContentLength = nil, nil, 0
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
