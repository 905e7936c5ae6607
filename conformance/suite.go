package main

// This file parses the suite's data: suites of tests. Each test is a list of
// requests with the origin's responses and the expectations, as the suite
// exports them. Unknown members are ignored.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/textproto"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

type suite struct {
	ID    string  `json:"id"`
	Name  string  `json:"name"`
	Tests []*test `json:"tests"`
}

type test struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Kind      kind      `json:"kind"`
	DependsOn []string  `json:"depends_on"`
	Requests  []request `json:"requests"`

	// Tests of a document cache, of a shared cache, or of a client's own duties
	// do not apply here.
	BrowserOnly bool `json:"browser_only"`
	CDNOnly     bool `json:"cdn_only"`
	BrowserSkip bool `json:"browser_skip"`
}

// applies reports whether t applies to a private cache in a client that is not
// a browser.
func (t *test) applies() bool { return !t.BrowserOnly && !t.CDNOnly && !t.BrowserSkip }

// kind returns the severity of a failure.
type kind string

const (
	required kind = "required" // the RFC requires it
	optimal  kind = "optimal"  // an optimisation that the RFC allows
	check    kind = "check"    // a question without a correct answer
)

// A request is the client's request, the origin's response, and the
// expectations of both.
type request struct {
	// These members are about the client.
	Method     string   `json:"request_method"`
	Fields     []field  `json:"request_headers"`
	Body       string   `json:"request_body"`
	Filename   string   `json:"filename"`
	QueryArg   string   `json:"query_arg"`
	CacheMode  string   `json:"cache"` // as in the Fetch standard
	MagicIMS   bool     `json:"magic_ims"`
	RFC850     []string `json:"rfc850date"`
	PauseAfter bool     `json:"pause_after"`

	// These members are about the origin.
	Status         *status   `json:"response_status"`
	ResponseFields []field   `json:"response_headers"`
	ResponseBody   *string   `json:"response_body"`
	MagicLocations bool      `json:"magic_locations"`
	Interim        []interim `json:"interim_responses"`
	ResponsePause  float64   `json:"response_pause"` // seconds
	Disconnect     bool      `json:"disconnect"`

	// These members are expectations of the response.
	ExpectedType    string           `json:"expected_type"`
	ExpectedStatus  listed[int]      `json:"expected_status"`
	ExpectedFields  []expectation    `json:"expected_response_headers"`
	ForbiddenFields []expectation    `json:"expected_response_headers_missing"`
	ExpectedText    listed[string]   `json:"expected_response_text"`
	CheckBody       *bool            `json:"check_body"`
	ExpectedInterim listed[interims] `json:"expected_interim_responses"`

	// These members are expectations of the request that the origin sees.
	ExpectedMethod         string        `json:"expected_method"`
	ExpectedRequestFields  []expectation `json:"expected_request_headers"`
	ForbiddenRequestFields []expectation `json:"expected_request_headers_missing"`

	Setup      bool     `json:"setup"`
	SetupTests []string `json:"setup_tests"`
}

const (
	typeCached    = "cached"
	typeNotCached = "not_cached"
	typeETag      = "etag_validated"
	typeModified  = "lm_validated"
)

func (r *request) method() string {
	if r.Method == "" {
		return http.MethodGet
	}
	return r.Method
}

// body returns the body of the origin's response: the listed one, or else the
// test's token.
func (r *request) body(token string) string {
	if r.ResponseBody == nil {
		return token
	}
	return *r.ResponseBody
}

func (r *request) validated() bool {
	return r.ExpectedType == typeETag || r.ExpectedType == typeModified
}

// hasBody reports whether a response with this status to this method has a body
// (RFC 9110, section 6.4.1).
func hasBody(method string, status int) bool {
	return method != http.MethodHead && status != http.StatusNoContent && status != http.StatusNotModified
}

// listed is a member that may be absent, null, or have a value.
type listed[T any] struct {
	Listed, Null bool
	Value        T
}

func (l *listed[T]) UnmarshalJSON(data []byte) error {
	l.Listed = true
	if string(data) == "null" {
		l.Null = true
		return nil
	}
	return json.Unmarshal(data, &l.Value)
}

// status is written [code, phrase].
type status struct {
	Code   int
	Phrase string
}

func (s *status) UnmarshalJSON(data []byte) error {
	return unmarshalTuple(data, 1, &s.Code, &s.Phrase)
}

// interim is a 1xx response, written [code, fields].
type interim struct {
	Code   int
	Fields []field
}

type interims []interim

func (i *interim) UnmarshalJSON(data []byte) error {
	return unmarshalTuple(data, 1, &i.Code, &i.Fields)
}

// field is a field line, written [name, value] or [name, value, whether the
// client checks it].
type field struct {
	Name      string
	Value     value
	Unchecked bool
}

func (f *field) UnmarshalJSON(data []byte) error {
	checked := true
	if err := unmarshalTuple(data, 2, &f.Name, &f.Value, &checked); err != nil {
		return err
	}
	f.Unchecked = !checked
	return nil
}

// resolve returns the value to send. Numbers in date fields become dates
// relative to now. If r asks for it, locations begin with the request target.
func (f field) resolve(r *request, now time.Time, target string) string {
	switch textproto.CanonicalMIMEHeaderKey(f.Name) {
	case "Date", "Expires", "Last-Modified", "If-Modified-Since", "If-Unmodified-Since":
		if f.Value.isNumber {
			t := now.Add(time.Duration(f.Value.number) * time.Second).UTC()
			if slices.ContainsFunc(r.RFC850, func(name string) bool { return strings.EqualFold(name, f.Name) }) {
				return t.Format("Monday, 02-Jan-06 15:04:05 GMT")
			}
			return t.Format(http.TimeFormat)
		}
	case "Location", "Content-Location":
		if r.MagicLocations {
			if f.Value.text == "" {
				return target
			}
			return target + "/" + f.Value.text
		}
	}
	return f.Value.text
}

