package main

// This file decides what the origin answers to the requests of one test, and
// records them.

import (
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

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
	a.lines = append(a.lines, x.about(req, now)...)
	a.complete(req.method, now)
	return a
}

// about returns fields that tell the client about its request. The caller holds
// x.mu.
func (x *exchange) about(req wireRequest, now time.Time) []line {
	var numbers []string
	for _, r := range x.seen {
		numbers = append(numbers, strconv.Itoa(r.number))
	}
	return []line{
		{"Server-Base-Url", req.target},
		{"Server-Request-Count", strconv.Itoa(len(x.seen))},
		{"Client-Request-Count", req.fields.Get("Req-Num")},
		{"Server-Now", strconv.FormatInt(now.UnixMilli(), 10)},
		{"Request-Numbers", strings.Join(numbers, " ")},
	}
}

// complete adds the fields that each response must have, unless the test lists
// them.
func (a *answer) complete(method string, now time.Time) {
	if !a.has("Content-Type") {
		a.lines = append(a.lines, line{"Content-Type", "text/plain"})
	}
	if !a.has("Date") {
		a.lines = append(a.lines, line{"Date", now.UTC().Format(http.TimeFormat)})
	}
	if hasBody(method, a.status.Code) && !a.has("Content-Length") && !a.has("Transfer-Encoding") {
		a.lines = append(a.lines, line{"Content-Length", strconv.Itoa(len(a.body))})
	}
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

// complaint answers a request that belongs to no test.
func complaint(about string) answer {
	return answer{
		status: status{http.StatusConflict, "Conflict"},
		lines:  []line{{"Content-Length", strconv.Itoa(len(about))}, {"Content-Type", "text/plain"}},
		body:   about,
	}
}
