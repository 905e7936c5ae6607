package cachetrip

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/internal/span"
	"github.com/google/go-cmp/cmp"
)

// Responses that the tests of validation are about.
var (
	modifiedThen = "Last-Modified: " + httpDate(-2*time.Hour)
	modifiedNow  = "Last-Modified: " + httpDate(-1*time.Hour)
)

// identified returns a GET with a token that Identity names.
func identified(token string) *request {
	req := asking(http.MethodGet, "Authorization: Bearer "+token)
	req.identified = true
	return req
}

func TestConditionsFor(t *testing.T) {
	part := func(r response) response { r.held = []span.Span{span.Of(0, 5)}; return r }
	head := func(r response) response { r.headOnly, r.held = true, nil; return r }
	gzipped := selectedBy(asking("GET", "Accept-Encoding: gzip"), "Content-Encoding: gzip", `ETag: "gz"`)
	var many []response
	var tags []string
	for i := range 2 * maxETags {
		tag := fmt.Sprintf(`"%d"`, i)
		many = append(many, answering("ETag: "+tag))
		tags = append(tags, tag)
	}
	tests := []struct {
		name     string
		req      *request
		stored   []response
		selected int
		want     conditions
	}{
		{"nothing stored", asking("GET"), nil, -1, conditions{}},
		{"no validator", asking("GET"), []response{answering()}, 0, conditions{}},
		{"a tag", asking("GET"), []response{answering(`ETag: "a"`)}, 0, conditions{etags: []string{`"a"`}}},
		{"a weak tag", asking("GET"), []response{answering(`ETag: W/"a"`)}, 0, conditions{etags: []string{`W/"a"`}}},
		{"a tag without quotes", asking("GET"), []response{answering(`ETag: a`)}, 0, conditions{etags: []string{`a`}}},
		{"a date", asking("GET"), []response{answering(modifiedThen)}, 0, conditions{modified: httpDate(-2 * time.Hour)}},
		{"a date as it was written", asking("GET"), []response{answering("Last-Modified: sunday, 01-MAR-26 10:00:00 GMT")}, 0, conditions{modified: "sunday, 01-MAR-26 10:00:00 GMT"}},
		{"an invalid date", asking("GET"), []response{answering("Last-Modified: 0")}, 0, conditions{}},
		{"both of the only one", asking("GET"), []response{answering(`ETag: "a"`, modifiedThen)}, 0, conditions{[]string{`"a"`}, httpDate(-2 * time.Hour)}},
		{"the tags of all, and no date", asking("GET"), []response{answering(`ETag: "a"`, modifiedNow), answering(`ETag: "b"`, modifiedThen), answering(modifiedNow)}, 1, conditions{etags: []string{`"b"`, `"a"`}}},
		{"each tag once, and the date if that is the only one", asking("GET"), []response{answering(`ETag: "a"`, modifiedNow), answering(`ETag: "a"`)}, 0, conditions{[]string{`"a"`}, httpDate(-time.Hour)}},
		{"a date alone if that is all that the selected one has", asking("GET"), []response{answering(modifiedNow), answering(`ETag: "a"`)}, 0, conditions{modified: httpDate(-time.Hour)}},
		{"the tags of all if none is selected", asking("GET"), []response{answering(`ETag: "a"`, modifiedNow, "Vary: *"), answering(`ETag: "b"`, "Vary: *")}, -1, conditions{etags: []string{`"a"`, `"b"`}}},
		{"the tag of what another value of a field selected that is not known", asking("GET", "X-Edition: b"), []response{selectedBy(asking("GET", "X-Edition: a"), `ETag: "a"`, "Vary: X-Edition")}, -1, conditions{etags: []string{`"a"`}}},
		{"no tag of what other credentials selected", asking("GET", "X-Api-Key: b"), []response{selectedBy(asking("GET", "X-Api-Key: a"), `ETag: "a"`, "Vary: X-Api-Key")}, -1, conditions{}},
		{"no dates if none is selected", asking("GET"), []response{answering(modifiedNow, "Vary: *")}, -1, conditions{}},
		{"the date of what another token had selected", identified("b"), []response{selectedBy(identified("a"), modifiedNow, "Vary: Authorization")}, -1, conditions{modified: httpDate(-time.Hour)}},
		{"no tag that can't be sent", asking("GET"), []response{answering("ETag: \"a\x7f\"")}, 0, conditions{}},
		{"no tag that is too long", asking("GET"), []response{answering(`ETag: "` + strings.Repeat("a", maxETagBytes) + `"`)}, 0, conditions{}},
		{"no more than fits", asking("GET"), []response{answering(`ETag: "` + strings.Repeat("a", maxETagBytes-10) + `"`), answering(`ETag: "123456789"`), answering(`ETag: "1"`)}, 0, conditions{etags: []string{`"` + strings.Repeat("a", maxETagBytes-10) + `"`, `"1"`}}},
		{"no tags of parts", asking("GET"), []response{answering(`ETag: "a"`), part(answering(`ETag: "b"`))}, 0, conditions{etags: []string{`"a"`}}},
		{"tags of parts that suffice", asking("GET", "Range: bytes=0-4"), []response{answering(`ETag: "a"`), part(answering(`ETag: "b"`))}, 0, conditions{etags: []string{`"a"`, `"b"`}}},
		{"no tags of heads", asking("HEAD"), []response{head(answering(`ETag: "a"`, modifiedNow)), answering(`ETag: "b"`)}, 0, conditions{etags: []string{`"b"`}}},
		{"nothing beside a caller's *", asking("GET", "If-None-Match: *"), []response{answering(`ETag: "a"`)}, 0, conditions{}},
		{"nothing beside a caller's tag that is signed", asking("GET", `If-None-Match: "b"`, "Authorization: AWS4-HMAC-SHA256 Credential=c, SignedHeaders=host;if-none-match;range, Signature=5"), []response{answering(`ETag: "a"`)}, 0, conditions{}},
		{"nothing beside a caller's date that is signed", asking("GET", "If-Modified-Since: d", `Signature-Input: s=("@method" "if-modified-since");keyid="k"`), []response{answering(`ETag: "a"`)}, 0, conditions{}},
		{"a tag beside what else is signed", asking("GET", `If-None-Match: "b"`, "Authorization: AWS4-HMAC-SHA256 Credential=c, SignedHeaders=host, Signature=5"), []response{answering(`ETag: "a"`)}, 0, conditions{etags: []string{`"a"`}}},
		{"a tag where none is", asking("GET", "Authorization: AWS4-HMAC-SHA256 SignedHeaders=host;if-none-match"), []response{answering(`ETag: "a"`)}, 0, conditions{etags: []string{`"a"`}}},
		{"no tag that asks for anything", asking("GET"), []response{answering("ETag: *", modifiedNow)}, 0, conditions{modified: httpDate(-time.Hour)}},
		{"no tag that would be several", asking("GET"), []response{answering("ETag: a, *")}, 0, conditions{}},
		{"no tag in a coding that was not asked for", asking("GET"), []response{answering(`ETag: "a"`, "Vary: *"), gzipped}, -1, conditions{etags: []string{`"a"`}}},
		{"a tag in a coding that was", asking("GET", "Accept-Encoding: br;q=0.5, gzip"), []response{gzipped}, -1, conditions{etags: []string{`"gz"`}}},
		{"not too many tags", asking("GET"), many, 0, conditions{etags: tags[:maxETags]}},
		{"the selected one's among them", asking("GET"), many, 2*maxETags - 1, conditions{etags: append([]string{tags[2*maxETags-1]}, tags[:maxETags-1]...)}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := conditionsFor(test.req, test.stored, test.selected, false)
			if diff := diffRules(got, test.want); diff != "" {
				t.Errorf("conditionsFor (-got +want):\n%s", diff)
			}
			if want := len(test.want.etags) == 0 && test.want.modified == ""; got.none() != want {
				t.Errorf("none: got %t, want %t", got.none(), want)
			}
		})
	}
}

