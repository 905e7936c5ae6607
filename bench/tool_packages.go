package main

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// packagesTool is a build machine that runs pip and npm every three hours for
// two days, without a lock file.
//
// pip sends Cache-Control: max-age=0 and its Accept list for each project page,
// and nothing of the kind for files (pip/_internal/index/collector.py). PyPI
// sends project pages with max-age=600 and an entity tag
// (pulp/pulp_python#1254), and files as immutable.
//
// npm asks for the short form of the documents, and sometimes for the whole
// one. The registry sends both with Cache-Control: public, max-age=300
// (cnpm/cnpmcore#462) and an entity tag, and tarballs as immutable. The
// documents of popular packages have megabytes
// (artifact-keeper/artifact-keeper#3052).
func packagesTool() *tool {
	r := rand.New(rand.NewPCG(seedOf("packages"), 1))
	t := &tool{pages: make(map[string]*page)}
	const span = 48 * time.Hour
	document := func(path, cacheControl string, size int64) *page {
		p := &page{size: size, cacheControl: cacheControl, tag: strongTag, byAccept: true, vary: []string{"Accept", "Accept-Encoding"}}
		if r.IntN(2) == 0 {
			p.changes = []time.Duration{time.Duration(r.Int64N(int64(span)))}
		}
		t.pages[path] = p
		return p
	}
	const (
		pipAccept = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01"
		npmShort  = "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8, */*"
		npmWhole  = "application/json"
		immutable = "max-age=365000000, immutable, public"
	)
	// The file of a project is that of the newest version.
	file := func(kind string, i, version int) string {
		path := fmt.Sprintf("%s/files/%d-%d", kind, i, version)
		if t.pages[path] == nil {
			t.pages[path] = &page{size: 10_000 + int64(seedOf(path)%300_000), cacheControl: immutable, tag: strongTag, dated: true}
		}
		return path
	}
	for i := range 25 {
		path := fmt.Sprintf("pypi/simple/p%d/", i)
		p := document(path, "max-age=600, public", 20_000+int64(r.IntN(250_000)))
		for _, at := range every(3*time.Hour, span) {
			at += time.Duration(i/5) * time.Second
			t.calls = append(t.calls,
				call{at: at, path: path, accept: pipAccept, directive: "max-age=0"},
				call{at: at, path: file("pypi", i, p.version(at)), accept: "*/*"})
		}
	}
	for i := range 40 {
		path := fmt.Sprintf("npm/n%d", i)
		size := 10_000 + int64(r.IntN(120_000))
		if i == 0 {
			size = 4 << 20
		}
		p := document(path, "public, max-age=300", size)
		for _, at := range every(3*time.Hour, span) {
			at += time.Minute + time.Duration(i/10)*time.Second
			t.calls = append(t.calls,
				call{at: at, path: path, accept: npmShort},
				call{at: at, path: file("npm", i, p.version(at)), accept: "*/*"},
				call{at: at + 90*time.Second, path: path, accept: npmShort}) // npm outdated
			if i%8 == 0 {
				t.calls = append(t.calls, call{at: at + 100*time.Second, path: path, accept: npmWhole}) // npm view
			}
		}
	}
	return t.sorted()
}
