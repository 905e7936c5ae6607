// Feed reads two feeds of a blog with mmcdole/gofeed through a cache, and then
// the posts that they link to. It prints the cost of each run. The blog is a
// loopback server:
//
//	go run ./feed
package main

import (
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/mmcdole/gofeed"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/examples/clients/internal/demo"
)

func main() { demo.Main(run) }

// newReader returns a parser that gets feeds, and the client for their posts.
func newReader(cache *cachetrip.Transport) (*gofeed.Parser, *http.Client) {
	cache.Policy = withoutTracking
	client := cache.Client()
	parser := gofeed.NewParser()
	parser.Client = client
	return parser, client
}

// withoutTracking stores a page under its URL without the parameters that only
// tell where the reader came from.
func withoutTracking(req *http.Request) cachetrip.Policy {
	return cachetrip.Policy{URL: cachetrip.WithoutQuery(req.URL, "utm_*", "fbclid", "gclid")}
}

// read reads the feeds and their posts, and returns the checksum of each post.
func read(site string, parser *gofeed.Parser, client *http.Client) (any, error) {
	sums := map[string]uint32{}
	for _, medium := range []string{"rss", "newsletter"} {
		feed, err := parser.ParseURL(site + "/feeds/" + medium)
		if err != nil {
			return nil, err
		}
		for _, item := range feed.Items {
			resp, err := client.Get(item.Link)
			if err != nil {
				return nil, err
			}
			sum := crc32.NewIEEE()
			_, err = io.Copy(sum, resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK {
				return nil, fmt.Errorf("%s: %s: %w", item.Link, resp.Status, err)
			}
			sums[strings.TrimPrefix(item.Link, site)] = sum.Sum32()
		}
	}
	return sums, nil
}

func run(dir string) (demo.Table, error) {
	origin, err := demo.Start(fake{})
	if err != nil {
		return nil, err
	}
	defer origin.Close()

	var table demo.Table
	noPolicy := func(cache *cachetrip.Transport) { cache.Policy = nil }
	for _, r := range []struct {
		name, dir string
		change    func(*cachetrip.Transport)
	}{
		{"without a cache", "none", func(cache *cachetrip.Transport) { cache.Store = nil }},
		{"first run", "pages", nil},
		{"second run", "pages", nil},
		{"without Policy, first run", "links", noPolicy},
	} {
		err := table.Add(r.name, origin, func() (any, error) {
			cache, err := cachetrip.Open(filepath.Join(dir, r.dir))
			if err != nil {
				return nil, err
			}
			defer cache.Close()
			parser, client := newReader(cache)
			if r.change != nil {
				r.change(cache)
			}
			return read(origin.URL, parser, client)
		})
		if err != nil {
			return nil, err
		}
	}
	return table, nil
}
