package cachetrip

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

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
	return t.changeURL(ctx, url, func([]*store.Entry, time.Time) []*store.Entry { return nil })
}

// markInvalid is the change that Invalidate makes.
func markInvalid(current []*store.Entry, now time.Time) []*store.Entry {
	next := make([]*store.Entry, len(current))
	for i, e := range current {
		next[i] = e.Clone()
		next[i].InvalidatedAt = now
	}
	return next
}

func (t *Transport) changeURL(ctx context.Context, rawURL string, change func([]*store.Entry, time.Time) []*store.Entry) error {
	u, err := url.Parse(rawURL)
	if err != nil {
		return fmt.Errorf("cachetrip: %w", err)
	}
	if scheme := lower(u.Scheme); scheme != "http" && scheme != "https" || u.Host == "" {
		return fmt.Errorf("cachetrip: %q is not an absolute URL of http or https", u.Redacted())
	}
	return t.changeKeys(ctx, nil, []string{primaryURL(u, "")}, change)
}

// changeKeys changes what is stored of URLs, each given by its primary URL, for every identity. To this Transport the
// change is made from the beginning on, however long the store takes. req is the request that has led to it; nil if a
// caller wants nothing else. change is told the time.
func (t *Transport) changeKeys(ctx context.Context, req *http.Request, urls []string, change func([]*store.Entry, time.Time) []*store.Entry) error {
	if !t.keeps() {
		return nil
	}
	now := wallClock()
	prefixes := func(digest digester) []string {
		list := make([]string, len(urls))
		for i, u := range urls {
			list[i] = digest.url(u)
		}
		return list
	}
	noted := sync.OnceFunc(func() {
		for _, prefix := range prefixes(*t.secret.Load()) {
			t.events.Invalidate(prefix, now)
		}
	})
	if t.secret.Load() != nil {
		noted()
	}
	return access{t, req}.changeAll(ctx, req == nil, func(digest digester) []string {
		noted()
		return prefixes(digest)
	}, func(current []*store.Entry) []*store.Entry { return change(current, now) })
}
