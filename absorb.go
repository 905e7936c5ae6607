package cachetrip

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cachetrip/cachetrip/internal/field"
	"github.com/cachetrip/cachetrip/store"
)

// Between the rules and the store: how the one sees what the other keeps, and the changes that
// concern a whole URL.

// newResponse returns e as the rules see it.
func newResponse(e *store.Entry) response {
	r := response{
		status:        e.Status,
		header:        e.Header,
		cc:            field.ParseCacheControl(e.Header["Cache-Control"]),
		requested:     e.RequestTime,
		received:      e.ResponseTime,
		headOnly:      e.Method == http.MethodHead,
		length:        e.Length,
		selecting:     e.Selecting,
		uncompressed:  e.Uncompressed,
		invalidatedAt: e.InvalidatedAt,
		foreign:       e.ForeignCredentials,
	}
	if len(e.Parts) == 1 && e.Parts[0].Offset == 0 && e.Parts[0].Length == e.Length {
		r.allHeld = true
		return r
	}
	for _, part := range e.Parts {
		if last := len(r.held) - 1; last >= 0 && r.held[last].end == part.Offset {
			r.held[last].end += part.Length
			continue
		}
		r.held = append(r.held, span{part.Offset, part.Offset + part.Length})
	}
	return r
}

func responses(entries []*store.Entry) []response {
	if len(entries) == 0 {
		return nil
	}
	stored := make([]response, len(entries))
	for i, e := range entries {
		stored[i] = newResponse(e)
	}
	return stored
}

// maxParts bounds the parts of one body. What is joined beyond it starts anew: so many pieces are
// not worth a head that grows with each.
const maxParts = 64

// joinParts adds what part holds and others do not, in order.
func joinParts(others []store.Part, part store.Part) []store.Part {
	var joined []store.Part
	position, end := part.Offset, part.Offset+part.Length
	gap := func(until int64) {
		if until = min(until, end); position < until {
			joined = append(joined, store.Part{
				Offset: position, Length: until - position,
				Skip: part.Skip + position - part.Offset, Blob: part.Blob,
			})
		}
	}
	for _, other := range others {
		gap(other.Offset)
		joined = append(joined, other)
		position = max(position, other.Offset+other.Length)
	}
	gap(end)
	slices.SortFunc(joined, func(a, b store.Part) int {
		switch {
		case a.Offset < b.Offset:
			return -1
		case a.Offset > b.Offset:
			return 1
		}
		return 0
	})
	return joined
}

// joined returns e with the parts of another response of the same content as well, unless those get
// too many. RFC 9111, section 3.4.
func joined(other, e *store.Entry) *store.Entry {
	both := e.Clone()
	both.Length = max(other.Length, e.Length)
	for _, part := range other.Parts {
		both.Parts = joinParts(both.Parts, part)
	}
	if len(both.Parts) > maxParts {
		return e.Clone()
	}
	return both
}

// drop removes a stored response whose content is damaged.
func (x *exchange) drop(e *store.Entry) {
	x.log(x.request(), "dropped a damaged response")
	err := x.Store.Update(context.WithoutCancel(x.req.Context()), x.key, func(current []*store.Entry) []*store.Entry {
		return without(current, func(other *store.Entry) bool { return sharesBlob(e, other) })
	})
	if err != nil {
		x.storeFailed("drop", err)
	}
}

// without returns entries but for those to leave out: the same slice if there are none.
func without(entries []*store.Entry, out func(*store.Entry) bool) []*store.Entry {
	if !slices.ContainsFunc(entries, out) {
		return entries
	}
	return slices.DeleteFunc(slices.Clone(entries), out)
}

func sharesBlob(a, b *store.Entry) bool {
	for _, part := range a.Parts {
		for _, other := range b.Parts {
			if part.Blob.ID == other.Blob.ID {
				return true
			}
		}
	}
	return false
}

// Invalidate marks all stored responses of a URL, those of every identity, as in need of
// validation: the next use asks the origin, which may still cost no more than a 304. The error says
// that the URL can't be parsed, or what the store failed at.
func (t *Transport) Invalidate(ctx context.Context, url string) error {
	return t.changeURL(ctx, url, markInvalid)
}

// Purge forgets all stored responses of a URL, those of every identity. The error says that the URL
// can't be parsed, or what the store failed at.
func (t *Transport) Purge(ctx context.Context, url string) error {
	return t.changeURL(ctx, url, func([]*store.Entry) []*store.Entry { return nil })
}

