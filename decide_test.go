package cachetrip

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip/internal/field"
	"github.com/cachetrip/cachetrip/internal/span"
)

func TestDecideNothingSelected(t *testing.T) {
	head := changed(answering("Cache-Control: max-age=60"), func(r *response) { r.headOnly, r.held = true, nil })
	german := changed(answering("Cache-Control: max-age=60", "Vary: Accept-Language"), func(r *response) {
		r.selecting = map[string]string{"Accept-Language": "de"}
	})
	tests := []struct {
		name   string
		req    *request
		stored []response
		want   decision
	}{
		{"nothing stored", asking("GET"), nil, decision{action: fetch, selected: -1, fwd: "uri-miss"}},
		{"nothing stored, only if cached", asking("GET", "Cache-Control: only-if-cached"), nil, decision{action: refuse, selected: -1, fwd: "uri-miss"}},
		{"another variant", asking("GET", "Accept-Language: en"), []response{german}, decision{action: revalidate, selected: -1, fwd: "vary-miss"}},
		{"another variant, for a HEAD", asking("HEAD", "Accept-Language: en"), []response{german}, decision{action: revalidate, selected: -1, fwd: "vary-miss"}},
		{"another variant, only if cached", asking("GET", "Accept-Language: en", "Cache-Control: only-if-cached"), []response{german}, decision{action: refuse, selected: -1, fwd: "vary-miss"}},
		{"Vary: *", asking("GET"), []response{answering("Cache-Control: max-age=60", "Vary: *")}, decision{action: revalidate, selected: -1, fwd: "vary-miss"}},
		{"what was decoded on arrival, for a HEAD", asking("HEAD"), []response{changed(answering("Cache-Control: max-age=60"), func(r *response) { r.uncompressed = true })}, decision{action: fetch, selected: 0, fwd: "partial", detail: "decoded", ttl: time.Minute}},
		{"what was decoded on arrival, for a HEAD, only if cached", asking("HEAD", "Cache-Control: only-if-cached"), []response{changed(answering("Cache-Control: max-age=60"), func(r *response) { r.uncompressed = true })}, decision{action: refuse, selected: 0, fwd: "partial", detail: "decoded", ttl: time.Minute}},
		{"a head for a GET", asking("GET"), []response{head}, decision{action: fetch, selected: -1, fwd: "uri-miss"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := diffRules(decide(noon, test.req, test.stored), test.want); diff != "" {
				t.Errorf("decide (-got +want):\n%s", diff)
			}
		})
	}
}

// decided has the tested fields of a decision about one selected response.
type decided struct {
	Action      string
	Fwd, Detail string
}

