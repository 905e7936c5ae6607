package cachetrip

import (
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cachetrip/cachetrip/internal/field"
	"github.com/cachetrip/cachetrip/internal/span"
)

// Helpers for the tests of the rules: a moment, and requests and responses made
// of header lines.

// noon is the time when the responses of the tests were received.
var noon = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// httpDate returns the date so long after noon.
func httpDate(after time.Duration) string { return noon.Add(after).Format(http.TimeFormat) }

// headerOf makes a header of "Name: value" lines.
func headerOf(lines ...string) http.Header {
	h := make(http.Header)
	for _, line := range lines {
		name, value, found := strings.Cut(line, ":")
		if !found {
			panic("no header line: " + line)
		}
		h.Add(name, strings.TrimSpace(value))
	}
	return h
}

// asking returns a request with the given header lines.
func asking(method string, lines ...string) *request {
	req := newRequest(method, headerOf(lines...), nil, digester("a secret of the tests"))
	return &req
}

// answering returns a complete response of 10 bytes to a GET without any
// fields, received at noon, with the given header lines.
func answering(lines ...string) response {
	h := headerOf(lines...)
	return response{
		status: http.StatusOK, header: h, cc: field.ParseCacheControl(h["Cache-Control"]),
		requested: noon, received: noon, length: 10, held: []span.Span{span.Of(0, 10)},
	}
}

// changed returns r after change.
func changed(r response, change func(*response)) response {
	change(&r)
	return r
}

// diffRules compares values of the types that the rules deal in.
func diffRules(got, want any) string {
	return cmp.Diff(got, want, cmp.AllowUnexported(response{}, decision{}, admission{}, conditions{}), cmpopts.EquateEmpty())
}

func TestAge(t *testing.T) {
	tests := []struct {
		name string
		r    response
		now  time.Duration // after noon
		want time.Duration
	}{
		{"nothing is known but when it came", answering(), 5 * time.Second, 5 * time.Second},
		{"received now", answering("Date: " + httpDate(0)), 0, 0},
		{"the apparent age counts", answering("Date: " + httpDate(-30*time.Second)), time.Second, 31 * time.Second},
		{"an origin whose clock is ahead", answering("Date: " + httpDate(time.Hour)), time.Second, time.Second},
		{"Age counts", answering("Age: 100"), time.Second, 101 * time.Second},
		{"Age counts from when the request was made", changed(answering("Age: 100"), func(r *response) {
			r.requested = noon.Add(-7 * time.Second)
		}), time.Second, 108 * time.Second},
		{"the delay of the answer counts without Age", changed(answering(), func(r *response) {
			r.requested = noon.Add(-7 * time.Second)
		}), time.Second, 8 * time.Second},
		{"a clock that was set back during the request", changed(answering("Age: 100"), func(r *response) {
			r.requested = noon.Add(time.Hour)
		}), 0, 100 * time.Second},
		{"the greater of apparent and corrected age", answering("Age: 10", "Date: "+httpDate(-30*time.Second)), 0, 30 * time.Second},
		{"the greater of corrected and apparent age", answering("Age: 30", "Date: "+httpDate(-10*time.Second)), 0, 30 * time.Second},
		{"first member of Age", answering("Age: 7, 100"), 0, 7 * time.Second},
		{"first line of Age", answering("Age: 7", "Age: 100"), 0, 7 * time.Second},
		{"an invalid Age is ignored", answering("Age: -7"), 0, 0},
		{"an Age with a fraction is ignored", answering("Age: 7.5"), 0, 0},
		{"an Age that starts with nonsense is ignored", answering("Age: old, 7"), 0, 0},
		{"an Age too large for an integer", answering("Age: 99999999999999999999"), 0, forever},
		{"an invalid Date is none", answering("Date: yesterday"), 5 * time.Second, 5 * time.Second},
		{"the clock was set back by a little", answering("Age: 10"), -30 * time.Second, 10 * time.Second},
		{"the clock was set back by what is tolerated", answering("Age: 10"), -clockSlack, 10 * time.Second},
		{"the clock was set back by more", answering("Age: 10"), -clockSlack - 1, forever},
		{"a Date before all centuries", answering("Date: Mon, 01 Jan 0001 00:00:00 GMT"), time.Hour, forever},
		{"all there is, and more", changed(answering("Age: 2147483648", "Date: Mon, 01 Jan 0001 00:00:00 GMT"), func(r *response) {
			r.requested = time.Time{}
		}), math.MaxInt64, forever},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.r.age(noon.Add(test.now)), test.want); diff != "" {
				t.Errorf("age (-got +want):\n%s", diff)
			}
		})
	}
}

