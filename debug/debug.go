// Package debug serves a page that shows the contents and the work of a cache,
// like [net/http/pprof]. The page has counters, the last decisions with their
// reasons, the stored responses, and what the next request for a URL would do.
//
//	cache, err := cachetrip.Open(dir)
//	…
//	mux.Handle("/debug/cache/", debug.New(cache, debug.Options{}))
//
// Importing the package registers nothing. The page needs no script, shows no
// bodies and changes nothing. By default, it answers only requests from the
// machine that it runs on; see [Options.Allow]. It hides values that may be
// secrets: values in the queries of URLs, and header fields that do not concern
// caching. The work for one request is limited, even for a large store.
package debug

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip"
)

const (
	// DefaultRecent is the number of decisions that are kept if
	// [Options].Recent is 0: enough for a screen or two.
	DefaultRecent = 100

	// requestTime limits the work for one request. After it, the request fails.
	requestTime = 5 * time.Second
)

// Options configures a [Handler]. The zero value is safe.
type Options struct {
	// Allow reports whether the page answers a request; other requests get a
	// 403.
	//
	// nil means the default, which answers requests from this machine only.
	// Such a request comes from a loopback address, and no proxy has forwarded
	// it. Its Host field names the machine itself, so that no web site can have
	// a browser on this machine read the page under the site's own name.
	Allow func(*http.Request) bool

	// Unredacted shows the values in the queries of URLs, and all fields of
	// stored headers except those whose names suggest credentials, such as
	// Set-Cookie and X-Auth-Token.
	Unredacted bool

	// Recent is the number of decisions that are kept. Each takes some hundred
	// bytes. 0 means DefaultRecent; a negative number keeps none.
	Recent int
}

// Handler is the page. It is safe for concurrent use, and may be served under
// any path.
type Handler struct {
	cache  *cachetrip.Transport
	opts   Options
	recent *recorder
}

// New returns the page for cache. It adds its hooks to cache.Trace, so call it
// before cache is used. The hooks cost about a microsecond per request.
func New(cache *cachetrip.Transport, opts Options) *Handler {
	if opts.Recent == 0 {
		opts.Recent = DefaultRecent
	}
	h := &Handler{cache: cache, opts: opts}
	h.recent = newRecorder(max(opts.Recent, 0), h.redactURL)
	cache.Trace = join(h.recent.trace(), cache.Trace)
	return h
}

// ServeHTTP implements [http.Handler]. It answers GET and HEAD.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("X-Frame-Options", "DENY")
	header.Set("Content-Security-Policy", contentSecurityPolicy)

	allow := h.opts.Allow
	if allow == nil {
		allow = local
	}
	if !allow(r) {
		http.Error(w, "This page is served to the machine that it is on only; see Options.Allow of package debug.", http.StatusForbidden)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "There is nothing but to GET here.", http.StatusMethodNotAllowed)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), requestTime)
	defer cancel()
	query := r.URL.Query()
	switch {
	case query.Has("key"):
		h.showKey(ctx, w, query.Get("key"))
	case query.Has("explain"):
		h.showURL(ctx, w, query.Get("explain"))
	default:
		h.overview(ctx, w, cursor{query.Get("at"), query.Get("after")}, strings.ToLower(strings.TrimSpace(query.Get("host"))))
	}
}

// local reports whether r came from this machine and was addressed to it.
func local(r *http.Request) bool {
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via"} {
		if r.Header[name] != nil {
			return false
		}
	}
	remote, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil || !isLoopback(remote) {
		return false
	}
	host := (&url.URL{Host: r.Host}).Hostname()
	return strings.EqualFold(host, "localhost") || isLoopback(host)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
