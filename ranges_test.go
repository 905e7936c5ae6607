package cachetrip

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/internal/span"
	"github.com/google/go-cmp/cmp"
)

func TestParseRanges(t *testing.T) {
	type result struct {
		Spans []span.Span
		OK    bool
	}
	is := func(spans ...span.Span) result { return result{spans, true} }
	malformed := result{}
	tests := []struct {
		value  string
		length int64
		want   result
	}{
		// The examples of RFC 9110, section 14.1.2.
		{"bytes=0-499", 10000, is(span.Of(0, 500))},
		{"bytes=500-999", 10000, is(span.Of(500, 1000))},
		{"bytes=-500", 10000, is(span.Of(9500, 10000))},
		{"bytes=9500-", 10000, is(span.Of(9500, 10000))},
		{"bytes=0-0,-1", 10000, is(span.Of(0, 1), span.Of(9999, 10000))},
		{"bytes= 0-999, 4500-5499, -1000", 10000, is(span.Of(0, 1000), span.Of(4500, 5500), span.Of(9000, 10000))},
		{"bytes=500-600,601-999", 10000, is(span.Of(500, 601), span.Of(601, 1000))},
		{"bytes=500-700,601-999", 10000, is(span.Of(500, 701), span.Of(601, 1000))},

		{"bytes=0-", 10, is(span.Of(0, 10))},
		{"bytes=0-99", 10, is(span.Of(0, 10))},
		{"bytes=9-9", 10, is(span.Of(9, 10))},
		{"bytes=-99", 10, is(span.Of(0, 10))},
		{"BYTES=0-1", 10, is(span.Of(0, 2))},
		{"bytes=5-6,1-2", 10, is(span.Of(5, 7), span.Of(1, 3))},
		{"bytes=,0-1,,\t2-3 ,", 10, is(span.Of(0, 2), span.Of(2, 4))},
		{"bytes=00-01", 10, is(span.Of(0, 2))},

		{"bytes=10-", 10, is()},
		{"bytes=10-20", 10, is()},
		{"bytes=10-20,0-0", 10, is(span.Of(0, 1))},
		{"bytes=0-", 0, is()},

		// Servers read these differently, net/http wrongly: the origin is to answer.
		{"bytes=0-18446744073709551616", 10, malformed},
		{"bytes=-18446744073709551616", 10, malformed},
		{"bytes=18446744073709551616-", 10, malformed},
		{"bytes=-0", 10, malformed},
		{"bytes=0-1,-0", 10, malformed},
		{"bytes=-1", 0, malformed},

		{"bytes=0-4", -1, is(span.Of(0, 5))},
		{"bytes=5-6,0-1", -1, is(span.Of(5, 7), span.Of(0, 2))},
		{"bytes=0-", -1, malformed},
		{"bytes=-1", -1, malformed},
		{"bytes=0-1,-1", -1, malformed},

		{"", 10, malformed},
		{"bytes", 10, malformed},
		{"bytes=", 10, malformed},
		{"bytes=,", 10, malformed},
		{"bytes=-", 10, malformed},
		{"bytes=0", 10, malformed},
		{"bytes=1-0", 10, malformed},
		{"bytes=0-1,x", 10, malformed},
		{"bytes=0-1-2", 10, malformed},
		{"bytes=--1", 10, malformed},
		{"bytes=+0-1", 10, malformed},
		{"bytes=0 -1", 10, malformed},
		{"bytes=0x1-2", 10, malformed},
		{"bytes=٠-1", 10, malformed},
		{"bytes=18446744073709551616x-", 10, malformed},
		{"bytes =0-1", 10, malformed},
		{"lines=0-1", 10, malformed},
		{"0-1", 10, malformed},
		{"bytes=" + strings.Repeat("0-0,", maxSpans-1) + "1-1", 10, is(append(repeated(span.Of(0, 1), maxSpans-1), span.Of(1, 2))...)},
		{"bytes=" + strings.Repeat("0-0,", maxSpans) + "1-1", 10, malformed},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("%.40s of %d", test.value, test.length), func(t *testing.T) {
			var got result
			if got.Spans, got.OK = parseRanges(test.value, test.length); !got.OK {
				got.Spans = nil // means nothing then
			}
			if diff := diffRules(got, test.want); diff != "" {
				t.Errorf("parseRanges (-got +want):\n%s", diff)
			}
		})
	}
}