func TestLifetime(t *testing.T) {
	const day = 24 * time.Hour
	tests := []struct {
		name  string
		lines []string
		want  time.Duration
	}{
		{"nothing said", nil, 0},
		{"max-age", []string{"Cache-Control: max-age=60"}, time.Minute},
		{"max-age before Expires", []string{"Cache-Control: max-age=60", "Expires: " + httpDate(time.Hour)}, time.Minute},
		{"max-age=0 before Expires", []string{"Cache-Control: max-age=0", "Expires: " + httpDate(time.Hour)}, 0},
		{"invalid max-age before Expires", []string{"Cache-Control: max-age=1m", "Expires: " + httpDate(time.Hour)}, 0},
		{"max-age without a value", []string{"Cache-Control: max-age", "Expires: " + httpDate(time.Hour)}, 0},
		{"max-age after a blank", []string{"Cache-Control: max-age =60"}, 0},
		{"max-age before a blank", []string{"Cache-Control: max-age= 60"}, 0},
		{"negative max-age", []string{"Cache-Control: max-age=-60"}, 0},
		{"max-age with a fraction", []string{"Cache-Control: max-age=60.0"}, 0},
		{"max-age in any letter case", []string{"cache-control: MaX-aGe=60"}, time.Minute},
		{"max-age in quotes", []string{`Cache-Control: max-age="60"`}, time.Minute},
		{"max-age within another directive's quotes", []string{`Cache-Control: ext="max-age=60, b", max-age=10`}, 10 * time.Second},
		{"max-age only within another directive's quotes", []string{`Cache-Control: ext="max-age=60"`}, 0},
		{"max-age as the end of another name", []string{"Cache-Control: x-max-age=60"}, 0},
		{"two values of max-age: the lesser", []string{"Cache-Control: max-age=60, max-age=10"}, 10 * time.Second},
		{"two values on two lines: the lesser", []string{"Cache-Control: max-age=10", "Cache-Control: max-age=60"}, 10 * time.Second},
		{"a good value and nonsense", []string{"Cache-Control: max-age=60, max-age=x"}, 0},
		{"the second line counts", []string{"Cache-Control: public", "Cache-Control: max-age=60"}, time.Minute},
		{"max-age larger than can be counted", []string{"Cache-Control: max-age=999999999999999999999"}, forever},
		{"s-maxage is for shared caches", []string{"Cache-Control: s-maxage=60"}, 0},
		{"s-maxage does not override in a private cache", []string{"Cache-Control: s-maxage=60, max-age=10"}, 10 * time.Second},

		{"Expires less Date", []string{"Expires: " + httpDate(time.Minute), "Date: " + httpDate(-time.Minute)}, 2 * time.Minute},
		{"Expires less when it came, without Date", []string{"Expires: " + httpDate(time.Minute)}, time.Minute},
		{"Expires less when it came, with an invalid Date", []string{"Expires: " + httpDate(time.Minute), "Date: now"}, time.Minute},
		{"Expires before Date", []string{"Expires: " + httpDate(-time.Minute), "Date: " + httpDate(0)}, 0},
		{"Expires: 0", []string{"Expires: 0", "Last-Modified: " + httpDate(-10*day)}, 0},
		{"empty Expires", []string{"Expires:", "Last-Modified: " + httpDate(-10*day)}, 0},
		{"Expires on two lines", []string{"Expires: " + httpDate(time.Minute), "Expires: " + httpDate(time.Minute)}, 0},
		{"Expires in another zone", []string{"Expires: Sun, 01 Mar 2026 13:00:00 CET"}, 0},
		{"Expires in UTC is not in GMT", []string{"Expires: Sun, 01 Mar 2026 13:00:00 UTC"}, 0},
		{"Expires in another letter case", []string{"Expires: sun, 01 MAR 2026 13:00:00 gmt"}, time.Hour},
		{"Expires as of RFC 850", []string{"Expires: Sunday, 01-Mar-26 13:00:00 GMT"}, time.Hour},
		{"Expires as of asctime", []string{"Expires: Sun Mar  1 13:00:00 2026"}, time.Hour},
		{"Expires at the end of time", []string{"Expires: Fri, 31 Dec 9999 23:59:59 GMT", "Date: Mon, 01 Jan 0001 00:00:00 GMT"}, forever},

		{"a tenth of the time since the last modification", []string{"Last-Modified: " + httpDate(-10*day)}, day},
		{"measured from Date", []string{"Last-Modified: " + httpDate(-20*day), "Date: " + httpDate(-10*day)}, day},
		{"measured from when it came, if Date is later", []string{"Last-Modified: " + httpDate(-10*day), "Date: " + httpDate(365*day)}, day},
		{"measured from when it came, if Date is far off", []string{"Last-Modified: " + httpDate(-10*day), "Date: Wed, 01 Jan 2070 00:00:00 GMT"}, day},
		{"modified after it came, as it seems, but before Date", []string{"Last-Modified: " + httpDate(day), "Date: " + httpDate(20*day)}, 0},
		{"a week at most", []string{"Last-Modified: " + httpDate(-70*day)}, 7 * day},
		{"a week, if modified a year ago", []string{"Last-Modified: " + httpDate(-365*day)}, 7 * day},
		{"a second less than a week", []string{"Last-Modified: " + httpDate(-70*day+10*time.Second)}, 7*day - time.Second},
		{"modified at the beginning of Unix time", []string{"Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT"}, 0},
		{"modified at the beginning of DOS time", []string{"Last-Modified: Tue, 01 Jan 1980 00:00:00 GMT"}, 0},
		{"modified at the beginning of DOS time, in another zone", []string{"Last-Modified: Tue, 01 Jan 1980 23:59:59 GMT"}, 0},
		{"modified a day after that", []string{"Last-Modified: Wed, 02 Jan 1980 00:00:00 GMT"}, 7 * day},
		{"modified before all dates", []string{"Last-Modified: Mon, 01 Jan 0001 00:00:00 GMT"}, 0},
		{"modified in the future", []string{"Last-Modified: " + httpDate(day)}, 0},
		{"modified at an invalid time", []string{"Last-Modified: " + httpDate(-10*day) + "0"}, 0},
		{"no heuristics beside semicolons", []string{"Cache-Control: no-cache; private; no-store", "Last-Modified: " + httpDate(-10*day)}, 0},
		{"no heuristics beside a malformed max-age", []string{"Cache-Control: no-store; max-age=0", "Last-Modified: " + httpDate(-10*day)}, 0},
		{"no heuristics beside blanks", []string{"Cache-Control: no-cache no-store", "Last-Modified: " + httpDate(-10*day)}, 0},
		{"no heuristics beside what can't be read", []string{"Cache-Control: {cache: never}", "Last-Modified: " + httpDate(-10*day)}, 0},
		{"no heuristics beside what can't be read, though public", []string{"Cache-Control: public, <never>", "Last-Modified: " + httpDate(-10*day)}, 0},
		{"heuristics beside an unknown directive", []string{"Cache-Control: community=UCI", "Last-Modified: " + httpDate(-10*day)}, day},
		{"heuristics beside empty members", []string{"Cache-Control: ,, ", "Last-Modified: " + httpDate(-10*day)}, day},
		{"Expires beside a malformed max-age", []string{"Cache-Control: max-age:60", "Expires: " + httpDate(time.Hour)}, 0},
		{"Expires beside what can't be read", []string{"Cache-Control: <x>", "Expires: " + httpDate(time.Hour)}, time.Hour},
		{"no heuristics beside an invalid max-age", []string{"Cache-Control: max-age=x", "Last-Modified: " + httpDate(-10*day)}, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := answering(test.lines...)
			if diff := cmp.Diff(r.lifetime(), test.want); diff != "" {
				t.Errorf("lifetime (-got +want):\n%s", diff)
			}
		})
	}
}

