package cachetrip

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cachetrip/cachetrip/internal/patience"
)

// What a 304 has freshened is stored while the caller reads: writing it takes longer than all else that the cache
// does for such a response. To everybody it looks as if it had been stored before: who asks for the same waits for
// it, and so does who reads the response to its end or closes it, and Close.

// saving is what is being stored under one key; nil: nothing is.
type pendingWrite struct {
	key   string
	parts int // how many Updates are still to end
	done  chan struct{}
}

// wait returns when s was stored, or the store has failed, or ctx has ended, or the patience of its caller.
func (s *pendingWrite) wait(ctx context.Context) {
	if s == nil {
		return
	}
	_ = patience.Wait(ctx, s.done, patience.Of(ctx, time.Now(), patience.Longest))
}

// savings are those under way, by primary key. Its zero value is ready for use.
type pendingWrites struct {
	count atomic.Int32 // of the keys; mostly there are none
	mu    sync.Mutex
	byKey map[string]*pendingWrite
}

// of returns what is being stored under a key, nil if nothing is.
func (ss *pendingWrites) of(key string) *pendingWrite {
	if ss.count.Load() == 0 {
		return nil
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return ss.byKey[key]
}

func (ss *pendingWrites) begin(key string) *pendingWrite {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	s := ss.byKey[key]
	if s == nil {
		s = &pendingWrite{key: key, done: make(chan struct{})}
		if ss.byKey == nil {
			ss.byKey = make(map[string]*pendingWrite)
		}
		ss.byKey[key] = s
		ss.count.Add(1)
	}
	s.parts++
	return s
}

func (ss *pendingWrites) end(s *pendingWrite) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if s.parts--; s.parts == 0 {
		delete(ss.byKey, s.key)
		ss.count.Add(-1)
		close(s.done)
	}
}

// saveBehind begins what ends with saved, or returns nil if what the answer confirms is to be stored before anybody
// is given it: because nobody waits for it, or who does is not given a body, or the store may fail, which the
// response is to say.
func (a *originReply) saveBehind() *pendingWrite {
	if a.x.behind() || a.x.rules.method != http.MethodGet || a.x.rules.conditional() || !a.x.t.takes.Load() {
		return nil
	}
	a.x.t.mu.Lock()
	defer a.x.t.mu.Unlock()
	if a.x.t.closed.Load() {
		return nil
	}
	a.x.t.background.Add(1)
	return a.x.t.pendingWrites.begin(a.x.key)
}

func (t *Transport) saved(s *pendingWrite) {
	t.pendingWrites.end(s)
	t.background.Done()
}

// settles has the body of a response end when s has: a response without one waits for that here.
func (x *exchange) settles(resp *http.Response, s *pendingWrite) {
	if s == nil {
		return
	}
	ctx := x.req.Context()
	if resp != nil {
		switch b := resp.Body.(type) {
		case *served:
			b.content.saving, b.content.ctx = s, ctx
			return
		case *multipartBody:
			b.held.saving, b.held.ctx = s, ctx
			return
		}
	}
	s.wait(ctx)
}
