package main

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// githubTool is a service built on go-github that lists repositories and their
// issues every ten minutes, page by page, as a GitHub App. Its tokens last for
// an hour.
//
// Responses have Cache-Control: private, max-age=60, s-maxage=60
// (google/go-github#3909) and vary by Authorization, among others. Their entity
// tags depend on the token (eclipse-csi/otterdog#201). So nothing survives a
// change of the token.
func githubTool() *tool {
	r := rand.New(rand.NewPCG(seedOf("go-github"), 1))
	t := &tool{pages: make(map[string]*page)}
	const day = 4 * time.Hour
	var paths []string
	add := func(path string, size int, dated bool, quiet time.Duration) {
		p := &page{size: int64(size/2 + r.IntN(size)), cacheControl: "private, max-age=60, s-maxage=60", tag: tokenTag, dated: dated,
			vary: []string{"Accept", "Authorization", "Cookie", "X-GitHub-OTP", "Accept-Encoding", "X-Requested-With"}}
		for at := time.Duration(r.Int64N(int64(quiet))); at < day; at += time.Duration(r.Int64N(int64(2 * quiet))) {
			p.changes = append(p.changes, at)
		}
		t.pages[path] = p
		paths = append(paths, path)
	}
	for n := range 3 {
		add(fmt.Sprintf("orgs/o/repos/page%d", n+1), 120_000, false, 2*time.Hour)
	}
	for i := range 12 {
		add(fmt.Sprintf("repos/o/r%d", i), 6_000, true, 6*time.Hour)
		for n := range 1 + i%4 {
			quiet := 90 * time.Minute // the first page has what is new
			if n > 0 {
				quiet = 12 * time.Hour
			}
			add(fmt.Sprintf("repos/o/r%d/issues/page%d", i, n+1), 90_000, false, quiet)
		}
	}
	for _, at := range every(10*time.Minute, day) {
		token := fmt.Sprintf("Bearer ghs_%d", at/time.Hour)
		for _, path := range paths {
			t.calls = append(t.calls, call{at: at, path: path, accept: "application/vnd.github.v3+json", token: token})
		}
		// A second job reads the repositories again within the minute.
		for i := range 12 {
			t.calls = append(t.calls, call{at: at + 30*time.Second, path: fmt.Sprintf("repos/o/r%d", i), accept: "application/vnd.github.v3+json", token: token})
		}
	}
	return t.sorted()
}