// An origin that compares If-None-Match as a text is sent one tag.
func TestConditionsForOneTag(t *testing.T) {
	a, b := answering(`ETag: "a"`, modifiedThen), answering(`ETag: "b"`)
	tests := []struct {
		name     string
		req      *request
		stored   []response
		selected int
		want     conditions
	}{
		{"the tag of the selected one, and its date", asking("GET"), []response{b, a}, 1, conditions{[]string{`"a"`}, httpDate(-2 * time.Hour)}},
		{"nothing if none is selected", asking("GET"), []response{b, a}, -1, conditions{}},
		{"nothing if the selected one has none", asking("GET"), []response{answering(), a}, 0, conditions{}},
		{"the date of the selected one", asking("GET"), []response{answering(modifiedNow), a}, 0, conditions{modified: httpDate(-time.Hour)}},
		{"the caller's tag, if it is the same", asking("GET", `If-None-Match: "a"`), []response{b, a}, 1, conditions{[]string{`"a"`}, httpDate(-2 * time.Hour)}},
		{"nothing beside another tag of the caller's", asking("GET", `If-None-Match: "x"`), []response{b, a}, 1, conditions{}},
		{"nothing beside several tags of the caller's", asking("GET", `If-None-Match: "a", "x"`), []response{b, a}, 1, conditions{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := diffRules(conditionsFor(test.req, test.stored, test.selected, true), test.want); diff != "" {
				t.Errorf("conditionsFor (-got +want):\n%s", diff)
			}
		})
	}
}

