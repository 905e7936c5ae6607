package main

// This file checks responses, and requests as the origin saw them. All
// functions are pure. They return the first failure, or nil.

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A failure is the first expectation that was not met.
type failure struct {
	class  failureClass
	reason string
}

type failureClass int

const (
	testFailure  failureClass = iota // the test listed the expectation
	setupFailure                     // the test failed before it could show anything
	retryFailure                     // the cache sent a request twice, which the tests do not expect
)

// fail returns a failure of the check with the given member name. It is a
// failure of the setup if the whole request, or this check, belongs to the
// setup.
func (r *request) fail(member, format string, args ...any) *failure {
	f := &failure{testFailure, fmt.Sprintf(format, args...)}
	if r.Setup || slices.Contains(r.SetupTests, member) {
		f.class = setupFailure
	}
	return f
}

// unmet returns a failure of an expectation that applies to every response. As
// in the suite itself, it is always a failure of the setup.
func unmet(format string, args ...any) *failure {
	return &failure{setupFailure, fmt.Sprintf(format, args...)}
}

// checkResponse checks the client's response to request n of the test with the
// given token.
func checkResponse(r *request, n int, token string, res *response) *failure {
	anyStatus := r.ExpectedStatus.Null
	if res.err != nil && !anyStatus {
		member := "expected_status"
		if r.ExpectedType != "" {
			member = "expected_type"
		}
		return r.fail(member, "response %d: want one, got the error %q", n, res.err)
	}
	if numbers, _ := res.get("Request-Numbers"); repeats(strings.Fields(numbers)) {
		return &failure{retryFailure, fmt.Sprintf("response %d: the origin saw the requests %s", n, numbers)}
	}
	for _, check := range []func(*request, int, *response) *failure{
		checkType, checkStatus, checkFields, checkInterim,
	} {
		if f := check(r, n, res); f != nil {
			return f
		}
	}
	return checkBody(r, n, token, res)
}

func repeats(words []string) bool {
	slices.Sort(words)
	return len(slices.Compact(slices.Clone(words))) < len(words)
}

func checkType(r *request, n int, res *response) *failure {
	count, known := res.number("Server-Request-Count")
	switch r.ExpectedType {
	case "", typeETag, typeModified: // only the origin can tell: see checkRecord
	case typeCached:
		if res.status == 304 && !known {
			return nil // a 304 that the cache makes may lack that field
		}
		if !known || count >= int64(n) {
			return r.fail("expected_type", "response %d: want a stored response, got one for the origin's request %s", n, orNone(count, known))
		}
	case typeNotCached:
		if !known || count != int64(n) {
			return r.fail("expected_type", "response %d: want a new response, got one for the origin's request %s", n, orNone(count, known))
		}
	default:
		return unmet("response %d: this program does not know the expected_type %q", n, r.ExpectedType)
	}
	return nil
}

func orNone(n int64, known bool) string {
	if !known {
		return "(none)"
	}
	return fmt.Sprint(n)
}

func checkStatus(r *request, n int, res *response) *failure {
	switch {
	case r.ExpectedStatus.Null:
	case r.ExpectedStatus.Listed:
		if res.status != r.ExpectedStatus.Value {
			return r.fail("expected_status", "response %d: want status %d, got %d%s", n, r.ExpectedStatus.Value, res.status, unconditional(res))
		}
	case r.Status != nil:
		if res.status != r.Status.Code {
			return unmet("response %d: want status %d, got %d%s", n, r.Status.Code, res.status, unconditional(res))
		}
	case res.status == 999:
		return r.fail("expected_type", "request %d: want a conditional request, got another one", n)
	case res.status != 200:
		return unmet("response %d: want status 200, got %d", n, res.status)
	}
	return nil
}

// unconditional explains the origin's status 999.
func unconditional(res *response) string {
	if res.status == 999 {
		return " (the request should have been conditional)"
	}
	return ""
}

