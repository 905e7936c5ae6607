// Oauth2 reads an API with golang.org/x/oauth2 and a cache, in both orders, and
// prints the cost of each run. The API is a loopback server that issues new
// tokens in each run:
//
//	go run ./oauth2
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/examples/clients/internal/demo"
)

func main() { demo.Main(run) }

// below puts the cache below the credentials. user names the user whatever the
// current token is. Without a name, responses to one token are not used for the
// next one.
func below(cache *cachetrip.Transport, tokens oauth2.TokenSource, user string) *http.Client {
	cache.Identity = func(*http.Request) string { return user }
	return &http.Client{Transport: &oauth2.Transport{Source: tokens, Base: cache}}
}

// above puts the cache above the credentials, where it does not see them. So
// the name of the user is needed. A token is only requested when a request is
// sent.
func above(cache *cachetrip.Transport, tokens oauth2.TokenSource, user string) *http.Client {
	cache.Identity = func(*http.Request) string { return user }
	cache.Base = &oauth2.Transport{Source: tokens}
	return cache.Client()
}

// belowUnnamed and aboveUnnamed do the same without a name. They are correct,
// but need more requests.
func belowUnnamed(cache *cachetrip.Transport, tokens oauth2.TokenSource, _ string) *http.Client {
	return &http.Client{Transport: &oauth2.Transport{Source: tokens, Base: cache}}
}

func aboveUnnamed(cache *cachetrip.Transport, tokens oauth2.TokenSource, _ string) *http.Client {
	cache.Base = &oauth2.Transport{Source: tokens}
	return cache.Client()
}

// read gets all documents of the user of client.
func read(client *http.Client, url string) (any, error) {
	var documents []string
	for i := range 10 {
		resp, err := client.Get(fmt.Sprintf("%s/documents/%d", url, i))
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		resp.Body.Close()
		if err != nil {
			return nil, err
		}
		documents = append(documents, string(body))
	}
	return documents, nil
}

func run(dir string) (demo.Table, error) {
	origin, err := demo.Start(&fake{})
	if err != nil {
		return nil, err
	}
	defer origin.Close()

	plain := func(_ *cachetrip.Transport, tokens oauth2.TokenSource, _ string) *http.Client {
		return oauth2.NewClient(context.Background(), tokens)
	}
	var table demo.Table
	for _, r := range []struct {
		name, dir string
		plug      func(*cachetrip.Transport, oauth2.TokenSource, string) *http.Client
	}{
		{"without a cache", "none", plain},
		{"cache below the credentials, first run", "below", below},
		{"cache below the credentials, second run", "below", below},
		{"cache above the credentials, first run", "above", above},
		{"cache above the credentials, second run", "above", above},
		{"cache below, without Identity, first run", "belowUnnamed", belowUnnamed},
		{"cache below, without Identity, second run", "belowUnnamed", belowUnnamed},
		{"cache above, without Identity, first run", "aboveUnnamed", aboveUnnamed},
		{"cache above, without Identity, second run", "aboveUnnamed", aboveUnnamed},
	} {
		err := table.Add(r.name, origin, func() (any, error) {
			cache, err := cachetrip.Open(filepath.Join(dir, r.dir))
			if err != nil {
				return nil, err
			}
			defer cache.Close()
			return read(r.plug(cache, tokensOf("alice", origin.URL), "alice"), origin.URL)
		})
		if err != nil {
			return nil, err
		}
	}
	return table, nil
}

// tokensOf returns the token source of a user. A new process has no token.
func tokensOf(user, url string) oauth2.TokenSource {
	config := clientcredentials.Config{
		ClientID: user, ClientSecret: "secret", TokenURL: url + "/token", AuthStyle: oauth2.AuthStyleInParams,
	}
	return config.TokenSource(context.Background())
}
