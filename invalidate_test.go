package cachetrip

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func mustParse(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestInvalidated(t *testing.T) {
	const target = "https://example.com/a/b?c"
	tests := []struct {
		name   string
		method string
		status int
		lines  []string
		want   []string // in addition to target; nil: not even target
	}{
		{"POST", "POST", 200, nil, []string{}},
		{"PUT", "PUT", 204, nil, []string{}},
		{"DELETE", "DELETE", 200, nil, []string{}},
		{"PATCH", "PATCH", 200, nil, []string{}},
		{"an unknown method", "FROB", 200, nil, []string{}},
		{"a safe method in lower case is unknown", "get", 200, nil, []string{}},
		{"created", "POST", 201, nil, []string{}},
		{"redirected", "POST", 303, nil, []string{}},
		{"not modified", "POST", 304, nil, []string{}},

		{"GET", "GET", 200, []string{"Location: /x"}, nil},
		{"no method, which is GET", "", 200, nil, nil},
		{"HEAD", "HEAD", 200, nil, nil},
		{"OPTIONS", "OPTIONS", 200, nil, nil},
		{"TRACE", "TRACE", 200, nil, nil},
		{"PROPFIND", "PROPFIND", 207, nil, nil},
		{"REPORT", "REPORT", 200, nil, nil},
		{"SEARCH", "SEARCH", 200, nil, nil},
		{"QUERY", "QUERY", 200, nil, nil},

		{"informational", "POST", 100, nil, nil},
		{"refused", "POST", 400, []string{"Location: /x"}, nil},
		{"not found", "DELETE", 404, nil, nil},
		{"failed", "PUT", 500, nil, nil},

		{"Location", "POST", 201, []string{"Location: https://example.com/new"}, []string{"https://example.com/new"}},
		{"Content-Location", "POST", 200, []string{"Content-Location: https://example.com/new"}, []string{"https://example.com/new"}},
		{"both", "POST", 201, []string{"Content-Location: /y", "Location: /x"}, []string{"https://example.com/x", "https://example.com/y"}},
		{"the same in both", "POST", 201, []string{"Content-Location: /x", "Location: HTTPS://example.com:443/x"}, []string{"https://example.com:443/x"}},
		{"the target itself", "POST", 200, []string{"Content-Location: /a/b?c", "Location: ?c#d"}, []string{}},
		{"the first of several", "POST", 201, []string{"Location: /x", "Location: /y", "Content-Location: https://example.org/z", "Content-Location: /z"}, []string{"https://example.com/x"}},
		{"relative", "POST", 201, []string{"Location: x"}, []string{"https://example.com/a/x"}},
		{"a query alone", "POST", 201, []string{"Location: ?d"}, []string{"https://example.com/a/b?d"}},
		{"the same origin in another spelling", "POST", 201, []string{"Location: HTTPS://EXAMPLE.com:443/x"}, []string{"https://EXAMPLE.com:443/x"}},
		{"without a scheme", "POST", 201, []string{"Location: //example.com/x"}, []string{"https://example.com/x"}},
		{"another host", "POST", 201, []string{"Location: https://example.org/x"}, []string{}},
		{"another host without a scheme", "POST", 201, []string{"Location: //example.org/x"}, []string{}},
		{"a host below", "POST", 201, []string{"Location: https://www.example.com/x"}, []string{}},
		{"another port", "POST", 201, []string{"Location: https://example.com:8443/x"}, []string{}},
		{"another scheme", "POST", 201, []string{"Location: http://example.com/x"}, []string{}},
		{"another scheme on the same port", "POST", 201, []string{"Location: http://example.com:443/x"}, []string{}},
		{"no URI", "POST", 201, []string{"Location: http://[::1/x"}, []string{}},
		{"opaque", "POST", 201, []string{"Location: mailto:a@example.com"}, []string{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var want []string
			if test.want != nil {
				want = append([]string{target}, test.want...)
			}
			var got []string
			for _, u := range invalidated(test.method, mustParse(t, target), test.status, headerOf(test.lines...)) {
				got = append(got, u.String())
			}
			if diff := cmp.Diff(got, want); diff != "" {
				t.Errorf("invalidated (-got +want):\n%s", diff)
			}
		})
	}
}

func TestDescribesTarget(t *testing.T) {
	const fresh = "Cache-Control: max-age=60"
	tests := []struct {
		name   string
		method string
		status int
		lines  []string
		want   bool
	}{
		{"its own location, and for how long", "POST", 200, []string{fresh, "Content-Location: /a"}, true},
		{"absolute", "POST", 200, []string{fresh, "Content-Location: http://example.com:80/a"}, true},
		{"Expires", "POST", 200, []string{"Expires: 0", "Content-Location: /a"}, true},
		{"no Content-Location", "POST", 200, []string{fresh}, false},
		{"an empty one", "POST", 200, []string{fresh, "Content-Location:"}, false},
		{"another one", "POST", 200, []string{fresh, "Content-Location: /b"}, false},
		{"another query", "POST", 200, []string{fresh, "Content-Location: /a?b"}, false},
		{"another host", "POST", 200, []string{fresh, "Content-Location: http://example.org/a"}, false},
		{"no URI", "POST", 200, []string{fresh, "Content-Location: http://[::1/x"}, false},
		{"it does not say for how long", "POST", 200, []string{"Cache-Control: public", "Content-Location: /a"}, false},
		{"PUT", "PUT", 200, []string{fresh, "Content-Location: /a"}, false},
		{"created", "POST", 201, []string{fresh, "Content-Location: /a"}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := answering(test.lines...)
			r.status = test.status
			if got := describesTarget(test.method, mustParse(t, "http://example.com/a"), &r); got != test.want {
				t.Errorf("describesTarget: got %t, want %t", got, test.want)
			}
		})
	}
}

// The methods that net/http names are all known to be safe or not.
func TestIsSafe(t *testing.T) {
	want := map[string]bool{
		http.MethodGet: true, http.MethodHead: true, http.MethodOptions: true, http.MethodTrace: true, http.MethodConnect: true,
		http.MethodPost: false, http.MethodPut: false, http.MethodPatch: false, http.MethodDelete: false,
	}
	got := make(map[string]bool)
	for method := range want {
		got[method] = isSafe(method)
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("isSafe (-got +want):\n%s", diff)
	}
}