func repeated(s span.Span, n int) []span.Span {
	spans := make([]span.Span, n)
	for i := range spans {
		spans[i] = s
	}
	return spans
}

func TestRanges(t *testing.T) {
	type result struct {
		Answer rangeAnswer
		Spans  []span.Span
	}
	tagged := answering(`ETag: "a"`, modifiedNow, "Date: "+httpDate(0))
	holding := func(r response, spans ...span.Span) response { r.held = spans; return r }
	of := func(length int64, r response) response { r.length = length; return r }
	part := holding(tagged, span.Of(2, 6))
	parts := holding(tagged, span.Of(0, 2), span.Of(4, 10))
	unknown := of(-1, holding(tagged, span.Of(0, 5)))
	empty := of(0, holding(tagged))
	whole, origins, unsatisfiable := result{wholeAnswer, nil}, result{originsAnswer, nil}, result{noneAnswer, nil}
	is := func(spans ...span.Span) result { return result{spansAnswer, spans} }
	ask := func(lines ...string) *request { return asking("GET", lines...) }
	tests := []struct {
		name string
		req  *request
		r    response
		want result
	}{
		{"no range, all held", ask(), tagged, whole},
		{"no range, a part held", ask(), part, origins},
		{"one range", ask("Range: bytes=1-3"), tagged, is(span.Of(1, 4))},
		{"several ranges, as asked for", ask("Range: bytes=5-6,1-2"), tagged, is(span.Of(5, 7), span.Of(1, 3))},
		{"several, of which some can't be satisfied", ask("Range: bytes=10-,1-2"), tagged, is(span.Of(1, 3))},
		{"overlapping, but worth it", ask("Range: bytes=0-3,2-4"), tagged, is(span.Of(0, 4), span.Of(2, 5))},
		{"overlapping, and more than all", ask("Range: bytes=0-,0-"), tagged, whole},
		{"overlapping, and more than is held", ask("Range: bytes=4-9,4-9"), parts, origins},
		{"none that can be satisfied", ask("Range: bytes=10-"), tagged, unsatisfiable},
		{"none that can be satisfied, of a part", ask("Range: bytes=10-"), part, unsatisfiable},
		{"of nothing", ask("Range: bytes=0-"), empty, whole},
		{"the end of nothing", ask("Range: bytes=-5"), empty, origins},
		{"malformed", ask("Range: bytes=5-1"), tagged, origins},
		{"another unit", ask("Range: lines=0-1"), tagged, origins},
		{"two fields", ask("Range: bytes=0-1", "Range: bytes=2-3"), tagged, origins},
		{"decompressed", ask("Range: bytes=0-1"), changed(tagged, func(r *response) { r.uncompressed = true }), origins},
		{"for a HEAD it means nothing", asking("HEAD", "Range: bytes=0-1"), tagged, whole},
		{"for another status it means nothing", ask("Range: bytes=0-1"), changed(tagged, func(r *response) { r.status = 404 }), whole},

		{"within a part", ask("Range: bytes=2-5"), part, is(span.Of(2, 6))},
		{"before a part", ask("Range: bytes=1-5"), part, origins},
		{"beyond a part", ask("Range: bytes=2-6"), part, origins},
		{"within two parts", ask("Range: bytes=0-1,-6"), parts, is(span.Of(0, 2), span.Of(4, 10))},
		{"across a gap", ask("Range: bytes=1-4"), parts, origins},
		{"one within, one not", ask("Range: bytes=0-1,2-4"), parts, origins},

		{"of unknown length", ask("Range: bytes=1-4"), unknown, is(span.Of(1, 5))},
		{"of unknown length, beyond", ask("Range: bytes=1-5"), unknown, origins},
		{"of unknown length, to the end", ask("Range: bytes=1-"), unknown, origins},
		{"of unknown length, from the end", ask("Range: bytes=-1"), unknown, origins},
		{"of unknown length, several", ask("Range: bytes=0-1,2-3"), unknown, origins},

		{"if it is still that tag", ask("Range: bytes=0-1", `If-Range: "a"`), tagged, is(span.Of(0, 2))},
		{"if it is still another tag", ask("Range: bytes=0-1", `If-Range: "b"`), tagged, whole},
		{"if it is still another tag, of a part", ask("Range: bytes=2-3", `If-Range: "b"`), part, origins},
		{"if it is still that tag, weakly", ask("Range: bytes=0-1", `If-Range: W/"a"`), tagged, whole},
		{"if it is still a weak tag", ask("Range: bytes=0-1", `If-Range: W/"a"`), answering(`ETag: W/"a"`), whole},
		{"if it is still that date", ask("Range: bytes=0-1", "If-Range: "+httpDate(-time.Hour)), tagged, is(span.Of(0, 2))},
		{"if it is still a later date", ask("Range: bytes=0-1", "If-Range: "+httpDate(0)), tagged, whole},
		{"if it is still that date in another format", ask("Range: bytes=0-1", "If-Range: Sunday, 01-Mar-26 11:00:00 GMT"), tagged, whole},
		{"if it is still a date that a change may have kept", ask("Range: bytes=0-1", "If-Range: "+httpDate(-time.Hour)), answering(modifiedNow, "Date: "+httpDate(-time.Hour)), whole},
		{"if it is still two things", ask("Range: bytes=0-1", `If-Range: "a"`, `If-Range: "a"`), tagged, whole},
		{"if it is still nothing", ask("Range: bytes=0-1", "If-Range:"), answering(), whole},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got result
			got.Answer, got.Spans = test.r.ranges(test.req)
			if diff := diffRules(got, test.want); diff != "" {
				t.Errorf("ranges (-got +want):\n%s", diff)
			}
			if covers := test.r.covers(test.req); covers != (test.want.Answer != originsAnswer) {
				t.Errorf("covers: got %t", covers)
			}
		})
	}
}