func TestDecide(t *testing.T) {
	const fresh, stale = 50 * time.Second, 70 * time.Second // of a lifetime of 60 seconds
	serves, refuses := decided{Action: "serve"}, decided{Action: "refuse"}
	behind := decided{"serve-and-revalidate", "", "stale-while-revalidate"}
	asks := func(fwd, detail string) decided { return decided{"revalidate", fwd, detail} }
	tests := []struct {
		name    string
		request string // Cache-Control
		cc      string // of the response, in addition to max-age=60
		age     time.Duration
		want    decided
	}{
		{"fresh", "", "", fresh, serves},
		{"fresh by a nanosecond", "", "", 60*time.Second - 1, serves},
		{"as old as its lifetime is stale", "", "", 60 * time.Second, asks("stale", "")},
		{"stale", "", "", stale, asks("stale", "")},

		{"no-cache, fresh", "no-cache", "", fresh, asks("request", "no-cache")},
		{"no-cache, stale", "no-cache", "", stale, asks("stale", "no-cache")},
		{"no-cache in any letter case", "No-Cache", "", fresh, asks("request", "no-cache")},
		{"no-cache wins over max-stale", "no-cache, max-stale", "", stale, asks("stale", "no-cache")},
		{"no-cache wins over immutable", "no-cache", "immutable", fresh, asks("request", "no-cache")},
		{"no-cache after a semicolon", "max-age=60; no-cache", "", fresh, asks("request", "no-cache")},
		{"no-cache with an argument that means nothing", "no-cache=\"x\"", "", fresh, asks("request", "no-cache")},
		{"unknown directives are ignored", "no-cachet, x=\"no-cache\"", "", fresh, serves},

		{"max-age, young enough", "max-age=50", "", fresh, serves},
		{"max-age, too old", "max-age=49", "", fresh, asks("request", "max-age")},
		{"max-age, young enough but stale", "max-age=100", "", stale, asks("stale", "")},
		{"max-age, too old and stale", "max-age=49", "", stale, asks("stale", "max-age")},
		{"max-age=0", "max-age=0", "", fresh, asks("request", "max-age")},
		{"max-age=0, just received", "max-age=0", "", 0, asks("request", "max-age")},
		{"max-age=1, just received", "max-age=1", "", 0, serves},
		{"max-stale=0, as old as its lifetime", "max-stale=0", "", 60 * time.Second, asks("stale", "")},
		{"stale-while-revalidate=0, as old as its lifetime", "", "stale-while-revalidate=0", 60 * time.Second, asks("stale", "")},
		{"max-age that can't be read", "max-age=soon", "", fresh, asks("request", "max-age")},
		{"max-age twice, the lesser", "max-age=100, max-age=1", "", fresh, asks("request", "max-age")},
		{"max-age and max-stale, stale but not too old", "max-age=100, max-stale=10", "", stale, decided{"serve", "", "max-stale"}},
		{"max-age and max-stale, too old", "max-age=65, max-stale=10", "", stale, asks("stale", "max-age")},

		{"immutable, max-age=0", "max-age=0", "immutable", fresh, serves},
		{"immutable with an argument that means nothing", "max-age=0", "immutable=0", fresh, serves},
		{"immutable, but stale", "max-age=0", "immutable", stale, asks("stale", "max-age")},
		{"immutable in a request means nothing", "max-age=0, immutable", "", fresh, asks("request", "max-age")},
		{"immutable does not lengthen", "min-fresh=20", "immutable", fresh, asks("request", "min-fresh")},

		{"min-fresh, enough left", "min-fresh=10", "", fresh, serves},
		{"min-fresh, not enough left", "min-fresh=11", "", fresh, asks("request", "min-fresh")},
		{"min-fresh, stale", "min-fresh=0", "", stale, asks("stale", "min-fresh")},
		{"min-fresh that can't be read", "min-fresh=long", "", fresh, asks("request", "min-fresh")},
		{"min-fresh without a value", "min-fresh", "", fresh, asks("request", "min-fresh")},
		{"min-fresh twice, the greater", "min-fresh=11, min-fresh=1", "", fresh, asks("request", "min-fresh")},
		{"min-fresh wins over max-stale", "min-fresh=1, max-stale", "", stale, asks("stale", "min-fresh")},

		{"max-stale, just so", "max-stale=10", "", stale, decided{"serve", "", "max-stale"}},
		{"max-stale, too stale", "max-stale=9", "", stale, asks("stale", "")},
		{"max-stale without a value", "max-stale", "", 1000 * time.Hour, decided{"serve", "", "max-stale"}},
		{"max-stale with an empty value", "max-stale=", "", stale, asks("stale", "")},
		{"max-stale that can't be read", "max-stale=any", "", stale, asks("stale", "")},
		{"max-stale twice, the lesser", "max-stale, max-stale=5", "", stale, asks("stale", "")},
		{"max-stale, fresh", "max-stale", "", fresh, serves},

		{"must-revalidate, fresh", "", "must-revalidate", fresh, serves},
		{"must-revalidate, stale", "", "must-revalidate", stale, asks("stale", "must-revalidate")},
		{"must-revalidate wins over max-stale", "max-stale", "must-revalidate", stale, asks("stale", "must-revalidate")},
		{"must-revalidate wins over stale-while-revalidate", "", "must-revalidate, stale-while-revalidate=10", stale, asks("stale", "must-revalidate")},
		{"proxy-revalidate is for shared caches", "max-stale", "proxy-revalidate", stale, decided{"serve", "", "max-stale"}},
		{"s-maxage is for shared caches", "", "s-maxage=0", fresh, serves},

		{"no-cache of the response, fresh", "", "no-cache", fresh, asks("stale", "no-cache")},
		{"no-cache of the response wins over max-stale", "max-stale", "no-cache", stale, asks("stale", "no-cache")},
		{"no-cache of the response wins over immutable", "", "no-cache, immutable", fresh, asks("stale", "no-cache")},
		{"qualified no-cache, fresh", "", `no-cache="Set-Cookie"`, fresh, serves},
		{"qualified no-cache as a token", "", `no-cache=Set-Cookie`, fresh, serves},
		{"no-cache with an empty list", "", `no-cache=""`, fresh, asks("stale", "no-cache")},
		{"no-cache with a list that can't be read", "", `no-cache="Set-Cookie, ("`, fresh, asks("stale", "no-cache")},
		{"no-cache both ways", "", `no-cache="Set-Cookie", no-cache`, fresh, asks("stale", "no-cache")},

		{"stale-while-revalidate, fresh", "", "stale-while-revalidate=10", fresh, serves},
		{"stale-while-revalidate, just so", "", "stale-while-revalidate=10", stale, behind},
		{"stale-while-revalidate, too stale", "", "stale-while-revalidate=9", stale, asks("stale", "")},
		{"stale-while-revalidate that can't be read", "", "stale-while-revalidate=x", stale, asks("stale", "")},
		{"stale-while-revalidate of a request means nothing", "stale-while-revalidate=10", "", stale, asks("stale", "")},
		{"stale-while-revalidate against max-age", "max-age=100", "stale-while-revalidate=10", stale, asks("stale", "")},
		{"stale-while-revalidate against min-fresh", "min-fresh=0", "stale-while-revalidate=10", stale, asks("stale", "min-fresh")},
		{"stale-while-revalidate against no-cache", "no-cache", "stale-while-revalidate=10", stale, asks("stale", "no-cache")},
		{"stale-while-revalidate against a lesser max-stale", "max-stale=5", "stale-while-revalidate=10", stale, asks("stale", "")},
		{"max-stale allows it without revalidation", "max-stale=20", "stale-while-revalidate=10", stale, decided{"serve", "", "max-stale"}},
		{"stale-if-error alone allows nothing", "", "stale-if-error=100", stale, asks("stale", "")},

		{"only-if-cached, fresh", "only-if-cached", "", fresh, serves},
		{"only-if-cached, stale", "only-if-cached", "", stale, refuses},
		{"only-if-cached and max-stale", "only-if-cached, max-stale", "", stale, decided{"serve", "", "max-stale"}},
		{"only-if-cached and stale-while-revalidate", "only-if-cached", "stale-while-revalidate=10", stale, decided{"serve", "", "stale-while-revalidate"}},
		{"only-if-cached and no-cache", "only-if-cached, no-cache", "", fresh, refuses},
		{"only-if-cached and max-age", "only-if-cached, max-age=0", "", fresh, refuses},
		{"only-if-cached and must-revalidate", "only-if-cached, max-stale", "must-revalidate", stale, refuses},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var lines []string
			if test.request != "" {
				lines = append(lines, "Cache-Control: "+test.request)
			}
			r := answering("Cache-Control: max-age=60", "Cache-Control: "+test.cc)
			d := decide(noon.Add(test.age), asking("GET", lines...), []response{r})
			got := decided{d.action.String(), d.fwd, d.detail}
			if test.want == refuses {
				got.Fwd, got.Detail = "", "" // a refusal has no reason
			}
			if diff := cmp.Diff(got, test.want); diff != "" {
				t.Errorf("decide (-got +want):\n%s", diff)
			}
			if d.age != test.age || d.ttl != 60*time.Second-test.age {
				t.Errorf("age and ttl: got %v and %v, want %v and %v", d.age, d.ttl, test.age, 60*time.Second-test.age)
			}
		})
	}
}