func TestComparesAsText(t *testing.T) {
	tests := []struct {
		name           string
		sent, received string
		status         int
		want           bool
	}{
		{"one of several tags", `"a", "b"`, `"b"`, 200, true},
		{"in its weak form", `"a", "b"`, `W/"b"`, 200, true},
		{"none of them", `"a", "b"`, `"c"`, 200, false},
		{"the only tag", `"a"`, `"a"`, 200, false},
		{"no tag", `"a", "b"`, "", 200, false},
		{"a failure", `"a", "b"`, `"b"`, 500, false},
		{"no condition", "", `"b"`, 200, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := comparesAsText(headerOf("If-None-Match: "+test.sent), headerOf("ETag: "+test.received), test.status); got != test.want {
				t.Errorf("comparesAsText: got %t, want %t", got, test.want)
			}
		})
	}
}

func TestApplyConditions(t *testing.T) {
	tests := []struct {
		name    string
		c       conditions
		h, want http.Header
	}{
		{"none", conditions{}, headerOf(`If-None-Match: "x"`, modifiedSince), headerOf(`If-None-Match: "x"`, modifiedSince)},
		{"tags", conditions{etags: []string{`"a"`, `W/"b"`}}, headerOf("A: b"), headerOf("A: b", `If-None-Match: "a", W/"b"`)},
		{"a date", conditions{modified: "then"}, headerOf(), headerOf("If-Modified-Since: then")},
		{"both", conditions{[]string{`"a"`}, "then"}, headerOf(), headerOf(`If-None-Match: "a"`, "If-Modified-Since: then")},
		{"beside the caller's tags", conditions{etags: []string{`"a"`}}, headerOf(`If-None-Match: "x", "a"`, `If-None-Match: "y"`), headerOf(`If-None-Match: "a", "x", "y"`)},
		{"a date beside the caller's tags", conditions{modified: "then"}, headerOf(`If-None-Match: "x"`), headerOf(`If-None-Match: "x"`, "If-Modified-Since: then")},
		{"instead of the caller's date", conditions{modified: "then"}, headerOf(modifiedSince), headerOf("If-Modified-Since: then")},
		{"tags instead of the caller's date", conditions{etags: []string{`"a"`}}, headerOf(modifiedSince), headerOf(`If-None-Match: "a"`)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.c.apply(test.h)
			if diff := cmp.Diff(test.h, test.want); diff != "" {
				t.Errorf("the request's header (-got +want):\n%s", diff)
			}
		})
	}
}

