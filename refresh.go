package cachetrip

import (
	"context"
	"io"
	"math"
	"net/http"
	"time"

	"github.com/cachetrip/cachetrip/store"
)

// Revalidating behind a stale response that was served: RFC 5861, section 3.

const (
	// maxRefreshes bounds the revalidations behind stale responses that are under way at once; more
	// wait for the next use of their response.
	maxRefreshes = 32

	// maxOriginRefreshes bounds those of one origin, so that one that does not answer leaves some for others.
	maxOriginRefreshes = 8

	// refreshTime bounds one of them, as nobody waits who could cancel it, but Close.
	refreshTime = 30 * time.Second

	// closeGrace is how long Close waits for the head of an answer.
	closeGrace = 3 * time.Second
)

// refreshing is a revalidation behind a stale response.
type refreshing struct {
	origin string
	forgo  context.CancelFunc // ends it if the head of the answer is not there yet
}

// refresh revalidates behind a stale response that was served: once for all who were served it
// meanwhile. RFC 5861, section 3.
func (x *exchange) refresh(entries []*store.Entry, stored []response, d decision) {
	key := x.key + x.variant(stored)
	origin := lower(x.req.URL.Scheme) + "://" + authority(x.req.URL.Scheme, x.req.URL.Host)
	x.mu.Lock()
	if x.closed.Load() || !x.mayRefresh(key, origin) {
		x.mu.Unlock()
		return
	}
	if x.refreshing == nil {
		x.refreshing = make(map[string]refreshing)
	}
	patience, forgo := context.WithCancel(context.Background())
	x.refreshing[key] = refreshing{origin, forgo}
	x.background.Add(1)
	x.mu.Unlock()

	own := *x
	own.detach()
	own.req = own.own
	d.action = revalidate
	go func() {
		defer own.background.Done()
		defer forgo()
		defer func() {
			own.mu.Lock()
			defer own.mu.Unlock()
			delete(own.refreshing, key)
		}()
		own.refreshNow(patience, entries, stored, d)
	}()
}

// mayRefresh reports whether there is room for a revalidation. It needs t.mu.
func (t *Transport) mayRefresh(key, origin string) bool {
	if _, ok := t.refreshing[key]; ok || len(t.refreshing) >= maxRefreshes {
		return false
	}
	same := 0
	for _, other := range t.refreshing {
		if other.origin == origin {
			same++
		}
	}
	return same < maxOriginRefreshes
}

// forgoRefreshes ends the revalidations that wait for the head of an answer.
func (t *Transport) forgoRefreshes() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.refreshing {
		r.forgo()
	}
}

// refreshNow asks the origin, unless somebody else does so already, and has the answer stored. It waits for the
// head of that until patience ends.
func (x *exchange) refreshNow(patience context.Context, entries []*store.Entry, stored []response, d decision) {
	ctx := untraced{context.WithoutCancel(x.req.Context())}
	f, leads := x.flights.join(ctx, x.flightKey(stored), math.MaxUint64, time.Now())
	if !leads {
		x.leave(f)
		return
	}
	// The bound is that of this part in the flight: others may have joined.
	bound, cancel := context.WithTimeout(ctx, refreshTime)
	defer cancel()
	head, stop := context.WithCancel(bound)
	defer stop()
	defer context.AfterFunc(patience, stop)()
	go x.fly(f, func(f *flight) outcome { return x.askAlone(f, entries, stored, d) })
	if f.wait(head) != nil {
		x.forgo(f)
		return
	}
	if f.download != nil {
		r := f.download.take(bound, func(bool) { x.leave(f) })
		io.Copy(io.Discard, r)
		r.Close()
		return
	}
	defer x.leave(f)
	if f.confirmed() {
		x.counters.revalidations.Add(1)
		x.tell(answerRevalidated, x.own, nil, Status{
			Fwd: d.fwd, FwdStatus: http.StatusNotModified, Stored: !f.unsaved, Detail: d.detail,
			TTL: f.response.lifetime() - f.response.age(wallClock()),
		})
	}
}
