package main

// This file is the client. It makes the requests of a test through the cache,
// one after the other. It checks each response and, in the end, what the origin
// saw.

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"time"
)

// betweenRequests is the pause between requests, for tests that ask for one.
// The tests' lifetimes are based on it. It is a variable for the tests of this
// program, whose lifetimes are not.
var betweenRequests = 3 * time.Second

const (
	// requestTimeout limits one request. The longest response_pause in the
	// suite is 5 s.
	requestTimeout = 30 * time.Second

	// maxBody limits how much of a response is read. The suite's bodies are all
	// under 1 KiB.
	maxBody = 1 << 20
)

// A runner runs tests through client against origin. It may run several at the
// same time.
type runner struct {
	origin *origin
	client http.RoundTripper
	pause  time.Duration // the pause of pause_after
}

// An outcome is the result of one test, regardless of the tests that it depends
// on.
type outcome struct {
	failure *failure // nil if all expectations were met
	trace   []string // requests and responses, as text
}

// run makes the requests of t until the first failure.
func (r *runner) run(ctx context.Context, t *test) outcome {
	x := r.origin.add(t.Requests)
	var responses []*response
	f := func() *failure {
		var previous *response
		for i := range t.Requests {
			req, number := &t.Requests[i], i+1
			res := r.do(ctx, t, number, x.token, previous)
			responses = append(responses, res)
			if f := checkResponse(req, number, x.token, res); f != nil {
				return f
			}
			previous = res
			if req.PauseAfter {
				select {
				case <-time.After(r.pause):
				case <-ctx.Done():
					return &failure{class: setupFailure, reason: context.Cause(ctx).Error()}
				}
			}
		}
		for i := range t.Requests {
			record, seen := x.last(i + 1)
			if f := checkRecord(&t.Requests[i], i+1, record, seen, responses[i]); f != nil {
				return f
			}
		}
		return nil
	}()
	return outcome{f, trace(responses, x.records())}
}

// A response is the client's view of a response.
type response struct {
	sent    []string // the request, for a trace
	status  int      // 0 if there is none
	fields  http.Header
	body    string
	interim []interimResponse
	err     error // why there is no response
	bodyErr error // why the body is incomplete
}

type interimResponse struct {
	code   int
	fields textproto.MIMEHeader
}

// get returns the value of the field, with its lines joined.
func (r *response) get(name string) (string, bool) {
	values := r.fields.Values(name)
	trimmed := make([]string, len(values))
	for i, v := range values {
		trimmed[i] = textproto.TrimString(v)
	}
	return strings.Join(trimmed, ", "), len(values) > 0
}

// number returns the integer at the beginning of the field's value.
func (r *response) number(name string) (int64, bool) {
	value, _ := r.get(name)
	return leadingInteger(value)
}

func leadingInteger(s string) (int64, bool) {
	end := 0
	if strings.HasPrefix(s, "-") {
		end++
	}
	for end < len(s) && '0' <= s[end] && s[end] <= '9' {
		end++
	}
	n, err := strconv.ParseInt(s[:end], 10, 64)
	return n, err == nil
}

func (r *runner) do(ctx context.Context, t *test, number int, token string, previous *response) *response {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	res := &response{}
	var mu sync.Mutex
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		Got1xxResponse: func(code int, fields textproto.MIMEHeader) error {
			mu.Lock()
			defer mu.Unlock()
			res.interim = append(res.interim, interimResponse{code, textproto.MIMEHeader(http.Header(fields).Clone())})
			return nil
		},
	})
	req, err := newRequest(ctx, r.origin.base(), t, number, token, previous, time.Now())
	if err != nil {
		res.err = err
		return res
	}
	res.sent = append([]string{req.Method + " " + req.URL.RequestURI()}, fieldLines(req.Header)...)

	// It calls RoundTrip, because an http.Client would follow redirects.
	resp, err := r.client.RoundTrip(req)
	if err != nil {
		res.err = err
		return res
	}
	defer resp.Body.Close()
	var body strings.Builder
	_, res.bodyErr = io.Copy(&body, io.LimitReader(resp.Body, maxBody))
	mu.Lock()
	defer mu.Unlock()
	res.status, res.fields, res.body = resp.StatusCode, resp.Header, body.String()
	return res
}

// newRequest makes request number of t, which follows previous.
func newRequest(ctx context.Context, base string, t *test, number int, token string, previous *response, now time.Time) (*http.Request, error) {
	r := &t.Requests[number-1]
	url := base + "/test/" + token
	if r.Filename != "" {
		url += "/" + r.Filename
	}
	if r.QueryArg != "" {
		url += "?" + r.QueryArg
	}
	var body io.Reader
	if r.Body != "" {
		body = strings.NewReader(r.Body)
	}
	req, err := http.NewRequestWithContext(ctx, r.method(), url, body)
	if err != nil {
		return nil, err
	}
	for _, f := range r.Fields {
		relativeTo := now
		if r.MagicIMS && previous != nil {
			// Last-Modified is relative to the origin's clock at the previous
			// response.
			if ms, ok := previous.number("Server-Now"); ok {
				relativeTo = time.UnixMilli(ms)
			}
		}
		// Surrounding white space is not part of a value and is never sent.
		req.Header.Add(f.Name, textproto.TrimString(f.resolve(r, relativeTo, "")))
	}
	for _, l := range cacheModeLines(r.CacheMode) {
		if req.Header.Get(l.name) == "" {
			req.Header.Set(l.name, l.value)
		}
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	req.Header.Set("Test-Name", t.Name)
	req.Header.Set("Test-ID", t.ID)
	req.Header.Set("Req-Num", strconv.Itoa(number))
	return req, nil
}

// cacheModeLines returns the fields that the Fetch standard adds for a
// request's cache mode, unless the caller sets them (HTTP-network-or-cache
// fetch). A client without cache modes expresses them by these fields.
func cacheModeLines(mode string) []line {
	switch mode {
	case "no-cache":
		return []line{{"Cache-Control", "max-age=0"}}
	case "no-store", "reload":
		return []line{{"Pragma", "no-cache"}, {"Cache-Control", "no-cache"}}
	}
	return nil
}

// trace formats the requests and responses of a test.
func trace(responses []*response, records []record) []string {
	var lines []string
	add := func(prefix string, more []string) {
		for _, l := range more {
			lines = append(lines, prefix+l)
		}
	}
	for _, res := range responses {
		add("> ", res.sent)
		if res.err != nil {
			lines = append(lines, "< "+res.err.Error())
			continue
		}
		for _, i := range res.interim {
			add("< ", append([]string{strconv.Itoa(i.code)}, fieldLines(http.Header(i.fields))...))
		}
		add("< ", append([]string{strconv.Itoa(res.status)}, fieldLines(res.fields)...))
		lines = append(lines, fmt.Sprintf("< %q", res.body))
		if res.bodyErr != nil {
			lines = append(lines, "< "+res.bodyErr.Error())
		}
	}
	for i, rec := range records {
		head := fmt.Sprintf("%s (%d. that the origin saw)", rec.method, i+1)
		add("  origin: ", append([]string{head}, fieldLines(http.Header(rec.fields))...))
	}
	return lines
}

func fieldLines(h http.Header) []string {
	var b strings.Builder
	h.Write(&b) // sorted by name
	return strings.FieldsFunc(b.String(), func(r rune) bool { return r == '\r' || r == '\n' })
}