var modifiedSince = "If-Modified-Since: " + httpDate(0)

func TestIdentify(t *testing.T) {
	german, english := asking("GET", "Accept-Language: de"), asking("GET", "Accept-Language: en")
	french := asking("GET", "Accept-Language: fr")
	vary := "Vary: Accept-Language"
	de, en := selectedBy(german, vary, `ETag: "de"`), selectedBy(english, vary, `ETag: "en"`)
	part := func(r response) response { r.held = []span.Span{span.Of(0, 5)}; return r }
	plain := asking("GET")
	gzipped := selectedBy(asking("GET", "Accept-Encoding: gzip"), "Content-Encoding: gzip", `ETag: "gz"`)
	older, today := "Date: "+httpDate(-time.Hour), "Date: "+httpDate(0)
	type result struct {
		Use    int
		Update []int
	}
	none := result{-1, nil}
	tests := []struct {
		name   string
		req    *request
		stored []response
		c      *conditions // nil: those that decide and conditionsFor lead to
		h      http.Header
		want   result
	}{
		{"the strong tag of the only one", german, []response{de}, nil, headerOf(`ETag: "de"`), result{0, []int{0}}},
		{"the strong tag of one of several", german, []response{en, de}, nil, headerOf(`ETag: "de"`), result{1, []int{1}}},
		{"the strong tag of one that others had selected", german, []response{en, de}, nil, headerOf(`ETag: "en"`), result{0, []int{0}}},
		{"the strong tag of several: each is updated, the selected one used", german, []response{selectedBy(english, vary, `ETag: "a"`), selectedBy(german, vary, `ETag: "a"`, older)}, nil, headerOf(`ETag: "a"`), result{1, []int{0, 1}}},
		{"the strong tag of several that others had selected", french, []response{selectedBy(english, vary, `ETag: "a"`, older), selectedBy(german, vary, `ETag: "a"`)}, nil, headerOf(`ETag: "a"`), result{1, []int{0, 1}}},
		{"of which it is not certain which is meant", french, []response{selectedBy(english, vary, `ETag: "a"`, "Content-Type: text/plain"), selectedBy(german, vary, `ETag: "a"`)}, nil, headerOf(`ETag: "a"`), none},
		{"a tag that nobody asked about", german, []response{de}, nil, headerOf(`ETag: "x"`), none},
		{"a tag that the caller asked about", asking("GET", "Accept-Language: de", `If-None-Match: "x"`), []response{de}, nil, headerOf(`ETag: "x"`), none},
		{"a tag of what is stored, but was not asked about", german, []response{de}, &conditions{etags: []string{`"x"`}}, headerOf(`ETag: "de"`), none},
		{"nothing stored any more", german, nil, &conditions{etags: []string{`"de"`}}, headerOf(`ETag: "de"`), none},
		{"a tag in the place of a date", german, []response{answering(modifiedThen)}, nil, headerOf(`ETag: "x"`, modifiedThen), none},

		{"the weak form of what others had selected", french, []response{selectedBy(german, vary, `ETag: W/"a"`)}, nil, headerOf(`ETag: "a"`), none},
		{"in a coding that was not asked for", plain, []response{gzipped}, &conditions{etags: []string{`"gz"`}}, headerOf(`ETag: "gz"`), none},
		{"nor is by nothing said", plain, []response{gzipped}, &conditions{etags: []string{`"gz"`}}, nil, none},
		{"in a coding that was asked for", asking("GET", "Accept-Encoding: gzip, br"), []response{gzipped}, nil, headerOf(`ETag: "gz"`), result{0, []int{0}}},

		{"the weak tag", german, []response{answering(`ETag: W/"a"`)}, nil, headerOf(`ETag: W/"a"`), result{0, []int{0}}},
		{"the weak form of a strong tag", german, []response{answering(`ETag: "a"`)}, nil, headerOf(`ETag: W/"a"`), result{0, []int{0}}},
		{"the strong form of a weak tag updates nothing", german, []response{answering(`ETag: W/"a"`)}, nil, headerOf(`ETag: "a"`), result{0, nil}},
		{"the strong form of a weak tag, and a strong date", german, []response{answering(`ETag: W/"a"`, modifiedThen, today)}, nil, headerOf(`ETag: "a"`, modifiedThen, today), result{0, []int{0}}},
		{"the same beside the strong tag of another", german, []response{answering(`ETag: W/"a"`, modifiedThen, today), answering(`ETag: "b"`, modifiedThen, today)}, &conditions{etags: []string{`W/"a"`, `"b"`}}, headerOf(`ETag: "a"`, modifiedThen, today), result{0, []int{0}}},
		{"the same beside one that others had selected", french, []response{selectedBy(german, vary, `ETag: W/"a"`, modifiedThen, today), selectedBy(french, vary, `ETag: W/"a"`, modifiedThen, today)}, &conditions{etags: []string{`W/"a"`}}, headerOf(`ETag: "a"`, modifiedThen, today), result{1, []int{1}}},
		{"the same of what others had selected", french, []response{selectedBy(german, vary, `ETag: W/"a"`, modifiedThen, today)}, nil, headerOf(`ETag: "a"`, modifiedThen, today), none},
		{"the strong form of a weak tag, and another strong date, updates nothing", german, []response{answering(`ETag: W/"a"`, modifiedThen, today)}, nil, headerOf(`ETag: "a"`, modifiedNow, today), result{0, nil}},
		{"the strong form of a weak tag, and a date that was weak then, updates nothing", german, []response{answering(`ETag: W/"a"`, modifiedThen, "Date: "+httpDate(-2*time.Hour))}, nil, headerOf(`ETag: "a"`, modifiedThen, today), result{0, nil}},
		{"the strong form of a weak tag, and a date that is weak, updates nothing", german, []response{answering(`ETag: W/"a"`, modifiedThen, today)}, nil, headerOf(`ETag: "a"`, modifiedThen, "Date: "+httpDate(-2*time.Hour)), result{0, nil}},
		{"the strong form of a weak tag, and a date that is a second older", german, []response{answering(`ETag: W/"a"`, modifiedThen, "Date: "+httpDate(-2*time.Hour+time.Second))}, nil, headerOf(`ETag: "a"`, modifiedThen, "Date: "+httpDate(-2*time.Hour+time.Second)), result{0, []int{0}}},
		{"another strong tag contradicts a strong date", german, []response{answering(`ETag: W/"a"`, modifiedThen, today)}, nil, headerOf(`ETag: "b"`, modifiedThen, today), none},
		{"a weak tag: the most recent only", german, []response{answering(`ETag: W/"a"`, older), answering(`ETag: W/"a"`, "Date: "+httpDate(0))}, nil, headerOf(`ETag: W/"a"`), result{1, []int{1}}},
		{"a weak tag: the one that is selected", german, []response{selectedBy(english, vary, `ETag: W/"a"`), selectedBy(german, vary, `ETag: W/"a"`, older)}, nil, headerOf(`ETag: W/"a"`), result{1, []int{1}}},
		{"a weak tag of several in other languages", french, []response{selectedBy(english, vary, `ETag: W/"a"`, "Content-Language: en"), selectedBy(german, vary, `ETag: W/"a"`, "Content-Language: de")}, nil, headerOf(`ETag: W/"a"`), none},
		{"a weak tag that nobody asked about", german, []response{answering(`ETag: W/"a"`)}, nil, headerOf(`ETag: W/"b"`), none},
		{"a tag without quotes", german, []response{answering("ETag: a")}, nil, headerOf("ETag: a"), result{0, []int{0}}},

		{"the date", german, []response{answering(modifiedThen)}, nil, headerOf(modifiedThen), result{0, []int{0}}},
		{"the date in another format", german, []response{answering(modifiedThen)}, nil, headerOf("Last-Modified: Sunday, 01-Mar-26 10:00:00 GMT"), result{0, []int{0}}},
		{"another date", german, []response{answering(modifiedThen)}, nil, headerOf(modifiedNow), none},
		{"an invalid date", german, []response{answering(modifiedThen)}, nil, headerOf("Last-Modified: 0"), none},
		{"the date of what has a tag", german, []response{answering(`ETag: "a"`, modifiedThen)}, nil, headerOf(modifiedThen), result{0, []int{0}}},
		{"the date of one of two with tags", german, []response{selectedBy(english, vary, `ETag: "en"`, modifiedNow), selectedBy(german, vary, `ETag: "de"`, modifiedThen)}, nil, headerOf(modifiedThen), result{1, []int{1}}},
		{"the date of two that others had selected", french, []response{selectedBy(english, vary, `ETag: "en"`, modifiedThen), selectedBy(german, vary, `ETag: "de"`, modifiedThen)}, nil, headerOf(modifiedThen), none},

		{"nothing, to one tag", german, []response{answering(`ETag: "a"`)}, nil, nil, result{0, []int{0}}},
		{"nothing, to a date", german, []response{answering(modifiedThen)}, nil, nil, result{0, []int{0}}},
		{"nothing, beside what was not asked about", german, []response{answering(`ETag: "a"`), answering("Date: " + httpDate(time.Hour))}, &conditions{etags: []string{`"a"`}}, nil, result{0, []int{0}}},
		{"nothing, to several tags", german, []response{de, en}, nil, nil, none},
		{"nothing, to one tag beside the caller's", asking("GET", `If-None-Match: "x"`), []response{answering(`ETag: "a"`)}, nil, nil, none},

		{"no head is confirmed", asking("HEAD"), []response{changed(answering(`ETag: "a"`), func(r *response) { r.headOnly = true })}, &conditions{etags: []string{`"a"`}}, headerOf(`ETag: "a"`), none},
		{"what suffices rather than what is selected", french, []response{part(selectedBy(french, vary, `ETag: "a"`)), selectedBy(german, vary, `ETag: "a"`)}, &conditions{etags: []string{`"a"`}}, headerOf(`ETag: "a"`), result{1, []int{0, 1}}},
		{"a part alone is not to be used", german, []response{part(answering(`ETag: "a"`))}, &conditions{etags: []string{`"a"`}}, headerOf(`ETag: "a"`), none},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := test.c
			if c == nil {
				made := conditionsFor(test.req, test.stored, selectStored(test.req, test.stored), false)
				c = &made
			}
			var got result
			got.Use, got.Update = c.identify(test.req, test.stored, test.h)
			if diff := diffRules(got, test.want); diff != "" {
				t.Errorf("identify (-got +want):\n%s", diff)
			}
		})
	}
}

