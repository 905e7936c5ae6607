package cachetrip

import (
	"net/http"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestStorable(t *testing.T) {
	lm := "Last-Modified: " + httpDate(-1e12)
	tests := []struct {
		name       string
		req        *request
		status     int
		lines      []string
		keepsStale bool
		want       string
	}{
		{"max-age", asking("GET"), 200, []string{"Cache-Control: max-age=60"}, false, ""},
		{"Expires", asking("GET"), 200, []string{"Expires: " + httpDate(1e12)}, false, ""},
		{"Last-Modified", asking("GET"), 200, []string{lm}, false, ""},
		{"entity tag", asking("GET"), 200, []string{`ETag: "a"`}, false, ""},
		{"nothing", asking("GET"), 200, nil, false, "no-freshness-or-validator"},
		{"nothing, where stale responses are of use", asking("GET"), 200, nil, true, ""},
		{"an invalid validator is none", asking("GET"), 200, []string{"Last-Modified: yesterday"}, false, "no-freshness-or-validator"},
		{"private", asking("GET"), 200, []string{"Cache-Control: private, max-age=60"}, false, ""},
		{"private with fields", asking("GET"), 200, []string{`Cache-Control: private="Set-Cookie", max-age=60`}, false, ""},
		{"a request with credentials", asking("GET", "Authorization: Bearer x"), 200, []string{"Cache-Control: max-age=60"}, false, ""},
		{"HEAD", asking("HEAD"), 200, []string{"Cache-Control: max-age=60"}, false, ""},

		{"not allowed", asking("GET"), 405, []string{"Cache-Control: max-age=60"}, false, ""},
		{"not allowed, of a range", asking("GET", "Range: bytes=0-1"), 405, []string{"Cache-Control: max-age=60"}, false, "status"},
		{"not allowed, with a condition", asking("GET", `If-None-Match: "a"`), 405, []string{"Cache-Control: max-age=60"}, false, "status"},
		{"not found, of a range", asking("GET", "Range: bytes=0-1"), 404, []string{"Cache-Control: max-age=60"}, false, ""},

		{"POST", asking("POST"), 200, []string{"Cache-Control: max-age=60"}, false, "method"},
		{"an unknown method", asking("FETCH"), 200, []string{"Cache-Control: max-age=60"}, false, "method"},
		{"a method in lower case is unknown", asking("get"), 200, []string{"Cache-Control: max-age=60"}, false, "method"},
		{"no-store of the request", asking("GET", "Cache-Control: no-store"), 200, []string{"Cache-Control: max-age=60"}, false, "request-no-store"},

		{"no-store", asking("GET"), 200, []string{"Cache-Control: max-age=60, no-store"}, false, "no-store"},
		{"no-store in any letter case, on its own line", asking("GET"), 200, []string{"Cache-Control: max-age=60", "Cache-Control: NO-Store"}, false, "no-store"},
		{"no-store with an argument", asking("GET"), 200, []string{"Cache-Control: max-age=60, no-store=1"}, false, "no-store"},
		{"no-store before a blank and an argument", asking("GET"), 200, []string{"Cache-Control: max-age=60, no-store =1"}, false, "no-store"},
		{"no-store after an open quote", asking("GET"), 200, []string{`Cache-Control: max-age=60, x=", no-store`}, false, "no-store"},
		{"no-store within quotes is text", asking("GET"), 200, []string{`Cache-Control: max-age=60, x="no-store, y"`}, false, ""},

		{"no-store after a semicolon", asking("GET"), 200, []string{"Cache-Control: max-age=60; no-store"}, false, "no-store"},
		{"no-store before a semicolon", asking("GET"), 200, []string{"Cache-Control: no-store; max-age=0", lm}, false, "no-store"},
		{"no-store between semicolons", asking("GET"), 200, []string{"Cache-Control: no-cache; no-store; private", lm}, false, "no-store"},
		{"no-store after a blank", asking("GET"), 200, []string{"Cache-Control: no-cache no-store", lm}, false, "no-store"},

		{"must-understand sets no-store aside", asking("GET"), 200, []string{"Cache-Control: max-age=60, no-store, must-understand"}, false, ""},
		{"must-understand and a code that is not understood", asking("GET"), 599, []string{"Cache-Control: max-age=60, no-store, must-understand"}, false, "must-understand"},
		{"must-understand and such a code, without no-store", asking("GET"), 599, []string{"Cache-Control: max-age=60, must-understand"}, false, "must-understand"},
		{"must-understand and a code that is not to be stored", asking("GET"), 429, []string{"Cache-Control: max-age=60, must-understand"}, false, "status"},
		{"must-understand and nothing else", asking("GET"), 302, []string{"Cache-Control: must-understand", `ETag: "a"`}, false, "not-allowed"},
		{"must-understand does not concern the request's no-store", asking("GET", "Cache-Control: no-store"), 200, []string{"Cache-Control: max-age=60, must-understand"}, false, "request-no-store"},

		{"an informational response", asking("GET"), 103, []string{"Cache-Control: max-age=60"}, false, "status"},
		{"a 101", asking("GET"), 101, []string{"Cache-Control: max-age=60"}, false, "status"},
		{"a 304", asking("GET"), 304, []string{"Cache-Control: max-age=60"}, false, "status"},
		{"an unknown code, explicitly fresh", asking("GET"), 299, []string{"Cache-Control: max-age=60"}, false, ""},
		{"an unknown code with a validator only", asking("GET"), 299, []string{lm}, false, "not-allowed"},
		{"302 with a validator only", asking("GET"), 302, []string{lm}, false, "not-allowed"},
		{"302 with private and a validator", asking("GET"), 302, []string{lm, "Cache-Control: private"}, false, ""},
		{"302 with public and a validator", asking("GET"), 302, []string{lm, "Cache-Control: public"}, false, ""},
		{"302, explicitly fresh", asking("GET"), 302, []string{"Cache-Control: max-age=60"}, false, ""},
		{"302 with s-maxage, which is for shared caches", asking("GET"), 302, []string{"Cache-Control: s-maxage=60", `ETag: "a"`}, false, "not-allowed"},
		{"404 with a validator", asking("GET"), 404, []string{lm}, false, ""},
		{"404 without anything", asking("GET"), 404, nil, false, "no-freshness-or-validator"},
		{"400, explicitly fresh", asking("GET"), 400, []string{"Cache-Control: max-age=60"}, false, ""},

		{"401 with a validator", asking("GET"), 401, []string{`ETag: "a"`}, false, "status"},
		{"401 with private alone", asking("GET"), 401, []string{`ETag: "a"`, "Cache-Control: private"}, false, "status"},
		{"401, explicitly fresh", asking("GET"), 401, []string{"Cache-Control: max-age=60"}, false, ""},
		{"403 with a validator", asking("GET"), 403, []string{lm}, false, "status"},
		{"403, public", asking("GET"), 403, []string{lm, "Cache-Control: public"}, false, ""},
		{"429 with a validator", asking("GET"), 429, []string{`ETag: "a"`}, false, "status"},
		{"429, explicitly fresh and public", asking("GET"), 429, []string{"Cache-Control: max-age=60, public"}, false, "status"},
		{"429, explicitly fresh, to a HEAD", asking("HEAD"), 429, []string{"Cache-Control: max-age=60"}, true, "status"},
		{"428, explicitly fresh", asking("GET"), 428, []string{"Cache-Control: max-age=60"}, false, "status"},
		{"431 with Expires", asking("GET"), 431, []string{"Expires: " + httpDate(1e12)}, false, "status"},
		{"511, public", asking("GET"), 511, []string{lm, "Cache-Control: public"}, false, "status"},
		{"226, explicitly fresh", asking("GET", "A-IM: vcdiff"), 226, []string{"Cache-Control: max-age=60", `ETag: "a"`}, false, "status"},
		{"500 with a validator", asking("GET"), 500, []string{lm}, false, "status"},
		{"503, explicitly fresh", asking("GET"), 503, []string{"Cache-Control: max-age=60"}, false, ""},
		{"501 is heuristically cacheable", asking("GET"), 501, []string{lm}, false, ""},

		{"stale at once", asking("GET"), 200, []string{"Cache-Control: max-age=0"}, false, "no-freshness-or-validator"},
		{"stale at once, with a validator", asking("GET"), 200, []string{"Cache-Control: max-age=0", `ETag: "a"`}, false, ""},
		{"stale at once, with stale-if-error", asking("GET"), 200, []string{"Cache-Control: max-age=0, stale-if-error=10"}, false, ""},
		{"stale at once, with stale-while-revalidate", asking("GET"), 200, []string{"Cache-Control: max-age=0, stale-while-revalidate=10"}, false, ""},
		{"stale at once, with both but must-revalidate", asking("GET"), 200, []string{"Cache-Control: max-age=0, stale-if-error=10, must-revalidate"}, true, "no-freshness-or-validator"},
		{"no-cache without a validator", asking("GET"), 200, []string{"Cache-Control: max-age=60, no-cache"}, true, "no-freshness-or-validator"},
		{"no-cache with a validator", asking("GET"), 200, []string{"Cache-Control: no-cache", `ETag: "a"`}, false, ""},
		{"Vary: * without a validator", asking("GET"), 200, []string{"Cache-Control: max-age=60", "Vary: *"}, true, "no-freshness-or-validator"},
		{"Vary: * with a validator", asking("GET"), 200, []string{"Cache-Control: max-age=60", "Vary: *", `ETag: "a"`}, false, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := answering(test.lines...)
			r.status = test.status
			if diff := cmp.Diff(storable(test.req, &r, test.keepsStale), test.want); diff != "" {
				t.Errorf("storable (-got +want):\n%s", diff)
			}
		})
	}
}