func TestContentRange(t *testing.T) {
	type result struct {
		Span   span.Span
		Length int64
		OK     bool
	}
	tests := []struct {
		name  string
		lines []string
		want  result
	}{
		{"some", []string{"Content-Range: bytes 42-1233/1234"}, result{span.Of(42, 1234), 1234, true}},
		{"of unknown length", []string{"Content-Range: bytes 42-1233/*"}, result{span.Of(42, 1234), -1, true}},
		{"one byte", []string{"Content-Range: bytes 0-0/1"}, result{span.Of(0, 1), 1, true}},
		{"unit in another letter case", []string{"Content-Range: Bytes 0-0/1"}, result{span.Of(0, 1), 1, true}},
		{"none", nil, result{}},
		{"two", []string{"Content-Range: bytes 0-0/2", "Content-Range: bytes 0-0/2"}, result{}},
		{"of several parts", []string{"Content-Range: bytes 0-0/2", "Content-Type: Multipart/ByteRanges; boundary=x"}, result{}},
		{"another unit", []string{"Content-Range: lines 0-0/2"}, result{}},
		{"no unit", []string{"Content-Range: 0-0/2"}, result{}},
		{"unsatisfied", []string{"Content-Range: bytes */1234"}, result{}},
		{"last before first", []string{"Content-Range: bytes 5-4/10"}, result{}},
		{"last beyond the end", []string{"Content-Range: bytes 5-10/10"}, result{}},
		{"of no length", []string{"Content-Range: bytes 0-4"}, result{}},
		{"of an empty length", []string{"Content-Range: bytes 0-4/"}, result{}},
		{"negative", []string{"Content-Range: bytes -4-4/10"}, result{}},
		{"no first", []string{"Content-Range: bytes -4/10"}, result{}},
		{"no last", []string{"Content-Range: bytes 4-/10"}, result{}},
		{"a list", []string{"Content-Range: bytes 0-4/10, bytes 5-9/10"}, result{}},
		{"with white space", []string{"Content-Range: bytes  0-4/10"}, result{}},
		{"beyond what can be counted", []string{"Content-Range: bytes 18446744073709551615-18446744073709551616/18446744073709551617"}, result{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got result
			got.Span, got.Length, got.OK = contentRange(headerOf(test.lines...))
			if diff := diffRules(got, test.want); diff != "" {
				t.Errorf("contentRange (-got +want):\n%s", diff)
			}
			if got.OK {
				again := http.Header{"Content-Range": {got.Span.ContentRange(got.Length)}}
				if s, length, ok := contentRange(again); s != got.Span || length != got.Length || !ok {
					t.Errorf("ContentRange: got %q for %+v", again.Get("Content-Range"), got)
				}
			}
		})
	}
}

