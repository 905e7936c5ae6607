package cachetrip

import "testing"

func TestAlike(t *testing.T) {
	for _, test := range []struct {
		name string
		a, b []string
		want bool
	}{
		{"without fields", nil, nil, true},
		{"the same fields", []string{"Accept: a", "Cookie: b"}, []string{"Cookie: b", "Accept: a"}, true},
		{"another value", []string{"Cookie: a"}, []string{"Cookie: b"}, false},
		{"a field more", []string{"Accept: a"}, []string{"Accept: a", "Cookie: b"}, false},
		{"an empty field more", nil, []string{"Cookie:"}, false},
		{"a line more", []string{"Accept: a"}, []string{"Accept: a", "Accept: b"}, false},
		{"lines that could be one", []string{"Accept: a, b"}, []string{"Accept: a", "Accept: b"}, false},
		{"a request that is traced", nil, []string{"Traceparent: 1", "X-Request-Id: 2", "X-B3-Traceid: 3", "X-Datadog-Trace-Id: 4"}, true},
		{"fields that the cache evaluates", []string{"Cache-Control: max-age=1", "Range: bytes=0-1"}, []string{"If-None-Match: a"}, true},
		{"a field that only sounds like tracing", nil, []string{"X-Request: 1"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, b := asking("GET", test.a...), asking("GET", test.b...)
			if alike(a, b) != test.want || alike(b, a) != test.want {
				t.Errorf("alike: got %v and %v, want %v", alike(a, b), alike(b, a), test.want)
			}
			if same := alikeDigest(a) == alikeDigest(b); same != test.want {
				t.Errorf("the same digest: got %v, want %v", same, test.want)
			}
		})
	}
}

func TestAudienceOf(t *testing.T) {
	for _, test := range []struct {
		name     string
		request  []string
		response []string
		status   int
		want     audience
	}{
		{"fresh", nil, []string{"Cache-Control: max-age=60"}, 200, anyone},
		{"stale, and may be used so", nil, []string{"Cache-Control: max-age=0, stale-while-revalidate=60"}, 200, anyone},
		{"without a lifetime", nil, []string{"Cache-Control: max-age=0"}, 200, alikesOnly},
		{"without a lifetime, must-revalidate", nil, []string{"Cache-Control: max-age=0, must-revalidate"}, 200, nobody},
		{"no-cache", nil, []string{"Cache-Control: no-cache"}, 200, nobody},
		{"any Vary", []string{"Accept: a"}, []string{"Cache-Control: max-age=60", "Vary: *"}, 200, nobody},
		{"sets cookies", nil, []string{"Cache-Control: max-age=60", "Set-Cookie: a=b"}, 200, nobody},
		{"sets cookies for all", nil, []string{"Cache-Control: max-age=60, public", "Set-Cookie: a=b"}, 200, anyone},
		{"a caller that wants it validated", []string{"Cache-Control: no-cache"}, []string{"Cache-Control: max-age=60"}, 200, anyone},
		{"a range of which the origin took no notice", []string{"Range: bytes=100-200"}, []string{"Cache-Control: max-age=60"}, 200, anyone},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := answering(test.response...)
			if got := audienceOf(asking("GET", test.request...), &r, r.header, test.status, noon); got != test.want {
				t.Errorf("audience %v, want %v", got, test.want)
			}
		})
	}
}