func TestHeuristicsOnlyWhereAllowed(t *testing.T) {
	allowed := map[int]bool{
		200: true, 203: true, 204: true, 206: true, 300: true, 301: true, 308: true,
		404: true, 405: true, 410: true, 414: true, 501: true,
	}
	for status := 200; status < 600; status++ {
		for _, directive := range []string{"", "public", "private", "must-revalidate"} {
			r := answering("Last-Modified: "+httpDate(-10*time.Hour), "Cache-Control: "+directive)
			r.status = status
			var want time.Duration
			if allowed[status] || directive == "public" {
				want = time.Hour
			}
			if got := r.lifetime(); got != want {
				t.Errorf("lifetime of a %d with %q: got %v, want %v", status, directive, got, want)
			}
		}
	}
}

func TestComplete(t *testing.T) {
	tests := []struct {
		name string
		r    response
		want bool
	}{
		{"all", response{length: 10, held: []span.Span{span.Of(0, 10)}}, true},
		{"nothing of nothing", response{length: 0}, true},
		{"nothing of something", response{length: 10}, false},
		{"the beginning", response{length: 10, held: []span.Span{span.Of(0, 9)}}, false},
		{"the end", response{length: 10, held: []span.Span{span.Of(1, 10)}}, false},
		{"both ends", response{length: 10, held: []span.Span{span.Of(0, 4), span.Of(5, 10)}}, false},
		{"who knows of how much", response{length: -1, held: []span.Span{span.Of(0, 10)}}, false},
		{"a head of nothing", response{length: 0, headOnly: true}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.r.complete(); got != test.want {
				t.Errorf("complete: got %t, want %t", got, test.want)
			}
		})
	}
}

