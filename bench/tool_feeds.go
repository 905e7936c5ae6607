package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

// feedsTool is a reader of 200 feeds that asks every hour for a day. It leaves
// conditional requests to the cache. A tenth of the feeds are behind a
// permanent redirect. If directive is max-age=0, the reader says that it wants
// the current version. Otherwise a cache may guess lifetimes from dates.
//
// The servers are what readers meet. Many send entity tags and dates as they
// should. Apache with mod_deflate adds -gzip to a tag and does not recognise it
// afterwards (bz.apache.org 39727 and 45023, FreshRSS/FreshRSS#1199). Some send
// tags without quotes (blog.prb.io, "Conditional GET Support for perpubplat"),
// some only a date, some nothing, and some a 304 with a body.
func feedsTool(directive string) *tool {
	r := rand.New(rand.NewPCG(seedOf("feeds"), 1))
	t := &tool{pages: make(map[string]*page)}
	const day = 24 * time.Hour
	var paths []string
	for i := range 200 {
		p := &page{size: 5_000 + int64(r.IntN(50_000))}
		switch kind := i % 20; {
		case kind < 5:
			p.tag, p.dated = strongTag, true
		case kind < 9:
			p.tag = weakTag
		case kind < 12:
			p.tag, p.dated, p.vary = gzipTag, true, []string{"Accept-Encoding"}
		case kind < 14:
			p.tag = bareTag
		case kind < 16:
			p.dated, p.cacheControl = true, "no-cache"
		case kind < 18:
			p.tag, p.chatty = strongTag, true
		case kind < 19:
			p.tag, p.cacheControl = strongTag, "max-age=7200"
		}
		for at := time.Duration(r.Int64N(int64(day))); at < day; at += time.Duration(1+r.IntN(12)) * time.Hour {
			p.changes = append(p.changes, at)
		}
		path := fmt.Sprintf("feed%d.xml", i)
		t.pages[path] = p
		if i%10 == 3 {
			from := fmt.Sprintf("old%d.xml", i)
			t.pages[from] = &page{status: http.StatusMovedPermanently, location: func(time.Duration) string { return path }}
			paths = append(paths, from)
			continue
		}
		paths = append(paths, path)
	}
	for _, at := range every(time.Hour, day) {
		for i, path := range paths {
			// Several at a time, every two seconds.
			t.calls = append(t.calls, call{at: at + time.Duration(i/20)*2*time.Second, path: path, accept: "application/atom+xml, application/rss+xml, */*;q=0.5", directive: directive})
		}
	}
	return t.sorted()
}