func TestDecideByState(t *testing.T) {
	fresh := answering("Cache-Control: max-age=60", `ETag: "a"`)
	invalidated := changed(fresh, func(r *response) { r.invalidatedAt = noon })
	foreign := changed(fresh, func(r *response) { r.foreign = true })
	beginning := changed(fresh, func(r *response) { r.held = []span.Span{span.Of(0, 5)} })
	head := changed(fresh, func(r *response) { r.headOnly, r.held = true, nil })
	with := func(r response, line string) response {
		r.header = r.header.Clone()
		for name, values := range headerOf(line) {
			r.header[name] = values
		}
		return r
	}
	tests := []struct {
		name string
		req  *request
		r    response
		want decided
	}{
		{"invalidated", asking("GET"), invalidated, decided{"revalidate", "stale", "invalidated"}},
		{"invalidated wins over max-stale", asking("GET", "Cache-Control: max-stale"), invalidated, decided{"revalidate", "stale", "invalidated"}},
		{"invalidated, only if cached", asking("GET", "Cache-Control: only-if-cached"), invalidated, decided{"refuse", "stale", "invalidated"}},
		{"foreign", asking("GET"), foreign, decided{"revalidate", "stale", "credentials"}},

		{"HEAD of a GET", asking("HEAD"), fresh, decided{Action: "serve"}},
		{"HEAD of a HEAD", asking("HEAD"), head, decided{Action: "serve"}},
		{"HEAD of a part", asking("HEAD"), beginning, decided{"fetch", "partial", ""}},

		{"the beginning", asking("GET"), beginning, decided{"resume", "partial", ""}},
		{"the beginning, with a caller's condition", asking("GET", `If-None-Match: "x"`), beginning, decided{"fetch", "partial", ""}},
		{"the beginning, for a range beyond", asking("GET", "Range: bytes=5-"), beginning, decided{"fetch", "partial", ""}},
		{"the beginning, for a range within", asking("GET", "Range: bytes=1-4"), beginning, decided{Action: "serve"}},
		{"the beginning, only if cached", asking("GET", "Cache-Control: only-if-cached"), beginning, decided{"refuse", "partial", ""}},
		{"the end", asking("GET"), changed(fresh, func(r *response) { r.held = []span.Span{span.Of(5, 10)} }), decided{"resume", "partial", ""}},
		{"the middle", asking("GET"), changed(fresh, func(r *response) { r.held = []span.Span{span.Of(4, 6)} }), decided{"fetch", "partial", ""}},
		{"both ends", asking("GET"), changed(fresh, func(r *response) { r.held = []span.Span{span.Of(0, 2), span.Of(8, 10)} }), decided{"resume", "partial", ""}},
		{"the end, for a range within", asking("GET", "Range: bytes=-5"), changed(fresh, func(r *response) { r.held = []span.Span{span.Of(5, 10)} }), decided{Action: "serve"}},
		{"the beginning, with a weak tag", asking("GET"), with(beginning, `ETag: W/"a"`), decided{"fetch", "partial", ""}},
		{"the beginning, of an origin without ranges", asking("GET"), with(beginning, "Accept-Ranges: none"), decided{"fetch", "partial", ""}},
		{"the beginning, decompressed", asking("GET"), changed(beginning, func(r *response) { r.uncompressed = true }), decided{"fetch", "partial", ""}},
		{"the beginning, invalidated", asking("GET"), changed(beginning, func(r *response) { r.invalidatedAt = noon }), decided{"resume", "partial", ""}},

		{"all, for a range", asking("GET", "Range: bytes=0-4"), fresh, decided{Action: "serve"}},
		{"all, for an unknown unit", asking("GET", "Range: lines=0-4"), fresh, decided{"fetch", "partial", ""}},
		{"all, decompressed, for a range", asking("GET", "Range: bytes=0-4"), changed(fresh, func(r *response) { r.uncompressed = true }), decided{"fetch", "partial", ""}},
		{"all, decompressed", asking("GET"), changed(fresh, func(r *response) { r.uncompressed = true }), decided{Action: "serve"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			d := decide(noon.Add(time.Second), test.req, []response{test.r})
			if diff := cmp.Diff(decided{d.action.String(), d.fwd, d.detail}, test.want); diff != "" {
				t.Errorf("decide (-got +want):\n%s", diff)
			}
		})
	}
}

