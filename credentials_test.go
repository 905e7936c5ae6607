package cachetrip

import (
	"net/http"
	"slices"
	"testing"
)

// TestSendingOf: which fields differ in what Base says that it has sent. Base
// may change the request that it got.
func TestSendingOf(t *testing.T) {
	for _, c := range []struct {
		name     string
		asked    http.Header
		added    http.Header // by the cache
		base     func(http.Header)
		copied   bool // Base has sent a copy
		changed  []string
		expected bool // isUnchanged
	}{
		{name: "nothing", asked: headerOf(), expected: true},
		{name: "as it was asked", asked: headerOf("Accept: a", "User-Agent: b"), expected: true},
		{name: "with conditions", asked: headerOf("Accept: a"), added: headerOf(`If-None-Match: "1"`, "If-Modified-Since: x"), expected: true},
		{name: "a copy", asked: headerOf("Accept: a"), added: headerOf(`If-None-Match: "1"`), copied: true},
		{name: "with a condition of the caller", asked: headerOf("Accept: a", `If-None-Match: "2"`), added: headerOf(`If-None-Match: "1", "2"`)},
		{name: "added", asked: headerOf("Accept: a"), base: func(h http.Header) { h.Set("Authorization", "b") }, changed: []string{"Authorization"}},
		{name: "added in another spelling", asked: headerOf("Accept: a"), base: func(h http.Header) { h["authorization"] = []string{"b"} }, changed: []string{"Authorization"}},
		{name: "removed", asked: headerOf("Accept: a", "Cookie: b"), base: func(h http.Header) { h.Del("Cookie") }, changed: []string{"Cookie"}},
		{name: "another value", asked: headerOf("Accept: a", "Cookie: b"), base: func(h http.Header) { h.Set("Cookie", "c") }, changed: []string{"Cookie"}},
		{name: "replaced", asked: headerOf("Cookie: b"), base: func(h http.Header) { h.Del("Cookie"); h.Set("Authorization", "b") }, changed: []string{"Authorization", "Cookie"}},
		{name: "one more line", asked: headerOf("Cookie: b"), base: func(h http.Header) { h.Add("Cookie", "c") }, changed: []string{"Cookie"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			sent := requestOf("GET", c.asked.Clone())
			for name, lines := range c.added {
				sent.Header[name] = lines
			}
			actual := sent
			if c.copied {
				actual = sent.Clone(t.Context())
			}
			if c.base != nil {
				c.base(actual.Header)
			}
			s := sendingOf(&request{method: "GET", header: c.asked}, sent, sent.URL, actual)
			slices.Sort(s.changed)
			if !slices.Equal(s.changed, c.changed) || s.isUnchanged() != c.expected {
				t.Errorf("changed %v, unchanged %v; want %v, %v", s.changed, s.isUnchanged(), c.changed, c.expected)
			}
		})
	}
}

func requestOf(method string, h http.Header) *http.Request {
	req, err := http.NewRequest(method, "http://example.com/", nil)
	if err != nil {
		panic(err)
	}
	req.Header = h
	return req
}
