package debug

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip/internal/redact"
)

// This file turns pages into HTML and JSON.

//go:embed page.css
var style string

//go:embed page.js
var script string

//go:embed page.html
var markup string

var pages = template.Must(template.New("page").Funcs(template.FuncMap{
	"style":  func() template.CSS { return template.CSS(style) },
	"script": func() template.JS { return template.JS(script) },
	"class":  class, "count": count, "elide": elide, "query": query, "size": size,
	"clock":  func(t time.Time) string { return t.UTC().Format("15:04:05") },
	"moment": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
	"stamp":  func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
}).Parse(markup))

// contentSecurityPolicy allows the page's own style and script, and the script
// to fetch the page again.
var contentSecurityPolicy = fmt.Sprintf("default-src 'none'; style-src 'sha256-%s'; script-src 'sha256-%s'; connect-src 'self'; "+
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'", digest(style), digest(script))

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// refreshEvery is how often a page with counters is fetched again, in seconds.
const refreshEvery = 10

// frame is what all pages have.
type frame struct {
	At    time.Time `json:"at"`
	Error string    `json:"error,omitempty"` // what went wrong, and what to do

	Title   string `json:"-"`
	View    string `json:"-"`                // the value of "view" in the query, which the navigation marks
	Search  string `json:"search,omitempty"` // the text in the form for the search
	Explain string `json:"-"`                // the URL in the form for explanations
	Refresh int    `json:"-"`                // in seconds; 0: not refreshed
	Still   string `json:"-"`                // "off" if the user has switched the refresh off
	Twin    string `json:"-"`                // the link to the page as JSON
	Switch  string `json:"-"`                // the link to the page with the refresh switched on or off; empty if it has none
}

// begin returns the frame of a page.
func begin(r *http.Request, title, view string) frame {
	q := r.URL.Query()
	f := frame{At: time.Now().UTC(), Title: title, View: view, Search: shorten(q.Get("q"))}
	if q.Get("refresh") == "off" {
		f.Still = "off"
	}
	q.Set("format", "json")
	if q.Has("explain") {
		q.Set("explain", redact.URL(q.Get("explain"), true))
	}
	f.Twin = "?" + q.Encode()
	return f
}

// refreshing has the page fetched again and again, unless the user has switched
// that off.
func (f *frame) refreshing(r *http.Request) {
	q := r.URL.Query()
	q.Del("refresh")
	if f.Still == "" {
		f.Refresh = refreshEvery
		q.Set("refresh", "off")
	}
	f.Switch = "?" + q.Encode()
}

// Link returns a link to another page, which keeps what the user has switched.
func (f frame) Link(pairs ...string) string {
	return query(append(pairs, "refresh", f.Still)...)
}

// wantsJSON reports whether r asks for JSON instead of HTML.
func wantsJSON(r *http.Request) bool {
	if format := r.URL.Query().Get("format"); format != "" {
		return format == "json"
	}
	accept := strings.Join(r.Header["Accept"], ",")
	return strings.Contains(accept, "application/json") && !strings.Contains(accept, "text/html")
}

// show writes a page. name is that of its template.
func show(w http.ResponseWriter, r *http.Request, code int, name string, data any) {
	w.Header().Set("Vary", "Accept")
	var b bytes.Buffer
	var err error
	if wantsJSON(r) {
		w.Header().Set("Content-Type", "application/json")
		encoder := json.NewEncoder(&b)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(data)
	} else {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		err = pages.ExecuteTemplate(&b, name, data)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.WriteHeader(code)
	w.Write(b.Bytes())
}

// fail writes a page that has nothing but an error.
func fail(w http.ResponseWriter, r *http.Request, code int, text string) {
	f := begin(r, "error", "")
	f.Error = text
	show(w, r, code, "error", f)
}

// refuse answers a request for which no page is made. Without a page there is
// no navigation, so the answer is plain text, or JSON if r asks for it.
func refuse(w http.ResponseWriter, r *http.Request, code int, text string) {
	if wantsJSON(r) {
		fail(w, r, code, text)
		return
	}
	w.Header().Set("Vary", "Accept")
	http.Error(w, text, code)
}
