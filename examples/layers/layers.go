// Package layers puts a rate limiter, retries, tracing and another cache below
// a cache, as docs/layers.md describes.
package layers

import (
	"bytes"
	"io"
	"net/http"

	"github.com/hashicorp/go-retryablehttp"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"golang.org/x/time/rate"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
)

// limited waits for its turn before each request.
type limited struct {
	limiter *rate.Limiter
	base    http.RoundTripper
}

func (l limited) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := l.limiter.Wait(req.Context()); err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	return l.base.RoundTrip(req)
}

func limit(cache *cachetrip.Transport, limiter *rate.Limiter) {
	cache.Base = limited{limiter, cache.WrappedRoundTripper()}
}

func retry(cache *cachetrip.Transport) {
	retries := retryablehttp.NewClient()
	retries.RetryMax, retries.Logger = 3, nil
	retries.ErrorHandler = retryablehttp.PassthroughErrorHandler // so that the cache sees the last status
	retries.HTTPClient.Transport = cache.WrappedRoundTripper()
	retries.HTTPClient.CheckRedirect = func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // so that the cache sees each redirect
	}
	cache.Base = &retryablehttp.RoundTripper{Client: retries}
}

func trace(cache *cachetrip.Transport) {
	cache.Base = otelhttp.NewTransport(cache.WrappedRoundTripper())
}

// front returns a cache for one process above a cache that others share.
func front(shared *cachetrip.Transport, maxBytes int64) *cachetrip.Transport {
	return &cachetrip.Transport{Store: store.NewMemory(maxBytes), Base: shared}
}

// thumbnails answers a URL with a fragment, such as /cat.jpg#200x, by what it
// makes of the image at that URL.
type thumbnails struct {
	originals http.RoundTripper // a cache
	resize    func(image io.Reader, size string) ([]byte, error)
}

func (t thumbnails) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.originals.RoundTrip(req) // neither the cache nor the origin looks at the fragment
	if err != nil || resp.StatusCode != http.StatusOK || req.URL.Fragment == "" {
		return resp, err
	}
	defer resp.Body.Close()
	image, err := t.resize(resp.Body, req.URL.Fragment)
	if err != nil {
		return nil, err
	}
	// These describe the original.
	for _, name := range []string{"Etag", "Last-Modified", "Accept-Ranges", "Content-Length", "Content-Digest", "Repr-Digest"} {
		resp.Header.Del(name)
	}
	resp.ContentLength = int64(len(image))
	resp.Body = io.NopCloser(bytes.NewReader(image))
	return resp, nil
}

// byFragment stores each size of an image under a URL of its own.
func byFragment(req *http.Request) cachetrip.Policy {
	if req.URL.Fragment == "" {
		return cachetrip.Policy{}
	}
	u := *req.URL
	query := u.Query()
	query.Set("thumbnail", u.Fragment)
	u.RawQuery, u.Fragment = query.Encode(), ""
	return cachetrip.Policy{URL: &u}
}

func images(disk store.Store, resize func(image io.Reader, size string) ([]byte, error)) *cachetrip.Transport {
	originals := &cachetrip.Transport{Store: disk}
	return &cachetrip.Transport{
		Store:  store.NewMemory(64 << 20),
		Base:   thumbnails{originals, resize},
		Policy: byFragment,
	}
}