func TestStaleOnError(t *testing.T) {
	const max = "Cache-Control: max-age=60"
	tests := []struct {
		name  string
		req   *request
		r     response
		grace time.Duration
		age   time.Duration
		want  bool
	}{
		{"not allowed", asking("GET"), answering(max), 0, 61 * time.Second, false},
		{"allowed by the response", asking("GET"), answering(max + ", stale-if-error=10"), 0, 70 * time.Second, true},
		{"allowed, but not for so long", asking("GET"), answering(max + ", stale-if-error=10"), 0, 71 * time.Second, false},
		{"allowed by the request", asking("GET", "Cache-Control: stale-if-error=10"), answering(max), 0, 70 * time.Second, true},
		{"allowed by the request, but not for so long", asking("GET", "Cache-Control: stale-if-error=10"), answering(max), 0, 71 * time.Second, false},
		{"allowed for no time", asking("GET"), answering(max + ", stale-if-error=0"), 0, 61 * time.Second, false},
		{"allowed for an unreadable time", asking("GET"), answering(max + ", stale-if-error=ever"), 0, 61 * time.Second, false},
		{"a fresh response whose use the request had ruled out", asking("GET", "Cache-Control: max-age=1, stale-if-error=10"), answering(max), 0, 50 * time.Second, true},
		{"allowed by the owner of the cache", asking("GET"), answering(max), 10 * time.Second, 70 * time.Second, true},
		{"allowed by the owner, but not for so long", asking("GET"), answering(max), 10 * time.Second, 71 * time.Second, false},
		{"the owner allows more than the response", asking("GET"), answering(max + ", stale-if-error=1"), time.Hour, 71 * time.Second, true},
		{"the response allows more than the owner", asking("GET"), answering(max + ", stale-if-error=3600"), time.Second, 71 * time.Second, true},
		{"forbidden by must-revalidate", asking("GET"), answering(max + ", must-revalidate, stale-if-error=10"), time.Hour, 61 * time.Second, false},
		{"forbidden by no-cache", asking("GET"), answering(max + ", no-cache, stale-if-error=10"), time.Hour, 61 * time.Second, false},
		{"qualified no-cache concerns its fields only", asking("GET"), answering(max + `, no-cache="Set-Cookie", stale-if-error=10`), 0, 61 * time.Second, true},
		{"forbidden by the request's no-cache", asking("GET", "Cache-Control: no-cache"), answering(max + ", stale-if-error=10"), time.Hour, 61 * time.Second, false},
		{"what was invalidated is not used", asking("GET"), changed(answering(max+", stale-if-error=10"), func(r *response) { r.invalidatedAt = noon }), time.Hour, 0, false},
		{"what others may have been given is not used", asking("GET"), changed(answering(max+", stale-if-error=10"), func(r *response) { r.foreign = true }), time.Hour, 0, false},
		{"a part is not used for the whole", asking("GET"), changed(answering(max+", stale-if-error=10"), func(r *response) { r.held = []span.Span{span.Of(0, 5)} }), time.Hour, 0, false},
		{"a part is used for what it holds", asking("GET", "Range: bytes=0-4"), changed(answering(max+", stale-if-error=10"), func(r *response) { r.held = []span.Span{span.Of(0, 5)} }), time.Hour, 0, true},
		{"a head is used for a HEAD", asking("HEAD"), changed(answering(max+", stale-if-error=10"), func(r *response) { r.headOnly, r.held = true, nil }), 0, 61 * time.Second, true},
		{"proxy-revalidate and s-maxage do not concern a private cache", asking("GET"), answering(max + ", proxy-revalidate, s-maxage=1, stale-if-error=10"), 0, 61 * time.Second, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := staleOnError(noon.Add(test.age), test.req, &test.r, test.grace, 0); got != test.want {
				t.Errorf("staleOnError: got %t, want %t", got, test.want)
			}
		})
	}
}
