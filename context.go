package cachetrip

import (
	"context"
	"net/http"
	"reflect"
	"slices"
)

type directivesKey struct{}

// WithCacheControl returns a context whose requests carry Cache-Control request
// directives, such as "no-cache" or "max-stale=60, only-if-cached". They are
// added to those in the header of the request and to those that ctx already
// has. Use it with SDKs that accept a context but no header. The origin
// receives the directives, too. RFC 9111, section 5.2.1.
func WithCacheControl(ctx context.Context, directives string) context.Context {
	return context.WithValue(ctx, directivesKey{}, append(slices.Clone(directivesOf(ctx)), directives))
}

// directivesOf returns the Cache-Control lines that ctx carries.
func directivesOf(ctx context.Context) []string {
	lines, _ := ctx.Value(directivesKey{}).([]string)
	return lines
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
