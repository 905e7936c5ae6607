package cachetrip

import (
	"context"
	"net/http"
	"reflect"
	"slices"
)

type directivesKey struct{}

// WithCacheControl returns a context whose requests carry these Cache-Control request directives,
// such as "no-cache" or "max-stale=60, only-if-cached", besides those of their header and those
// that ctx has already: for SDKs that give the caller a context but no header. The origin sees
// them, too. RFC 9111, section 5.2.1.
func WithCacheControl(ctx context.Context, directives string) context.Context {
	return context.WithValue(ctx, directivesKey{}, append(slices.Clone(directivesOf(ctx)), directives))
}

// directivesOf returns the Cache-Control lines that ctx carries.
func directivesOf(ctx context.Context) []string {
	lines, _ := ctx.Value(directivesKey{}).([]string)
	return lines
}

// untraced is a context without the hooks of net/http/httptrace that its parent may carry, in the two
// forms in which package net and net/http look for them: to whoever set them, what happens behind a
// response that they have already is not a part of it. All other values stay.
type untraced struct{ context.Context }

// Value returns what the parent has for a key, unless that is the key of hooks.
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
