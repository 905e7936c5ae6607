package cachetrip

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPrimaryURL(t *testing.T) {
	tests := []struct {
		name, url, host, want string
	}{
		{"as it is", "http://example.com/a/b?c=d&e", "", "http://example.com/a/b?c=d&e"},
		{"scheme and host in any letter case", "HTTP://Example.COM/A", "", "http://example.com/A"},
		{"the default port", "http://example.com:80/", "", "http://example.com/"},
		{"the default port of https", "https://example.com:443/", "", "https://example.com/"},
		{"the other scheme's default port", "http://example.com:443/", "", "http://example.com:443/"},
		{"and the other way round", "https://example.com:80/", "", "https://example.com:80/"},
		{"another port", "http://example.com:8080/", "", "http://example.com:8080/"},
		{"a port that ends like the default", "http://example.com:180/", "", "http://example.com:180/"},
		{"an empty port", "http://example.com:/", "", "http://example.com/"},
		{"user information", "http://user:secret@example.com/", "", "http://example.com/"},
		{"a fragment", "http://example.com/a#b", "", "http://example.com/a"},
		{"an empty path", "http://example.com", "", "http://example.com/"},
		{"an empty path with a query", "http://example.com?a", "", "http://example.com/?a"},
		{"an empty query", "http://example.com/?", "", "http://example.com/?"},
		{"the order of the query", "http://example.com/?b&a", "", "http://example.com/?b&a"},
		{"a query as it is written", "http://example.com/?a=%41+%2f%2F b", "", "http://example.com/?a=%41+%2f%2F b"},
		{"a path as it is encoded", "http://example.com/%7Ea%2fb%2Fc", "", "http://example.com/%7Ea%2fb%2Fc"},
		{"a path with dots", "http://example.com/a/../b/./c", "", "http://example.com/a/../b/./c"},
		{"a path with empty segments", "http://example.com//a//", "", "http://example.com//a//"},
		{"IPv4", "http://127.0.0.1:80/", "", "http://127.0.0.1/"},
		{"IPv6", "http://[::1]/", "", "http://[::1]/"},
		{"IPv6 with the default port", "http://[::1]:80/", "", "http://[::1]/"},
		{"IPv6 that ends like the default port", "http://[fe80::80]/", "", "http://[fe80::80]/"},
		{"IPv6 in any letter case", "http://[FE80::A]:8080/", "", "http://[fe80::a]:8080/"},

		{"the same Host", "http://example.com/a", "example.com", "http://example.com/a"},
		{"the same Host in another spelling", "http://example.com/a", "EXAMPLE.com:80", "http://example.com/a"},
		{"another Host", "http://127.0.0.1:8080/a", "Example.com", "http://example.com 127.0.0.1:8080/a"},
		{"another Host with a default port", "https://127.0.0.1:443/a", "example.com:443", "https://example.com 127.0.0.1/a"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(primaryURL(mustParse(t, test.url), test.host), test.want); diff != "" {
				t.Errorf("primaryURL (-got +want):\n%s", diff)
			}
		})
	}
	opaque := &url.URL{Scheme: "http", Host: "example.com", Opaque: "/%2Fa", RawQuery: "b"}
	if diff := cmp.Diff(primaryURL(opaque, ""), "http://example.com/%2Fa?b"); diff != "" {
		t.Errorf("primaryURL of an opaque URL (-got +want):\n%s", diff)
	}
	// No URL of one origin may lead to the responses of another.
	query, host := mustParse(t, "http://example.com/a?b 127.0.0.1"), mustParse(t, "http://127.0.0.1/a?b")
	if primaryURL(query, "") == primaryURL(host, "example.com") {
		t.Error("a query can stand for another Host")
	}
}

func TestStoredURL(t *testing.T) {
	tests := []struct{ name, url, host, want string }{
		{"as it is", "https://example.com/a?b", "", "https://example.com/a?b"},
		{"without what is secret or not sent", "https://user:secret@Example.com:443/a?b#c", "", "https://example.com/a?b"},
		{"by the name that was asked for", "http://127.0.0.1:8080/a", "example.com", "http://example.com/a"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(storedURL(mustParse(t, test.url), test.host), test.want); diff != "" {
				t.Errorf("storedURL (-got +want):\n%s", diff)
			}
		})
	}
}

// An opaque part may be a URL with user information.
func TestStoredURLOpaque(t *testing.T) {
	for opaque, want := range map[string]string{
		"/%2Fa//b@c":               "http://example.com/%2Fa//b@c?d",
		"//user:secret@host/a":     "http://example.comhttp://host/a?d",
		"http://user:secret@h/a@b": "http://example.comhttp://h/a@b?d",
		"//user:sec/ret@host/a":    "http://example.comhttp://host/a?d",
		"user:secret@host/a":       "http://host/a?d",
	} {
		if got := storedURL(&url.URL{Scheme: "http", Host: "example.com", Opaque: opaque, RawQuery: "d"}, ""); got != want {
			t.Errorf("storedURL of %s: %s, want %s", opaque, got, want)
		}
	}
}

