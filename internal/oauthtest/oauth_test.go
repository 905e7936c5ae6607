package oauthtest

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
)

// origin answers with the name of the user that the token belongs to. The
// response is fresh for a minute.
type origin struct {
	*httptest.Server
	mu    sync.Mutex
	asked int
	vary  bool
	tag   string // of all responses; if empty, each user has a different one
	dated bool   // a date is the only validator
}

func newOrigin(t *testing.T) *origin {
	o := &origin{}
	o.Server = httptest.NewServer(o)
	t.Cleanup(o.Close)
	return o
}

func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked++
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer token-of-")
	user, _, _ := strings.Cut(token, "-")
	w.Header().Set("Cache-Control", "max-age=60")
	if o.vary {
		w.Header().Set("Vary", "Authorization")
	}
	modified := time.Time{}
	switch {
	case o.dated:
		modified = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	case o.tag != "":
		w.Header().Set("ETag", o.tag)
	default:
		w.Header().Set("ETag", `"`+user+`"`)
	}
	http.ServeContent(w, r, "whoami.txt", modified, strings.NewReader("you are "+user))
}

func (o *origin) requests() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := o.asked
	o.asked = 0
	return n
}

// tokens is a token source for a user that the test can change.
type tokens struct {
	mu   sync.Mutex
	user string
}

func (s *tokens) Token() (*oauth2.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &oauth2.Token{AccessToken: "token-of-" + s.user}, nil
}

func (s *tokens) of(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.user = user
}

// want checks the user that a response is for, how it was obtained, and the
// number of requests.
func want(t *testing.T, client *http.Client, o *origin, user, how string, requests int) {
	t.Helper()
	resp, err := client.Get(o.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	status := cachetrip.StatusOf(resp)
	got := status.Fwd
	switch {
	case status.Hit:
		got = "hit"
	case status.Revalidated:
		got = "confirmed"
	}
	if string(b) != "you are "+user || got != how {
		t.Errorf("got %q by %s (%+v), want %q by %s", b, got, status, "you are "+user, how)
	}
	if n := o.requests(); n != requests {
		t.Errorf("%d requests, want %d", n, requests)
	}
}

// eachStore runs a test with a cache on disk and one in memory. The directory
// is searched for tokens afterwards.
func eachStore(t *testing.T, test func(t *testing.T, s store.Store)) {
	t.Run("memory", func(t *testing.T) { test(t, store.NewMemory(0)) })
	t.Run("disk", func(t *testing.T) {
		dir := t.TempDir()
		disk, err := store.OpenDisk(dir, store.DiskOptions{})
		if err != nil {
			t.Fatal(err)
		}
		test(t, disk)
		if err := disk.Close(); err != nil {
			t.Error(err)
		}
		files := 0
		err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			files++
			b, err := os.ReadFile(path)
			if strings.Contains(string(b), "token-of-") {
				t.Errorf("a token is in %s", path)
			}
			return err
		})
		if err != nil || files == 0 {
			t.Errorf("searched %d files, %v", files, err)
		}
	})
}

// The right order: the cache is the Base of oauth2, and sees the credentials of
// each request.
func TestCacheBelow(t *testing.T) {
	eachStore(t, func(t *testing.T, s store.Store) {
		for _, vary := range []bool{false, true} {
			o := newOrigin(t)
			o.vary = vary
			cache := &cachetrip.Transport{Store: s}
			source := &tokens{}
			client := &http.Client{Transport: &oauth2.Transport{Source: source, Base: cache}}
			for _, how := range []string{"uri-miss", "hit", "hit"} {
				for _, user := range []string{"alice", "bob"} {
					source.of(user)
					n := 0
					if how == "uri-miss" {
						n = 1
					}
					want(t, client, o, user, how, n)
				}
			}
		}
	})
}

// The other order: oauth2 is the Base of the cache. Stored responses are used
// only after asking the origin, and only for their own user, however careless
// the origin is with its validators.
func TestCacheAbove(t *testing.T) {
	for _, validators := range []struct {
		name  string
		tag   string
		dated bool
	}{
		{"a tag for each user", "", false},
		{"one tag for all", `"1"`, false},
		{"a date", "", true},
	} {
		t.Run(validators.name, func(t *testing.T) {
			eachStore(t, func(t *testing.T, s store.Store) {
				for _, vary := range []bool{false, true} {
					o := newOrigin(t)
					o.vary, o.tag, o.dated = vary, validators.tag, validators.dated
					repeated := 1 // a 304 that may be about another user's response is not enough
					if o.tag != "" || o.dated {
						repeated = 2
					}
					source := &tokens{}
					cache := &cachetrip.Transport{Store: s, Base: &oauth2.Transport{Source: source}}
					source.of("alice")
					want(t, cache.Client(), o, "alice", "uri-miss", 1)
					want(t, cache.Client(), o, "alice", "confirmed", 1)
					source.of("bob")
					want(t, cache.Client(), o, "bob", "stale", repeated)
					want(t, cache.Client(), o, "bob", "confirmed", 1)
					source.of("alice")
					want(t, cache.Client(), o, "alice", "stale", repeated)
				}
			})
		})
	}
}

// With Identity the other order is as good: stored responses are used without
// asking.
func TestCacheAboveWithIdentity(t *testing.T) {
	eachStore(t, func(t *testing.T, s store.Store) {
		o := newOrigin(t)
		source := &tokens{}
		cache := &cachetrip.Transport{Store: s, Base: &oauth2.Transport{Source: source}, Identity: func(*http.Request) string {
			source.mu.Lock()
			defer source.mu.Unlock()
			return source.user
		}}
		for _, how := range []string{"uri-miss", "hit"} {
			for _, user := range []string{"alice", "bob"} {
				source.of(user)
				n := 0
				if how == "uri-miss" {
					n = 1
				}
				want(t, cache.Client(), o, user, how, n)
			}
		}
	})
}

// A real token endpoint whose tokens expire at once. With Identity, a response
// stored for one token is used for the next one. If the origin varies by
// tokens, it is validated first.
func TestRefresh(t *testing.T) {
	issued := 0
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		issued++
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token": "token-of-app-%d", "token_type": "Bearer", "expires_in": 1}`, issued)
	}))
	defer endpoint.Close()
	config := clientcredentials.Config{ClientID: "app", ClientSecret: "token-of-the-client", TokenURL: endpoint.URL}
	for _, test := range []struct {
		vary bool
		how  string
		n    int
	}{{false, "hit", 0}, {true, "confirmed", 1}} {
		for _, dated := range []bool{false, true} {
			eachStore(t, func(t *testing.T, s store.Store) {
				o := newOrigin(t)
				o.vary, o.dated = test.vary, dated
				cache := &cachetrip.Transport{Store: s, Identity: func(*http.Request) string { return "the app" }}
				// Tokens that expire within ten seconds are fetched again each
				// time.
				client := &http.Client{Transport: &oauth2.Transport{Source: config.TokenSource(context.Background()), Base: cache}}
				want(t, client, o, "app", "uri-miss", 1)
				before := issued
				want(t, client, o, "app", test.how, test.n)
				if issued == before {
					t.Error("the token was not refreshed: this shows nothing")
				}
			})
		}
	}
}
