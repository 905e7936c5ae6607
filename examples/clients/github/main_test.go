package main

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-github/v87/github"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/examples/clients/internal/demo"
	"github.com/cachetrip/cachetrip/examples/clients/internal/demotest"
)

func TestRun(t *testing.T) {
	table := demotest.Run(t, "github", run)
	demotest.Want(t, table, map[string][2]int{
		"without a cache (27 off the rate limit)":                  {27, 0},
		"first run (27 off the rate limit)":                        {27, 0},
		"second run, within a minute (0 off the rate limit)":       {0, 0},
		"third run, asking for what is new (0 off the rate limit)": {27, 27},
		"fourth run, with a new token (27 off the rate limit)":     {27, 0},
	})
	if n := len(table[0].Data.([]*github.Repository)); n != fakeRepos {
		t.Errorf("%d repositories, want %d", n, fakeRepos)
	}
}

// serve starts a fake and returns what makes clients of it, each with a cache
// in the same directory.
func serve(t *testing.T, limit int) (*fake, func(token string) *github.Client) {
	fake := newFake(limit)
	origin, err := demo.Start(fake)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(origin.Close)
	dir := t.TempDir()
	return fake, func(token string) *github.Client {
		cache, err := cachetrip.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cache.Close() })
		client, err := newClient(cache, token, origin.URL)
		if token == "" {
			client, err = github.NewClient(github.WithTransport(cache), github.WithEnterpriseURLs(origin.URL, origin.URL))
		}
		if err != nil {
			t.Fatal(err)
		}
		return client
	}
}

func get(t *testing.T, ctx context.Context, client *github.Client, name string) *github.Response {
	t.Helper()
	repo, resp, err := client.Repositories.Get(ctx, "gophers", name)
	if err != nil {
		t.Fatal(err)
	}
	if repo.GetName() != name {
		t.Fatalf("got %s, want %s", repo.GetName(), name)
	}
	return resp
}

// The rate that go-github parses after a 304 is that of the 304, not the stored
// one.
func TestRateAfter304(t *testing.T) {
	_, client := serve(t, 100)
	ctx := context.Background()
	c := client("ghp_one")
	get(t, ctx, c, "repo-1")
	for range 3 {
		get(t, cachetrip.WithCacheControl(ctx, "no-store"), c, "repo-2")
	}
	for _, test := range []struct {
		name      string
		ctx       context.Context
		fromCache string
		remaining int
	}{
		{"a hit: as old as what is stored", ctx, "1", 99},
		{"a 304: as of now", cachetrip.WithCacheControl(ctx, "no-cache"), "1", 96},
		{"a hit after the 304: as of the 304", ctx, "1", 96},
	} {
		resp := get(t, test.ctx, c, "repo-1")
		if got := resp.Header.Get("X-From-Cache"); got != test.fromCache {
			t.Errorf("%s: X-From-Cache %q, want %q", test.name, got, test.fromCache)
		}
		if resp.Rate.Remaining != test.remaining || resp.Rate.Used != 100-test.remaining {
			t.Errorf("%s: rate %v, want %d left", test.name, resp.Rate, test.remaining)
		}
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: status %d", test.name, resp.StatusCode)
		}
	}
}

// A stored response may say that no requests remain. go-github ignores that,
// because X-From-Cache marks the response as stored.
func TestHitDoesNotExhaust(t *testing.T) {
	fake, client := serve(t, 1)
	ctx := context.Background()
	if resp := get(t, ctx, client("ghp_one"), "repo-1"); resp.Rate.Remaining != 0 {
		t.Fatalf("%v, want nothing left", resp.Rate)
	}
	fake.nextWindow()
	c := client("ghp_one") // of another process
	if resp := get(t, ctx, c, "repo-1"); resp.Rate.Remaining != 0 {
		t.Fatalf("%v, want that of the stored answer", resp.Rate)
	}
	get(t, ctx, c, "repo-2")

	// Now it has heard so from GitHub itself, and refuses even what would cost
	// nothing.
	_, _, err := c.Repositories.Get(ctx, "gophers", "repo-1")
	if limited := (*github.RateLimitError)(nil); !errors.As(err, &limited) {
		t.Errorf("got %v, want a RateLimitError", err)
	}
	get(t, ctx, client("ghp_one"), "repo-1")
}

// Only a request with a token has its 304 for free.
func TestWhoPays(t *testing.T) {
	for token, want := range map[string]int{"ghp_one": 1, "": 2} {
		fake, client := serve(t, 100)
		c := client(token)
		for range 2 {
			get(t, cachetrip.WithCacheControl(context.Background(), "no-cache"), c, "repo-1")
		}
		if n := fake.charged(); n != want {
			t.Errorf("token %q: %d charged, want %d", token, n, want)
		}
	}
}

// Another token has other entity tags at GitHub, so that even Identity saves
// nothing when it changes.
func TestNewToken(t *testing.T) {
	fake := newFake(100)
	origin, err := demo.Start(fake)
	if err != nil {
		t.Fatal(err)
	}
	defer origin.Close()
	cache, err := cachetrip.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close()
	cache.Identity = func(*http.Request) string { return "the app" }
	for _, token := range []string{"ghs_one", "ghs_two"} {
		client, err := newClient(cache, token, origin.URL)
		if err != nil {
			t.Fatal(err)
		}
		get(t, context.Background(), client, "repo-1")
		if cost := origin.Take(); cost.Requests != 1 || cost.NotModified != 0 || fake.charged() != 1 {
			t.Errorf("%s: %+v, want a request that is charged", token, cost)
		}
	}
}
