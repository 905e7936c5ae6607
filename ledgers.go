package cachetrip

import (
	"context"
	"errors"
	"net/http"

	"github.com/cachetrip/cachetrip/internal/guard"
	"github.com/cachetrip/cachetrip/internal/urlsearch"
	"github.com/cachetrip/cachetrip/store"
)

// How ledgers come to be, and get their marks. A response that is about to be
// stored begins the ledgers that cover it. The response to an unsafe request,
// Invalidate and Purge mark them.

// cover has the ledgers cover the response, which is about to be stored with
// one of the headers. It also lets the response be found under equivalent URLs.
// If the store fails, the response is stored all the same, and validated before
// each use.
func (a *originReply) cover(headers ...http.Header) {
	for _, h := range headers {
		t := tiesOf(h)
		if t == nil {
			continue
		}
		at := a.x.place()
		var failed error
		if t.grouped() {
			failed = a.ensure(at.originNote()+forAll, at.origin, func(n *note) (note, bool) { return a.covered(n) })
		}
		if digest, ok := at.equals(t.search); ok && t.equals {
			failed = errors.Join(failed, a.coverEquals(at, digest, t.search))
		}
		if failed != nil {
			a.x.storeFailed("note", failed)
		}
	}
}

func (a *originReply) ensure(key, about string, change func(*note) (note, bool)) error {
	return ensureNote(a.x.lasting(), a.x.store(), key, about, change)
}

// covered returns n, which may be nil, so that its ledger covers the response.
func (a *originReply) covered(n *note) (next note, changed bool) {
	if n == nil {
		next.ledger, changed = (*ledger)(nil).covering(a.requested, a.received)
		return next, changed
	}
	next = *n
	next.ledger, changed = n.covering(a.requested, a.received)
	return next, changed
}

// coverEquals is cover for a response with a No-Vary-Search rule. digest is the
// name of all URLs that the rule makes equivalent.
func (a *originReply) coverEquals(at place, digest string, rule urlsearch.Rule) error {
	marked := false
	overtaken := func() bool { return a.x.t.events.InvalidatedSince(a.sentEvent, at.pathNote()) }
	begin := func() error {
		return a.ensure(at.pathNote()+forAll, at.path, func(n *note) (note, bool) {
			next, changed := a.covered(n)
			rules, added, dropped := remembered(next.rules, rule.String(), maxRules)
			next.rules = rules
			if dropped { // what depends on it can't be invalidated any more
				next.ledger = next.marked(nil, true, a.x.t.stamps.Invalidation(a.received))
			}
			if marked = overtaken(); marked { // by an unsafe request that did not know the rule
				next.ledger = next.marked([]string{digest}, false, a.x.t.stamps.Invalidation(a.received))
			}
			return next, changed || added || marked
		})
	}
	failed := begin()
	if failed == nil && !marked && overtaken() { // before there was a note that the unsafe request could find
		failed = begin()
	}
	a.x.t.searches.Store(true)
	return errors.Join(failed,
		a.ensure(digest+a.x.key[urlDigits:], at.path, func(n *note) (next note, changed bool) {
			if n != nil {
				next = *n
			}
			next.keys, changed, _ = remembered(next.keys, a.x.url(), maxEquals)
			return next, changed
		}),
		a.ensure(a.x.t.searchNote(at.digest), at.origin, func(n *note) (note, bool) { return note{}, n == nil }),
	)
}

// searchNote returns the key of the note that a response with No-Vary-Search
// was stored.
func (t *Transport) searchNote(d digester) string {
	if known := t.searchKey.Load(); known != nil {
		return *known
	}
	key := d.key("search", nil, sum{})
	t.searchKey.Store(&key)
	return key
}

// marks are the invalidations that one unsafe request, or one call of
// Invalidate or Purge, causes beyond the URLs that it names.
type marks struct {
	t     *Transport
	store guard.Store
}

// groups invalidates all responses of the origin that belong to one of the
// groups, or all that belong to any.
func (m marks) groups(ctx context.Context, at place, names []string, every bool) error {
	now := m.t.stamps.Invalidation(wallClock())
	digests := at.groups(names)
	for _, digest := range digests {
		m.t.events.Invalidate(digest, now)
	}
	if every {
		m.t.events.Invalidate(at.originNote(), now)
	}
	return updateNote(ctx, m.store.Invalidate, at.originNote()+forAll, at.origin, func(n *note) (note, bool) {
		if n == nil {
			n = &note{ledger: ledger{since: now}}
		}
		next := *n
		next.ledger = n.marked(digests, every, now)
		return next, true
	})
}

// equals invalidates all responses of URLs that are equivalent to a place. It
// returns the names of those sets of URLs.
func (m marks) equals(ctx context.Context, at place) (names []string, err error) {
	now := wallClock()
	m.t.events.Invalidate(at.pathNote(), now)
	entries, failed := m.store.Entries(ctx, at.pathNote()+forAll)
	if failed == nil && noteOf(entries) == nil {
		return nil, nil // nearly always, and cheaper than an update; see coverEquals
	}
	var marked []string
	err = updateNote(ctx, m.store.Invalidate, at.pathNote()+forAll, at.path, func(n *note) (note, bool) {
		if n == nil {
			return note{}, false
		}
		marked = at.allEquals(n.rules)
		at := m.t.stamps.Invalidation(now)
		for _, name := range marked {
			m.t.events.Invalidate(name, at)
		}
		next := *n
		next.ledger = n.marked(marked, false, at)
		return next, len(marked) > 0
	})
	if err != nil { // then the function above may still run
		m.t.events.Invalidate(at.unmarked(), now) // so that at least this process validates
		return nil, err
	}
	return marked, failed
}

// keysOf returns the first halves of the keys under which responses of sets of
// URLs are stored, for every identity.
func (m marks) keysOf(ctx context.Context, names []string) (keys []string, err error) {
	for _, name := range names {
		for e, failed := range m.store.Each(ctx, name) {
			if failed != nil {
				return keys, failed
			}
			if n := noteOf([]*store.Entry{e}); n != nil {
				keys = append(keys, n.keys...)
			}
		}
	}
	return keys, nil
}

// invalidateGroups invalidates groups of the origin of req.
func (t *Transport) invalidateGroups(ctx context.Context, req *http.Request, names []string, every bool) error {
	d, err := t.digester(ctx)
	if err != nil {
		return err
	}
	own := primaryURL(req.URL, req.Host)
	return marks{t, t.storeFor(req)}.groups(ctx, placeOf(d, own, own), names, every)
}
