package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"
)

// chezmoiTool is a manager of dotfiles that fetches programs and plug-ins from
// GitHub. A user counted 862 requests in a month, of which gregjones/httpcache
// answered 22.6 % (twpayne/chezmoi#5107). Others apply their configuration
// again and again while they change it (twpayne/chezmoi#2725).
//
// A release is reached by two redirects that must not be cached, the second to
// an address whose signature differs each time. Plain files have a lifetime of
// five minutes. Archives have an entity tag.
func chezmoiTool() *tool {
	r := rand.New(rand.NewPCG(seedOf("chezmoi"), 1))
	t := &tool{pages: make(map[string]*page)}
	const month = 30 * 24 * time.Hour
	var releases, files, archives []string
	for i := range 12 {
		latest := fmt.Sprintf("release%d/releases/latest/download/tool.tar.gz", i)
		asset := &page{size: 20_000 + int64(r.IntN(400_000)), tag: strongTag, dated: true}
		tagged := func(version int) string {
			return fmt.Sprintf("release%d/releases/download/v%d/tool.tar.gz", i, version)
		}
		for at := time.Duration(r.Int64N(int64(month))); at < month; at += time.Duration(float64(month) * (0.2 + r.Float64())) {
			asset.changes = append(asset.changes, at)
		}
		t.pages[latest] = &page{status: http.StatusFound, cacheControl: "no-cache", vary: []string{"Accept"},
			location: func(at time.Duration) string { return tagged(asset.version(at)) }}
		for version := range len(asset.changes) + 1 {
			stored := fmt.Sprintf("assets/release%d-v%d", i, version)
			t.pages[stored] = &page{size: asset.size + int64(version)*1000, tag: strongTag, dated: true}
			t.pages[tagged(version)] = &page{status: http.StatusFound, cacheControl: "no-cache", vary: []string{"Accept"},
				location: func(at time.Duration) string { return fmt.Sprintf("%s?sig=%x", stored, seedOf(fmt.Sprint(i, at))) }}
		}
		releases = append(releases, latest)
	}
	for i := range 10 {
		path := fmt.Sprintf("raw/plugin%d.vim", i)
		p := &page{size: 1_000 + int64(r.IntN(40_000)), cacheControl: "max-age=300", tag: weakTag, vary: []string{"Authorization", "Accept-Encoding"}}
		if i%2 == 0 {
			p.changes = []time.Duration{time.Duration(r.Int64N(int64(month)))}
		}
		t.pages[path] = p
		files = append(files, path)
	}
	for i := range 5 {
		path := fmt.Sprintf("plugin%d/archive/HEAD.tar.gz", i)
		stored := fmt.Sprintf("codeload/plugin%d", i)
		p := &page{size: 100_000 + int64(r.IntN(300_000)), tag: weakTag, vary: []string{"Authorization", "Accept-Encoding"}}
		for at := time.Duration(0); i < 3 && at < month; at += time.Duration(24+r.IntN(200)) * time.Hour {
			p.changes = append(p.changes, at)
		}
		t.pages[stored] = p
		t.pages[path] = &page{status: http.StatusFound, cacheControl: "no-cache", location: func(time.Duration) string { return stored }}
		archives = append(archives, path)
	}
	// 15 runs of 56 requests and one of 22: 862.
	at := time.Duration(0)
	for run := range 16 {
		if run == 15 {
			releases, archives = releases[:4], nil
		}
		for _, paths := range [][]string{releases, files, archives} {
			for _, path := range paths {
				t.calls = append(t.calls, call{at: at, path: path})
				at += 700 * time.Millisecond
			}
		}
		if run%3 == 0 {
			at += time.Duration(60+r.IntN(120)) * time.Second // a change, and once more
		} else {
			at += time.Duration(20+r.IntN(60)) * time.Hour
		}
	}
	return t.sorted()
}
