package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// tinySuite is our own suite. The verdict of each test is known for each of the
// toy caches below.
const tinySuite = `[
 {"id": "reuse", "name": "Reuse", "tests": [
  {"id": "fresh", "name": "reuses a fresh response", "kind": "optimal", "requests": [
   {"response_headers": [["Cache-Control", "max-age=3600"]], "setup": true, "pause_after": true},
   {"expected_type": "cached"}]},
  {"id": "stale", "name": "does not reuse a stale response", "requests": [
   {"response_headers": [["Cache-Control", "max-age=0"]], "setup": true},
   {"expected_type": "not_cached"}]},
  {"id": "asked", "name": "reuses it?", "kind": "check", "depends_on": ["stale"], "requests": [
   {"setup": true}, {"expected_type": "cached"}]},
  {"id": "question", "name": "reuses it?", "kind": "check", "requests": [
   {"setup": true}, {"expected_type": "cached"}]},
  {"id": "builds", "name": "keeps fields", "depends_on": ["fresh"], "requests": [
   {"response_headers": [["A", "1"], ["A", "2"]], "setup": true},
   {"expected_type": "cached", "expected_response_headers": ["a", ["A", "1, 2"]]}]},
  {"id": "grounds", "name": "keeps fields", "requests": [
   {"response_headers": [["A", "1"]], "setup": true},
   {"expected_type": "cached", "setup_tests": ["expected_type"], "expected_response_headers": [["A", "1"]]}]},
  {"id": "ill", "name": "what the origin sends arrives", "requests": [
   {"response_headers": [["B", "1"], ["Date", 0]]}]}
 ]},
 {"id": "rest", "tests": [
  {"id": "etag", "name": "validates", "requests": [
   {"response_headers": [["ETag", "\"a\""]], "setup": true},
   {"expected_type": "etag_validated", "expected_request_headers": [["If-None-Match", "\"a\""]]}]},
  {"id": "modified", "name": "answers conditions", "kind": "check", "requests": [
   {"response_headers": [["Last-Modified", -3000]], "setup": true, "pause_after": true},
   {"request_headers": [["If-Modified-Since", -3000]], "magic_ims": true, "expected_type": "lm_validated", "expected_status": 304}]},
  {"id": "hint", "name": "passes interim responses on", "requests": [
   {"interim_responses": [[103, [["Link", "</a>; rel=preload"]]]], "expected_interim_responses": [[103, [["link", "</a>; rel=preload"]]]]},
   {"expected_interim_responses": []}]},
  {"id": "hangup", "name": "does not make a response up", "requests": [
   {"setup": true},
   {"disconnect": true, "expected_status": null, "check_body": false, "expected_response_headers_missing": ["server-request-count"]}]},
  {"id": "hangup-served", "name": "serves in spite of that", "kind": "check", "requests": [
   {"setup": true}, {"disconnect": true, "expected_type": "cached"}]},
  {"id": "odd", "name": "odd statuses arrive", "requests": [
   {"response_status": [599, "Whatever"], "response_body": "x", "response_headers": [["Content-Location", "there"]], "magic_locations": true, "filename": "f", "query_arg": "q=1"},
   {"response_status": [204, "No Content"], "response_body": null, "request_method": "M-SEARCH", "request_body": "abc", "expected_method": "M-SEARCH"},
   {"request_method": "HEAD", "response_headers": [["Content-Length", "7"]]}]},
  {"id": "unknown-type", "name": "?", "requests": [{"expected_type": "surprising"}]},
  {"id": "slow", "name": "waits", "requests": [{"response_pause": 0.01}]}
 ]}
]`

// sticky serves the first response of a URL for every GET, whatever it was.
type sticky struct {
	http.RoundTripper
	mu     sync.Mutex
	stored map[string]*storedResponse
}

type storedResponse struct {
	http.Response
	body string
}

