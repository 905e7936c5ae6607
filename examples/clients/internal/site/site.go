// Package site is a small web site for clients that follow links.
package site

import (
	"fmt"
	"hash/crc32"
	"net/http"
	"strings"
	"time"
)

// The size of the site.
const (
	Pages  = 40 // each links to the next ones, and to all images
	Images = 5
)

// Hosting sets the header fields that a host of static files adds.
type Hosting func(h http.Header, path, body string)

// Nginx sets the fields of nginx in its default configuration: ETag and
// Last-Modified, computed from time and length, and no Cache-Control.
// https://nginx.org/en/docs/http/ngx_http_core_module.html#etag and
// https://nginx.org/en/docs/http/ngx_http_headers_module.html#expires
func Nginx(h http.Header, path, body string) {
	h.Set("Server", "nginx/1.29.3")
	h.Set("ETag", fmt.Sprintf(`"%x-%x"`, modified.Unix(), len(body)))
	h.Set("Last-Modified", modified.Format(http.TimeFormat))
}

// Netlify sets the fields of Netlify. Clients must ask before each use. They
// may keep files with a digest in their name, if the site's configuration says
// so. https://docs.netlify.com/build/caching/caching-overview/
func Netlify(h http.Header, path, body string) {
	h.Set("Server", "Netlify")
	h.Set("ETag", fmt.Sprintf(`"%032x-ssl"`, crc32.ChecksumIEEE([]byte(body))))
	h.Set("Cache-Control", "public,max-age=0,must-revalidate")
	if strings.HasPrefix(path, "/assets/") {
		h.Set("Cache-Control", "public,max-age=31536000,immutable")
	}
	h.Set("Strict-Transport-Security", "max-age=31536000")
	h.Set("X-Nf-Request-Id", "01KB2N3M4P5Q6R7S8T9V0W1X2Y")
}

var modified = time.Date(2026, 10, 1, 8, 0, 0, 0, time.UTC)

// Handler serves the site.
func Handler(hosting Hosting) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var n int
		var body string
		switch _, err := fmt.Sscanf(r.URL.Path, "/page-%d.html", &n); {
		case r.URL.Path == "/":
			body = page(0)
		case err == nil && n < Pages:
			body = page(n)
		case strings.HasPrefix(r.URL.Path, "/assets/image-"):
			body = strings.Repeat(r.URL.Path+"\n", 1000)
			w.Header().Set("Content-Type", "image/png")
		default:
			http.NotFound(w, r)
			return
		}
		if w.Header().Get("Content-Type") == "" {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
		}
		hosting(w.Header(), r.URL.Path, body)
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(body))
	})
}

func page(n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "<!DOCTYPE html>\n<title>Page %d</title>\n<h1>Page %d</h1>\n", n, n)
	for i := range Images {
		fmt.Fprintf(&b, "<img src=\"/assets/image-%d.3f2a9c.png\" alt=\"\">\n", i)
	}
	for next := n + 1; next < min(n+8, Pages); next++ {
		about := strings.Repeat("Some text about it. ", 40)
		fmt.Fprintf(&b, "<p>%s<a href=\"/page-%d.html\">Page %d</a></p>\n", about, next, next)
	}
	return b.String()
}
