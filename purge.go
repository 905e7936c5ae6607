package cachetrip

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cachetrip/cachetrip/internal/guard"
	"github.com/cachetrip/cachetrip/internal/urlpattern"
	"github.com/cachetrip/cachetrip/store"
)

// The operations of programs on stored responses: list, invalidate and remove
// them.

// Invalidate marks all stored responses of a URL, for every identity, as in
// need of validation. The next request for the URL asks the origin, which can
// answer 304.
//
// Invalidate does not reach responses to requests whose [http.Request.Host]
// names another host than their URL. An unsafe request with the same Host
// invalidates those. If [Transport.Policy] gives a GET of url another
// [Policy.URL], Invalidate reaches the responses under both. It also reaches
// those of URLs that No-Vary-Search makes equivalent.
//
// It returns an error if url is not an absolute http or https URL, if the store
// fails, or if ctx ends; then some of the responses may be marked. After Close,
// it returns an error. Without a Store, it does nothing.
func (t *Transport) Invalidate(ctx context.Context, url string) error {
	return t.changeURL(ctx, url, markInvalid, false)
}

// Purge removes all stored responses of a URL, for every identity. It reaches
// the same responses as Invalidate, and returns the same errors.
func (t *Transport) Purge(ctx context.Context, url string) error {
	return t.changeURL(ctx, url, func([]*store.Entry, time.Time) []*store.Entry { return nil }, true)
}

// Entries returns the stored responses whose URL matches pattern, for every
// identity. In a pattern, a star stands for any text, and the scheme may be
// missing: "https://example.com/*", "example.com/a*". An empty pattern matches
// every URL. The order is not specified.
//
// The entries must not be changed. They have no bodies, but name them. An error
// of the store comes last, and with it ends the sequence. After Close, the only
// item is an error. Responses that are stored or removed meanwhile may be
// missing or present. Nothing is locked, so the loop may use t, such as for
// Purge. A Transport without a Store has no entries.
func (t *Transport) Entries(ctx context.Context, pattern string) iter.Seq2[*store.Entry, error] {
	return func(yield func(*store.Entry, error) bool) {
		if !t.keeps() {
			return
		}
		entries := t.storeFor(nil).Each(ctx, "")
		if pattern != "" {
			entries = t.storeFor(nil).Matching(ctx, "", func(url string) bool { return urlpattern.Match(pattern, url) })
		}
		for e, err := range entries {
			if err == nil && e.IsNote() {
				continue
			}
			if !yield(e, prefixed("list the stored responses", err)) {
				return
			}
		}
	}
}

// Clear removes all stored responses, for every identity. Responses that are on
// their way are stored when they have come. The size limit, and the secret that
// keys are made with, stay. It returns the error of the store or of ctx; then
// some of the responses may be removed. After Close, it returns an error and
// removes nothing. Without a Store, it does nothing.
func (t *Transport) Clear(ctx context.Context) error {
	if !t.keeps() {
		return nil
	}
	return prefixed("clear", t.storeFor(nil).Clear(ctx))
}

// prefixed returns err with the project's name and what the caller wanted,
// unless err says it already. A store of another package may say nothing about
// either.
func prefixed(op string, err error) error {
	if err == nil || strings.HasPrefix(err.Error(), "cachetrip: ") {
		return err
	}
	return fmt.Errorf("cachetrip: %s: %w", op, err)
}

// markInvalid returns copies of the entries that are invalidated at the time
// now.
func markInvalid(current []*store.Entry, now time.Time) []*store.Entry {
	next := make([]*store.Entry, len(current))
	for i, e := range current {
		next[i] = markedInvalid(e, now)
	}
	return next
}

// changeURL is changeURLs for a URL of a caller.
func (t *Transport) changeURL(ctx context.Context, rawURL string, change func([]*store.Entry, time.Time) []*store.Entry, all bool) error {
	u, err := url.Parse(rawURL)
	if err != nil {
		return fmt.Errorf("cachetrip: %w", err)
	}
	if !storableURL(u) {
		return fmt.Errorf("cachetrip: %q is not an absolute URL of http or https", u.Redacted())
	}
	return t.changeURLs(ctx, nil, t.appendStoredURLs(nil, ctx, u, ""), change, all)
}

// changeURLs applies change to the stored responses of primary URLs, for every
// identity, and invalidates those of equivalent URLs. If all is set, it applies
// change to these, too.
func (t *Transport) changeURLs(ctx context.Context, req *http.Request, urls []string, change func([]*store.Entry, time.Time) []*store.Entry, all bool) error {
	if !t.keeps() || len(urls) == 0 {
		return nil
	}
	failed := t.changeKeys(ctx, req, urls, nil, change)
	if errors.Is(failed, guard.ErrShut) {
		return failed
	}
	d, err := t.digester(ctx)
	if err != nil {
		return errors.Join(failed, err)
	}
	m := marks{t, t.storeFor(req)}
	for _, u := range urls {
		names, err := m.equals(ctx, placeOf(d, u, u))
		failed = errors.Join(failed, err)
		if !all || len(names) == 0 {
			continue
		}
		keys, err := m.keysOf(ctx, names)
		failed = errors.Join(failed, err, t.changeKeys(ctx, req, nil, keys, change))
	}
	return failed
}

// changeKeys applies change to the stored responses of URLs, for every
// identity. urls are primary URLs; see primaryURL. keys are the first halves of
// the keys of further ones. This Transport sees the
// change at once, even if the store is slow. req is the request that causes the
// change, or nil if the caller of Invalidate or Purge does.
func (t *Transport) changeKeys(ctx context.Context, req *http.Request, urls, keys []string, change func([]*store.Entry, time.Time) []*store.Entry) error {
	if !t.keeps() {
		return nil
	}
	now := wallClock()
	prefixes := sync.OnceValue(func() []string {
		list := slices.Clone(keys)
		for _, u := range urls {
			list = append(list, digester(t.guard.Secret()).url(u))
		}
		for _, key := range list {
			t.events.Invalidate(key, now)
		}
		return list
	})
	if t.guard.Secret() != nil {
		prefixes()
	}
	return t.storeFor(req).ChangeAll(ctx, req == nil, prefixes, func(current []*store.Entry) []*store.Entry {
		return change(current, now)
	})
}
