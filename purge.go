package cachetrip

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/cachetrip/cachetrip/internal/urlpattern"
	"github.com/cachetrip/cachetrip/store"
)

// What programs do with stored responses: list, invalidate and remove them.

// Invalidate marks all stored responses of a URL, for every identity, as in
// need of validation. The next request for the URL asks the origin, which can
// answer 304.
//
// Invalidate does not reach responses to requests whose [http.Request.Host]
// names another host than their URL. An unsafe request with the same Host
// invalidates those.
//
// It returns an error if url is not an absolute http or https URL, or if the
// store fails.
func (t *Transport) Invalidate(ctx context.Context, url string) error {
	return t.changeURL(ctx, url, markInvalid)
}

// Purge removes all stored responses of a URL, for every identity. It reaches
// the same responses as Invalidate, and returns the same errors.
func (t *Transport) Purge(ctx context.Context, url string) error {
	return t.changeURL(ctx, url, func([]*store.Entry, time.Time) []*store.Entry { return nil })
}

// Entries returns the stored responses whose URL matches pattern, for every
// identity. In a pattern, a star stands for any text, and the scheme may be
// missing: "https://example.com/*", "example.com/a*". An empty pattern matches
// every URL. The order is not specified.
//
// The entries must not be changed. They have no bodies, but name them. An error
// of the store comes last, and with it ends the sequence. Responses that are
// stored or removed meanwhile may be missing or present. Nothing is locked, so
// the loop may use t, such as for Purge. A Transport without a Store has no
// entries.
func (t *Transport) Entries(ctx context.Context, pattern string) iter.Seq2[*store.Entry, error] {
	return func(yield func(*store.Entry, error) bool) {
		if !t.keeps() {
			return
		}
		for e, err := range t.storeFor(nil).Each(ctx, "") {
			if err == nil && pattern != "" && !urlpattern.Match(pattern, e.URL) {
				continue
			}
			if err != nil {
				err = fmt.Errorf("cachetrip: list the stored responses: %w", err)
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// Clear removes all stored responses, for every identity. Responses that are on
// their way are stored when they have come. The size limit, and the secret that
// keys are made with, stay. It returns the error of the store or of ctx; then
// some of the responses may be removed.
func (t *Transport) Clear(ctx context.Context) error {
	if !t.keeps() {
		return nil
	}
	if err := t.storeFor(nil).Clear(ctx); err != nil {
		return fmt.Errorf("cachetrip: clear: %w", err)
	}
	return nil
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

// changeKeys applies change to the stored responses of URLs, for every
// identity. urls are primary URLs; see primaryURL. This Transport sees the
// change at once, even if the store is slow. req is the request that causes the
// change, or nil if the caller of Invalidate or Purge does.
func (t *Transport) changeKeys(ctx context.Context, req *http.Request, urls []string, change func([]*store.Entry, time.Time) []*store.Entry) error {
	if !t.keeps() {
		return nil
	}
	now := wallClock()
	prefixes := sync.OnceValue(func() []string {
		list := make([]string, len(urls))
		for i, u := range urls {
			list[i] = digester(t.guard.Secret()).url(u)
			t.events.Invalidate(list[i], now)
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
