package cachetrip

import (
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"time"

	"github.com/cachetrip/cachetrip/internal/pending"
	"github.com/cachetrip/cachetrip/internal/stack"
	"github.com/cachetrip/cachetrip/store"
)

// A 304 to the cache's own conditions confirms stored responses and updates
// their headers. RFC 9111, section 4.3.4.

// confirmation is the effect of a 304 on the entries of a key.
type confirmation struct {
	next    []*store.Entry // the given slice itself if nothing changes
	use     *store.Entry   // answers the request; nil if no entry is confirmed
	index   int            // index of use in next, -1 if it is not in next
	unsaved bool           // use differs from the entry that will be stored
}

// confirm takes a 304 to the conditions c, which were made for entries. It
// updates what the 304 confirms, in the store and for the callers. ok is false
// if it confirms nothing.
//
// A store that can update its entries at once does so before any caller has its
// response. With other stores, that takes longer than all else that the cache
// does for such a response. So it may happen in the background, as a pending
// write: if the entries are still the same, the result is known in advance.
func (a *originReply) confirm(c *conditions, entries []*store.Entry) (o result, ok bool) {
	if a.redirected() {
		return result{}, false
	}
	for _, e := range entries {
		a.cover(e.Header)
	}
	a.cover(a.resp.Header)
	made, from, done := a.confirmAtOnce(c)
	var write *pending.Write
	if !done {
		write = a.beginWrite()
	}
	handedOver := false
	defer func() {
		if write != nil && !handedOver {
			a.x.t.endWrite(write)
		}
	}()
	if write != nil && (made.use == nil || !slices.EqualFunc(from, entries, sameStored)) {
		if from, made = entries, (confirmation{}); a.stillStored(entries) {
			made = a.confirmation(c, entries)
		}
	}
	later := write != nil && made.use != nil
	var err error
	if !done && !later {
		made = confirmation{}
		if err = a.updateStored(c, nil, &made); err != nil {
			made = a.confirmation(c, entries) // an entry that cannot be written can still be used
		}
	}
	if made.use == nil {
		return result{}, false
	}
	discard(a.resp)
	o = a.confirmed(&made)
	o.unsaved = o.unsaved || err != nil
	release := a.x.sharing.lease.take()
	o.audience = a.noteAudience(&o.response)
	shared := o.audience == anyone
	a.shared.Hide()
	if !later {
		release(shared)
		return o, true
	}
	o.pending, handedOver = write, true
	a.updateLater(write, c, from, made, release, shared)
	return o, true
}

// confirmAtOnce applies the confirmation of what is stored, if the store can do
// that at once: then done is set. Otherwise made may be the confirmation of the
// entries from, which was not stored.
func (a *originReply) confirmAtOnce(c *conditions) (made confirmation, from []*store.Entry, done bool) {
	done = a.x.store().Freshen(a.x.key, func(current []*store.Entry) []*store.Entry {
		from, made = current, a.confirmation(c, current)
		if slices.Equal(made.next, current) {
			return current
		}
		a.x.t.events.Stored(a.x.key)
		return made.next
	})
	if done {
		a.x.t.storeWorks.Store(true)
	}
	return made, from, done
}

// stillStored reports whether the store has the given entries, as it had when
// the request was sent.
func (a *originReply) stillStored(entries []*store.Entry) bool {
	current, err := a.x.store().Entries(a.x.lasting(), a.x.key)
	return err == nil && slices.EqualFunc(current, entries, sameStored)
}

// confirmed returns the result of a 304 for all callers that share it.
func (a *originReply) confirmed(made *confirmation) result {
	o := result{entry: made.use, unsaved: made.unsaved}
	if made.use.ResponseTime.Equal(a.received) { // otherwise it is used this once, with its old age
		o.sent, o.arrived = a.sentEvent, a.arrivedEvent
	}
	if made.index >= 0 {
		o.response = a.x.rules.policy.of(a.x.t.views.of(a.x.key, made.index, made.use)[0])
	} else {
		o.response = a.x.responseOf(made.use)
	}
	if !a.x.t.KeepSetCookie {
		o.cookies = slices.Clone(a.resp.Header["Set-Cookie"])
	}
	return o
}

// confirmation returns the effect of a 304 to the conditions c on the current
// entries.
func (a *originReply) confirmation(c *conditions, current []*store.Entry) confirmation {
	stored := a.x.t.views.all(a.x.key, current)
	chosen, updated := c.identify(a.x.rules, stored, a.resp.Header)
	if chosen < 0 || !a.sentAs(&stored[chosen]) {
		return confirmation{next: current, index: -1}
	}
	said := a.x.rules.policy.of(response{status: stored[chosen].status, cc: directivesOf(a.resp.Header, stored)})
	forbidden := said.mustNotStore()
	// Responses that this request does not select are not updated. The 304 may
	// say what holds for this request only, such as who may read the response
	// or which cookie to set.
	next := slices.Clone(current)
	selected := stored[chosen].concerns(a.x.rules)
	for _, i := range updated {
		if i == chosen && selected || i != chosen && stored[i].concerns(a.x.rules) && a.sentAs(&stored[i]) {
			next[i] = a.updated(current[i])
		}
	}
	use := next[chosen]
	switch {
	case !selected:
		// The origin chose a response that another request selected. This
		// request gets a copy, which is stored beside it, or instead of it if
		// no request ever selects it.
		use = use.Clone()
		if use.Header = withoutAsker(use.Header); len(updated) > 0 {
			use = a.updated(use)
			if stored[chosen].varies("*") {
				next[chosen] = use
			} else {
				next = append(next, use)
			}
		}
	case forbidden && !slices.Contains(updated, chosen):
		next = slices.Delete(next, chosen, chosen+1)
	}
	next = withoutForbidden(&a.x.rules.policy, next, current, stored)
	if slices.Equal(next, current) {
		next = current
	}
	return confirmation{next, use, slices.Index(next, use), len(updated) == 0 || forbidden}
}

