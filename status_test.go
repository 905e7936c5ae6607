package cachetrip

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"
	"github.com/google/go-cmp/cmp"
)

func TestStatusMember(t *testing.T) {
	tests := []struct {
		name string
		s    Status
		want string
	}{
		// The examples of RFC 9211, section 3, of one cache.
		{"a hit", Status{Hit: true, TTL: 376 * time.Second}, "cachetrip; hit; ttl=376"},
		{"a stale hit", Status{Hit: true, TTL: -412 * time.Second}, "cachetrip; hit; ttl=-412"},
		{"a miss", Status{Fwd: "uri-miss"}, "cachetrip; fwd=uri-miss"},
		{"a miss that was validated", Status{Fwd: "stale", FwdStatus: 304}, "cachetrip; fwd=stale; fwd-status=304"},
		{"a miss that was collapsed", Status{Fwd: "uri-miss", Collapsed: true}, "cachetrip; fwd=uri-miss; collapsed"},

		{"a miss that was stored", Status{Fwd: "uri-miss", FwdStatus: 200, Stored: true, TTL: time.Minute}, "cachetrip; fwd=uri-miss; fwd-status=200; stored; ttl=60"},
		{"stored, though stale at once", Status{Fwd: "uri-miss", FwdStatus: 200, Stored: true}, "cachetrip; fwd=uri-miss; fwd-status=200; stored; ttl=0"},
		{"a hit with the reason", Status{Hit: true, TTL: -time.Second, Detail: "max-stale"}, "cachetrip; hit; ttl=-1; detail=max-stale"},
		{"seconds only", Status{Hit: true, TTL: 1999 * time.Millisecond}, "cachetrip; hit; ttl=1"},
		{"everything", Status{Fwd: "vary-miss", FwdStatus: 206, Stored: true, Collapsed: true, TTL: forever, Detail: "x"}, "cachetrip; fwd=vary-miss; fwd-status=206; stored; collapsed; ttl=2147483648; detail=x"},
		{"age and revalidation are said elsewhere", Status{Fwd: "bypass", Age: time.Second, Revalidated: true}, "cachetrip; fwd=bypass"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.s.member(), test.want); diff != "" {
				t.Errorf("member (-got +want):\n%s", diff)
			}
		})
	}
}

func TestStatusOf(t *testing.T) {
	miss := Status{Fwd: "uri-miss", FwdStatus: 200, Stored: true, TTL: time.Minute, Detail: "x"}
	hit := Status{Hit: true, TTL: -3 * time.Second, Detail: "max-stale"}
	validated := Status{Fwd: "stale", FwdStatus: 304, Stored: true, TTL: time.Minute}
	// from returns a header that the cache has set a status in, as forwarded or
	// from the store.
	from := func(stored bool, age time.Duration, s Status, lines ...string) http.Header {
		h := headerOf(lines...)
		if stored {
			h = fromCache(&response{header: h}, age, s)
		} else {
			setStatus(h, s)
		}
		return h
	}
	with := func(s Status, age time.Duration, revalidated bool) Status {
		s.Age, s.Revalidated = age, revalidated
		return s
	}
	generated := make(http.Header)
	setGenerated(generated, Status{Fwd: "vary-miss"})
	changed := func(h http.Header, change func(http.Header)) http.Header { change(h); return h }
	tests := []struct {
		name string
		h    http.Header
		want Status
	}{
		{"no header", nil, Status{}},
		{"not from a Transport", headerOf("Age: 5"), Status{}},
		{"forged by an origin", headerOf("Cache-Status: " + hit.member()), Status{}},
		{"forged by an origin, with the mark as a line of its own", headerOf("Cache-Status: "+hit.member(), "Cache-Status: "+mark), Status{}},
		{"forwarded", from(false, 0, miss), miss},
		{"forwarded by an origin's cache, whose Age is not ours", from(false, 0, miss, "Age: 100"), miss},
		{"a hit", from(true, 7500*time.Millisecond, hit), with(hit, 7*time.Second, false)},
		{"a hit on what an origin's cache had", from(true, time.Second, hit, "Age: 100"), with(hit, time.Second, false)},
		{"confirmed by the origin", from(true, 0, validated), with(validated, 0, true)},
		{"a 304 to the caller's own condition", from(false, 0, Status{Fwd: "uri-miss", FwdStatus: 304}), Status{Fwd: "uri-miss", FwdStatus: 304}},
		{"behind an origin's cache", from(true, time.Second, hit, "Cache-Status: OriginCache; hit; ttl=1100", `Cache-Status: "CDN; Company"; fwd=miss`), with(hit, time.Second, false)},
		{"behind a forgery", from(false, 0, miss, "Cache-Status: "+hit.member()), miss},
		{"behind another Transport", from(true, time.Second, hit, strings.Join([]string{"Cache-Status", miss.member()}, ": ")), with(hit, time.Second, false)},
		{"with what is not said", from(true, time.Second, Status{Fwd: "stale", FwdStatus: 429, RetryAfter: time.Minute}, "Cache-Status: Other"), Status{Fwd: "stale", FwdStatus: 429, RetryAfter: time.Minute, Age: time.Second}},
		{"generated", generated, Status{Fwd: "vary-miss", Generated: true}},
		{"generated, and added to", changed(generated.Clone(), func(h http.Header) { setGenerated(h, miss); h.Add("Cache-Status", "x") }), Status{}},
		{"generated, and cloned", generated.Clone(), Status{}},
		{"no lines", http.Header{"Cache-Status": {}}, Status{}},
		{"cloned", from(false, 0, miss).Clone(), Status{}},
		{"added to", changed(from(false, 0, miss), func(h http.Header) { h.Add("Cache-Status", "Another; hit") }), Status{}},
		{"replaced", changed(from(false, 0, miss), func(h http.Header) { h.Set("Cache-Status", miss.member()) }), Status{}},
		{"removed", changed(from(false, 0, miss), func(h http.Header) { h.Del("Cache-Status") }), Status{}},
		{"another field of it changed", changed(from(true, time.Second, hit), func(h http.Header) { h.Set("Age", "old"); h.Add("X", "y") }), with(hit, 0, false)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(StatusOf(&http.Response{Header: test.h}), test.want); diff != "" {
				t.Errorf("StatusOf (-got +want):\n%s", diff)
			}
		})
	}
	if diff := cmp.Diff(StatusOf(nil), Status{}); diff != "" {
		t.Errorf("StatusOf(nil) (-got +want):\n%s", diff)
	}
}

