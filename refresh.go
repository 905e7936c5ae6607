package cachetrip

import (
	"context"
	"io"
	"log/slog"
	"math"
	"net/http"
	"time"

	"github.com/cachetrip/cachetrip/internal/download"
	"github.com/cachetrip/cachetrip/internal/patience"
)

// Revalidating behind a stale response that was served: RFC 5861, section 3.

const (
	// refreshTime limits a revalidation, because no caller is there to cancel
	// it.
	refreshTime = 30 * time.Second
)

// refresh revalidates behind a stale response that was served, in a goroutine
// of its own. There is one revalidation for all callers that are served the
// response meanwhile.
func (x *exchange) refresh(found lookup) {
	key := x.key + x.variant(found.stored)
	if !x.t.beginBackground() {
		return
	}
	wanted, ok := x.t.refreshes.Begin(key, originOf(x.req.URL), time.Now())
	if !ok {
		x.t.background.Done()
		return
	}
	own := *x
	own.detach()
	own.req, own.behind = own.own, true
	found.decision.action = revalidate
	go func() {
		defer own.t.background.Done()
		succeeded := false
		defer func() { own.t.refreshes.End(key, succeeded, time.Now()) }()
		own.t.shielded(func() { succeeded = own.refreshNow(wanted, found) })
	}()
}

// refreshNow asks the origin, unless another exchange does so already, and has
// the response stored. It waits for the header as long as wanted lasts. It
// reports whether the response confirms what is stored, or takes its place.
func (x *exchange) refreshNow(wanted context.Context, found lookup) bool {
	ctx := untraced{context.WithoutCancel(x.req.Context())}
	x.ctx, x.unwatch = ctx, func() {} // no caller waits
	x.sharing = &sharing{others: x.sharing.variants()}
	x.sharing.key = x.sharingKey(found.stored)
	p := x.t.requests.Join(ctx, resultOwner{x.t}, x.joinKey(), true, math.MaxUint64)
	if !p.Leads() {
		p.Leave()
		return true // for all that is known
	}
	// The time limits this participation, not the request: others may have
	// joined.
	limited, cancel := context.WithTimeout(ctx, refreshTime)
	defer cancel()
	forHeader, stop := context.WithCancel(limited)
	defer stop()
	defer context.AfterFunc(wanted, stop)()
	p.Request.Go(func() result { return x.askAlone(p.Request, found).to(x.rules) })
	if p.Request.Wait(forHeader, patience.Unlimited) != nil {
		p.Leave()
		return false
	}
	o := p.Request.Result()
	if o.download != nil {
		body := o.download.Take(download.Caller{Context: limited, Leave: func(bool) { p.Leave() }})
		defer body.Close()
		_, err := io.Copy(io.Discard, body)
		return err == nil && body.Wrong() == nil
	}
	defer p.Leave()
	if o.confirmed() {
		status := found.status(http.StatusNotModified)
		status.Stored, status.TTL = !o.unsaved, o.response.lifetime()-o.response.age(wallClock())
		x.t.tell(answerRevalidated, x.own, x.key, nil, status)
	}
	if o.failed {
		x.t.log(x.own, "the origin failed behind a stale hit", slog.Int("fwd-status", o.code), slog.Duration("retry-after", o.retryAfter))
	}
	return o.entry != nil || o.elsewhere
}
