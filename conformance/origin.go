package main

// This file is the origin. It answers the requests of each test as listed, and
// records them. It has its own implementation of HTTP/1.1, because net/http's
// server cannot send everything that the tests ask for: repeated and malformed
// field lines, chosen phrases, a status of 999, hanging up.

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// An origin serves every added test under its own token: /test/<token>.
type origin struct {
	listener net.Listener
	closed   chan struct{}
	running  sync.WaitGroup

	mu    sync.Mutex
	tests map[string]*exchange // by token
	conns map[net.Conn]bool
}

func newOrigin() (*origin, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("origin: %w", err)
	}
	o := &origin{
		listener: listener,
		closed:   make(chan struct{}),
		tests:    map[string]*exchange{},
		conns:    map[net.Conn]bool{},
	}
	o.running.Go(o.accept)
	return o, nil
}

// base is the URL of the origin without a trailing slash.
func (o *origin) base() string { return "http://" + o.listener.Addr().String() }

// Close closes all connections and waits for all goroutines.
func (o *origin) Close() error {
	close(o.closed)
	err := o.listener.Close()
	o.mu.Lock()
	for conn := range o.conns {
		conn.Close()
	}
	o.mu.Unlock()
	o.running.Wait()
	return err
}

// add has the origin answer the requests of one test.
func (o *origin) add(requests []request) *exchange {
	x := &exchange{token: newToken(), requests: requests, modified: map[int]string{}}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tests[x.token] = x
	return x
}

// newToken returns a token in the form of a UUID. Tests of Content-Length rely
// on its length of 36 characters.
func newToken() string {
	var b [16]byte
	rand.Read(b[:])
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func (o *origin) accept() {
	for {
		conn, err := o.listener.Accept()
		if err != nil {
			return
		}
		o.mu.Lock()
		select {
		case <-o.closed:
			conn.Close()
		default:
			o.conns[conn] = true
			o.running.Go(func() { o.serve(conn) })
		}
		o.mu.Unlock()
	}
}

func (o *origin) serve(conn net.Conn) {
	defer func() {
		conn.Close()
		o.mu.Lock()
		delete(o.conns, conn)
		o.mu.Unlock()
	}()
	reader := bufio.NewReader(conn)
	for {
		req, err := readRequest(reader)
		if err != nil {
			return
		}
		a := o.answer(req)
		if a.disconnect {
			return
		}
		if _, err := conn.Write(a.encode(req.method)); err != nil {
			return
		}
		if !a.framed(req.method) || strings.EqualFold(req.fields.Get("Connection"), "close") {
			return
		}
	}
}

// A wireRequest is a request as received, without its body. It does not use
// http.ReadRequest, because that changes header fields.
type wireRequest struct {
	method, target string
	fields         textproto.MIMEHeader
}

func readRequest(r *bufio.Reader) (wireRequest, error) {
	text := textproto.NewReader(r)
	line, err := text.ReadLine()
	if err != nil {
		return wireRequest{}, err
	}
	method, rest, ok1 := strings.Cut(line, " ")
	target, version, ok2 := strings.Cut(rest, " ")
	if !ok1 || !ok2 || version != "HTTP/1.1" {
		return wireRequest{}, fmt.Errorf("origin: malformed request line %q", line)
	}
	fields, err := text.ReadMIMEHeader()
	if err != nil {
		return wireRequest{}, err
	}
	req := wireRequest{method, target, fields}
	if strings.EqualFold(fields.Get("Transfer-Encoding"), "chunked") {
		if _, err := io.Copy(io.Discard, httputil.NewChunkedReader(r)); err != nil {
			return req, err
		}
		_, err = text.ReadMIMEHeader() // the trailer
		return req, err
	}
	if length := fields.Get("Content-Length"); length != "" {
		n, err := strconv.ParseInt(length, 10, 64)
		if err != nil {
			return req, err
		}
		_, err = io.CopyN(io.Discard, r, n)
		return req, err
	}
	return req, nil
}

func (o *origin) answer(req wireRequest) answer {
	path, _, _ := strings.Cut(req.target, "?")
	token, _, _ := strings.Cut(strings.TrimPrefix(path, "/test/"), "/")
	o.mu.Lock()
	x := o.tests[token]
	o.mu.Unlock()
	if x == nil {
		return complaint("no test is known at " + req.target)
	}
	if r := x.request(req); r != nil && r.ResponsePause > 0 {
		select {
		case <-time.After(time.Duration(r.ResponsePause * float64(time.Second))):
		case <-o.closed:
			return answer{disconnect: true}
		}
	}
	return x.answer(req, time.Now())
}

// An exchange is the origin's side of one test.
type exchange struct {
	token    string
	requests []request

	mu       sync.Mutex
	seen     []record
	modified map[int]string // the Last-Modified values that were sent, by request number
}

// A record is a request that the origin saw, with its response.
type record struct {
	number  int // its Req-Num
	method  string
	fields  textproto.MIMEHeader
	checked []line // listed response fields that must reach the client, one line per name
	unsent  bool   // the origin hung up instead of answering
}

type line struct{ name, value string }

// last returns the latest record of request n.
func (x *exchange) last(n int) (record, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, r := range slices.Backward(x.seen) {
		if r.number == n {
			return r, true
		}
	}
	return record{}, false
}

// records returns all records so far.
func (x *exchange) records() []record {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.seen)
}

// number returns the request's own number, or else the number of its arrival.
// The caller holds x.mu.
func (x *exchange) number(req wireRequest) int {
	if n, err := strconv.Atoi(req.fields.Get("Req-Num")); err == nil {
		return n
	}
	return len(x.seen) + 1
}

