// Github lists the repositories of an organisation with google/go-github
// through a cache, and prints the cost of each run. The API is a loopback
// server that answers as api.github.com does:
//
//	go run ./github
package main

import (
	"context"
	"fmt"

	"github.com/google/go-github/v87/github"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/examples/clients/internal/demo"
)

func main() { demo.Main(run) }

// newClient gives the cache to go-github, which adds the token in a transport
// of its own above it. So the cache sees whose request it is.
func newClient(cache *cachetrip.Transport, token, url string) (*github.Client, error) {
	return github.NewClient(
		github.WithTransport(cache),
		github.WithAuthToken(token),
		github.WithEnterpriseURLs(url, url), // not for github.com itself
	)
}

// repositories lists the repositories of an organisation, and gets each of
// them.
func repositories(ctx context.Context, client *github.Client) ([]*github.Repository, error) {
	var all []*github.Repository
	for listed, err := range client.Repositories.ListByOrgIter(ctx, "gophers", nil) {
		if err != nil {
			return nil, err
		}
		repo, _, err := client.Repositories.Get(ctx, "gophers", listed.GetName())
		if err != nil {
			return nil, err
		}
		all = append(all, repo)
	}
	return all, nil
}

// run runs the program several times, each time with a new Transport and a new
// client.
func run(dir string) (demo.Table, error) {
	fake := newFake(5000)
	origin, err := demo.Start(fake)
	if err != nil {
		return nil, err
	}
	defer origin.Close()

	var table demo.Table
	for _, r := range []struct{ name, dir, token, directives string }{
		{"without a cache", "", "ghp_one", ""},
		{"first run", dir, "ghp_one", ""},
		{"second run, within a minute", dir, "ghp_one", ""},
		{"third run, asking for what is new", dir, "ghp_one", "no-cache"},
		{"fourth run, with a new token", dir, "ghp_two", ""},
	} {
		err := table.Add(r.name, origin, func() (any, error) {
			cache := &cachetrip.Transport{} // stores nothing
			if r.dir != "" {
				var err error
				if cache, err = cachetrip.Open(r.dir); err != nil {
					return nil, err
				}
				defer cache.Close()
			}
			client, err := newClient(cache, r.token, origin.URL)
			if err != nil {
				return nil, err
			}
			ctx := cachetrip.WithCacheControl(context.Background(), r.directives)
			return repositories(ctx, client)
		})
		if err != nil {
			return nil, err
		}
		row := &table[len(table)-1]
		row.Name = fmt.Sprintf("%s (%d off the rate limit)", row.Name, fake.charged())
	}
	return table, nil
}
