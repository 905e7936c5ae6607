package cachetrip_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
)

// wire makes an http.Transport with a server that answers every request with
// what it received: the address, the request line and the Host field.
func wire(t *testing.T) *http.Transport {
	dial := func(protocol, address string) (net.Conn, error) {
		near, far := net.Pipe()
		go func() {
			defer far.Close()
			r := bufio.NewReader(far)
			line, _ := r.ReadString('\n')
			host := ""
			for {
				field, err := r.ReadString('\n')
				if err != nil || field == "\r\n" {
					break
				}
				if value, ok := strings.CutPrefix(field, "Host: "); ok {
					host = strings.TrimSpace(value)
				}
			}
			got := fmt.Sprintf("%s %s < %s < %s", protocol, address, strings.TrimSpace(line), host)
			fmt.Fprintf(far, "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(got), got)
		}()
		return near, nil
	}
	base := &http.Transport{
		DialContext:       func(_ context.Context, _, address string) (net.Conn, error) { return dial("tcp", address) },
		DialTLSContext:    func(_ context.Context, _, address string) (net.Conn, error) { return dial("tls", address) }, // in clear
		DisableKeepAlives: true,
	}
	t.Cleanup(base.CloseIdleConnections)
	return base
}

// Two requests share a key if and only if an origin cannot tell them apart. It
// can tell apart what a server receives, except letter case of the host and the
// default port (RFC 9110, section 4.2.3).
func TestKeysAreWhatOriginsSee(t *testing.T) {
	parse := func(s string) *url.URL {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	type request struct {
		url  *url.URL
		host string
	}
	var requests []request
	for _, s := range []string{
		"http://example.com", "http://example.com/", "http://example.com//", "http://example.com/?", "http://example.com?",
		"http://EXAMPLE.com/", "http://example.com:80/", "http://example.com:/", "http://example.com:443/", "http://example.com:080/",
		"http://example.com./", "http://example.com:8080/", "http://user:password@example.com/", "http://example.com/#fragment",
		"https://example.com/", "https://example.com:443/", "https://example.com:80/", "https://Example.Com/",
		"http://example.com/a", "http://example.com/A", "http://example.com/%61", "http://example.com/a/", "http://example.com/./a", "http://example.com/b/../a",
		"http://example.com/a%2Fb", "http://example.com/a%2fb", "http://example.com/a/b", "http://example.com/a b", "http://example.com/a%20b", "http://example.com/a+b",
		"http://example.com/~", "http://example.com/%7E", "http://example.com/%7e", "http://example.com/ü", "http://example.com/%C3%BC", "http://example.com/%c3%bc",
		"http://example.com/a?b", "http://example.com/a?b=", "http://example.com/a?b#c", "http://example.com/a%3Fb", "http://example.com/a?x=1&y=2", "http://example.com/a?y=2&x=1",
		"http://example.com/a?b c", "http://example.com/a?b%20c", "http://example.com/a?b+c", "http://example.com/a;b", "http://example.com/a%3bb",
		"http://bücher.example/", "http://xn--bcher-kva.example/", "http://BÜCHER.example/", "http://XN--BCHER-KVA.example/", "http://bücher.example:80/", "http://bücher.example:81/",
		"http://faß.example/", "http://fass.example/", "http://xn--fa-hia.example/", "http://b\u0075\u0308cher.example/", "http://日本。example/",
		"http://127.0.0.1/", "http://127.1/", "http://[::1]/", "http://[0:0:0:0:0:0:0:1]/", "http://[::1]:80/", "http://[::FFFF]/", "http://[::ffff]/",
		"http://[fe80::1]/", "http://[fe80::1%25eth0]/", "http://[fe80::1%25eth1]/", "http://[fe80::1%25ETH0]/", "http://[FE80::1%25eth0]:80/", "http://[fe80::1%25eth0]:81/",
	} {
		requests = append(requests, request{url: parse(s)})
	}
	requests = append(requests,
		// The host of the request, and that of the URL.
		request{parse("http://example.com/"), "example.com"},
		request{parse("http://example.com/"), "EXAMPLE.COM:80"},
		request{parse("http://example.com/"), "example.com."},
		request{parse("http://example.com/"), "other.example"},
		request{parse("http://other.example/"), "example.com"},
		request{parse("http://other.example/"), ""},
		request{parse("http://other.example/"), "bücher.example"},
		request{parse("http://other.example/"), "xn--bcher-kva.example"},
		request{parse("http://[fe80::1%25eth0]/"), "[fe80::1]"},
		request{parse("http://[fe80::1%25eth0]/"), "[fe80::1%eth7]"},
		request{parse("http://[fe80::1%25eth1]/"), "[fe80::1]"},
		request{parse("http://other.example/"), "example.com/a"},
		// Forms that url.Parse does not return.
		request{&url.URL{Scheme: "http", Host: "example.co", Path: "m/"}, ""},
		request{&url.URL{Scheme: "http", Host: "example.co", Opaque: "m/"}, ""},
		request{&url.URL{Scheme: "http", Host: "example.com", Opaque: "/"}, ""},
		request{&url.URL{Scheme: "http", Host: "example.com", Opaque: "/a?b", RawQuery: "c"}, ""},
		request{&url.URL{Scheme: "http", Host: "example.com", Opaque: "//example.com/"}, ""},
		request{&url.URL{Scheme: "http", Host: "example.com", Opaque: "//other.example/"}, ""},
		request{&url.URL{Scheme: "http", Host: "example.com", Opaque: "http://other.example/"}, ""},
		request{&url.URL{Scheme: "http", Host: "example.com", RawQuery: "b c"}, ""},
		request{&url.URL{Scheme: "http", Host: "example.com", RawQuery: "b#c"}, ""},
		request{&url.URL{Scheme: "http", Host: "example.com", Path: "/ other.example/"}, ""},
		request{&url.URL{Scheme: "http", Host: "example.com", Opaque: "/ other.example/"}, ""},
		request{&url.URL{Scheme: "http", Host: "example.com", Path: "/a", RawPath: "/%61"}, ""},
		request{&url.URL{Scheme: "http", Host: "example.com", Path: "/a", RawPath: "/contradiction"}, ""},
		request{&url.URL{Scheme: "http", Host: "example.com", Path: "/a", OmitHost: true}, ""},
	)
	same := func(got string) string {
		address, rest, _ := strings.Cut(got, " < ")
		line, host, _ := strings.Cut(rest, " < ")
		address, zone, _ := strings.Cut(address, "%") // which names an interface
		host = strings.ToLower(host)
		if strings.HasPrefix(address, "tcp ") {
			host = strings.TrimSuffix(host, ":80")
		} else {
			host = strings.TrimSuffix(host, ":443")
		}
		return strings.Join([]string{strings.ToLower(address) + "%" + zone, line, strings.TrimSuffix(host, ":")}, " < ")
	}
	base := wire(t)
	cache := &cachetrip.Transport{Store: store.NewMemory(0), Base: base}
	defer cache.Close()
	seen := make(map[string]string)
	for _, r := range requests {
		name := fmt.Sprintf("%s (Host %q)", r.url, r.host)
		send := func(via http.RoundTripper) (string, cachetrip.Status) {
			resp, err := via.RoundTrip(&http.Request{Method: "GET", URL: r.url, Host: r.host, Header: http.Header{}})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			return string(b), cachetrip.StatusOf(resp)
		}
		direct, _ := send(base)
		got, status := send(cache)
		if same(got) != same(direct) {
			t.Errorf("%s: got the answer to\n%s, this is\n%s", name, got, direct)
		}
		before, known := seen[same(direct)]
		if status.Hit != known {
			t.Errorf("%s: hit %v, want %v: what the server gets is %q, as for %s", name, status.Hit, known, direct, before)
		}
		if !known {
			seen[same(direct)] = name
		}
		if _, status = send(cache); !status.Hit {
			t.Errorf("%s: %+v the second time, want a hit", name, status)
		}
	}
}