func (x *exchange) request(req wireRequest) *request {
	x.mu.Lock()
	defer x.mu.Unlock()
	if n := x.number(req); n >= 1 && n <= len(x.requests) {
		return &x.requests[n-1]
	}
	return nil
}

func (x *exchange) answer(req wireRequest, now time.Time) answer {
	x.mu.Lock()
	defer x.mu.Unlock()
	n := x.number(req)
	if n < 1 || n > len(x.requests) {
		return complaint(fmt.Sprintf("the test has no request %d", n))
	}
	r := &x.requests[n-1]

	a := answer{status: status{http.StatusOK, "OK"}, body: r.body(x.token), disconnect: r.Disconnect}
	for _, i := range r.Interim {
		var lines []line
		for _, f := range i.Fields {
			lines = append(lines, line{f.Name, f.resolve(r, now, req.target)})
		}
		a.interim = append(a.interim, interimAnswer{i.Code, lines})
	}
	if r.Status != nil {
		a.status = *r.Status
	}
	if r.validated() {
		a.status = status{999, "304 Not Generated"}
		etag, modified := x.validators(n - 1)
		if matches(req, "If-None-Match", etag) || matches(req, "If-Modified-Since", modified) {
			a.status = status{http.StatusNotModified, "Not Modified"}
		}
	}

	rec := record{number: n, method: req.method, fields: req.fields, unsent: r.Disconnect}
	for _, f := range r.ResponseFields {
		l := line{f.Name, f.resolve(r, now, req.target)}
		a.lines = append(a.lines, l)
		if strings.EqualFold(f.Name, "Last-Modified") {
			x.modified[n] = l.value
		}
		if !f.Unchecked && !strings.EqualFold(f.Name, "Date") {
			rec.checked = appendLine(rec.checked, l)
		}
	}
	x.seen = append(x.seen, rec)

	var numbers []string
	for _, r := range x.seen {
		numbers = append(numbers, strconv.Itoa(r.number))
	}
	a.lines = append(a.lines,
		line{"Server-Base-Url", req.target},
		line{"Server-Request-Count", strconv.Itoa(len(x.seen))},
		line{"Client-Request-Count", req.fields.Get("Req-Num")},
		line{"Server-Now", strconv.FormatInt(now.UnixMilli(), 10)},
		line{"Request-Numbers", strings.Join(numbers, " ")},
	)
	if !a.has("Content-Type") {
		a.lines = append(a.lines, line{"Content-Type", "text/plain"})
	}
	if !a.has("Date") {
		a.lines = append(a.lines, line{"Date", now.UTC().Format(http.TimeFormat)})
	}
	if hasBody(req.method, a.status.Code) && !a.has("Content-Length") && !a.has("Transfer-Encoding") {
		a.lines = append(a.lines, line{"Content-Length", strconv.Itoa(len(a.body))})
	}
	return a
}

// validators returns the validators that request object n lists. A listed
// validator counts even if the response was never sent because a stored one was
// used. But a relative date has a value only once it was sent. The caller holds
// x.mu.
func (x *exchange) validators(n int) (etag, modified string) {
	if n < 1 {
		return "", ""
	}
	for _, f := range x.requests[n-1].ResponseFields {
		switch textproto.CanonicalMIMEHeaderKey(f.Name) {
		case "Etag":
			etag = f.Value.text
		case "Last-Modified":
			if modified = f.Value.text; f.Value.isNumber {
				modified = x.modified[n]
			}
		}
	}
	return etag, modified
}

// matches reports whether the request's field equals the validator.
func matches(req wireRequest, name, validator string) bool {
	return validator != "" && strings.Join(req.fields.Values(name), ", ") == validator
}

// appendLine appends l to lines. If a line of that name exists, l is joined to
// it, as a recipient may do.
func appendLine(lines []line, l line) []line {
	for i := range lines {
		if strings.EqualFold(lines[i].name, l.name) {
			lines[i].value += ", " + l.value
			return lines
		}
	}
	return append(lines, l)
}

// An answer is the origin's response.
type answer struct {
	interim    []interimAnswer
	status     status
	lines      []line
	body       string
	disconnect bool // close the connection without a response
}

type interimAnswer struct {
	code  int
	lines []line
}

// complaint answers a request that belongs to no test.
func complaint(about string) answer {
	return answer{
		status: status{http.StatusConflict, "Conflict"},
		lines:  []line{{"Content-Length", strconv.Itoa(len(about))}, {"Content-Type", "text/plain"}},
		body:   about,
	}
}

func (a answer) has(name string) bool { return a.index(name) >= 0 }

func (a answer) index(name string) int {
	return slices.IndexFunc(a.lines, func(l line) bool { return strings.EqualFold(l.name, name) })
}

// framed reports whether the recipient finds the end of the response without a
// closed connection.
func (a answer) framed(method string) bool {
	if !hasBody(method, a.status.Code) {
		return true
	}
	i := a.index("Content-Length")
	return i >= 0 && !a.has("Transfer-Encoding") && a.lines[i].value == strconv.Itoa(len(a.body))
}

func (a answer) encode(method string) []byte {
	var b bytes.Buffer
	head := func(s status, lines []line) {
		fmt.Fprintf(&b, "HTTP/1.1 %03d %s\r\n", s.Code, s.Phrase)
		for _, l := range lines {
			fmt.Fprintf(&b, "%s: %s\r\n", l.name, l.value)
		}
		b.WriteString("\r\n")
	}
	for _, i := range a.interim {
		head(status{i.code, http.StatusText(i.code)}, i.lines)
	}
	head(a.status, a.lines)
	if hasBody(method, a.status.Code) {
		b.WriteString(a.body)
	}
	return b.Bytes()
}
