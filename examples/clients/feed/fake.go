package main

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// fake is a blog. Its feed and its newsletter link to the same posts, and tell
// by the query of the links where a reader came from, as Google Analytics has
// it: https://support.google.com/analytics/answer/10917952. A post is kept by
// its reader for an hour. The fields are those that WordPress with a cache, and
// hosts of static sites, send.
type fake struct{}

const posts = 10

func (fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	if medium, ok := strings.CutPrefix(r.URL.Path, "/feeds/"); ok {
		h.Set("Content-Type", "application/rss+xml; charset=utf-8")
		h.Set("Cache-Control", "max-age=0, must-revalidate")
		body := feed("http://"+r.Host, medium)
		h.Set("ETag", fmt.Sprintf(`"%s-%d"`, medium, len(body)))
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(body))
		return
	}
	var n int
	if _, err := fmt.Sscanf(r.URL.Path, "/posts/%d", &n); err != nil || n >= posts {
		http.NotFound(w, r)
		return
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "max-age=3600")
	body := fmt.Sprintf("<!DOCTYPE html>\n<title>Post %d</title>\n%s", n, strings.Repeat("<p>Some text. ", 1000))
	h.Set("ETag", fmt.Sprintf(`"post-%d"`, n))
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(body))
}

// feed returns an RSS feed for readers that come by medium.
func feed(site, medium string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<?xml version="1.0"?><rss version="2.0"><channel><title>Blog</title><link>%s</link>`, site)
	for n := range posts {
		fmt.Fprintf(&b, `<item><title>Post %d</title><link>%s/posts/%d?utm_source=%s&amp;utm_medium=%[4]s&amp;utm_campaign=post-%[1]d</link></item>`,
			n, site, n, medium)
	}
	b.WriteString("</channel></rss>\n")
	return b.String()
}