func TestAnswersCaller(t *testing.T) {
	added := &conditions{etags: []string{`"a"`}}
	tests := []struct {
		name  string
		req   *request
		added *conditions
		h     http.Header
		want  bool
	}{
		{"the caller has none", asking("GET"), added, headerOf(`ETag: "x"`), false},
		{"the caller's tag", asking("GET", `If-None-Match: "x", "y"`), added, headerOf(`ETag: "y"`), true},
		{"the caller's tag, weakly", asking("GET", `If-None-Match: W/"y"`), added, headerOf(`ETag: "y"`), true},
		{"another tag", asking("GET", `If-None-Match: "x"`), added, headerOf(`ETag: "a"`), false},
		{"no tag", asking("GET", `If-None-Match: "x"`), added, nil, false},
		{"no tag, and no conditions but the caller's", asking("GET", `If-None-Match: "x"`), &conditions{}, nil, true},
		{"*, which is never added to", asking("GET", `If-None-Match: *`), &conditions{}, headerOf(`ETag: "x"`), true},
		{"the caller's date alone", asking("GET", modifiedSince), &conditions{}, nil, true},
		{"the caller's date, which was replaced", asking("GET", modifiedSince), added, headerOf(`ETag: "x"`), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := answersCaller(test.req, test.added, test.h); got != test.want {
				t.Errorf("answersCaller: got %t, want %t", got, test.want)
			}
		})
	}
}