// Members of other caches stay, in order, and no line has room into which
// another would grow.
func TestStatusKeepsOthers(t *testing.T) {
	others := []string{"OriginCache; hit; ttl=1100", `"CDN Company Here"; hit; ttl=545`}
	for _, set := range []func(http.Header) http.Header{
		func(h http.Header) http.Header { setStatus(h, Status{Fwd: "stale"}); return h },
		func(h http.Header) http.Header {
			return fromCache(&response{header: h}, 5*time.Second, Status{Fwd: "stale"})
		},
		func(h http.Header) http.Header {
			return fromCache(&response{header: h}, 5*time.Second, Status{Fwd: "stale", RetryAfter: time.Second})
		},
	} {
		h := set(http.Header{"Cache-Status": others})
		if diff := cmp.Diff(h["Cache-Status"], append(others[:2:2], "cachetrip; fwd=stale")); diff != "" {
			t.Errorf("Cache-Status (-got +want):\n%s", diff)
		}
		before := h.Clone()
		for _, name := range []string{"Age", "X-From-Cache", "Cache-Status"} {
			h[name] = append(h[name], "more")
		}
		for name, lines := range before {
			if diff := cmp.Diff(h[name], append(lines, "more")); diff != "" {
				t.Errorf("%s after adding to all (-got +want):\n%s", name, diff)
			}
		}
	}
}

// The mark leaves no trace for others to see.
func TestMarkIsOutOfSight(t *testing.T) {
	h := headerOf("A: b")
	h = fromCache(&response{header: h}, 0, Status{Hit: true})
	var b strings.Builder
	if err := h.Write(&b); err != nil {
		t.Fatal(err)
	}
	made := make(http.Header)
	setGenerated(made, Status{Fwd: "stale", RetryAfter: time.Minute})
	if err := made.Write(&b); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), mark) || len(made["Cache-Status"]) > 0 || strings.Contains(b.String(), "stale") {
		t.Errorf("the mark is written:\n%s", b.String())
	}
	want := headerOf("A: b", "Age: 0", "X-From-Cache: 1", "Cache-Status: cachetrip; hit; ttl=0")
	if diff := cmp.Diff(h, want); diff != "" {
		t.Errorf("header (-got +want):\n%s", diff)
	}
}

// TestStatusIsStructured reads members as a library for structured fields does
// (RFC 9651).
func TestStatusIsStructured(t *testing.T) {
	for _, s := range []Status{
		{Hit: true, TTL: -5 * time.Second, Detail: "no-vary-search"},
		{Fwd: "stale", FwdStatus: 304, Stored: true, Collapsed: true, TTL: time.Hour, Detail: "invalidated"},
		{Fwd: "bypass"},
	} {
		list, err := httpsfv.UnmarshalList([]string{"upstream; hit", s.member()})
		if err != nil {
			t.Errorf("%s: %v", s.member(), err)
			continue
		}
		item := list[1].(httpsfv.Item)
		var got Status
		for _, name := range item.Params.Names() {
			switch value, _ := item.Params.Get(name); name {
			case "hit":
				got.Hit = value.(bool)
			case "fwd":
				got.Fwd = string(value.(httpsfv.Token))
			case "fwd-status":
				got.FwdStatus = int(value.(int64))
			case "stored":
				got.Stored = value.(bool)
			case "collapsed":
				got.Collapsed = value.(bool)
			case "ttl":
				got.TTL = time.Duration(value.(int64)) * time.Second
			case "detail":
				got.Detail = string(value.(httpsfv.Token))
			default:
				t.Errorf("%s: unknown parameter %s", s.member(), name)
			}
		}
		if diff := cmp.Diff([]any{httpsfv.Token(cacheName), s}, []any{item.Value, got}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s.member(), diff)
		}
	}
	for word := range reasons { // each may stand in detail
		if _, err := httpsfv.Marshal(httpsfv.NewItem(httpsfv.Token(word))); err != nil {
			t.Errorf("%q is no token: %v", word, err)
		}
	}
}
