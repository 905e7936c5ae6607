// Colly scrapes a web site with gocolly/colly through a cache, and prints the
// cost of each run. The site is a loopback server that answers as nginx does:
//
//	go run ./colly
package main

import (
	"context"
	"net/http"
	"path/filepath"

	"github.com/gocolly/colly/v2"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/examples/clients/internal/demo"
	"github.com/cachetrip/cachetrip/examples/clients/internal/site"
)

func main() { demo.Main(run) }

// newCollector plugs the cache in.
func newCollector(cache http.RoundTripper) *colly.Collector {
	c := colly.NewCollector()
	c.WithTransport(cache)
	return c
}

// scrape follows all links, and returns the titles of the pages.
func scrape(c *colly.Collector, url string) (any, error) {
	var failed error
	titles := map[string]string{}
	c.OnHTML("title", func(e *colly.HTMLElement) { titles[e.Request.URL.Path] = e.Text })
	c.OnHTML("a[href]", func(e *colly.HTMLElement) { e.Request.Visit(e.Attr("href")) })
	c.OnHTML("img[src]", func(e *colly.HTMLElement) { e.Request.Visit(e.Attr("src")) })
	c.OnError(func(_ *colly.Response, err error) { failed = err })
	if err := c.Visit(url); err != nil {
		return nil, err
	}
	return titles, failed
}

func run(dir string) (demo.Table, error) {
	origin, err := demo.Start(site.Handler(site.Nginx))
	if err != nil {
		return nil, err
	}
	defer origin.Close()

	var table demo.Table
	for _, r := range []struct {
		name       string
		cached     bool
		directives string
		own        string // the directory of colly's own cache
	}{
		{name: "without a cache"},
		{name: "cachetrip, first run", cached: true},
		{name: "cachetrip, second run", cached: true},
		{name: "cachetrip, third run, asking for what is new", cached: true, directives: "no-cache"},
		{name: "colly's own cache, first run", own: filepath.Join(dir, "colly")},
		{name: "colly's own cache, second run", own: filepath.Join(dir, "colly")},
	} {
		err := table.Add(r.name, origin, func() (any, error) {
			cache := &cachetrip.Transport{} // stores nothing
			if r.cached {
				var err error
				if cache, err = cachetrip.Open(filepath.Join(dir, "cachetrip")); err != nil {
					return nil, err
				}
				defer cache.Close()
			}
			c := newCollector(cache)
			c.CacheDir = r.own
			c.Context = cachetrip.WithCacheControl(context.Background(), r.directives)
			return scrape(c, origin.URL+"/")
		})
		if err != nil {
			return nil, err
		}
	}
	return table, nil
}