func TestNotModified(t *testing.T) {
	since := func(after time.Duration) string { return "If-Modified-Since: " + httpDate(after) }
	tests := []struct {
		name string
		r    response
		req  []string
		want bool
	}{
		{"no condition", answering(`ETag: "a"`), nil, false},
		{"the tag", answering(`ETag: "a"`), []string{`If-None-Match: "a"`}, true},
		{"the tag in a list", answering(`ETag: "a"`), []string{`If-None-Match: "b", "a"`}, true},
		{"the tag on another line", answering(`ETag: "a"`), []string{`If-None-Match: "b"`, `If-None-Match: "a"`}, true},
		{"the tag, weakly", answering(`ETag: "a"`), []string{`If-None-Match: W/"a"`}, true},
		{"the weak tag, strongly", answering(`ETag: W/"a"`), []string{`If-None-Match: "a"`}, true},
		{"another tag", answering(`ETag: "a"`), []string{`If-None-Match: "b"`}, false},
		{"the tag within another", answering(`ETag: "a"`), []string{`If-None-Match: "b,\"a\""`}, false},
		{"*", answering(), []string{`If-None-Match: *`}, true},
		{"a tag, but none stored", answering(), []string{`If-None-Match: "a"`}, false},
		{"an empty list, but none stored", answering(), []string{`If-None-Match:`}, false},
		{"a malformed tag, but none stored", answering(), []string{`If-None-Match: W/`}, false},
		{"the tag, though a date would differ", answering(`ETag: "a"`, modifiedNow), []string{`If-None-Match: "a"`, since(-3 * time.Hour)}, true},
		{"another tag, though the date would do", answering(`ETag: "a"`, modifiedNow), []string{`If-None-Match: "b"`, since(0)}, false},
		{"an empty list, though the date would do", answering(modifiedNow), []string{`If-None-Match:`, since(0)}, false},

		{"modified before", answering(modifiedNow), []string{since(0)}, true},
		{"modified then", answering(modifiedNow), []string{since(-time.Hour)}, true},
		{"modified since", answering(modifiedNow), []string{since(-time.Hour - time.Second)}, false},
		{"an invalid date", answering(modifiedNow), []string{"If-Modified-Since: 0"}, false},
		{"two dates", answering(modifiedNow), []string{since(0), since(0)}, false},
		{"in another format", answering(modifiedNow), []string{"If-Modified-Since: Sun Mar  1 11:00:00 2026"}, true},
		{"no date of modification: Date, before", answering("Date: " + httpDate(-time.Hour)), []string{since(-time.Hour)}, true},
		{"no date of modification: Date, since", answering("Date: " + httpDate(-time.Hour)), []string{since(-2 * time.Hour)}, false},
		{"no date at all: when it came, then", answering(), []string{since(0)}, true},
		{"no date at all: when it came, since", answering(), []string{since(-time.Second)}, false},

		{"another status", changed(answering(`ETag: "a"`), func(r *response) { r.status = 404 }), []string{`If-None-Match: "a"`}, false},
		{"a redirect", changed(answering(modifiedNow), func(r *response) { r.status = 301 }), []string{since(0)}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				if got := test.r.notModified(asking(method, test.req...)); got != test.want {
					t.Errorf("notModified for %s: got %t, want %t", method, got, test.want)
				}
			}
		})
	}
}

