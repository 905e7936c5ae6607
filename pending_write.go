package cachetrip

import (
	"net/http"

	"github.com/cachetrip/cachetrip/internal/pending"
)

// What a 304 has freshened is stored while the caller reads: writing it takes longer than all else that the cache
// does for such a response. To everybody it looks as if it had been stored before: who asks for the same waits for
// it, and so does who reads the response to its end or closes it, and Close.

// saveBehind begins what ends with saved, or returns nil if what the answer confirms is to be stored before anybody
// is given it: because nobody waits for it, or who does is not given a body, or the store may fail, which the
// response is to say.
func (a *originReply) saveBehind() *pending.Write {
	if a.x.behind || a.x.rules.method != http.MethodGet || a.x.rules.conditional() || !a.x.t.takes.Load() {
		return nil
	}
	a.x.t.mu.Lock()
	defer a.x.t.mu.Unlock()
	if a.x.t.closed.Load() {
		return nil
	}
	a.x.t.background.Add(1)
	return a.x.t.pendingWrites.Begin(a.x.key)
}

func (t *Transport) saved(s *pending.Write) {
	t.pendingWrites.End(s)
	t.background.Done()
}

// settles has the body of a response end when s has: a response without one waits for that here.
func (x *exchange) settles(resp *http.Response, s *pending.Write) {
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
	s.Wait(ctx)
}
