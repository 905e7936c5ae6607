package main

import (
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Tools: what programs in daily use request, and how the servers behave that
// they talk to. Each tool has a file of its own that says where its facts come
// from. Time passes in these traces, so a lifetime of a minute means something.

// tool is a program and the pages that its servers have. Everything is computed
// from fixed seeds.
type tool struct {
	pages map[string]*page // by path, without a query
	calls []call           // in the order of their time
}

// page is what a server has at one path.
type page struct {
	status       int   // 0: 200
	size         int64 // of the first version
	changes      []time.Duration
	location     func(at time.Duration) string // of a redirect; it may have a query
	cacheControl string
	vary         []string
	tag          tagStyle
	dated        bool // sends Last-Modified
	byAccept     bool // the body depends on Accept
	chatty       bool // a 304 has a body, which HTTP forbids
}

// tagStyle is how a server makes and compares entity tags.
type tagStyle int

const (
	noTag     tagStyle = iota
	strongTag          // "x"
	weakTag            // W/"x"
	bareTag            // x, without quotes, and compared as it is
	gzipTag            // "x-gzip", which the server does not recognise afterwards
	tokenTag           // W/"x", where x depends on the credentials
)

// call is one thing that a tool wants. It follows redirects.
type call struct {
	at                       time.Duration // since the start
	path                     string
	accept, token, directive string
}

// tools makes the traces by name.
var tools = map[string]func() *tool{
	"chezmoi":   chezmoiTool,
	"go-github": githubTool,
	"oci":       ociTool,
	"feeds":     func() *tool { return feedsTool("") },
	"feeds-now": func() *tool { return feedsTool("max-age=0") },
	"packages":  packagesTool,
	"docs":      docsTool,
}

var madeTools sync.Map // by name, func() *tool

// toolOf returns the tool with a name, or nil. It returns the same one each
// time.
func toolOf(name string) *tool {
	makeTool := tools[name]
	if makeTool == nil {
		return nil
	}
	once, _ := madeTools.LoadOrStore(name, sync.OnceValue(makeTool))
	return once.(func() *tool)()
}

// version returns the version of a page at a time.
func (p *page) version(at time.Duration) (v int) {
	for _, change := range p.changes {
		if change <= at {
			v++
		}
	}
	return v
}

// content is the body of a version of a page. Different versions differ in
// length.
func (p *page) content(path, accept string, version int) content {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %d", path, version)
	if p.byAccept {
		io.WriteString(h, " "+accept)
	}
	return content{h.Sum64(), max(p.size, labelSize) + int64(version)*17}
}

// tagFor is the entity tag that a page sends, and the one that it recognises.
func (p *page) tagFor(c content, token string) (sent, known string) {
	x := fmt.Sprintf("%x", c.seed)
	switch p.tag {
	case strongTag:
		return `"` + x + `"`, `"` + x + `"`
	case weakTag:
		return `W/"` + x + `"`, `W/"` + x + `"`
	case bareTag:
		return x, x
	case gzipTag:
		return `"` + x + `-gzip"`, `"` + x + `"`
	case tokenTag:
		h := fnv.New64a()
		io.WriteString(h, x+token)
		x = fmt.Sprintf(`W/"%x"`, h.Sum64())
		return x, x
	}
	return "", ""
}

// lifetime is how long a response may be used without asking, by its explicit
// lifetime alone.
func (p *page) lifetime() time.Duration {
	for directive := range strings.SplitSeq(p.cacheControl, ",") {
		switch d := strings.TrimSpace(directive); {
		case d == "no-cache" || d == "no-store":
			return 0
		case strings.HasPrefix(d, "max-age="):
			seconds, _ := strconv.Atoi(d[len("max-age="):])
			return time.Duration(seconds) * time.Second
		}
	}
	return 0
}

// The request fields by which a client tells the origin what time it has.
const (
	sinceField = "X-Since" // nanoseconds since the start of the trace
	nowField   = "X-Now"   // nanoseconds since 1970
)

// serveTool answers a request of a tool. path begins with the tool's name.
func serveTool(w http.ResponseWriter, req *http.Request, path string, tally *tally) {
	name, path, _ := strings.Cut(path, "/")
	t := toolOf(name)
	since, err1 := strconv.ParseInt(req.Header.Get(sinceField), 10, 64)
	now, err2 := strconv.ParseInt(req.Header.Get(nowField), 10, 64)
	if t == nil || err1 != nil || err2 != nil || t.pages[path] == nil {
		http.NotFound(w, req)
		return
	}
	p, at := t.pages[path], time.Duration(since)
	h := w.Header()
	h["Date"] = []string{time.Unix(0, now).UTC().Format(http.TimeFormat)}
	if p.cacheControl != "" {
		h["Cache-Control"] = []string{p.cacheControl}
	}
	h["Content-Type"] = []string{"application/octet-stream"}
	if len(p.vary) > 0 {
		h["Vary"] = p.vary
	}
	if p.location != nil {
		base := strings.TrimSuffix(req.URL.Path, path)
		h["Location"] = []string{base + p.location(at)}
		h["Content-Length"] = []string{"0"}
		w.WriteHeader(p.status)
		return
	}
	c := p.content(path, req.Header.Get("Accept"), p.version(at))
	sent, known := p.tagFor(c, req.Header.Get("Authorization"))
	if sent != "" {
		h["Etag"] = []string{sent}
	}
	if p.dated {
		h["Last-Modified"] = []string{p.modified(at, time.Unix(0, now))}
	}
	if p.confirms(req, known, h.Get("Last-Modified")) {
		tally.notModified.Add(1)
		if p.chatty {
			sendChatty304(w, h)
			return
		}
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h["Content-Length"] = []string{strconv.FormatInt(c.size, 10)}
	if p.status != 0 {
		w.WriteHeader(p.status)
	}
	tally.send(w, c)
}

// modified is the date of the version at a time.
func (p *page) modified(at time.Duration, now time.Time) string {
	age := at + 30*24*time.Hour
	for _, change := range p.changes {
		if change <= at {
			age = min(age, at-change)
		}
	}
	return now.Add(-age).UTC().Format(http.TimeFormat)
}

// confirms reports whether a request names what the page has. If it names tags,
// its date does not count (RFC 9110, section 13.1.3).
func (p *page) confirms(req *http.Request, known, modified string) bool {
	if p.status != 0 {
		return false
	}
	if lines := req.Header["If-None-Match"]; len(lines) > 0 {
		for member := range strings.SplitSeq(strings.Join(lines, ","), ",") {
			m := strings.TrimSpace(member)
			if known != "" && (m == known || p.tag != bareTag && strings.TrimPrefix(m, "W/") == strings.TrimPrefix(known, "W/")) {
				return true
			}
		}
		return false
	}
	return p.dated && modified != "" && req.Header.Get("If-Modified-Since") == modified
}

// sendChatty304 sends a 304 with a body, and closes the connection. net/http
// refuses to do that.
func sendChatty304(w http.ResponseWriter, h http.Header) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	var b strings.Builder
	b.WriteString("HTTP/1.1 304 Not Modified\r\nConnection: close\r\nContent-Length: 12\r\n")
	h.Write(&b)
	b.WriteString("\r\nNot Modified")
	io.WriteString(conn, b.String())
}

// every returns the times from first to last.
func every(period, last time.Duration) (times []time.Duration) {
	for at := time.Duration(0); at <= last; at += period {
		times = append(times, at)
	}
	return times
}

// sorted puts the calls into the order of their time.
func (t *tool) sorted() *tool {
	slices.SortStableFunc(t.calls, func(a, b call) int { return int(a.at - b.at) })
	return t
}
