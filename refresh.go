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

	// refreshTime bounds one of them, as nobody waits who could cancel it, but Close.
	refreshTime = 30 * time.Second
)

// refresh revalidates behind a stale response that was served: once for all who were served it
// meanwhile. RFC 5861, section 3.
func (x *exchange) refresh(entries []*store.Entry, stored []response, d decision) {
	key := x.key + x.variant(stored)
	x.mu.Lock()
	if x.closed || x.refreshing[key] || len(x.refreshing) >= maxRefreshes {
		x.mu.Unlock()
		return
	}
	if x.refreshing == nil {
		x.refreshing = make(map[string]bool)
	}
	x.refreshing[key] = true
	x.background.Add(1)
	x.mu.Unlock()

	own := *x
	own.detach()
	own.req = own.own
	d.action = revalidate
	go func() {
		defer own.background.Done()
		defer func() {
			own.mu.Lock()
			defer own.mu.Unlock()
			delete(own.refreshing, key)
		}()
		own.refreshNow(key, entries, stored, d)
	}()
}

// refreshNow asks the origin, unless somebody else does so already, and has the answer stored.
func (x *exchange) refreshNow(key string, entries []*store.Entry, stored []response, d decision) {
	ctx := untraced{context.WithoutCancel(x.req.Context())}
	f, leads := x.flights.join(ctx, x.flightKey(stored), math.MaxUint64, time.Now())
	if !leads {
		x.leave(f)
		return
	}
	// The bound is that of this part in the flight: others may have joined.
	bound, cancel := context.WithTimeout(ctx, refreshTime)
	defer cancel()
	go x.fly(f, func(f *flight) outcome { return x.askAlone(f, entries, stored, d) })
	if f.wait(bound) != nil {
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
