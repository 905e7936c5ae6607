package cachetrip

import (
	"context"
	"io"
	"net/http"
	"reflect"
	"slices"
)

type wishesKey struct{}

// WithCacheControl returns a context whose requests carry Cache-Control request
// directives, such as "no-cache" or "max-stale=60, only-if-cached". They are
// added to those in the header of the request and to those that ctx already
// has. Use it with SDKs that accept a context but no header. The origin
// receives the directives, too. RFC 9111, section 5.2.1.
func WithCacheControl(ctx context.Context, directives string) context.Context {
	w := wishesIn(ctx)
	w.directives = append(slices.Clone(w.directives), directives)
	return context.WithValue(ctx, wishesKey{}, &w)
}

// WithPolicy returns a context whose requests have the Policy p. Its non-zero
// fields win over those of [Transport.Policy], and over those that ctx already
// has.
func WithPolicy(ctx context.Context, p Policy) context.Context {
	w := wishesIn(ctx)
	w.policy = p.over(w.policy)
	return context.WithValue(ctx, wishesKey{}, &w)
}

// wishes are what a program wants for a request, besides what its header says.
type wishes struct {
	directives []string // Cache-Control lines
	policy     Policy

	sparesBody bool          // the body of the request must not be read
	body       io.ReadCloser // is to be sent in place of that of the request, which was read; may be nil
}

// wishesIn returns the wishes that ctx carries.
func wishesIn(ctx context.Context) wishes {
	if w, ok := ctx.Value(wishesKey{}).(*wishes); ok {
		return *w
	}
	return wishes{}
}

// untraced is a context without the hooks of net/http/httptrace that its parent
// may carry. A background request uses it: the caller who set the hooks already
// has its response. The hooks have two keys, one for net/http and one for net.
// All other values stay.
type untraced struct{ context.Context }

// Value returns the parent's value for key, or nil if key is that of hooks.
func (c untraced) Value(key any) any {
	switch reflect.TypeOf(key).PkgPath() {
	case "net/http/httptrace", "internal/nettrace":
		return nil
	}
	return c.Context.Value(key)
}

// withDirectives returns a copy of h with further Cache-Control lines.
func withDirectives(h http.Header, lines []string) http.Header {
	h = h.Clone()
	if h == nil {
		h = make(http.Header)
	}
	if len(lines) > 0 {
		h["Cache-Control"] = append(slices.Clone(h["Cache-Control"]), lines...)
	}
	return h
}
