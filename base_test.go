package cachetrip

import (
	"maps"
	"net/http"
	"slices"
	"testing"

	"github.com/cachetrip/cachetrip/store"
	"github.com/google/go-cmp/cmp"
)

// lendingBase returns the same response again and again.
type lendingBase struct{ resp *http.Response }

func (b *lendingBase) RoundTrip(*http.Request) (*http.Response, error) { return b.resp, nil }

// TestHeaderOfBaseStays: a 304 may have a header that Base uses again. Neither
// the cache nor its callers change it.
func TestHeaderOfBaseStays(t *testing.T) {
	for _, c := range []struct {
		name   string
		own    string // a condition of the caller
		lines  []string
		status int
	}{
		{"it confirms what is stored", "", []string{`ETag: "1"`, "Set-Cookie: a=1"}, 200},
		{"it claims to be of a cache", "", []string{`ETag: "1"`, "X-From-Cache: 1"}, 200},
		{"it answers the caller", `"2"`, []string{`ETag: "2"`, "Set-Cookie: a=1"}, 304},
		{"it is odd and answers the caller", `"2"`, []string{`ETag: "2"`, "X-From-Cache: 1", "Set-Cookie: a=1"}, 304},
	} {
		t.Run(c.name, func(t *testing.T) {
			base := &lendingBase{&http.Response{StatusCode: 200, Header: headerOf(`ETag: "1"`, "Cache-Control: no-cache", "Content-Length: 0"), Body: http.NoBody}}
			cache := &Transport{Base: base, Store: store.NewMemory(0)}
			defer cache.Close()
			get := func(own string) *http.Response {
				req := requestOf("GET", headerOf())
				if own != "" {
					req.Header.Set("If-None-Match", own)
				}
				resp, err := cache.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				return resp
			}
			get("")
			lent := headerOf(c.lines...)
			want := lent.Clone()
			base.resp = &http.Response{StatusCode: 304, Header: lent, Body: http.NoBody}
			for range 2 {
				resp := get(c.own)
				if resp.StatusCode != c.status {
					t.Errorf("status %d, want %d", resp.StatusCode, c.status)
				}
				for name, lines := range resp.Header {
					for i := range lines {
						lines[i] = "changed"
					}
					resp.Header[name] = append(lines, "more")
				}
				if diff := cmp.Diff(lent, want); diff != "" {
					t.Errorf("the header of Base (-got +want):\n%s", diff)
				}
			}
		})
	}
}

// TestFieldsWithoutLines: Base, such as a fake in a test, may have names of
// fields without lines in its header. No origin can send them, so that neither
// the cache nor its callers see them.
func TestFieldsWithoutLines(t *testing.T) {
	odd := []string{"X-From-Cache", "Content-Encoding", "Vary", "Set-Cookie", "Cache-Groups"}
	withOdd := func(lines ...string) http.Header {
		h := headerOf(lines...)
		for _, name := range odd {
			h[name] = []string{}
		}
		return h
	}
	base := &lendingBase{}
	cache := &Transport{Base: base, Store: store.NewMemory(0)}
	defer cache.Close()
	for _, c := range []struct {
		name, ifNoneMatch string
		given             http.Response
		status            int
	}{
		{"a new response", "", http.Response{StatusCode: 200, Header: withOdd(`ETag: "1"`, "Cache-Control: no-cache", "Content-Length: 0")}, 200},
		{"a 304", "", http.Response{StatusCode: 304, Header: withOdd(`ETag: "1"`)}, 200},
		{"a 304 to the caller", `"2"`, http.Response{StatusCode: 304, Header: withOdd(`ETag: "2"`)}, 304},
	} {
		c.given.Body = http.NoBody
		base.resp = &c.given
		req := requestOf("GET", headerOf())
		if c.ifNoneMatch != "" {
			req.Header.Set("If-None-Match", c.ifNoneMatch)
		}
		resp, err := cache.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%s: status code %d, want %d", c.name, resp.StatusCode, c.status)
		}
		for _, name := range odd {
			if lines, has := resp.Header[name]; has && len(lines) == 0 {
				t.Errorf("%s: the caller sees %s without lines", c.name, name)
			}
		}
	}
	for e, err := range cache.Entries(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(slices.Sorted(maps.Keys(e.Header)), []string{"Cache-Control", "Content-Length", "Date", "Etag"}); diff != "" {
			t.Errorf("the fields that are stored (-got +want):\n%s", diff)
		}
	}
}