// value is a string or an integer.
type value struct {
	text     string // the digits of an integer
	number   int64
	isNumber bool
}

func (v *value) UnmarshalJSON(data []byte) error {
	if err := json.Unmarshal(data, &v.text); err == nil {
		return nil
	}
	n, err := strconv.ParseInt(string(data), 10, 64)
	if err != nil {
		return fmt.Errorf("%s is neither a string nor an integer", data)
	}
	*v = value{text: string(data), number: n, isNumber: true}
	return nil
}

// expectation is an expectation of a field: its presence (written as a name),
// its value ([name, value]), that it equals another field ([name, "=", other]),
// or that it exceeds a number ([name, ">", number]).
type expectation struct {
	Name     string
	Operator string // "" presence, "is", "=" or ">"
	Value    value  // the name of the other field if the operator is "="
}

func (e *expectation) UnmarshalJSON(data []byte) error {
	if err := json.Unmarshal(data, &e.Name); err == nil {
		return nil
	}
	var elements []json.RawMessage
	if err := json.Unmarshal(data, &elements); err != nil {
		return err
	}
	if len(elements) == 2 {
		e.Operator = "is"
		return unmarshalTuple(data, 2, &e.Name, &e.Value)
	}
	if err := unmarshalTuple(data, 3, &e.Name, &e.Operator, &e.Value); err != nil {
		return err
	}
	if e.Operator != "=" && (e.Operator != ">" || !e.Value.isNumber) {
		return fmt.Errorf("unknown expectation %s", data)
	}
	return nil
}

// unmarshalTuple parses a JSON array of at least least elements, one into each
// of dst.
func unmarshalTuple(data []byte, least int, dst ...any) error {
	var elements []json.RawMessage
	if err := json.Unmarshal(data, &elements); err != nil {
		return err
	}
	if len(elements) < least || len(elements) > len(dst) {
		return fmt.Errorf("%s has %d elements, not %d to %d", data, len(elements), least, len(dst))
	}
	for i, element := range elements {
		if err := json.Unmarshal(element, dst[i]); err != nil {
			return err
		}
	}
	return nil
}

// parseSuites parses the suite's data: a list of suites, one suite, or an
// object whose members are suites or lists of suites. It leaves out tests that
// do not apply.
func parseSuites(data []byte) ([]suite, error) {
	suites, err := decodeSuites(data)
	if err != nil {
		return nil, err
	}
	tests := 0
	seen := map[string]bool{}
	for i := range suites {
		s := &suites[i]
		s.Tests = slices.DeleteFunc(s.Tests, func(t *test) bool { return t == nil || !t.applies() })
		for _, t := range s.Tests {
			switch t.Kind {
			case "":
				t.Kind = required
			case required, optimal, check:
			default:
				return nil, fmt.Errorf("test %s: unknown kind %q", t.ID, t.Kind)
			}
			if t.ID == "" || len(t.Requests) == 0 {
				return nil, fmt.Errorf("suite %s: test %q without id or requests", s.ID, t.ID)
			}
			if seen[t.ID] {
				return nil, fmt.Errorf("two tests are called %s", t.ID)
			}
			seen[t.ID] = true
			tests++
		}
	}
	if tests == 0 {
		return nil, errors.New("no tests in it")
	}
	return suites, nil
}

func decodeSuites(data []byte) ([]suite, error) {
	if data = bytes.TrimSpace(data); !bytes.HasPrefix(data, []byte("{")) {
		var suites []suite
		err := json.Unmarshal(data, &suites)
		return suites, err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		return nil, err
	}
	if tests, ok := members["tests"]; ok && bytes.HasPrefix(tests, []byte("[")) && members["id"] != nil {
		var s suite
		err := json.Unmarshal(data, &s)
		return []suite{s}, err
	}
	var suites []suite
	for _, name := range slices.Sorted(maps.Keys(members)) {
		member := members[name]
		switch member[0] {
		case '[':
			var some []suite
			if err := json.Unmarshal(member, &some); err != nil {
				return nil, fmt.Errorf("member %s: %w", name, err)
			}
			suites = append(suites, some...)
		case '{':
			s := suite{ID: name}
			if err := json.Unmarshal(member, &s); err != nil {
				return nil, fmt.Errorf("member %s: %w", name, err)
			}
			suites = append(suites, s)
		}
	}
	return suites, nil
}

// choose returns the tests to report and the tests to run. The former belong to
// the suite called suiteID (if not empty), and their ids match pattern. The
// latter also include the tests that they depend on.
func choose(suites []suite, suiteID string, pattern *regexp.Regexp) (report, run map[string]bool) {
	byID := testsByID(suites)
	report, run = map[string]bool{}, map[string]bool{}
	var need func(id string)
	need = func(id string) {
		if t := byID[id]; t != nil && !run[id] {
			run[id] = true
			for _, dependency := range t.DependsOn {
				need(dependency)
			}
		}
	}
	for _, s := range suites {
		for _, t := range s.Tests {
			if (suiteID == "" || s.ID == suiteID) && pattern.MatchString(t.ID) {
				report[t.ID] = true
				need(t.ID)
			}
		}
	}
	return report, run
}

func testsByID(suites []suite) map[string]*test {
	byID := map[string]*test{}
	for _, s := range suites {
		for _, t := range s.Tests {
			byID[t.ID] = t
		}
	}
	return byID
}
