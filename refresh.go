package cachetrip

import (
	"context"
	"io"
	"math"
	"net/http"
	"time"

	"github.com/cachetrip/cachetrip/internal/download"
	"github.com/cachetrip/cachetrip/internal/patience"
	"github.com/cachetrip/cachetrip/store"
)

// Revalidating behind a stale response that was served: RFC 5861, section 3.

const (
	// maxRefreshes limits the revalidations that are under way at once. More wait for the next use of their response.
	maxRefreshes = 32

	// maxOriginRefreshes limits those of one origin, so that an origin that does not answer leaves some for others.
	maxOriginRefreshes = 8

	// refreshTime limits one of them, because no caller is there to cancel it.
	refreshTime = 30 * time.Second

	// closeGrace is how long Close waits for the header of a response.
	closeGrace = 3 * time.Second

	// refreshPause is how long no other revalidation begins after one has failed. It doubles with each failure, up to
	// maxRefreshPause.
	refreshPause    = time.Second
	maxRefreshPause = time.Minute

	// maxFailedRefreshes limits the failures that are remembered.
	maxFailedRefreshes = 1024
)

// refreshes are the revalidations behind stale responses. Its zero value is ready for use.
type refreshes struct {
	underWay map[string]refreshing    // by what is revalidated
	failed   map[string]failedRefresh // what was last revalidated in vain
}

// refreshing is a revalidation behind a stale response.
type refreshing struct {
	origin string
	giveUp context.CancelFunc // ends it if the header of the response is not there yet
}

// failedRefresh says when a revalidation that has failed may be tried again.
type failedRefresh struct {
	pause time.Duration
	until time.Time
}

// may reports whether there is room and reason for a revalidation.
func (rs *refreshes) may(key, origin string, now time.Time) bool {
	if _, ok := rs.underWay[key]; ok || len(rs.underWay) >= maxRefreshes || now.Before(rs.failed[key].until) {
		return false
	}
	same := 0
	for _, other := range rs.underWay {
		if other.origin == origin {
			same++
		}
	}
	return same < maxOriginRefreshes
}

func (rs *refreshes) begin(key string, r refreshing) {
	if rs.underWay == nil {
		rs.underWay = make(map[string]refreshing)
	}
	rs.underWay[key] = r
}

// end notes whether the revalidation of key has brought something that can be used.
func (rs *refreshes) end(key string, succeeded bool, now time.Time) {
	delete(rs.underWay, key)
	if succeeded {
		delete(rs.failed, key)
		return
	}
	if len(rs.failed) >= maxFailedRefreshes {
		clear(rs.failed) // costs each of them one more request
	}
	if rs.failed == nil {
		rs.failed = make(map[string]failedRefresh)
	}
	pause := min(max(2*rs.failed[key].pause, refreshPause), maxRefreshPause)
	rs.failed[key] = failedRefresh{pause, now.Add(pause)}
}

// refresh revalidates behind a stale response that was served, in a goroutine of its own. There is one revalidation for
// all callers that are served the response meanwhile.
func (x *exchange) refresh(entries []*store.Entry, stored []response, d decision) {
	key := x.key + x.variant(stored)
	origin := originOf(x.req.URL)
	x.t.mu.Lock()
	if x.t.closed.Load() || !x.t.refreshes.may(key, origin, time.Now()) {
		x.t.mu.Unlock()
		return
	}
	grace, giveUp := context.WithCancel(context.Background())
	x.t.refreshes.begin(key, refreshing{origin, giveUp})
	x.t.background.Add(1)
	x.t.mu.Unlock()

	own := *x
	own.detach()
	own.req, own.behind = own.own, true
	d.action = revalidate
	go func() {
		defer own.t.background.Done()
		defer giveUp()
		succeeded := false
		defer func() {
			own.t.mu.Lock()
			defer own.t.mu.Unlock()
			own.t.refreshes.end(key, succeeded, time.Now())
		}()
		own.t.shielded(func() { succeeded = own.refreshNow(grace, entries, stored, d) })
	}()
}

// giveUpRefreshes ends the revalidations that wait for the header of a response.
func (t *Transport) giveUpRefreshes() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.refreshes.underWay {
		r.giveUp()
	}
}

// refreshNow asks the origin, unless another exchange does so already, and has the response stored. It waits for the
// header until grace ends. It reports whether the response confirms what is stored, or takes its place.
func (x *exchange) refreshNow(grace context.Context, entries []*store.Entry, stored []response, d decision) bool {
	ctx := untraced{context.WithoutCancel(x.req.Context())}
	x.ctx, x.unwatch = ctx, func() {} // no caller waits
	x.sharing = &sharing{others: x.sharing.variants()}
	x.sharing.key = x.sharingKey(stored)
	p := x.t.requests.Join(ctx, resultOwner{x.t}, x.joinKey(), true, math.MaxUint64)
	if !p.Leads() {
		p.Leave()
		return true // for all that is known
	}
	// The time limits this participation, not the request: others may have joined.
	limited, cancel := context.WithTimeout(ctx, refreshTime)
	defer cancel()
	forHeader, stop := context.WithCancel(limited)
	defer stop()
	defer context.AfterFunc(grace, stop)()
	p.Request.Go(func() result { return x.askAlone(p.Request, entries, stored, d).to(x.rules) })
	if p.Request.Wait(forHeader, patience.Unlimited) != nil {
		p.Leave()
		return false
	}
	o := p.Request.Result()
	if o.download != nil {
		body := o.download.Take(download.Caller{Context: limited, Leave: func(bool) { p.Leave() }})
		defer body.Close()
		_, err := io.Copy(io.Discard, body)
		return err == nil
	}
	defer p.Leave()
	if o.confirmed() {
		x.t.tell(answerRevalidated, x.own, nil, Status{
			Fwd: d.fwd, FwdStatus: http.StatusNotModified, Stored: !o.unsaved, Detail: d.detail,
			TTL: o.response.lifetime() - o.response.age(wallClock()),
		})
	}
	return o.entry != nil
}
