// Package debug serves pages that show the contents and the work of a cache,
// like [net/http/pprof]: counters and the store, the last decisions with their
// reasons, the stored responses, and what the next request for a URL would do.
//
//	cache, err := cachetrip.Open(dir)
//	…
//	mux.Handle("/debug/cache/", debug.New(cache, debug.Options{}))
//
// Importing the package registers nothing. The pages show no bodies and change
// nothing. They work without scripts; a small script refreshes counters in
// place. By default, they answer only requests from the machine that they run
// on; see [Options.Allow]. They hide values that may be secrets: values in the
// queries of URLs, and header fields that do not concern caching. A search
// compares what is shown, so that it cannot guess what is hidden.
//
// The time and memory for one request are limited, even for a large store. A
// sorted page reads the whole store, for at most two seconds, and keeps only
// the entries that it shows.
//
// # JSON
//
// Each page is there as JSON too, for programs: with format=json in the query,
// or with an Accept field that names application/json and not text/html. Errors
// are objects with the member "error". Sizes are in bytes and durations in
// seconds. The queries are those of the links on the pages:
//
//	?                        counters, the store and the last ten decisions
//	?view=decisions&q=TEXT   decisions whose URL contains TEXT, the latest first
//	?view=stored&q=TEXT      stored responses, 50 at a time; "next" leads to more
//	   &sort=-size           sorted by url, status, size, age, fresh or used; - reverses
//	?key=KEY                 the responses that are stored under a key
//	?explain=URL             what a GET of the URL would do, and why
//
// Members may be added to the objects. Existing members keep their meaning.
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
	cache   *cachetrip.Transport
	opts    Options
	recent  *recorder
	started time.Time // when the Handler was made
}

// New returns the page for cache. It adds its hooks to cache.Trace, so call it
// before cache is used. The hooks cost about a microsecond per request.
func New(cache *cachetrip.Transport, opts Options) *Handler {
	if opts.Recent == 0 {
		opts.Recent = DefaultRecent
	}
	h := &Handler{cache: cache, opts: opts, started: time.Now()}
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
		refuse(w, r, http.StatusForbidden, "This page answers only requests from the machine that the program runs on. To change that, set Options.Allow of package debug.")
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		refuse(w, r, http.StatusMethodNotAllowed, "This page can only be read: use GET or HEAD.")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), requestTime)
	defer cancel()
	h.serve(ctx, w, r)
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