// markInvalid is the change that Invalidate makes.
func markInvalid(current []*store.Entry) []*store.Entry {
	now := wallClock()
	next := make([]*store.Entry, len(current))
	for i, e := range current {
		next[i] = e.Clone()
		next[i].InvalidatedAt = now
	}
	return next
}

func (t *Transport) changeURL(ctx context.Context, rawURL string, change func([]*store.Entry) []*store.Entry) error {
	if t.Store == nil {
		return nil
	}
	u, err := url.Parse(rawURL)
	if err != nil {
		return err
	}
	digest, err := t.digester(ctx)
	if err != nil {
		return err
	}
	return t.changeKeys(ctx, digest.url(primaryURL(u, "")), change)
}

// changeKeys changes the entries of every key that begins with prefix, which stands for a URL.
func (t *Transport) changeKeys(ctx context.Context, prefix string, change func([]*store.Entry) []*store.Entry) error {
	t.unsafe.note(prefix, wallClock())
	keys := make(map[string]bool)
	var failed error
	for e, err := range t.Store.All(ctx, prefix) {
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		keys[e.Key] = true
	}
	for key := range keys {
		failed = errors.Join(failed, t.Store.Update(ctx, key, change))
	}
	return failed
}

// invalidateAfter invalidates what the answer to an unsafe request makes doubtful.
// RFC 9111, section 4.4.
func (t *Transport) invalidateAfter(req *http.Request, resp *http.Response) {
	if t.Store == nil || isSafe(req.Method) || t.isClosed() || req.URL == nil {
		return
	}
	ctx := context.WithoutCancel(req.Context())
	digest, err := t.digester(ctx)
	if err != nil {
		t.storeFailed(req, "secret", err)
		return
	}
	for _, target := range invalidated(req.Method, req.URL, resp.StatusCode, resp.Header) {
		if err := t.changeKeys(ctx, digest.url(primaryURL(target, req.Host)), markInvalid); err != nil {
			t.storeFailed(req, "invalidate", err)
		}
	}
}

// twin has the answer to a POST stored for later GETs, if it says that it serves for those: it
// returns the flight whose download is to be read, or nil. RFC 9110, section 9.3.3.
func (t *Transport) twin(req *http.Request, resp *http.Response) *flight {
	if req.Method != http.MethodPost || resp.Header["Content-Location"] == nil || resp.ContentLength == 0 {
		return nil
	}
	get := req.WithContext(req.Context())
	get.Method, get.Body = http.MethodGet, nil
	x, _ := t.begin(get)
	if x == nil {
		return nil
	}
	x.detach()
	f := newFlight(req.Context())
	// The request was sent with the caller's context, so that the flight can't end it but so.
	f.cancel = func(error) { resp.Body.Close() }
	// The request is taken to have been made now, after what it invalidated.
	a := &answer{exchange: x, flight: f, resp: resp, sent: req, requested: wallClock(), received: wallClock()}
	e := a.entry()
	r := newResponse(e)
	if !describesTarget(req.Method, req.URL, &r) || storable(x.rules, &r, false) != "" {
		return nil
	}
	o := a.record(e, span{0, e.Length}, nil)
	if o.download == nil {
		return nil
	}
	t.land(f, o)
	return f
}

// unsafeLog remembers when URLs were last invalidated, so that what was asked for before and
// arrives after is not taken for newer. Its zero value is ready for use.
type unsafeLog struct {
	used atomic.Bool // most programs never send anything unsafe to what they cache
	mu   sync.Mutex
	last map[string]time.Time
	all  time.Time // stands for what was forgotten
}

// maxUnsafe bounds the URLs that are remembered; beyond it everything that is under way when they
// are forgotten has to be validated.
const maxUnsafe = 4096

func (l *unsafeLog) note(prefix string, now time.Time) {
	l.used.Store(true)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.last) >= maxUnsafe {
		clear(l.last)
		l.all = now
	}
	if l.last == nil {
		l.last = make(map[string]time.Time)
	}
	l.last[prefix] = now
}

// since returns when the URL of a key's prefix was last invalidated by this Transport, or a later
// time; zero if it was not.
func (l *unsafeLog) since(prefix string) time.Time {
	if !l.used.Load() {
		return time.Time{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if at, ok := l.last[prefix]; ok {
		return at
	}
	return l.all
}
