package main

// This file is the origin's connections: it reads requests, and writes the
// answers that exchange.go chooses. It has its own implementation of HTTP/1.1,
// because net/http's server cannot send everything that the tests ask for:
// repeated and malformed field lines, chosen phrases, a status of 999, hanging
// up.

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