func TestContinuable(t *testing.T) {
	tagged := answering(`ETag: "a"`)
	dated := answering(modifiedNow, "Date: "+httpDate(0))
	tests := []struct {
		name string
		r    response
		want http.Header // of the request for the rest; nil: none is to be made
	}{
		{"a strong tag", tagged, headerOf("Range: bytes=5-", `If-Range: "a"`)},
		{"a strong date", dated, headerOf("Range: bytes=5-", "If-Range: "+httpDate(-time.Hour))},
		{"ranges are accepted", answering(`ETag: "a"`, "Accept-Ranges: bytes"), headerOf("Range: bytes=5-", `If-Range: "a"`)},
		{"ranges are not", answering(`ETag: "a"`, "Accept-Ranges: None"), nil},
		{"no validator", answering(), nil},
		{"a weak tag", answering(`ETag: W/"a"`, modifiedNow, "Date: "+httpDate(0)), nil},
		{"a weak date", answering(modifiedNow, "Date: "+httpDate(-time.Hour)), nil},
		{"decompressed", changed(tagged, func(r *response) { r.uncompressed = true }), nil},
		{"another status", changed(tagged, func(r *response) { r.status = 404 }), nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.r.continuable(); got != (test.want != nil) {
				t.Fatalf("continuable: got %t", got)
			}
			if test.want == nil {
				return
			}
			h := make(http.Header)
			test.r.askFor(span.Of(5, 10), h)
			if diff := cmp.Diff(h, test.want); diff != "" {
				t.Errorf("askFor (-got +want):\n%s", diff)
			}
			test.want["Range"] = []string{"bytes=5-8"}
			test.r.askFor(span.Of(5, 9), h)
			if diff := cmp.Diff(h, test.want); diff != "" {
				t.Errorf("askFor what does not reach the end (-got +want):\n%s", diff)
			}
		})
	}
}

