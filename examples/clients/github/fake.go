package main

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// fake answers like api.github.com, as far as a cache is concerned:
//
//   - It sends Cache-Control, Vary and the X-RateLimit fields, with 304s, too:
//     https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api and the
//     transcripts in https://gist.github.com/pengwynn/6815412
//   - A 304 to an authorised request is free. Any other 304 counts:
//     https://docs.github.com/en/rest/using-the-rest-api/best-practices-for-using-the-rest-api#use-conditional-requests-if-appropriate
//   - An entity tag is a digest of Accept, Authorization, Cookie and the body. So another token
//     has other tags. The tag of a compressed response is weak. This is not documented, but
//     was found out by others:
//     https://github.com/bored-engineer/github-conditional-http-transport#reverse-engineering-the-github-etag-algorithm
type fake struct {
	mu    sync.Mutex
	limit int // per window
	used  int // in this window
	reset time.Time
	since int // counted since the last call of charged
}

const (
	fakeRepos = 24
	fakePage  = 10 // the number of repositories on a page; 30 at GitHub
)

func newFake(limit int) *fake { return &fake{limit: limit, reset: time.Now().Add(time.Hour)} }

// charged returns how many requests counted towards the rate limit since the
// last call.
func (f *fake) charged() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.since
	f.since = 0
	return n
}

// nextWindow resets the rate limit, as GitHub does each hour.
func (f *fake) nextWindow() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.used, f.reset = 0, time.Now().Add(time.Hour)
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	body := f.find(r, h)
	if body == nil {
		http.NotFound(w, r)
		return
	}
	compress := strings.Contains(r.Header.Get("Accept-Encoding"), "gzip")
	digest := sha256.New()
	for _, name := range []string{"Accept", "Authorization", "Cookie"} {
		if value := r.Header.Get(name); value != "" {
			fmt.Fprintf(digest, "%s:", value)
		}
	}
	digest.Write(body)
	tag := fmt.Sprintf(`"%x"`, digest.Sum(nil))
	asked := strings.TrimPrefix(r.Header.Get("If-None-Match"), "W/")
	if compress {
		h.Set("ETag", "W/"+tag)
	} else {
		h.Set("ETag", tag)
	}
	h.Set("Cache-Control", "private, max-age=60, s-maxage=60")
	h.Set("Vary", "Accept, Authorization, Cookie, X-GitHub-OTP,Accept-Encoding, Accept, X-Requested-With")
	h.Set("X-GitHub-Media-Type", "github.v3; format=json")
	h.Set("X-GitHub-Api-Version-Selected", "2022-11-28")
	h.Set("Server", "github.com")

	notModified := asked == tag
	if !f.charge(h, notModified && r.Header.Get("Authorization") != "") {
		h.Del("ETag")
		h.Del("Cache-Control")
		http.Error(w, `{"message": "API rate limit exceeded"}`, http.StatusForbidden)
		return
	}
	if notModified {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", "application/json; charset=utf-8")
	if !compress {
		w.Write(body)
		return
	}
	h.Set("Content-Encoding", "gzip")
	zip := gzip.NewWriter(w)
	zip.Write(body)
	zip.Close()
}

// charge counts a request, unless it is free, and reports the remaining ones in
// h. It returns false if none remained.
func (f *fake) charge(h http.Header, free bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	ok := free || f.used < f.limit
	if !free && ok {
		f.used++
		f.since++
	}
	h.Set("X-RateLimit-Limit", strconv.Itoa(f.limit))
	h.Set("X-RateLimit-Remaining", strconv.Itoa(f.limit-f.used))
	h.Set("X-RateLimit-Used", strconv.Itoa(f.used))
	h.Set("X-RateLimit-Reset", strconv.FormatInt(f.reset.Unix(), 10))
	h.Set("X-RateLimit-Resource", "core")
	return ok
}

// find returns the resource at a path, as JSON.
func (f *fake) find(r *http.Request, h http.Header) []byte {
	path, _ := strings.CutPrefix(r.URL.Path, "/api/v3")
	if path == "/orgs/gophers/repos" {
		page := max(1, atoi(r.URL.Query().Get("page")))
		last := (fakeRepos + fakePage - 1) / fakePage
		var repos []map[string]any
		for i := (page - 1) * fakePage; i < min(page*fakePage, fakeRepos); i++ {
			repos = append(repos, fakeRepo(i))
		}
		if page < last {
			h.Set("Link", fmt.Sprintf(`<https://api.github.com/organizations/1/repos?page=%d>; rel="next", `+
				`<https://api.github.com/organizations/1/repos?page=%d>; rel="last"`, page+1, last))
		}
		return asJSON(repos)
	}
	name, ok := strings.CutPrefix(path, "/repos/gophers/repo-")
	if i := atoi(name); ok && i < fakeRepos {
		h.Set("Last-Modified", "Thu, 05 Nov 2026 15:31:30 GMT")
		return asJSON(fakeRepo(i))
	}
	return nil
}

func fakeRepo(i int) map[string]any {
	name := fmt.Sprintf("repo-%d", i)
	repo := map[string]any{
		"id": 1000 + i, "name": name, "full_name": "gophers/" + name, "private": false,
		"description": "Repository number " + strconv.Itoa(i), "language": "Go", "stargazers_count": i * 17,
		"pushed_at": "2026-11-05T15:31:30Z", "default_branch": "main", "topics": []string{"go", "http"},
		"owner": map[string]any{"login": "gophers", "id": 1, "type": "Organization"},
	}
	// These URLs are most of a real response.
	for _, what := range strings.Fields("archive assignees blobs branches collaborators comments commits compare " +
		"contents contributors deployments downloads events forks git_commits git_refs git_tags hooks issue_comment " +
		"issue_events issues keys labels languages merges milestones notifications pulls releases stargazers " +
		"statuses subscribers subscription tags teams trees") {
		repo[what+"_url"] = "https://api.github.com/repos/gophers/" + name + "/" + what
	}
	return repo
}

func asJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // cannot happen: every value here can be encoded
	}
	return b
}

func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}
