package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

// docsTool is a crawler that keeps a copy of a documentation site, once a day
// for a week. It asks for a page each second, and for the style sheets and
// images of each page when it comes by.
//
// Sites on GitHub Pages send everything with Cache-Control: max-age=600, an
// entity tag and a date. Others send a date and no lifetime, which a cache may
// guess then (RFC 9111, section 4.2.2). Addresses without their last slash
// redirect, and some links lead nowhere.
func docsTool() *tool {
	r := rand.New(rand.NewPCG(seedOf("docs"), 1))
	t := &tool{pages: make(map[string]*page)}
	const span = 7 * 24 * time.Hour
	var paths, assets []string
	for i := range 240 {
		path := fmt.Sprintf("guide/page%d/", i)
		p := &page{size: 4_000 + int64(r.IntN(60_000)), cacheControl: "max-age=600", tag: weakTag, dated: true}
		if i%4 == 3 {
			p.cacheControl, p.tag = "no-cache", noTag
		}
		if r.IntN(5) == 0 {
			p.changes = []time.Duration{time.Duration(r.Int64N(int64(span)))}
		}
		t.pages[path] = p
		switch {
		case i%12 == 0:
			short := fmt.Sprintf("guide/page%d", i)
			t.pages[short] = &page{status: http.StatusMovedPermanently, cacheControl: "max-age=600", location: func(time.Duration) string { return path }}
			paths = append(paths, short)
			continue
		case i%40 == 7:
			t.pages[path] = &page{status: http.StatusNotFound, size: 9_000, cacheControl: "no-cache"}
		}
		paths = append(paths, path)
	}
	for i := range 20 {
		path := fmt.Sprintf("static/asset%d", i)
		t.pages[path] = &page{size: 5_000 + int64(r.IntN(150_000)), cacheControl: "max-age=600", tag: strongTag, dated: true}
		assets = append(assets, path)
	}
	for _, day := range every(24*time.Hour, span-24*time.Hour) {
		for n, i := range r.Perm(len(paths)) {
			at := day + time.Duration(n)*time.Second
			t.calls = append(t.calls, call{at: at, path: paths[i], accept: "text/html"})
			for k := range 3 {
				t.calls = append(t.calls, call{at: at, path: assets[(i+k*7)%len(assets)], accept: "*/*"})
			}
		}
	}
	return t.sorted()
}
