package urlpattern

import "testing"

func TestMatch(t *testing.T) {
	const url = "https://example.com:8080/a/b?c=d"
	for pattern, want := range map[string]bool{
		url:                             true,
		"https://example.com:8080/a/b":  false,
		"https://example.com:8080/a/b*": true,
		"https://example.com:8080*":     true,
		"http://*":                      false,
		"*":                             true,
		"*d":                            true,
		"*?c=*":                         true,
		"*a*b*c*d":                      true,
		"*d*c*":                         false,
		"example.com:8080/a/b?c=d":      true,
		"example.com:8080/*":            true,
		"example.com:8080":              false,
		"*.com:8080/a/*":                true,
		"":                              false,
	} {
		if got := Match(pattern, url); got != want {
			t.Errorf("%q: %v, want %v", pattern, got, want)
		}
	}
	if !Match("example.com", "https://example.com/") {
		t.Error("a host alone is not that of its root")
	}
}
