package harness

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Answer writes a response: its fields as names and values in turn, and its
// body.
func Answer(rw http.ResponseWriter, code int, body string, fields ...string) {
	for i := 0; i < len(fields); i += 2 {
		rw.Header().Add(fields[i], fields[i+1])
	}
	rw.WriteHeader(code)
	io.WriteString(rw, body)
}

// Always answers all requests in the same way.
func Always(code int, body string, fields ...string) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) { Answer(rw, code, body, fields...) }
}

// InTurn answers the n-th request with the n-th handler, and then with the
// last.
func InTurn(handlers ...http.HandlerFunc) http.HandlerFunc {
	var mu sync.Mutex
	return func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		next := handlers[0]
		if len(handlers) > 1 {
			handlers = handlers[1:]
		}
		mu.Unlock()
		next(rw, r)
	}
}

// Tagged answers as net/http does for a file: 304 to its entity tag, else 200.
func Tagged(tag, body string, fields ...string) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("ETag", tag)
		for i := 0; i < len(fields); i += 2 {
			rw.Header().Add(fields[i], fields[i+1])
		}
		http.ServeContent(rw, r, "body.txt", time.Time{}, strings.NewReader(body))
	}
}

// RoundTripperFunc makes a function an http.RoundTripper.
type RoundTripperFunc func(*http.Request) (*http.Response, error)

func (f RoundTripperFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// Closing is a body that knows whether it was closed.
type Closing struct {
	io.Reader
	Closer io.Closer // may be nil
	mu     sync.Mutex
	times  int
}

func (c *Closing) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.times++
	if c.Closer != nil {
		return c.Closer.Close()
	}
	return nil
}

func (c *Closing) Closed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.times > 0
}

// Scripted is a response that a test makes up.
func Scripted(req *http.Request, code int, body io.Reader, fields ...string) *http.Response {
	h := http.Header{"Date": {time.Now().UTC().Format(http.TimeFormat)}}
	for _, line := range fields {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value)
	}
	resp := &http.Response{
		StatusCode: code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: h, ContentLength: -1, Request: req,
		Body: &scriptedBody{ctx: req.Context(), from: body},
	}
	if n, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64); err == nil {
		resp.ContentLength = n
	}
	return resp
}

// scriptedBody ends with the context of its request, as those of net/http do.
type scriptedBody struct {
	ctx  context.Context
	from io.Reader
}

func (b *scriptedBody) Read(p []byte) (int, error) {
	if b.ctx.Err() != nil {
		return 0, context.Cause(b.ctx)
	}
	return b.from.Read(p)
}

func (b *scriptedBody) Close() error { return nil }

// contentServer serves one content like net/http, and counts the requests.
type contentServer struct {
	*httptest.Server
	Asked []string // the Range fields
}

func ServeContent(body []byte, fields ...string) *contentServer {
	s := new(contentServer)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.Asked = append(s.Asked, r.Header.Get("Range"))
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Header().Set("Content-Type", "text/plain")
		var modified time.Time
		for i := 0; i < len(fields); i += 2 {
			if fields[i] == "Last-Modified" {
				modified, _ = http.ParseTime(fields[i+1])
				continue
			}
			w.Header().Set(fields[i], fields[i+1])
		}
		http.ServeContent(w, r, "", modified, bytes.NewReader(body))
	}))
	return s
}
