package cachetrip

import (
	"context"
	"net/http"
	"slices"

	"github.com/cachetrip/cachetrip/store"
)

// The effect of a new response on the stored responses of its key. It is stored
// among them. If it may not be stored, the responses that it would have
// replaced are marked.

// storeEntry stores an entry beside or instead of the stored ones. blobID names
// the blob that it brings, if any. reason says why it was not stored, such as
// "store-error"; it is empty if it was.
func (a *originReply) storeEntry(ctx context.Context, brought *store.Entry, blobID string) (reason string) {
	e, outdated, err := a.put(ctx, brought, blobID)
	switch {
	case err != nil:
		return a.failedToStore("store", brought, err)
	case outdated:
		a.x.notStored(e.Status, e.Length, "outdated", nil)
		return "outdated"
	}
	a.x.wasStored(e)
	return ""
}

// put is storeEntry without its reports. It returns the entry as it was stored,
// and whether a newer or more complete response is stored already.
func (a *originReply) put(ctx context.Context, brought *store.Entry, blobID string) (e *store.Entry, outdated bool, err error) {
	e = brought
	trusted := false
	err = a.x.store().Update(ctx, a.x.key, func(current []*store.Entry) []*store.Entry {
		e = stillHeld(brought, current, blobID)
		r := a.x.rules.policy.of(newResponseLike(e, a.like))
		admission := admit(a.x.rules, &r, responses(current), a.x.orderBefore(a.sentEvent))
		if outdated = !admission.keep; outdated {
			return current
		}
		kept := e
		if admission.join >= 0 {
			kept = joined(current[admission.join], e)
			if a.resp.StatusCode == http.StatusPartialContent { // else it brought a whole header
				kept.Header = a.joinedHeader(current[admission.join].Header, e.Header, kept.Length)
				a.noteCredentials(kept)
			}
		}
		kept = a.noteAsker(kept)
		kept, trusted = a.marked(kept, &admission)
		a.x.t.events.Stored(a.x.key)
		return withoutForbidden(&a.x.rules.policy, replaceEntries(kept, current, admission.replaces), current, []response{r})
	})
	if trusted && a.x.invalidatedSince(a.sentEvent) {
		a.distrustStored()
	}
	return e, outdated, err
}

// marked returns e, marked as invalid unless it is trusted: what was stored for
// the key was invalidated since the request, or may be newer.
func (a *originReply) marked(e *store.Entry, admission *admission) (_ *store.Entry, trusted bool) {
	if !admission.distrust && !a.x.invalidatedSince(a.sentEvent) {
		return e, true
	}
	a.x.t.events.Distrust(a.x.key, a.received)
	return markedInvalid(e, a.received), false
}

// distrustStored marks the response, which was stored as valid. It was
// invalidated meanwhile, and the invalidation may have looked for it just before
// it was there. This process knows that, but others do not.
func (a *originReply) distrustStored() {
	now := wallClock()
	err := a.x.store().Invalidate(a.x.lasting(), a.x.key, func(current []*store.Entry) []*store.Entry {
		next := slices.Clone(current)
		for i, e := range current {
			if e.InvalidatedAt.IsZero() && e.RequestTime.Equal(a.requested) && e.ResponseTime.Equal(a.received) {
				next[i] = markedInvalid(e, now)
			}
		}
		return next
	})
	if err != nil {
		a.x.storeFailed("invalidate", err)
	}
}

// failedToStore tells that the store did not take e, and marks the entries that
// e would have replaced. It returns the reason.
func (a *originReply) failedToStore(op string, e *store.Entry, err error) (reason string) {
	reason = a.x.keepFailed(op, e, err)
	r := a.x.responseOf(e)
	a.outdateReplaced(&r)
	return reason
}

// outdateReplaced marks the stored responses that r would have replaced,
// because r is not stored. The origin no longer sends them. It also marks
// responses to which r refuses access. RFC 9111, section 4.
func (a *originReply) outdateReplaced(r *response) {
	if !concernsOthers(r.status) || outdatedBy(a.x.rules, r, a.stored) == nil {
		return // nearly always; it saves a call of the store
	}
	err := a.x.store().Invalidate(a.x.lasting(), a.x.key, func(current []*store.Entry) []*store.Entry {
		next := slices.Clone(current)
		for _, i := range outdatedBy(a.x.rules, r, responses(current)) {
			a.x.t.events.Invalidate(a.x.key, a.received)
			next[i] = markedInvalid(next[i], a.received)
		}
		return next
	})
	if err != nil {
		a.x.t.events.Invalidate(a.x.url(), a.received) // so that at least this process validates
		a.x.storeFailed("invalidate", err)
	}
}