// updated returns e, updated by the response, for requests like that of the
// response.
func (a *originReply) updated(e *store.Entry) *store.Entry {
	fresh := copyOf(e)
	fresh.Header = a.updatedHeader(e.Header, a.resp.Header)
	a.noteCredentials(fresh)
	fresh = withAskedAs(fresh, e.Selecting[askedAs])
	if e.Selecting[checked] != "" {
		noteChecked(fresh)
	}
	fresh.RequestTime, fresh.ResponseTime = a.requested, a.received
	if !a.requested.Before(e.InvalidatedAt) && !a.x.invalidatedSince(a.sentEvent) {
		fresh.InvalidatedAt = time.Time{}
	}
	if len(e.Parts) == 0 || e.Complete() {
		return fresh
	}
	if before, after := newResponse(e), newResponse(fresh); before.strongValidator() != after.strongValidator() {
		// The new Date would make Last-Modified look stronger than it was when
		// the part came. Other content could then be joined to the part.
		return e.Clone()
	}
	return fresh
}

// copyOf returns a copy of e that shares what never changes. A single part is
// copied, because it may be allocated with e, which it would keep in memory.
func copyOf(e *store.Entry) *store.Entry {
	c := &struct {
		store.Entry
		part [1]store.Part
	}{Entry: *e}
	if len(e.Parts) == 1 {
		c.part[0], c.Parts = e.Parts[0], c.part[:]
	}
	return &c.Entry
}

// updateStored applies the confirmation to the store, and sets made to the
// result. If made is the confirmation of entries, and these are still stored,
// it is not computed again.
func (a *originReply) updateStored(c *conditions, entries []*store.Entry, made *confirmation) error {
	known := *made
	err := a.x.store().Update(a.x.lasting(), a.x.key, func(current []*store.Entry) []*store.Entry {
		if *made = known; known.use != nil && slices.Equal(current, entries) {
			made.next = slices.Clone(known.next)
		} else {
			*made = a.confirmation(c, current)
		}
		if slices.Equal(made.next, current) {
			return current
		}
		a.x.t.events.Stored(a.x.key)
		return made.next
	})
	if err != nil {
		a.x.storeFailed("freshen", err)
		return err
	}
	a.x.t.storeWorks.Store(true)
	return nil
}

// updateLater is updateStored in the background. At the end it releases the
// lease and ends the pending write.
func (a *originReply) updateLater(write *pending.Write, c *conditions, entries []*store.Entry, made confirmation, release func(bool), shared bool) {
	x, behind, resp := *a.x, *a, *a.resp // copies, because the caller's part goes on meanwhile
	resp.Header = resp.Header.Clone()
	behind.x, behind.resp = &x, &resp
	go func() {
		stack.Grow()
		defer x.t.endWrite(write)
		defer release(shared) // before a waiting caller asks again, or ends the process
		defer func() {
			if p := recover(); p != nil {
				err := fmt.Errorf("cachetrip: panic in the store: %v\n%s", p, debug.Stack())
				x.t.shielded(func() { x.storeFailed("freshen", err) })
			}
		}()
		_ = behind.updateStored(c, entries, &made) // updateStored reports its error itself
	}()
}

// beginWrite begins a pending write, which endWrite ends. It returns nil if the
// update must be stored before any caller gets the response. That is so if no
// caller waits for the response, if the response may have no body that could
// wait for the write, or if the store may fail, which the response must tell.
// It is also so if the update takes less time than handing it over would; see
// confirmAtOnce.
func (a *originReply) beginWrite() *pending.Write {
	if a.x.store().CannotHang() {
		return nil
	}
	if a.x.behind || a.x.rules.method == http.MethodHead || a.x.rules.conditional() || !a.x.t.storeWorks.Load() {
		return nil
	}
	a.x.t.mu.Lock()
	defer a.x.t.mu.Unlock()
	if a.x.t.closed.Load() {
		return nil
	}
	a.x.t.background.Add(1)
	return a.x.t.writes.Begin(a.x.key)
}

func (t *Transport) endWrite(w *pending.Write) {
	t.writes.End(w)
	t.background.Done()
}

// awaitWrite makes the body of resp report its end only after the pending write
// w. For a response without a body, awaitWrite itself waits.
func (x *exchange) awaitWrite(resp *http.Response, w *pending.Write) {
	if w == nil {
		return
	}
	ctx := x.req.Context()
	if resp != nil {
		if body, ok := resp.Body.(interface{ BeforeEnd(func()) }); ok {
			body.BeforeEnd(func() { w.Wait(ctx) })
			return
		}
	}
	w.Wait(ctx)
}