func TestContinues(t *testing.T) {
	date := "Date: " + httpDate(0)
	tagged := answering(`ETag: "a"`, modifiedNow, date)
	dated := answering(modifiedNow, date)
	part := func(lines ...string) response {
		return changed(answering(append(lines, date)...), func(r *response) { r.status, r.length = http.StatusPartialContent, 5 })
	}
	tests := []struct {
		name    string
		r       response
		partial response
		want    bool
	}{
		{"the rest", tagged, part("Content-Range: bytes 5-9/10", `ETag: "a"`), true},
		{"the rest of unknown length", changed(tagged, func(r *response) { r.length = -1 }), part("Content-Range: bytes 5-9/10", `ETag: "a"`), true},
		{"the rest, its length not framed", tagged, changed(part("Content-Range: bytes 5-9/10", `ETag: "a"`), func(r *response) { r.length = -1 }), true},
		{"framed shorter than it says", tagged, changed(part("Content-Range: bytes 5-9/10", `ETag: "a"`), func(r *response) { r.length = 4 }), false},
		{"framed longer than it says", tagged, changed(part("Content-Range: bytes 5-9/10", `ETag: "a"`), func(r *response) { r.length = 6 }), false},
		{"two lines", tagged, part("Content-Range: bytes 5-9/10", "Content-Range: bytes 5-9/10", `ETag: "a"`), false},
		{"less than the rest", tagged, part("Content-Range: bytes 5-8/10", `ETag: "a"`), false},
		{"from before", tagged, part("Content-Range: bytes 4-9/10", `ETag: "a"`), false},
		{"from after", tagged, part("Content-Range: bytes 6-9/10", `ETag: "a"`), false},
		{"of a longer content", tagged, part("Content-Range: bytes 5-10/11", `ETag: "a"`), false},
		{"of a shorter content", tagged, part("Content-Range: bytes 5-8/9", `ETag: "a"`), false},
		{"of a content that does not say how long it is", tagged, part("Content-Range: bytes 5-9/*", `ETag: "a"`), false},
		{"of a content whose length nobody knows", changed(tagged, func(r *response) { r.length = -1 }), part("Content-Range: bytes 5-9/*", `ETag: "a"`), false},
		{"of it does not say what", tagged, part(`ETag: "a"`), false},
		{"in another unit", tagged, part("Content-Range: lines 5-9/10", `ETag: "a"`), false},
		{"in several parts", tagged, part("Content-Range: bytes 5-9/10", `ETag: "a"`, "Content-Type: multipart/byteranges; boundary=x"), false},
		{"another tag", tagged, part("Content-Range: bytes 5-9/10", `ETag: "b"`), false},
		{"a weak tag", tagged, part("Content-Range: bytes 5-9/10", `ETag: W/"a"`), false},
		{"no tag", tagged, part("Content-Range: bytes 5-9/10"), false},
		{"no tag, but the date", tagged, part("Content-Range: bytes 5-9/10", modifiedNow), false},
		{"decompressed", tagged, changed(part("Content-Range: bytes 5-9/10", `ETag: "a"`), func(r *response) { r.uncompressed = true }), false},
		{"another coding", tagged, part("Content-Range: bytes 5-9/10", `ETag: "a"`, "Content-Encoding: gzip"), false},
		{"the same coding", changed(tagged, func(r *response) { r.header = headerOf(`ETag: "a"`, "Content-Encoding: gzip") }), part("Content-Range: bytes 5-9/10", `ETag: "a"`, "Content-Encoding: gzip"), true},
		{"a coding that is not repeated", changed(tagged, func(r *response) { r.header = headerOf(`ETag: "a"`, "Content-Encoding: gzip") }), part("Content-Range: bytes 5-9/10", `ETag: "a"`), true},

		{"by the date", dated, part("Content-Range: bytes 5-9/10", modifiedNow), true},
		{"by the date, which is not repeated", dated, part("Content-Range: bytes 5-9/10"), true},
		{"another date", dated, part("Content-Range: bytes 5-9/10", modifiedThen), false},
		{"a tag where there was none", dated, part("Content-Range: bytes 5-9/10", modifiedNow, `ETag: "a"`), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			asked := span.Of(5, test.r.length)
			s, length, got := test.r.continues(&test.partial, asked)
			if got != test.want || got && (s != span.Of(5, 10) || length != 10) {
				t.Errorf("continues: got %v of %d, %t, want %t", s, length, got, test.want)
			}
		})
	}
}

