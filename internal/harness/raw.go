package harness

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// RawOrigin is an origin that writes the bytes of a test onto the connection.
// It can stall, cut and lie, as no http.Server does.
type RawOrigin struct {
	t        testing.TB
	listener net.Listener
	script   func(*RawCall)
	Written  atomic.Int64 // bytes of content, as far as Content was used for it

	mu    sync.Mutex
	calls []*RawCall
	conns map[net.Conn]bool
	done  sync.WaitGroup
}

// RawCall is one request at a RawOrigin.
type RawCall struct {
	*http.Request
	N    int // the number of the request, from 0
	w    *RawOrigin
	conn net.Conn
	Gone chan struct{} // closed when the client has closed the connection
	cut  bool
}

func NewRawOrigin(t testing.TB, script func(*RawCall)) *RawOrigin {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &RawOrigin{t: t, listener: listener, script: script, conns: make(map[net.Conn]bool)}
	w.done.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			w.mu.Lock()
			w.conns[conn] = true
			w.mu.Unlock()
			w.done.Go(func() { w.serve(conn) })
		}
	})
	return w
}

func (w *RawOrigin) URL() string { return "http://" + w.listener.Addr().String() }

func (w *RawOrigin) serve(conn net.Conn) {
	defer func() {
		conn.Close()
		w.mu.Lock()
		delete(w.conns, conn)
		w.mu.Unlock()
	}()
	requests := make(chan *http.Request)
	gone := make(chan struct{})
	stop := make(chan struct{})
	defer close(stop)
	w.done.Go(func() { // so that a closed connection is seen while an answer is being written
		defer close(gone)
		r := bufio.NewReader(conn)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			select {
			case requests <- req:
			case <-stop:
				return
			}
		}
	})
	for {
		var req *http.Request
		select {
		case req = <-requests:
		case <-gone:
			return
		}
		w.mu.Lock()
		c := &RawCall{Request: req, N: len(w.calls), w: w, conn: conn, Gone: gone}
		w.calls = append(w.calls, c)
		w.mu.Unlock()
		w.script(c)
		if c.cut {
			return
		}
	}
}

// Write writes text as it stands.
func (c *RawCall) Write(text string) { io.WriteString(c.conn, text) }

// Head writes a status line and fields, given as lines.
func (c *RawCall) Head(code int, lines ...string) {
	c.Write(fmt.Sprintf("HTTP/1.1 %d %s\r\nDate: %s\r\n", code, http.StatusText(code), time.Now().UTC().Format(http.TimeFormat)))
	for _, line := range lines {
		c.Write(line + "\r\n")
	}
	c.Write("\r\n")
}

// Content writes bytes of a body, and counts them. It counts them first, so
// that a client which has them all finds them counted.
func (c *RawCall) Content(b []byte) {
	c.w.Written.Add(int64(len(b)))
	n, _ := c.conn.Write(b)
	c.w.Written.Add(int64(n - len(b)))
}

// Whole answers 200 with a body and its length.
func (c *RawCall) Whole(body []byte, lines ...string) {
	c.Head(200, append(lines, "Content-Length: "+strconv.Itoa(len(body)))...)
	c.Content(body)
}

// HangUp closes the connection, even in the middle of a response.
func (c *RawCall) HangUp() { c.cut = true }

// Connections returns how many connections are open.
func (w *RawOrigin) Connections() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.conns)
}

// Requests returns the requests so far.
func (w *RawOrigin) Requests() []*RawCall {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.calls)
}

func (w *RawOrigin) Close() {
	w.listener.Close()
	w.mu.Lock()
	for conn := range w.conns {
		conn.Close()
	}
	w.mu.Unlock()
	w.done.Wait()
}

const Fresh = "Cache-Control: max-age=3600"

const Tag = `ETag: "1"`

// Rest answers a request with Range: bytes=N- as it should be.
func (c *RawCall) Rest(body []byte, lines ...string) {
	from, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(c.Header.Get("Range"), "bytes="), "-"))
	c.Part(body, from, len(body), lines...)
}

func (c *RawCall) Part(body []byte, from, to int, lines ...string) {
	c.Head(206, append(lines, fmt.Sprintf("Content-Range: bytes %d-%d/%d", from, to-1, len(body)), "Content-Length: "+strconv.Itoa(to-from))...)
	c.Content(body[from:to])
}

// Asks reports whether c is a request for the bytes after the first n, and
// nothing else.
func (c *RawCall) Asks(n int, validator string) bool {
	return c.Header.Get("Range") == fmt.Sprintf("bytes=%d-", n) && c.Header.Get("If-Range") == validator &&
		c.Header.Get("If-None-Match") == "" && c.Header.Get("If-Modified-Since") == ""
}