func TestDecideAfterTheClockWasSetBack(t *testing.T) {
	r := answering("Cache-Control: max-age=2147483648")
	got := decide(noon.Add(-time.Hour), asking("GET"), []response{r})
	want := decision{action: revalidate, fwd: "stale", age: forever, ttl: 0}
	if diff := diffRules(got, want); diff != "" {
		t.Errorf("decide (-got +want):\n%s", diff)
	}
}

// A request is plain only if no rule reads one of its fields by name.
func TestSurvey(t *testing.T) {
	for name, want := range map[string][3]bool{
		"":                    {true, true, true},
		"Accept":              {true, true, true},
		"Accept-Language":     {true, true, true},
		"Cookie":              {true, true, true},
		"X-Api-Key":           {true, true, true},
		"Authorization":       {true, true, false},
		"Cache-Control":       {true, false, true},
		"If-Match":            {true, false, true},
		"If-Modified-Since":   {true, false, true},
		"If-None-Match":       {true, false, true},
		"If-Range":            {true, false, true},
		"If-Unmodified-Since": {true, false, true},
		"Pragma":              {true, false, true},
		"Proxy-Authorization": {true, true, false},
		"Range":               {true, false, true},
		"Upgrade":             {true, false, true},
		"range":               {false, false, false},
		"x-api-key":           {false, false, false},
	} {
		h := http.Header{"User-Agent": {"a"}, "X-B": {"c"}}
		if name != "" {
			h[name] = []string{"d"}
		}
		canonical, plain, anonymous := survey(h)
		if got := [3]bool{canonical, plain, anonymous}; got != want {
			t.Errorf("survey with %q: canonical, plain and anonymous %v, want %v", name, got, want)
		}
	}
}