func (s *sticky) RoundTrip(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if found := s.stored[req.URL.String()]; found != nil && req.Method == http.MethodGet {
		resp := found.Response
		resp.Body = io.NopCloser(strings.NewReader(found.body))
		return &resp, nil
	}
	resp, err := s.RoundTripper.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	if s.stored == nil {
		s.stored = map[string]*storedResponse{}
	}
	s.stored[req.URL.String()] = &storedResponse{*resp, string(body)}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

// validating stores responses with an entity tag, and revalidates them each
// time.
type validating struct{ sticky }

func (v *validating) RoundTrip(req *http.Request) (*http.Response, error) {
	v.mu.Lock()
	found := v.stored[req.URL.String()]
	v.mu.Unlock()
	if found == nil || found.Header.Get("ETag") == "" {
		v.mu.Lock()
		delete(v.stored, req.URL.String())
		v.mu.Unlock()
		return v.sticky.RoundTrip(req)
	}
	conditional := req.Clone(req.Context())
	conditional.Header.Set("If-None-Match", found.Header.Get("ETag"))
	resp, err := v.sticky.RoundTripper.RoundTrip(conditional)
	if err != nil || resp.StatusCode != http.StatusNotModified {
		return resp, err
	}
	resp.Body.Close()
	return v.sticky.RoundTrip(req)
}

// twice sends every request twice.
type twice struct{ http.RoundTripper }

func (t twice) RoundTrip(req *http.Request) (*http.Response, error) {
	if resp, err := t.RoundTripper.RoundTrip(req.Clone(req.Context())); err == nil {
		resp.Body.Close()
	}
	return t.RoundTripper.RoundTrip(req)
}

// forgetful drops the field called B, and interim responses.
type forgetful struct{ http.RoundTripper }

func (f forgetful) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := f.RoundTripper.RoundTrip(req.WithContext(context.Background()))
	if err == nil {
		resp.Header.Del("B")
	}
	return resp, err
}

func TestVerdicts(t *testing.T) {
	suites, err := parseSuites([]byte(tinySuite))
	if err != nil {
		t.Fatal(err)
	}
	order := []string{"fresh", "stale", "asked", "question", "builds", "grounds", "ill",
		"etag", "modified", "hint", "hangup", "hangup-served", "odd", "unknown-type", "slow"}
	for name, tt := range map[string]struct {
		over func(http.RoundTripper) http.RoundTripper
		want []verdict // in that order
	}{
		"no cache": {
			func(base http.RoundTripper) http.RoundTripper { return base },
			[]verdict{missed, pass, no, no, dependency, setup, pass, fail, yes, pass, pass, no, pass, setup, pass},
		},
		"sticky": {
			func(base http.RoundTripper) http.RoundTripper { return &sticky{RoundTripper: base} },
			[]verdict{pass, fail, dependency, yes, pass, pass, pass, fail, no, pass, fail, yes, pass, setup, pass},
		},
		"validating": {
			func(base http.RoundTripper) http.RoundTripper { return &validating{sticky{RoundTripper: base}} },
			[]verdict{missed, pass, no, no, dependency, setup, pass, pass, yes, pass, pass, no, pass, setup, pass},
		},
		"twice": {
			func(base http.RoundTripper) http.RoundTripper { return twice{base} },
			[]verdict{retry, retry, dependency, retry, dependency, retry, retry, retry, retry, retry, retry, retry, retry, retry, retry},
		},
		"forgetful": {
			func(base http.RoundTripper) http.RoundTripper { return forgetful{base} },
			[]verdict{missed, pass, no, no, dependency, setup, setup, fail, yes, fail, pass, no, pass, setup, pass},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, err := newOrigin()
			if err != nil {
				t.Fatal(err)
			}
			defer o.Close()
			report, needed := choose(suites, "", regexp.MustCompile(""))
			r := &runner{origin: o, client: tt.over(newBase()), pause: time.Millisecond}
			results := judge(suites, report, r.runAll(t.Context(), suites, needed, 4))
			if len(results) != len(order) {
				t.Fatalf("got %d results, want %d", len(results), len(order))
			}
			for i, got := range results {
				if got.ID != order[i] || got.Verdict != tt.want[i] {
					t.Errorf("%s: got %s (%s), want %s %s\n%s", got.ID, got.Verdict, got.Reason, order[i], tt.want[i], strings.Join(got.trace, "\n"))
				}
				if (got.Reason == "") != got.passed() {
					t.Errorf("%s: %s with the reason %q", got.ID, got.Verdict, got.Reason)
				}
			}
		})
	}
}