func TestNotModifiedHeader(t *testing.T) {
	kept := []string{"Cache-Control: max-age=60", "Content-Location: /a", "Date: d", `ETag: "a"`, "Expires: e", "Vary: A", "Set-Cookie: a=b", "X: y", modifiedNow}
	got := headerOf(append([]string{"Content-Length: 10", "Content-Type: a/b", "Content-Encoding: gzip", "Content-Language: de", "Content-Range: bytes 0-4/10", "Content-Digest: a", "X-Amz-Checksum-Crc32: b"}, kept...)...)
	notModifiedHeader(got)
	if diff := cmp.Diff(got, headerOf(kept...)); diff != "" {
		t.Errorf("notModifiedHeader (-got +want):\n%s", diff)
	}
}

func TestStrongValidator(t *testing.T) {
	tests := []struct {
		name  string
		lines []string
		want  string
	}{
		{"none", nil, ""},
		{"a strong tag", []string{`ETag: "a"`, modifiedNow, "Date: " + httpDate(0)}, `"a"`},
		{"the empty tag", []string{`ETag: ""`}, `""`},
		{"a weak tag", []string{`ETag: W/"a"`}, ""},
		{"a weak tag beside a date that would do", []string{`ETag: W/"a"`, modifiedNow, "Date: " + httpDate(0)}, ""},
		{"a tag without quotes", []string{"ETag: a"}, ""},
		{"a tag that ends early", []string{`ETag: "a"b"`}, ""},
		{"a date well before", []string{modifiedNow, "Date: " + httpDate(0)}, httpDate(-time.Hour)},
		{"a date one second before", []string{modifiedNow, "Date: " + httpDate(-time.Hour+time.Second)}, httpDate(-time.Hour)},
		{"a date of the same second", []string{modifiedNow, "Date: " + httpDate(-time.Hour)}, ""},
		{"a date without Date", []string{modifiedNow}, ""},
		{"a date with an invalid Date", []string{modifiedNow, "Date: 0"}, ""},
		{"an invalid date", []string{"Last-Modified: 0", "Date: " + httpDate(0)}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := answering(test.lines...)
			if diff := cmp.Diff(r.strongValidator(), test.want); diff != "" {
				t.Errorf("strongValidator (-got +want):\n%s", diff)
			}
		})
	}
}