// A response of any status that states its lifetime may be stored. Exceptions
// are interim responses, answers to a precondition or range, and codes that RFC
// 3229 or 6585 forbids. no-store and must-understand are obeyed.
func TestStorableByStatus(t *testing.T) {
	understands := map[int]bool{308: true, 421: true, 422: true, 426: true}
	for _, within := range [][2]int{{200, 206}, {300, 305}, {307, 307}, {400, 417}, {500, 505}} {
		for status := within[0]; status <= within[1]; status++ {
			understands[status] = true
		}
	}
	for status := 100; status < 1000; status++ {
		stored := func(directives string) bool {
			r := answering("Cache-Control: " + directives)
			r.status = status
			return storable(asking("GET"), &r, false) == ""
		}
		final := status >= 200 && !slices.Contains([]int{226, 304, 412, 416, 428, 429, 431, 511}, status)
		got := [3]bool{stored("max-age=60"), stored("max-age=60, no-store"), stored("max-age=60, no-store, must-understand")}
		want := [3]bool{final, false, final && understands[status]}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Errorf("%d: explicitly fresh, with no-store, with must-understand too (-got +want):\n%s", status, diff)
		}
	}
}

func TestStoredHeader(t *testing.T) {
	tests := []struct {
		name      string
		got, want http.Header
	}{
		{"unknown fields, in all their lines", headerOf("X: 1", "X: 2", "Set-Cookie: a=b", "Trailers: x"), headerOf("X: 1", "X: 2", "Set-Cookie: a=b", "Trailers: x")},
		{"what concerns the connection", headerOf("Connection: close", "Keep-Alive: timeout=5", "Proxy-Connection: x", "Te: trailers", "Transfer-Encoding: chunked", "Upgrade: h2c", "Trailer: X", "A: b"), headerOf("A: b")},
		{"what Connection names", headerOf("Connection: x-one, X-Two", "Connection: x-three", "X-One: 1", "X-Two: 2", "X-Three: 3", "X-Four: 4"), headerOf("X-Four: 4")},
		{"what concerns the proxy", headerOf("Proxy-Authenticate: Basic", "Proxy-Authentication-Info: x", "Proxy-Authorization: y", "Www-Authenticate: Basic"), headerOf("Www-Authenticate: Basic")},
		{"what says how to be stored stays", headerOf("Connection: cache-control, vary, date, age, expires, content-encoding", "Cache-Control: no-store", "Vary: *", "Date: x", "Age: 1", "Expires: 0", "Content-Encoding: gzip"), headerOf("Cache-Control: no-store", "Vary: *", "Date: x", "Age: 1", "Expires: 0", "Content-Encoding: gzip")},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			before := test.got.Clone()
			if diff := cmp.Diff(storedHeader(test.got), test.want); diff != "" {
				t.Errorf("storedHeader (-got +want):\n%s", diff)
			}
			if diff := cmp.Diff(test.got, before); diff != "" {
				t.Errorf("the response was changed (-got +want):\n%s", diff)
			}
		})
	}
}
