package main

// The origin: answers the requests of each test as listed and remembers what it saw. It speaks
// HTTP/1.1 on its own, because net/http's server would not write everything that the tests ask for
// (repeated and odd field lines, chosen phrases, a status of 999, hanging up).

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

// An origin serves every test that was added under a token of its own: /test/<token>.
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

// base is the URL of the origin without a slash at its end.
func (o *origin) base() string { return "http://" + o.listener.Addr().String() }

// Close hangs up on everybody and waits until nothing runs any more.
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

// add makes the origin answer the requests of one test.
func (o *origin) add(requests []request) *exchange {
	x := &exchange{token: newToken(), requests: requests, modified: map[int]string{}}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tests[x.token] = x
	return x
}

// newToken has the shape of a UUID: 36 characters, a length that tests of Content-Length rely on.
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

// A wireRequest is a request as it came, without its body. http.ReadRequest would not do: it edits
// header fields.
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
	modified map[int]string // the Last-Modified that was sent, by request number
}

// A record is a request that the origin saw and what it answered.
type record struct {
	number  int // its Req-Num
	method  string
	fields  textproto.MIMEHeader
	checked []line // listed response fields that have to reach the client, one line per name
	unsent  bool   // the origin hung up instead
}

type line struct{ name, value string }

// last is the latest record of request number n.
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

// records is everything that was seen so far.
func (x *exchange) records() []record {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clone(x.seen)
}

// number is the request's own number, or else that of its arrival. x.mu is held.
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

// validators gives the validators that request object n lists: what is listed counts even if that
// response was never sent, because a stored one was used, but what a relative date means is known
// only once it was. x.mu is held.
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

// matches tells whether the request's field is exactly the validator.
func matches(req wireRequest, name, validator string) bool {
	return validator != "" && strings.Join(req.fields.Values(name), ", ") == validator
}

// appendLine adds l to lines, joined to what has its name already: what the lines of one field have
// in common with the one line that a recipient may make of them.
func appendLine(lines []line, l line) []line {
	for i := range lines {
		if strings.EqualFold(lines[i].name, l.name) {
			lines[i].value += ", " + l.value
			return lines
		}
	}
	return append(lines, l)
}

// An answer is what the origin writes.
type answer struct {
	interim    []interimAnswer
	status     status
	lines      []line
	body       string
	disconnect bool // nothing, that is
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

// framed tells whether the other side finds the end of a without a closed connection.
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