func TestHeadUpdates(t *testing.T) {
	tests := []struct {
		name         string
		stored, head response
		want         bool
	}{
		{"nothing to compare", answering(`ETag: "a"`), answering(), true},
		{"all the same", answering(`ETag: "a"`, modifiedNow, "Content-Length: 10"), answering(`ETag: "a"`, modifiedNow, "Content-Length: 10"), true},
		{"another tag", answering(`ETag: "a"`), answering(`ETag: "b"`), false},
		{"a tag where there was none", answering(), answering(`ETag: "b"`), false},
		{"another strength", answering(`ETag: "a"`), answering(`ETag: W/"a"`), false},
		{"another date", answering(modifiedNow), answering(modifiedThen), false},
		{"the same tag, another date", answering(`ETag: "a"`, modifiedNow), answering(`ETag: "a"`, modifiedThen), false},
		{"another length", answering("Content-Length: 10"), answering("Content-Length: 11"), false},
		{"the length of what is held without a field", answering(), answering("Content-Length: 10"), true},
		{"another length than is held without a field", answering(), answering("Content-Length: 11"), false},
		{"another status", answering(), changed(answering(), func(r *response) { r.status = 404 }), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := headUpdates(&test.stored, &test.head); got != test.want {
				t.Errorf("headUpdates: got %t, want %t", got, test.want)
			}
		})
	}
}