// Keys are remembered by all parts of a URL that they depend on.
func TestSameSpelling(t *testing.T) {
	urls := []*url.URL{
		{Scheme: "http", Host: "example.com", Path: "/a b"},
		{Scheme: "https", Host: "example.com", Path: "/a b"},
		{Scheme: "http", Host: "example.org", Path: "/a b"},
		{Scheme: "http", Host: "example.com", Path: "/a/b"},
		{Scheme: "http", Host: "example.com", Path: "/a/b", RawPath: "/a%2Fb"},
		{Scheme: "http", Host: "example.com", Path: "/a b", ForceQuery: true},
		{Scheme: "http", Host: "example.com", Path: "/a b", RawQuery: "c"},
		{Scheme: "http", Host: "example.com", Opaque: "//example.net/a", Path: "/a b"},
	}
	for i, a := range urls {
		for j, b := range urls {
			if got, want := sameSpelling(a, b), i == j; got != want {
				t.Errorf("sameSpelling(%q, %q) = %v, want %v", primaryURL(a, ""), primaryURL(b, ""), got, want)
			}
		}
	}
	var k keys
	for range 2 {
		seen := make(map[string]bool)
		for _, u := range urls {
			seen[k.of(digester("secret"), u, "", nil)] = true
			seen[k.of(digester("secret"), u, "other.example.com", nil)] = true
		}
		if len(seen) != 2*len(urls) {
			t.Errorf("%d keys of %d targets", len(seen), 2*len(urls))
		}
	}
}

func TestKey(t *testing.T) {
	d := digester("secret")
	var remembered keys
	// key returns the key of a request with the given header lines.
	key := func(rawURL, host, identity string, lines ...string) string {
		t.Helper()
		req := &http.Request{URL: mustParse(t, rawURL), Host: host, Header: headerOf(lines...)}
		form := appendIdentity(nil, req, identity)
		k := new(keys).of(d, req.URL, req.Host, form)
		for range 2 {
			if again := remembered.of(d, req.URL, req.Host, form); again != k {
				t.Errorf("the key %s, remembered as %s", k, again)
			}
		}
		if len(k) != 64 || strings.Trim(k, "0123456789abcdef") != "" {
			t.Errorf("the key %q is not 64 lower-case hexadecimal digits", k)
		}
		return k
	}
	const u = "http://example.com/"
	plain := key(u, "", "")

	if want := d.url(primaryURL(mustParse(t, u), "")) + strings.Repeat("0", urlDigits); plain != want {
		t.Errorf("the key of a request without credentials: got %s, want %s", plain, want)
	}
	same := map[string]string{
		"a cookie":         key(u, "", "", "Cookie: a=b"),
		"another spelling": key("HTTP://EXAMPLE.COM:80#x", "", ""),
	}
	for name, k := range same {
		if k != plain {
			t.Errorf("%s: another key than without", name)
		}
	}

	others := []struct{ name, key string }{
		{"nothing", plain},
		{"another URL", key("http://example.com/a", "", "")},
		{"another Host", key(u, "example.org", "")},
		{"credentials", key(u, "", "", "Authorization: Bearer a")},
		{"other credentials", key(u, "", "", "Authorization: Bearer b")},
		{"empty credentials", key(u, "", "", "Authorization:")},
		{"credentials on two lines", key(u, "", "", "Authorization: Bearer a", "Authorization: Bearer b")},
		{"credentials for a proxy", key(u, "", "", "Proxy-Authorization: Bearer a")},
		{"credentials for both", key(u, "", "", "Authorization: Bearer a", "Proxy-Authorization: Bearer b")},
		{"an identity", key(u, "", "a")},
		{"another identity", key(u, "", "b")},
		{"an identity like credentials", key(u, "", "Bearer a")},
	}
	for i, a := range others {
		for _, b := range others[:i] {
			if a.key == b.key {
				t.Errorf("one key for %s and %s", a.name, b.name)
			}
		}
		if sameURL := a.key[:urlDigits] == plain[:urlDigits]; sameURL != (a.name != "another URL" && a.name != "another Host") {
			t.Errorf("%s: the URL's part of the key is shared: %t", a.name, sameURL)
		}
	}
	if key(u, "", "a", "Authorization: Bearer a") != key(u, "", "a", "Authorization: Bearer b") {
		t.Error("credentials count beside an identity")
	}
	if other := digester("another secret"); other.url(u) == d.url(u) || other.value("a") == d.value("a") {
		t.Error("digests do not depend on the secret")
	}
	if d.value(u) == d.url(u) {
		t.Error("digests of different things are the same")
	}
}
