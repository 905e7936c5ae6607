// Crawler follows the links of a web site with net/http through a cache, -j
// requests at a time. It prints the cost of each run. The site is a loopback
// server that answers as Netlify does:
//
//	go run ./crawler
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"

	"golang.org/x/net/html"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/examples/clients/internal/demo"
	"github.com/cachetrip/cachetrip/examples/clients/internal/site"
)

var parallel = flag.Int("j", 8, "requests at a time")

func main() {
	flag.Parse()
	demo.Main(run)
}

// newClient puts the cache on top of a transport with enough connections for j
// requests to one host at a time.
func newClient(cache *cachetrip.Transport, j int) *http.Client {
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.MaxIdleConnsPerHost = j
	cache.Base = base
	return cache.Client()
}

// crawl fetches start and all linked pages on the same host. It returns their
// lengths by path.
func crawl(ctx context.Context, client *http.Client, j int, start *url.URL) (any, error) {
	var (
		mu      sync.Mutex
		group   sync.WaitGroup
		slots   = make(chan struct{}, j)
		lengths = map[string]int64{}
		failed  error
		visit   func(u *url.URL)
	)
	visit = func(u *url.URL) {
		mu.Lock()
		defer mu.Unlock()
		if _, seen := lengths[u.Path]; seen || u.Host != start.Host {
			return
		}
		lengths[u.Path] = 0
		group.Go(func() {
			slots <- struct{}{}
			links, n, err := fetch(ctx, client, u)
			<-slots
			mu.Lock()
			lengths[u.Path] = n
			if err != nil {
				failed = err
			}
			mu.Unlock()
			for _, link := range links {
				visit(link)
			}
		})
	}
	visit(start)
	group.Wait()
	return lengths, failed
}

// fetch reads u to its end, so that it is stored whole. It returns the links
// and the length.
func fetch(ctx context.Context, client *http.Client, u *url.URL) (links []*url.URL, n int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("%s: %s", u, resp.Status)
	}
	body := &counter{Reader: resp.Body}
	for tokens := html.NewTokenizer(body); ; {
		switch tokens.Next() {
		case html.ErrorToken:
			if err := tokens.Err(); err != io.EOF {
				return nil, 0, err
			}
			return links, body.n, nil
		case html.StartTagToken, html.SelfClosingTagToken:
			for _, a := range tokens.Token().Attr {
				if a.Key == "href" || a.Key == "src" {
					if link, err := u.Parse(a.Val); err == nil {
						links = append(links, link)
					}
				}
			}
		}
	}
}

type counter struct {
	io.Reader
	n int64
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n += int64(n)
	return n, err
}

func run(dir string) (demo.Table, error) {
	origin, err := demo.Start(site.Handler(site.Netlify))
	if err != nil {
		return nil, err
	}
	defer origin.Close()
	start, err := url.Parse(origin.URL + "/")
	if err != nil {
		return nil, err
	}

	var table demo.Table
	for _, r := range []struct {
		name   string
		cached bool
	}{
		{"without a cache", false},
		{"first run", true},
		{"second run", true},
	} {
		err := table.Add(r.name, origin, func() (any, error) {
			cache := &cachetrip.Transport{} // stores nothing
			if r.cached {
				var err error
				if cache, err = cachetrip.Open(dir); err != nil {
					return nil, err
				}
				defer cache.Close()
			}
			return crawl(context.Background(), newClient(cache, *parallel), *parallel, start)
		})
		if err != nil {
			return nil, err
		}
	}
	return table, nil
}