func checkFields(r *request, n int, res *response) *failure {
	for _, e := range r.ExpectedFields {
		got, present := res.get(e.Name)
		if !present {
			return r.fail("expected_response_headers", "response %d: want %s, got none", n, e.Name)
		}
		switch e.Operator {
		case "is":
			var now time.Time
			if ms, ok := res.number("Server-Now"); ok {
				now = time.UnixMilli(ms)
			}
			target, _ := res.get("Server-Base-Url")
			if want := (field{Name: e.Name, Value: e.Value}).resolve(r, now, target); got != want {
				return r.fail("expected_response_headers", "response %d: want %s: %q, got %q", n, e.Name, want, got)
			}
		case "=":
			if want, _ := res.get(e.Value.text); got != want {
				return r.fail("expected_response_headers", "response %d: want %s: %q (as in %s), got %q", n, e.Name, want, e.Value.text, got)
			}
		case ">":
			if number, ok := leadingInteger(got); !ok || number <= e.Value.number {
				return r.fail("expected_response_headers", "response %d: want %s over %d, got %q", n, e.Name, e.Value.number, got)
			}
		}
	}
	for _, e := range r.ForbiddenFields {
		if got, present := res.get(e.Name); present && (e.Operator == "" || strings.Contains(got, e.Value.text)) {
			return r.fail("expected_response_headers_missing", "response %d: want no %s, got %q", n, strings.TrimSpace(e.Name+" "+e.Value.text), got)
		}
	}
	return nil
}

func checkInterim(r *request, n int, res *response) *failure {
	if !r.ExpectedInterim.Listed || r.ExpectedInterim.Null {
		return nil
	}
	want := r.ExpectedInterim.Value
	if len(res.interim) != len(want) {
		return r.fail("expected_interim_responses", "response %d: want %d interim responses, got %d", n, len(want), len(res.interim))
	}
	for i, w := range want {
		got := res.interim[i]
		if got.code != w.Code {
			return r.fail("expected_interim_responses", "interim response %d.%d: want status %d, got %d", n, i+1, w.Code, got.code)
		}
		for _, f := range w.Fields {
			if value := strings.Join(got.fields.Values(f.Name), ", "); value != f.Value.text {
				return r.fail("expected_interim_responses", "interim response %d.%d: want %s: %q, got %q", n, i+1, f.Name, f.Value.text, value)
			}
		}
	}
	return nil
}

func checkBody(r *request, n int, token string, res *response) *failure {
	if res.bodyErr != nil {
		return r.fail("expected_response_text", "response %d: want a whole body, got the error %q after %d bytes", n, res.bodyErr, len(res.body))
	}
	switch {
	case r.CheckBody != nil && !*r.CheckBody, r.ExpectedText.Null:
	case r.ExpectedText.Listed:
		if res.body != r.ExpectedText.Value {
			return r.fail("expected_response_text", "response %d: want the body %q, got %q", n, r.ExpectedText.Value, res.body)
		}
	case hasBody(r.method(), res.status):
		if want := r.body(token); res.body != want {
			return unmet("response %d: want the body %q, got %q", n, want, res.body)
		}
	}
	return nil
}

// checkRecord checks request n as the origin saw it, if it did, and that the
// origin's response reached the client.
func checkRecord(r *request, n int, rec record, seen bool, res *response) *failure {
	switch r.ExpectedType {
	case typeCached:
		return nil // the origin need not see it
	case typeNotCached:
		if !seen {
			return r.fail("expected_type", "request %d: want it sent to the origin, got no such request there", n)
		}
	case typeETag, typeModified:
		name := "If-None-Match"
		if r.ExpectedType == typeModified {
			name = "If-Modified-Since"
		}
		if len(rec.fields.Values(name)) == 0 {
			return r.fail("expected_type", "request %d: want %s sent to the origin, got none", n, name)
		}
	}
	for _, e := range r.ExpectedRequestFields {
		values := rec.fields.Values(e.Name)
		got := strings.Join(values, ", ")
		if len(values) == 0 {
			return r.fail("expected_request_headers", "request %d: want %s sent to the origin, got none", n, strings.TrimSpace(e.Name+" "+e.Value.text))
		}
		if e.Operator != "" && got != e.Value.text {
			return r.fail("expected_request_headers", "request %d: want %s: %q sent to the origin, got %q", n, e.Name, e.Value.text, got)
		}
	}
	for _, e := range r.ForbiddenRequestFields {
		values := rec.fields.Values(e.Name)
		got := strings.Join(values, ", ")
		if len(values) > 0 && (e.Operator == "" || got == e.Value.text) {
			return r.fail("expected_request_headers_missing", "request %d: want no %s sent to the origin, got %q", n, strings.TrimSpace(e.Name+" "+e.Value.text), got)
		}
	}
	if !rec.unsent {
		for _, l := range rec.checked {
			if got, present := res.get(l.name); !present || got != l.value {
				return unmet("response %d: want %s: %q as the origin sent it, got %q", n, l.name, l.value, got)
			}
		}
	}
	if r.ExpectedMethod != "" && rec.method != r.ExpectedMethod {
		return r.fail("expected_method", "request %d: want method %s at the origin, got %q", n, r.ExpectedMethod, rec.method)
	}
	return nil
}