func TestNewRequest(t *testing.T) {
	tests := []struct {
		name    string
		header  http.Header
		further []string
		want    string // the directives that this means
	}{
		{"nothing", nil, nil, ""},
		{"Cache-Control", headerOf("Cache-Control: max-age=5"), nil, "max-age=5"},
		{"Pragma", headerOf("Pragma: no-cache"), nil, "no-cache"},
		{"Pragma in a list and another letter case", headerOf("Pragma: x, No-Cache"), nil, "no-cache"},
		{"Pragma in a list that is malformed", headerOf("Pragma: no-cache; x"), nil, "no-cache"},
		{"Pragma with an argument", headerOf("Pragma: no-cache=1"), nil, ""},
		{"Pragma beside Cache-Control", headerOf("Pragma: no-cache", "Cache-Control: max-age=5"), nil, "max-age=5"},
		{"Pragma beside an empty Cache-Control", headerOf("Pragma: no-cache", "Cache-Control:"), nil, ""},
		{"Pragma beside the context's", headerOf("Pragma: no-cache"), []string{"max-age=5"}, "max-age=5"},
		{"the context's alone", nil, []string{"no-cache, max-stale", "max-age=5"}, "no-cache, max-stale, max-age=5"},
		{"the context's and the header's, the stricter", headerOf("Cache-Control: max-age=5, max-stale=1"), []string{"max-age=7, max-stale"}, "max-age=5, max-stale=1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			before := test.header.Clone()
			req := newRequest("GET", test.header, test.further, nil)
			var lines []string
			if test.want != "" {
				lines = []string{test.want}
			}
			if diff := cmp.Diff(req.cc, field.ParseCacheControl(lines)); diff != "" {
				t.Errorf("directives (-got +want):\n%s", diff)
			}
			if diff := cmp.Diff(test.header, before); diff != "" {
				t.Errorf("the header was changed (-got +want):\n%s", diff)
			}
		})
	}
}
