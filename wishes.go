package cachetrip

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"

	"github.com/cachetrip/cachetrip/internal/field"
)

// The wishes of the program for a request, as Policy and contexts state them.

// wishesFor returns the wishes for req: those of its context, and those of
// Transport.Policy. They include the directive of the policy's mode, if the
// request has no Cache-Control. A Policy with an invalid field does not count.
func (t *Transport) wishesFor(req *http.Request) wishes {
	w := wishesIn(req.Context())
	if t.Policy != nil && req.URL != nil {
		w.policy = w.policy.over(t.policyFrom(req))
	}
	if w.policy == (Policy{}) {
		return w
	}
	if problem := w.policy.problem(); problem != "" {
		t.policyFailed(req, problem)
		w.policy = Policy{}
		return w
	}
	if t.logs(req.Context()) {
		t.log(req, "policy", w.policy.attrs()...)
	}
	if line := w.policy.Mode.directive(); line != "" && len(w.directives) == 0 && isSafe(req.Method) {
		if h, _ := field.Canonical(req.Header); h["Cache-Control"] == nil {
			w.directives = []string{line}
		}
	}
	return w
}

// attrs returns the fields of p that are set, for a log record. The URL is
// logged without its query.
func (p *Policy) attrs() (attrs []slog.Attr) {
	if p.Mode != ModeDefault {
		attrs = append(attrs, slog.String("mode", p.Mode.String()))
	}
	if p.TTL != 0 {
		attrs = append(attrs, slog.Duration("ttl", p.TTL))
	}
	if p.StaleIfError != 0 {
		attrs = append(attrs, slog.Duration("stale-if-error", p.StaleIfError))
	}
	if p.URL != nil {
		attrs = append(attrs, slog.String("stored-under", shownURL(p.URL)))
	}
	if p.MaxBodyBytes != 0 {
		attrs = append(attrs, slog.Int64("max-body-bytes", p.MaxBodyBytes))
	}
	if p.CacheContent {
		attrs = append(attrs, slog.Bool("cache-content", true))
	}
	return attrs
}

// policyFrom returns what Transport.Policy says of req. If it panics, that is
// the zero Policy: a program must not fail because of its cache.
func (t *Transport) policyFrom(req *http.Request) (p Policy) {
	defer func() {
		if panicked := recover(); panicked != nil {
			p = Policy{}
			t.policyFailed(req, fmt.Sprintf("Transport.Policy panicked: %v", panicked))
		}
	}()
	return t.Policy(req)
}

// policyFailed logs the first problem with a Policy.
func (t *Transport) policyFailed(req *http.Request, problem string) {
	if !t.policyTold.Swap(true) {
		t.shielded(func() {
			t.logAs(slog.LevelWarn, req, "policy ignored, and later ones like it without notice", slog.String("problem", problem))
		})
	}
}

// storedAs returns the URL, and the Host if that differs, under which responses
// to req are stored.
func storedAs(p *Policy, req *http.Request) (u *url.URL, host string) {
	if p.URL != nil {
		return p.URL, ""
	}
	return req.URL, req.Host
}

// appendStoredURLs appends the primary URLs under which responses to a GET of u
// are stored: u itself, and what Transport.Policy says for it. host is the Host
// of such a request.
func (t *Transport) appendStoredURLs(urls []string, ctx context.Context, u *url.URL, host string) []string {
	urls = appendURL(urls, primaryURL(u, host))
	if t.Policy == nil {
		return urls
	}
	get := (&http.Request{Method: http.MethodGet, URL: u, Host: host, Header: make(http.Header)}).WithContext(ctx)
	if p := t.policyFrom(get); p.URL != nil && p.problem() == "" {
		urls = appendURL(urls, primaryURL(p.URL, ""))
	}
	return urls
}

// appendURL appends a primary URL, unless urls has it already.
func appendURL(urls []string, primary string) []string {
	if slices.Contains(urls, primary) {
		return urls
	}
	return append(urls, primary)
}
