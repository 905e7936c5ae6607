package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The origin: an HTTP server on a loopback port, in the parent process. It
// counts the requests of each subject, which proves that a hit is a hit.

// Kinds of resources, by the first part of their path.
const (
	freshKind   = "fresh"   // may be used for a year
	checkKind   = "check"   // must be validated before each use
	slowKind    = "slow"    // like fresh, but its header takes a while
	trickleKind = "trickle" // is sent a little at a time
	traceKind   = "trace"   // belongs to a trace
	toolKind    = "tool"    // belongs to the trace of a tool
)

const (
	slowTime    = 30 * time.Millisecond // long enough for a hundred goroutines to begin
	tricklePart = 1 << 10
	trickleTime = 5 * time.Millisecond // between parts
)

type origin struct {
	url       string // without a slash at its end
	secureURL string // the same over HTTP/2 and TLS
	roots     string // the certificate of secureURL, in PEM
	server    *http.Server
	secure    *http.Server
	counters  sync.Map // of tags, to *tally
}

// tally counts the requests of a subject.
type tally struct {
	requests, notModified, bytes atomic.Int64
}

func startOrigin() (*origin, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	o := &origin{url: "http://" + l.Addr().String()}
	o.server = &http.Server{Handler: o}
	go o.server.Serve(l) // returns when close closes the listener
	if err := o.startSecure(); err != nil {
		o.server.Close()
		return nil, err
	}
	return o, nil
}

func (o *origin) close() {
	o.server.Close()
	o.secure.Close()
}

// tally returns the counters of a tag.
func (o *origin) tally(tag string) *tally {
	t, _ := o.counters.LoadOrStore(tag, new(tally))
	return t.(*tally)
}

// resourceURL returns the URL of a body below base. It has the tag under which
// it is counted, its kind and its content.
func resourceURL(base, tag, kind string, c content) string {
	return fmt.Sprintf("%s/%s/%s/%x/%d", base, tag, kind, c.seed, c.size)
}

func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	part := strings.Split(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if len(part) < 4 {
		http.NotFound(w, r)
		return
	}
	t := o.tally(part[0])
	t.requests.Add(1)
	if part[1] == toolKind {
		serveTool(w, r, strings.Join(part[2:], "/"), t)
		return
	}
	if part[1] == traceKind {
		serveTrace(w, r, part[2:], t)
		return
	}
	c, err := contentOfURL(r.URL.Path)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	describe(h, c)
	switch part[1] {
	case freshKind:
		h["Cache-Control"] = []string{"private, max-age=31536000"}
	case slowKind:
		h["Cache-Control"] = []string{"private, max-age=31536000"}
		time.Sleep(slowTime)
	case checkKind:
		h["Cache-Control"] = []string{"private, no-cache"}
	case trickleKind:
		h["Cache-Control"] = []string{"private, max-age=31536000"}
		o.trickle(w, r, c)
		return
	}
	if r.Header.Get("If-None-Match") == h["Etag"][0] {
		t.notModified.Add(1)
		delete(h, "Content-Type")
		delete(h, "Content-Length")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	t.send(w, c)
}

// send writes a body and counts it. It counts before the last byte, so that the
// reader of the body finds it counted.
func (t *tally) send(w io.Writer, c content) {
	t.bytes.Add(c.size)
	n, _ := c.WriteTo(w)
	t.bytes.Add(n - c.size)
}

// describe sets the header fields of a typical API, so that headers have a
// realistic size.
func describe(h http.Header, c content) {
	h["Content-Type"] = []string{"application/json; charset=utf-8"}
	h["Content-Length"] = []string{strconv.FormatInt(c.size, 10)}
	h["Etag"] = []string{fmt.Sprintf(`"%x-%x"`, c.seed, c.size)}
	h["Last-Modified"] = []string{"Mon, 02 Feb 2026 09:00:00 GMT"}
	h["Vary"] = []string{"Accept"}
	h["Server"] = []string{"bench"}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	h["X-Request-Id"] = []string{fmt.Sprintf("C0FF:%08x", uint32(c.seed))}
}

func (o *origin) trickle(w http.ResponseWriter, r *http.Request, c content) {
	tick := time.NewTicker(trickleTime)
	defer tick.Stop()
	flusher := http.NewResponseController(w)
	for pos := int64(0); pos < c.size; {
		b := c.at(pos)
		n, err := w.Write(b[:min(len(b), tricklePart)])
		pos += int64(n)
		if err != nil || flusher.Flush() != nil {
			return
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}

// newRequest returns a request. All subjects get the same.
func newRequest(url string) (*http.Request, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header["Accept"] = []string{"application/json"}
	req.Header["User-Agent"] = []string{"bench"}
	return req, nil
}