// TestSubjects runs each subject, and checks that it leaves nothing behind.
func TestSubjects(t *testing.T) {
	suites, err := parseSuites([]byte(tinySuite))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"TMPDIR", "TMP", "TEMP"} { // os.TempDir reads it
		t.Setenv(name, dir)
	}
	for name, fresh := range map[string]verdict{"cachetrip": pass, "memory": pass, "none": missed} {
		t.Run(name, func(t *testing.T) {
			report, needed := choose(suites, "", regexp.MustCompile("^(fresh|stale)$"))
			outcomes, err := runSubject(t.Context(), name, suites, needed, 2, time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			results := judge(suites, report, outcomes)
			if results[0].Verdict != fresh || results[1].Verdict != pass {
				t.Errorf("got %+v, want fresh to be %s and stale to pass", results, fresh)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// TestChecks shows that every check of checkResponse and checkRecord can fail,
// and with which result.
func TestChecks(t *testing.T) {
	const token = "the-token"
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	good := func() (*response, record) {
		res := &response{status: 200, body: token, fields: http.Header{
			"Server-Request-Count": {"2"}, "Request-Numbers": {"1 2"}, "Server-Now": {"1767323045000"},
			"Server-Base-Url": {"/test/x"}, "A": {" 1", "2 "}, "Age": {"33"}, "Same": {"33"},
			"Date": {at.Format(http.TimeFormat)},
		}}
		rec := record{number: 2, method: "GET", fields: map[string][]string{"If-None-Match": {`"a"`}, "B": {"1", "2"}}}
		return res, rec
	}
	for name, tt := range map[string]struct {
		request string
		change  func(*response, *record)
		want    string // part of the reason; empty means no failure
		class   failureClass
	}{
		"nothing expected":          {`{}`, nil, "", 0},
		"retried":                   {`{"expected_status": 200}`, func(r *response, _ *record) { r.fields.Set("Request-Numbers", "1 2 1") }, "saw the requests 1 2 1", retryFailure},
		"not from the cache":        {`{"expected_type": "cached"}`, nil, "want a stored response, got one for the origin's request 2", testFailure},
		"not from the cache, setup": {`{"expected_type": "cached", "setup_tests": ["expected_type"]}`, nil, "want a stored response", setupFailure},
		"from the cache":            {`{"expected_type": "cached"}`, func(r *response, _ *record) { r.fields.Set("Server-Request-Count", "1") }, "", 0},
		"from nowhere":              {`{"expected_type": "cached"}`, func(r *response, _ *record) { r.fields.Del("Server-Request-Count") }, "(none)", testFailure},
		"the cache's own 304":       {`{"expected_type": "cached", "expected_status": 304}`, func(r *response, _ *record) { *r = response{status: 304} }, "", 0},
		"a 304 of the origin":       {`{"expected_type": "cached", "expected_status": 304}`, func(r *response, _ *record) { r.status = 304 }, "want a stored", testFailure},
		"new":                       {`{"expected_type": "not_cached"}`, nil, "", 0},
		"not new":                   {`{"expected_type": "not_cached"}`, func(r *response, _ *record) { r.fields.Set("Server-Request-Count", "1") }, "want a new response, got one for the origin's request 1", testFailure},
		"newer than it can be":      {`{"expected_type": "not_cached"}`, func(r *response, _ *record) { r.fields.Set("Server-Request-Count", "3") }, "want a new response", testFailure},
		"new without a trace":       {`{"expected_type": "not_cached"}`, func(r *response, _ *record) { r.fields.Del("Server-Request-Count") }, "(none)", testFailure},
		"new but not sent":          {`{"expected_type": "not_cached"}`, func(_ *response, rec *record) { *rec = record{} }, "want it sent", testFailure},
		"validated":                 {`{"expected_type": "etag_validated"}`, nil, "", 0},
		"not validated":             {`{"expected_type": "lm_validated"}`, nil, "want If-Modified-Since sent", testFailure},
		"not validated, 999":        {`{"expected_type": "lm_validated"}`, func(r *response, _ *record) { r.status = 999 }, "want a conditional request", testFailure},
		"validated, not sent":       {`{"expected_type": "etag_validated"}`, func(_ *response, rec *record) { *rec = record{} }, "want If-None-Match sent", testFailure},
		"expected status":           {`{"expected_status": 304}`, nil, "want status 304, got 200", testFailure},
		"expected status, 999":      {`{"expected_status": 304}`, func(r *response, _ *record) { r.status = 999 }, "should have been conditional", testFailure},
		"any status":                {`{"expected_status": null}`, func(r *response, _ *record) { r.status = 502 }, "", 0},
		"listed status":             {`{"response_status": [404, "Not Found"]}`, nil, "want status 404, got 200", setupFailure},
		"default status":            {`{}`, func(r *response, _ *record) { r.status = 404 }, "want status 200, got 404", setupFailure},
		"no response":               {`{}`, func(r *response, _ *record) { *r = response{err: io.ErrUnexpectedEOF} }, "got the error", testFailure},
		"no response, setup":        {`{"setup": true}`, func(r *response, _ *record) { *r = response{err: io.ErrUnexpectedEOF} }, "got the error", setupFailure},
		"no response, type setup":   {`{"expected_type": "cached", "setup_tests": ["expected_type"]}`, func(r *response, _ *record) { *r = response{err: io.ErrUnexpectedEOF} }, "got the error", setupFailure},
		"no response, any status":   {`{"expected_status": null, "check_body": false}`, func(r *response, _ *record) { *r = response{err: io.ErrUnexpectedEOF} }, "", 0},

		"field there":          {`{"expected_response_headers": ["a", ["a", "1, 2"], ["Age", ">", 32], ["age", "=", "same"], ["Date", 0]]}`, nil, "", 0},
		"field missing":        {`{"expected_response_headers": ["warning"]}`, nil, "want warning, got none", testFailure},
		"field value missing":  {`{"expected_response_headers": [["x", "1"]], "setup": true}`, nil, "want x, got none", setupFailure},
		"field value":          {`{"expected_response_headers": [["A", "1"]]}`, nil, `want A: "1", got "1, 2"`, testFailure},
		"field date":           {`{"expected_response_headers": [["Date", 1]]}`, nil, `want Date: "Fri, 02 Jan 2026 03:04:06 GMT"`, testFailure},
		"field location":       {`{"expected_response_headers": [["Location", "y"]], "magic_locations": true}`, func(r *response, _ *record) { r.fields.Set("Location", "/y") }, `want Location: "/test/x/y"`, testFailure},
		"field too small":      {`{"expected_response_headers": [["Age", ">", 33]]}`, nil, "want Age over 33", testFailure},
		"field no number":      {`{"expected_response_headers": [["Date", ">", 33]]}`, nil, "want Date over 33", testFailure},
		"fields differ":        {`{"expected_response_headers": [["Age", "=", "A"]]}`, nil, `want Age: "1, 2" (as in A)`, testFailure},
		"forbidden field":      {`{"expected_response_headers_missing": ["A"]}`, nil, "want no A, got", testFailure},
		"forbidden value":      {`{"expected_response_headers_missing": [["A", "2"]]}`, nil, "want no A 2, got", testFailure},
		"permitted value":      {`{"expected_response_headers_missing": [["A", "3"], ["C", "1"], "D"]}`, nil, "", 0},
		"no interim":           {`{"expected_interim_responses": [[103]]}`, nil, "want 1 interim responses, got 0", testFailure},
		"too many interim":     {`{"expected_interim_responses": []}`, func(r *response, _ *record) { r.interim = []interimResponse{{103, nil}} }, "want 0 interim responses, got 1", testFailure},
		"interim status":       {`{"expected_interim_responses": [[103]]}`, func(r *response, _ *record) { r.interim = []interimResponse{{102, nil}} }, "want status 103, got 102", testFailure},
		"interim field":        {`{"expected_interim_responses": [[103, [["a", "1"]]]]}`, func(r *response, _ *record) { r.interim = []interimResponse{{103, nil}} }, `want a: "1"`, testFailure},
		"body":                 {`{}`, func(r *response, _ *record) { r.body = "other" }, `want the body "the-token", got "other"`, setupFailure},
		"listed body":          {`{"response_body": "x"}`, nil, `want the body "x"`, setupFailure},
		"expected text":        {`{"expected_response_text": "x"}`, nil, `want the body "x"`, testFailure},
		"any text":             {`{"expected_response_text": null}`, func(r *response, _ *record) { r.body = "" }, "", 0},
		"unchecked body":       {`{"check_body": false}`, func(r *response, _ *record) { r.body = "" }, "", 0},
		"no body in a HEAD":    {`{"request_method": "HEAD"}`, func(r *response, _ *record) { r.body = "" }, "", 0},
		"broken body":          {`{"check_body": false}`, func(r *response, _ *record) { r.bodyErr = io.ErrUnexpectedEOF }, "want a whole body", testFailure},
		"request field":        {`{"expected_request_headers": ["B", ["b", "1, 2"]]}`, nil, "", 0},
		"request field value":  {`{"expected_request_headers": [["B", "1"]]}`, nil, `want B: "1" sent to the origin, got "1, 2"`, testFailure},
		"request field none":   {`{"expected_request_headers": ["C"]}`, nil, "want C sent to the origin, got none", testFailure},
		"request without B":    {`{"expected_request_headers_missing": ["B"]}`, nil, "want no B sent", testFailure},
		"request without this": {`{"expected_request_headers_missing": [["B", "1, 2"]]}`, nil, "want no B 1, 2 sent", testFailure},
		"request with another": {`{"expected_request_headers_missing": [["B", "1"], "C"]}`, nil, "", 0},
		"method":               {`{"expected_method": "HEAD"}`, nil, `want method HEAD at the origin, got "GET"`, testFailure},
		"changed on the way":   {`{}`, func(_ *response, rec *record) { rec.checked = []line{{"A", "1"}} }, `want A: "1" as the origin sent it, got "1, 2"`, setupFailure},
		"lost on the way":      {`{}`, func(_ *response, rec *record) { rec.checked = []line{{"Z", ""}} }, "as the origin sent it", setupFailure},
		"unchanged":            {`{}`, func(_ *response, rec *record) { rec.checked = []line{{"a", "1, 2"}} }, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			var r request
			if err := json.Unmarshal([]byte(tt.request), &r); err != nil {
				t.Fatal(err)
			}
			res, rec := good()
			if tt.change != nil {
				tt.change(res, &rec)
			}
			f := checkResponse(&r, 2, token, res)
			if f == nil {
				f = checkRecord(&r, 2, rec, rec.number == 2, res)
			}
			switch {
			case f == nil && tt.want != "":
				t.Errorf("got no failure, want %q", tt.want)
			case f != nil && tt.want == "":
				t.Errorf("got %q, want no failure", f.reason)
			case f != nil && (f.class != tt.class || !strings.Contains(f.reason, tt.want)):
				t.Errorf("got %d, %q, want %d, %q", f.class, f.reason, tt.class, tt.want)
			}
		})
	}
}

func TestParseSuites(t *testing.T) {
	const one = `{"id": "s", "name": "S", "new": 1, "tests": [
		{"id": "a", "requests": [{"unheard_of": true}]},
		{"id": "b", "kind": "check", "browser_only": true, "requests": [{}]},
		{"id": "c", "kind": "check", "cdn_only": true, "requests": [{}]},
		{"id": "d", "kind": "check", "browser_skip": true, "requests": [{}]}]}`
	for name, data := range map[string]string{
		"list":           "\n[" + one + "]",
		"suite":          one,
		"object of list": `{"version": 3, "suites": [` + one + `]}`,
		"object":         `{"date": "today", "s": ` + one + `, "t": {"tests": []}}`,
	} {
		t.Run(name, func(t *testing.T) {
			suites, err := parseSuites([]byte(data))
			if err != nil {
				t.Fatal(err)
			}
			if s := suites[0]; s.ID != "s" || len(s.Tests) != 1 || s.Tests[0].ID != "a" || s.Tests[0].Kind != required {
				t.Errorf("got %+v", s)
			}
		})
	}
	for name, tt := range map[string]struct{ data, want string }{
		"empty":           {``, "unexpected end"},
		"no tests":        {`[]`, "no tests in it"},
		"not JSON":        {`<html>`, "invalid character"},
		"no requests":     {`[{"id": "s", "tests": [{"id": "a"}]}]`, "without id or requests"},
		"two of one name": {`[{"tests": [{"id": "a", "requests": [{}]}, {"id": "a", "requests": [{}]}]}]`, "two tests are called a"},
		"kind":            {`[{"tests": [{"id": "a", "kind": "nice", "requests": [{}]}]}]`, `unknown kind "nice"`},
		"operator":        {`[{"tests": [{"id": "a", "requests": [{"expected_response_headers": [["a", "<", 1]]}]}]}]`, "unknown expectation"},
		"short field":     {`[{"tests": [{"id": "a", "requests": [{"response_headers": [["a"]]}]}]}]`, "1 elements"},
		"value":           {`[{"tests": [{"id": "a", "requests": [{"response_headers": [["a", {}]]}]}]}]`, "neither a string nor an integer"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parseSuites([]byte(tt.data)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got the error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestChoose(t *testing.T) {
	suites, err := parseSuites([]byte(tinySuite))
	if err != nil {
		t.Fatal(err)
	}
	report, run := choose(suites, "reuse", regexp.MustCompile("^(builds|etag)$"))
	if len(report) != 1 || !report["builds"] {
		t.Errorf("to report: %v", report)
	}
	if len(run) != 2 || !run["builds"] || !run["fresh"] {
		t.Errorf("to run: %v", run)
	}
}

func TestJudgeDependencies(t *testing.T) {
	suites, err := parseSuites([]byte(`[{"id": "s", "tests": [
		{"id": "round", "depends_on": ["about"], "requests": [{}]},
		{"id": "about", "depends_on": ["round"], "requests": [{}]},
		{"id": "lost", "depends_on": ["nowhere"], "requests": [{}]},
		{"id": "good", "requests": [{}]},
		{"id": "set", "requests": [{}]},
		{"id": "third", "depends_on": ["good", "set"], "requests": [{}]},
		{"id": "bad", "requests": [{}]}]}]`))
	if err != nil {
		t.Fatal(err)
	}
	report, _ := choose(suites, "", regexp.MustCompile(""))
	outcomes := map[string]outcome{
		"set": {failure: &failure{setupFailure, "so"}},
		"bad": {failure: &failure{testFailure, "so"}},
	}
	results := judge(suites, report, outcomes)
	want := []verdict{dependency, dependency, dependency, pass, setup, dependency, fail}
	for i, r := range results {
		if r.Verdict != want[i] {
			t.Errorf("%s: got %s (%s), want %s", r.ID, r.Verdict, r.Reason, want[i])
		}
	}
	if got := refused(results, nil); !slices.Equal(got, []string{"set", "bad"}) {
		t.Errorf("refused: %q", got)
	}
	if got := refused(results, []string{"bad", "set"}); len(got) > 0 {
		t.Errorf("refused in spite of being allowed: %q", got)
	}
}

func TestResolve(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 999e6, time.UTC)
	for _, tt := range []struct{ field, request, want string }{
		{`["Date", 0]`, `{}`, "Fri, 02 Jan 2026 03:04:05 GMT"},
		{`["expires", 3600]`, `{}`, "Fri, 02 Jan 2026 04:04:05 GMT"},
		{`["If-Modified-Since", -5]`, `{"rfc850date": ["if-modified-since"]}`, "Friday, 02-Jan-26 03:04:00 GMT"},
		{`["Expires", "0"]`, `{}`, "0"},
		{`["Age", 30]`, `{}`, "30"},
		{`["Location", "x"]`, `{}`, "x"},
		{`["Location", "x"]`, `{"magic_locations": true}`, "/test/t/x"},
		{`["content-location", ""]`, `{"magic_locations": true}`, "/test/t"},
	} {
		var f field
		var r request
		if err := json.Unmarshal([]byte(tt.field), &f); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(tt.request), &r); err != nil {
			t.Fatal(err)
		}
		if got := f.resolve(&r, now, "/test/t"); got != tt.want {
			t.Errorf("%s with %s: got %q, want %q", tt.field, tt.request, got, tt.want)
		}
	}
}

func TestNewRequest(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	suites, err := parseSuites([]byte(`[{"tests": [{"id": "i", "name": "N", "requests": [
		{"request_method": "PUT", "request_body": "abc", "filename": "f", "query_arg": "a=b",
		 "request_headers": [["Foo", " 1, 2 "], ["Foo", "3"], ["If-Modified-Since", -5]]},
		{"cache": "no-cache"},
		{"cache": "no-cache", "request_headers": [["cache-control", "min-fresh=1"]]},
		{"cache": "reload"},
		{"magic_ims": true, "request_headers": [["If-Modified-Since", -5]]}]}]}]`))
	if err != nil {
		t.Fatal(err)
	}
	previous := &response{fields: http.Header{"Server-Now": {"1767323000000"}}} // 45 s earlier
	for i, want := range []struct {
		request string
		fields  http.Header
	}{
		{"PUT http://h/test/t/f?a=b", http.Header{"Foo": {"1, 2", "3"}, "If-Modified-Since": {"Fri, 02 Jan 2026 03:04:00 GMT"}, "Req-Num": {"1"}, "Test-Id": {"i"}, "Test-Name": {"N"}}},
		{"GET http://h/test/t", http.Header{"Cache-Control": {"max-age=0"}}},
		{"GET http://h/test/t", http.Header{"Cache-Control": {"min-fresh=1"}, "Req-Num": {"3"}}},
		{"GET http://h/test/t", http.Header{"Cache-Control": {"no-cache"}, "Pragma": {"no-cache"}}},
		{"GET http://h/test/t", http.Header{"If-Modified-Since": {"Fri, 02 Jan 2026 03:03:15 GMT"}}},
	} {
		req, err := newRequest(t.Context(), "http://h", suites[0].Tests[0], i+1, "t", previous, now)
		if err != nil {
			t.Fatal(err)
		}
		if got := req.Method + " " + req.URL.String(); got != want.request {
			t.Errorf("request %d: got %s, want %s", i+1, got, want.request)
		}
		for name, values := range want.fields {
			if got := req.Header.Values(name); !slices.Equal(got, values) {
				t.Errorf("request %d: %s: got %q, want %q", i+1, name, got, values)
			}
		}
	}
}

// TestOrigin shows the bytes that the origin sends.
func TestOrigin(t *testing.T) {
	var r request
	if err := json.Unmarshal([]byte(`{
		"response_headers": [["a", "1"], ["A", "2"], ["ETag", "\"x\"", false], ["date", "foo"], ["content-TYPE", "text/odd"]],
		"interim_responses": [[103, [["link", "</a>"]]]], "response_status": [299, "So it is"]}`), &r); err != nil {
		t.Fatal(err)
	}
	validated := request{ExpectedType: typeETag}
	x := &exchange{token: "t", requests: []request{r, validated, validated}, modified: map[int]string{}}
	ask := func(number string, fields ...string) string {
		req := wireRequest{"GET", "/test/t", map[string][]string{"Req-Num": {number}}}
		for i := 0; i < len(fields); i += 2 {
			req.fields.Add(fields[i], fields[i+1])
		}
		return string(x.answer(req, time.UnixMilli(1767323045123)).encode(req.method))
	}
	got, want := ask("1"), "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"+
		"HTTP/1.1 299 So it is\r\na: 1\r\nA: 2\r\nETag: \"x\"\r\ndate: foo\r\ncontent-TYPE: text/odd\r\n"+
		"Server-Base-Url: /test/t\r\nServer-Request-Count: 1\r\nClient-Request-Count: 1\r\n"+
		"Server-Now: 1767323045123\r\nRequest-Numbers: 1\r\nContent-Length: 1\r\n\r\nt"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if rec, _ := x.last(1); !slices.Equal(rec.checked, []line{{"a", "1, 2"}, {"content-TYPE", "text/odd"}}) {
		t.Errorf("to be checked: %v", rec.checked)
	}
	if got := ask("2", "If-None-Match", `W/"x"`); !strings.HasPrefix(got, "HTTP/1.1 999 304 Not Generated\r\n") {
		t.Errorf("not the validator, got\n%s", got)
	}
	got = ask("2", "If-None-Match", `"x"`)
	if !strings.HasPrefix(got, "HTTP/1.1 304 Not Modified\r\n") || !strings.HasSuffix(got, "\r\n\r\n") || strings.Contains(got, "Content-Length") {
		t.Errorf("the validator, got\n%s", got)
	}
	if !strings.Contains(got, "Request-Numbers: 1 2 2\r\n") || !strings.Contains(got, "Date: Fri, 02 Jan 2026 03:04:05 GMT\r\n") {
		t.Errorf("the third request, got\n%s", got)
	}
	if got := ask("3", "If-None-Match", `"x"`); !strings.HasPrefix(got, "HTTP/1.1 999 ") {
		t.Errorf("not what the previous request object listed, got\n%s", got)
	}
	if got := ask("4"); !strings.HasPrefix(got, "HTTP/1.1 409 Conflict\r\n") {
		t.Errorf("no such request, got\n%s", got)
	}
}

// TestOriginValidates shows which conditions the origin answers with 304: those
// with a validator that the previous request object lists, whether it was sent
// or not.
func TestOriginValidates(t *testing.T) {
	var requests []request
	if err := json.Unmarshal([]byte(`[{"response_headers": [["ETag", "\"a\""], ["Last-Modified", -5]]},
		{"expected_type": "lm_validated", "response_headers": [["ETag", "\"b\""], ["last-modified", "long ago"]]},
		{"expected_type": "etag_validated", "response_headers": [["Last-Modified", -5]]},
		{"expected_type": "lm_validated"}]`), &requests); err != nil {
		t.Fatal(err)
	}
	const five = "Fri, 02 Jan 2026 03:04:00 GMT"
	for _, tt := range []struct {
		number, name, value string
		first               bool // whether the first request was made
		want                int
	}{
		{"2", "If-None-Match", `"a"`, true, 304},
		{"2", "If-None-Match", `"b"`, true, 999},
		{"2", "If-Modified-Since", five, true, 304},
		{"2", "If-Modified-Since", "-5", false, 999},
		{"2", "If-Modified-Since", five, false, 999},
		{"2", "If-None-Match", `"a"`, false, 304},
		{"3", "If-None-Match", `"b"`, true, 304},
		{"3", "If-None-Match", `"a"`, true, 999},
		{"3", "If-Modified-Since", "long ago", true, 304},
		{"4", "If-None-Match", "", true, 999},
		{"4", "If-Modified-Since", "", true, 999},
	} {
		x := &exchange{token: "t", requests: requests, modified: map[int]string{}}
		ask := func(number, name, value string) int {
			fields := map[string][]string{"Req-Num": {number}, name: {value}}
			return x.answer(wireRequest{"GET", "/test/t", fields}, time.UnixMilli(1767323045123)).status.Code
		}
		if tt.first {
			ask("1", "Unconditional", "")
		}
		if got := ask(tt.number, tt.name, tt.value); got != tt.want {
			t.Errorf("%+v: got %d", tt, got)
		}
	}
}

// TestOriginKeepsConnections sends requests with and without bodies over one
// connection, and gets responses with and without bodies.
func TestOriginKeepsConnections(t *testing.T) {
	o, err := newOrigin()
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	x := o.add([]request{{}, {Method: "POST", Body: "abc"}, {Status: &status{204, "No Content"}}, {Method: "HEAD"}, {}})
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	for i, r := range x.requests {
		var body io.Reader
		if r.Body != "" {
			body = io.MultiReader(strings.NewReader(r.Body)) // of unknown length: chunked
		}
		req, err := http.NewRequestWithContext(t.Context(), r.method(), o.base()+"/test/"+x.token, body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := base.RoundTrip(req)
		if err != nil {
			t.Fatalf("request %d: %v", i+1, err)
		}
		if got, err := io.ReadAll(resp.Body); err != nil || (string(got) == x.token) != hasBody(r.method(), resp.StatusCode) {
			t.Errorf("request %d: got the body %q, error %v", i+1, got, err)
		}
		resp.Body.Close()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.conns) != 1 {
		t.Errorf("got %d connections, want 1", len(o.conns))
	}
}

func init() { betweenRequests = 50 * time.Millisecond }

func TestCommand(t *testing.T) {
	data := filepath.Join(t.TempDir(), "tiny.json")
	if err := os.WriteFile(data, []byte(tinySuite), 0o600); err != nil {
		t.Fatal(err)
	}
	environment := func(string) string { return data }
	empty := func(string) string { return "" }
	for name, tt := range map[string]struct {
		args           []string
		getenv         func(string) string
		want           int
		stdout, stderr string
	}{
		"passes":         {[]string{"-run", "^(stale|ill)$"}, environment, 0, "total       2/2", ""},
		"fails":          {[]string{"-run", "^etag$"}, environment, 1, "fail: rest/etag (required)\n    validates\n    request 2: want a conditional request", "not passed: etag"},
		"is tolerated":   {[]string{"-run", "^etag$", "-allow", "x,etag"}, environment, 0, "fail: rest/etag", ""},
		"no verdict":     {[]string{"-run", "^grounds$"}, environment, 1, "setup: reuse/grounds", "not passed: grounds"},
		"names a reason": {[]string{"-suite", "reuse", "-run", "builds", "-v"}, environment, 0, "builds on fresh (missed)", ""},
		"shows more":     {[]string{"-run", "^(stale|etag)$", "-v", "-data", data, "-allow", "etag"}, empty, 0, "        > GET /test/", ""},
		"speaks JSON":    {[]string{"-run", "^stale$", "-json"}, environment, 0, `"verdict": "pass"`, ""},
		"no data":        {nil, empty, 2, "", "https://github.com/http-tests/cache-tests"},
		"no such file":   {[]string{"-data", data + "x"}, empty, 2, "", "no such file"},
		"no such test":   {[]string{"-run", "^nothing$"}, environment, 2, "", "no test is called so"},
		"no pattern":     {[]string{"-run", "("}, environment, 2, "", "-run:"},
		"no subject":     {[]string{"-subject", "magic"}, environment, 2, "", "not known"},
		"no flag":        {[]string{"-what"}, environment, 2, "", "not defined"},
		"an argument":    {[]string{"what"}, environment, 2, "", "unexpected argument"},
		"help":           {[]string{"-help"}, environment, 0, "", "cannot pass in Go. In headers-store-Transfer-Encoding"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr strings.Builder
			got := run(t.Context(), append([]string{"-subject", "none"}, tt.args...), tt.getenv, &stdout, &stderr)
			if got != tt.want || !strings.Contains(stdout.String(), tt.stdout) || !strings.Contains(stderr.String(), tt.stderr) {
				t.Errorf("got exit status %d, want %d\n%s\n%s", got, tt.want, &stdout, &stderr)
			}
		})
	}
}

func TestDeclined(t *testing.T) {
	const suites = `[{"id": "vary", "tests": [
	 {"id": "vary-normalise-lang-order", "name": "selects by order", "kind": "optimal", "requests": [
	  {"request_headers": [["Accept-Language", "en, de"]], "response_headers": [["Cache-Control", "max-age=5000"], ["Vary", "Accept-Language"]], "setup": true, "pause_after": true},
	  {"request_headers": [["Accept-Language", "de, en"]], "expected_type": "cached"}]}
	]}]`
	data := filepath.Join(t.TempDir(), "suite.json")
	if err := os.WriteFile(data, []byte(suites), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{"memory", "none"} {
		t.Run(subject, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), []string{"-data", data, "-subject", subject}, os.Getenv, &stdout, &stderr); code != 0 {
				t.Errorf("exit status %d: %s", code, stderr.String())
			}
			if !strings.Contains(stdout.String(), "missed: vary/vary-normalise-lang-order") {
				t.Errorf("not missed:\n%s", stdout.String())
			}
			if want := subject != "none"; strings.Contains(stdout.String(), "declined: "+declined["vary-normalise-lang-order"]) != want {
				t.Errorf("declined, want %t:\n%s", want, stdout.String())
			}
		})
	}
	documented, err := os.ReadFile("../docs/rfc9111.md")
	if err != nil {
		t.Fatal(err)
	}
	for id := range declined {
		if !strings.Contains(string(documented), "`"+id+"` of the public suite") {
			t.Errorf("docs/rfc9111.md does not say why %s is declined", id)
		}
	}
}