func TestMissing(t *testing.T) {
	for _, test := range []struct {
		held   []span.Span
		length int64
		want   span.Span
	}{
		{nil, 10, span.Of(0, 10)},
		{nil, -1, span.Of(0, -1)},
		{[]span.Span{span.Of(0, 4)}, 10, span.Of(4, 10)},
		{[]span.Span{span.Of(0, 4)}, -1, span.Of(4, -1)},
		{[]span.Span{span.Of(6, 10)}, 10, span.Of(0, 6)},
		{[]span.Span{span.Of(6, 10)}, -1, span.Of(0, -1)},
		{[]span.Span{span.Of(3, 6)}, 10, span.Of(0, 10)},
		{[]span.Span{span.Of(0, 4), span.Of(6, 10)}, 10, span.Of(4, 6)},
		{[]span.Span{span.Of(0, 2), span.Of(4, 5), span.Of(8, 10)}, 10, span.Of(2, 8)},
		{[]span.Span{span.Of(0, 2), span.Of(4, 5)}, 10, span.Of(2, 10)},
	} {
		r := response{held: test.held, length: test.length}
		if got := r.missing(); got != test.want {
			t.Errorf("missing beside %v of %d: got %v, want %v", test.held, test.length, got, test.want)
		}
	}
}

func TestPart(t *testing.T) {
	type result struct {
		Span   span.Span
		Length int64
		OK     bool
	}
	bytes := func(length int64, lines ...string) response {
		return changed(answering(append(lines, "Content-Range: bytes 5-9/10")...), func(r *response) { r.length = length })
	}
	tests := []struct {
		name string
		r    response
		want result
	}{
		{"as long as it says", bytes(5), result{span.Of(5, 10), 10, true}},
		{"of a length that is not framed", bytes(-1), result{span.Of(5, 10), 10, true}},
		{"shorter than it says, to the end", bytes(4), result{span.Of(5, 9), 9, true}},
		{"shorter than it says, to be joined", bytes(4, `ETag: "a"`), result{}},
		{"longer than it says", bytes(6), result{}},
		{"decompressed", changed(bytes(5), func(r *response) { r.uncompressed = true }), result{}},
		{"shorter than it says, and not to the end", changed(answering("Content-Range: bytes 5-8/10"), func(r *response) { r.length = 3 }), result{}},
		{"not said", answering(), result{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got result
			got.Span, got.Length, got.OK = test.r.part()
			if diff := diffRules(got, test.want); diff != "" {
				t.Errorf("part (-got +want):\n%s", diff)
			}
		})
	}
}

func FuzzParseRanges(f *testing.F) {
	for _, value := range []string{"bytes=0-4", "bytes=-5, 1-", "bytes=0-0,,9-99", "bytes=18446744073709551616-", "lines=1-2", "bytes=5-1"} {
		f.Add(value, int64(10))
		f.Add(value, int64(-1))
	}
	f.Add("bytes=-9223372036854775808", int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, value string, length int64) {
		length = max(-1, length)
		spans, ok := parseRanges(value, length)
		if !ok {
			return
		}
		if len(spans) > maxSpans {
			t.Errorf("%q has %d spans", value, len(spans))
		}
		for _, s := range spans {
			if s.Start < 0 || s.End <= s.Start || length >= 0 && s.End > length {
				t.Errorf("%q of %d: span %+v", value, length, s)
			}
		}
		r := response{status: http.StatusOK, header: http.Header{}, length: length, held: []span.Span{span.Of(0, length)}}
		if answer, served := r.ranges(&request{method: http.MethodGet, header: http.Header{"Range": {value}}}); answer == spansAnswer {
			for _, s := range served {
				if !r.holds(s) {
					t.Errorf("%q of %d: %+v is answered, but not held", value, length, s)
				}
			}
		}
	})
}

func FuzzContentRange(f *testing.F) {
	for _, value := range []string{"bytes 0-4/10", "bytes 5-9/*", "bytes */10", "bytes 4-3/10", "bytes 0-18446744073709551616/*", "lines 1-2/3"} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		s, length, ok := contentRange(http.Header{"Content-Range": {value}})
		if !ok {
			return
		}
		if s.Start < 0 || s.End <= s.Start || length >= 0 && s.End > length {
			t.Fatalf("%q: %+v of %d", value, s, length)
		}
		again := http.Header{"Content-Range": {s.ContentRange(length)}}
		if s2, length2, ok2 := contentRange(again); s2 != s || length2 != length || !ok2 {
			t.Errorf("%q: %+v of %d, then %+v of %d", value, s, length, s2, length2)
		}
	})
}
