package cachetrip

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/cachetrip/cachetrip/store"
)

// Changes that concern all that is stored of a URL, for every identity.

// Invalidate marks all stored responses of a URL, those of every identity, as in need of
// validation: the next use asks the origin, which may still cost no more than a 304. Not reached are
// responses to requests that were sent to another host than their [http.Request.Host] names: to those,
// an unsafe request with the same Host does the same. The error says that the URL is not an absolute one
// of http or https, or what the store failed at.
func (t *Transport) Invalidate(ctx context.Context, url string) error {
	return t.changeURL(ctx, url, markInvalid)
}

// Purge forgets all stored responses of a URL, those that Invalidate reaches. The error is like that of
// Invalidate.
func (t *Transport) Purge(ctx context.Context, url string) error {
	return t.changeURL(ctx, url, func([]*store.Entry) []*store.Entry { return nil })
}

// markInvalid is the change that Invalidate makes.
func markInvalid(current []*store.Entry) []*store.Entry {
	now := wallClock()
	next := make([]*store.Entry, len(current))
	for i, e := range current {
		next[i] = e.Clone()
		next[i].InvalidatedAt = now
	}
	return next
}

func (t *Transport) changeURL(ctx context.Context, rawURL string, change func([]*store.Entry) []*store.Entry) error {
	u, err := url.Parse(rawURL)
	if err != nil {
		return fmt.Errorf("cachetrip: %w", err)
	}
	if scheme := lower(u.Scheme); scheme != "http" && scheme != "https" || u.Host == "" {
		return fmt.Errorf("cachetrip: %q is not an absolute URL of http or https", u.Redacted())
	}
	if t.Store == nil {
		return nil
	}
	digest, err := t.digester(ctx)
	if err != nil {
		return err
	}
	return t.changeKeys(ctx, digest.url(primaryURL(u, "")), change)
}

// changeKeys changes the entries of every key that begins with prefix, which stands for a URL.
func (t *Transport) changeKeys(ctx context.Context, prefix string, change func([]*store.Entry) []*store.Entry) error {
	t.unsafe.note(prefix, wallClock())
	keys := make(map[string]bool)
	var failed error
	for e, err := range t.Store.All(ctx, prefix) {
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		keys[e.Key] = true
	}
	for key := range keys {
		failed = errors.Join(failed, t.Store.Update(ctx, key, change))
	}
	return failed
}
