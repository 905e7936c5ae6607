package cachetrip

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/internal/span"
	"github.com/google/go-cmp/cmp"
)

// selectedBy returns a response with the given header lines that answered req.
func selectedBy(req *request, lines ...string) response {
	r := answering(lines...)
	r.selecting = selecting(r.header, req, nil)
	return r
}

func TestMatches(t *testing.T) {
	tests := []struct {
		name               string
		lines              []string
		original, presents []string
		want               bool
	}{
		{"no Vary", nil, []string{"A: 1"}, []string{"A: 2"}, true},
		{"an empty Vary", []string{"Vary:"}, []string{"A: 1"}, []string{"A: 2"}, true},
		{"the same value", []string{"Vary: A"}, []string{"A: 1"}, []string{"A: 1"}, true},
		{"another value", []string{"Vary: A"}, []string{"A: 1"}, []string{"A: 2"}, false},
		{"another field", []string{"Vary: A"}, []string{"B: 1"}, []string{"B: 2"}, true},
		{"absent from both", []string{"Vary: A"}, nil, nil, true},
		{"absent now", []string{"Vary: A"}, []string{"A: 1"}, nil, false},
		{"absent then", []string{"Vary: A"}, nil, []string{"A: 1"}, false},
		{"empty is not absent", []string{"Vary: A"}, []string{"A:"}, nil, false},
		{"names in any letter case", []string{"Vary: x-a"}, []string{"X-A: 1"}, []string{"X-A: 2"}, false},
		{"all of several", []string{"Vary: A, B", "Vary: C"}, []string{"A: 1", "B: 2", "C: 3"}, []string{"A: 1", "B: 2", "C: 3"}, true},
		{"one of several differs", []string{"Vary: A, B", "Vary: C"}, []string{"A: 1", "B: 2", "C: 3"}, []string{"A: 1", "B: 2", "C: 4"}, false},

		{"*", []string{"Vary: *"}, nil, nil, false},
		{"* in a list", []string{"Vary: A, *"}, nil, nil, false},
		{"* on another line", []string{"Vary: A", "Vary: *"}, nil, nil, false},
		{"* after an empty member", []string{"Vary: , *"}, nil, nil, false},
		{"what can't be a name is as good as *", []string{"Vary: A B"}, nil, nil, false},
		{"a name in quotes is none", []string{`Vary: "A"`}, nil, nil, false},

		{"lines that could be one", []string{"Vary: A"}, []string{"A: 1", "A: 2"}, []string{"A: 1, 2"}, true},
		{"white space around commas", []string{"Vary: A"}, []string{"A: 1 ,\t2"}, []string{"A: 1,2"}, true},
		{"white space within counts", []string{"Vary: A"}, []string{"A: 1  2"}, []string{"A: 1 2"}, false},
		{"order counts", []string{"Vary: A"}, []string{"A: 1, 2"}, []string{"A: 2, 1"}, false},
		{"letter case counts", []string{"Vary: A"}, []string{"A: x"}, []string{"A: X"}, false},
		{"empty members count", []string{"Vary: A"}, []string{"A: 1,,2"}, []string{"A: 1, 2"}, false},
		{"an empty member at the end counts", []string{"Vary: A"}, []string{"A: 1,"}, []string{"A: 1"}, false},
		{"an empty line counts", []string{"Vary: A"}, []string{"A: 1", "A:"}, []string{"A: 1"}, false},
		{"an empty line is an empty member", []string{"Vary: A"}, []string{"A: 1", "A:"}, []string{"A: 1,"}, true},
		{"white space around empty members", []string{"Vary: A"}, []string{"A: 1 , , 2"}, []string{"A: 1,,2"}, true},
		{"empty alternatives mean nothing", []string{"Vary: Accept"}, []string{"Accept: a/b,, c/d"}, []string{"Accept: a/b, c/d"}, true},
		{"a quoted string on two lines", []string{"Vary: A"}, []string{`A: "1`, `A: 2"`}, []string{`A: "1,2"`}, false},
		{"white space around a comma in quotes counts", []string{"Vary: A"}, []string{`A: x="1 ,2", 3`}, []string{`A: x="1,2",3`}, false},
		{"white space after quotes", []string{"Vary: A"}, []string{`A: x="1 ,2" , 3`}, []string{`A: x="1 ,2",3`}, true},
		{"a comma in quotes does not separate", []string{"Vary: A"}, []string{`A: "1, 2"`}, []string{`A: "1,2"`}, false},

		{"order of alternatives", []string{"Vary: Accept"}, []string{"Accept: a/b, c/d;q=0.5"}, []string{"Accept: c/d;q=0.5, a/b"}, true},
		{"order of alternatives of the same weight", []string{"Vary: Accept"}, []string{"Accept: a/b, c/d"}, []string{"Accept: c/d, a/b"}, false},
		{"order of languages", []string{"Vary: Accept-Language"}, []string{"Accept-Language: en, de"}, []string{"Accept-Language: de, en"}, false},
		{"order of languages of the same weight", []string{"Vary: Accept-Language"}, []string{"Accept-Language: fr, en;q=0.5, de;q=0.5"}, []string{"Accept-Language: fr, de;q=0.5, en;q=0.50"}, false},
		{"order of languages of different weights", []string{"Vary: Accept-Language"}, []string{"Accept-Language: fr, en;q=0.5, de;q=0.6"}, []string{"Accept-Language: de;q=0.60,EN;q=0.5,, fr;q=1"}, true},
		{"order on lines of their own", []string{"Vary: Accept-Language"}, []string{"Accept-Language: en", "Accept-Language: de"}, []string{"Accept-Language: en, de"}, true},
		{"order of those that are not wanted", []string{"Vary: Accept-Language"}, []string{"Accept-Language: de, en;q=0, fr;q=0"}, []string{"Accept-Language: de, fr;q=0, en;q=0"}, false},
		{"order beside a weight that can't be read", []string{"Vary: Accept-Language"}, []string{"Accept-Language: de, en;q=x"}, []string{"Accept-Language: en;q=x, de"}, false},
		{"order of two weights of one name", []string{"Vary: Accept-Language"}, []string{"Accept-Language: de;q=0.1, de"}, []string{"Accept-Language: de, de;q=0.1"}, false},
		{"order of very many", []string{"Vary: Accept-Language"}, []string{"Accept-Language: a;q=0.1, b" + strings.Repeat(", c", 40)}, []string{"Accept-Language: b, a;q=0.1" + strings.Repeat(", c", 40)}, false},
		{"order, with parameters after the weight", []string{"Vary: Accept"}, []string{"Accept: a/b;q=0.5;x=1, c/d"}, []string{"Accept: c/d, a/b;q=0.5;x=1"}, true},
		{"order of codings, each of which is the same content", []string{"Vary: Accept-Encoding"}, []string{"Accept-Encoding: gzip, br"}, []string{"Accept-Encoding: br, gzip"}, true},
		{"spelling of weights", []string{"Vary: Accept"}, []string{"Accept: a/b;q=1.000, c/d; Q=0.50"}, []string{"Accept: a/b, c/d;q=0.5"}, true},
		{"weights count", []string{"Vary: Accept"}, []string{"Accept: a/b;q=0.5"}, []string{"Accept: a/b;q=0.6"}, false},
		{"weight none is not weight one", []string{"Vary: Accept"}, []string{"Accept: a/b;q=0"}, []string{"Accept: a/b"}, false},
		{"letter case of alternatives", []string{"Vary: Accept-Encoding"}, []string{"Accept-Encoding: GZIP, Br"}, []string{"Accept-Encoding: br, gzip"}, true},
		{"letter case of parameter values counts", []string{"Vary: Accept"}, []string{"Accept: a/b;x=Y"}, []string{"Accept: a/b;x=y"}, false},
		{"quoted parameters count as they are", []string{"Vary: Accept"}, []string{`Accept: a/b;x="A;b=C"`}, []string{`Accept: a/b;x="a;B=C"`}, false},
		{"how often counts", []string{"Vary: Accept-Encoding"}, []string{"Accept-Encoding: gzip, gzip"}, []string{"Accept-Encoding: gzip"}, false},

		{"the language that is preferred", []string{"Vary: Accept-Language", "Content-Language: de"}, []string{"Accept-Language: de"}, []string{"Accept-Language: en;q=0.5, de"}, true},
		{"the language that is preferred, if not much", []string{"Vary: Accept-Language", "Content-Language: de"}, []string{"Accept-Language: de"}, []string{"Accept-Language: en;q=0.5, de;q=0.75"}, true},
		{"in another letter case", []string{"Vary: Accept-Language", "Content-Language: DE-at"}, []string{"Accept-Language: de-AT"}, []string{"Accept-Language: en;q=0.5, de-at"}, true},
		{"not the one that is preferred", []string{"Vary: Accept-Language", "Content-Language: en"}, []string{"Accept-Language: en"}, []string{"Accept-Language: en;q=0.5, de"}, false},
		{"one of two that are", []string{"Vary: Accept-Language", "Content-Language: de"}, []string{"Accept-Language: de"}, []string{"Accept-Language: en, de"}, false},
		{"preferred, but in two languages", []string{"Vary: Accept-Language", "Content-Language: de, en"}, []string{"Accept-Language: x"}, []string{"Accept-Language: de"}, false},
		{"a region is another language", []string{"Vary: Accept-Language", "Content-Language: de"}, []string{"Accept-Language: de"}, []string{"Accept-Language: de-at"}, false},
		{"not wanted at all", []string{"Vary: Accept-Language", "Content-Language: de"}, []string{"Accept-Language: de"}, []string{"Accept-Language: de;q=0"}, false},
		{"a weight that can't be read", []string{"Vary: Accept-Language", "Content-Language: de"}, []string{"Accept-Language: de"}, []string{"Accept-Language: de;q=NaN"}, false},
		{"a weight above all others", []string{"Vary: Accept-Language", "Content-Language: de"}, []string{"Accept-Language: de"}, []string{"Accept-Language: de;q=7, en"}, false},
		{"the language, but another field differs", []string{"Vary: Accept-Language, A", "Content-Language: de"}, []string{"Accept-Language: de"}, []string{"Accept-Language: de, en;q=0.1", "A: 1"}, false},
		{"no preference said", []string{"Vary: Accept-Language", "Content-Language: de"}, []string{"Accept-Language: de"}, nil, false},

		{"a coded response for who asked for none", []string{"Content-Encoding: gzip"}, []string{"Accept-Encoding: gzip"}, nil, false},
		{"a coded response for who asked for another", []string{"Content-Encoding: gzip", "Vary: A"}, []string{"Accept-Encoding: gzip"}, []string{"Accept-Encoding: br"}, false},
		{"a coded response for who asked for the same", []string{"Content-Encoding: gzip"}, []string{"Accept-Encoding: gzip"}, []string{"Accept-Encoding: GZIP"}, true},

		{"credentials", []string{"Vary: Authorization"}, []string{"Authorization: Bearer a"}, []string{"Authorization: Bearer a"}, true},
		{"other credentials", []string{"Vary: Authorization"}, []string{"Authorization: Bearer a"}, []string{"Authorization: Bearer b"}, false},
		{"cookies on two lines are not one", []string{"Vary: Cookie"}, []string{"Cookie: a=1", "Cookie: b=2"}, []string{"Cookie: a=1,b=2"}, false},
		{"other cookies", []string{"Vary: Cookie"}, []string{"Cookie: a=1"}, []string{"Cookie: a=2"}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := selectedBy(asking("GET", test.original...), test.lines...)
			if got := r.matches(asking("GET", test.presents...)); got != test.want {
				t.Errorf("matches: got %t, want %t; remembered: %v", got, test.want, r.selecting)
			}
		})
	}
}

func TestCodedFor(t *testing.T) {
	gzip := "Accept-Encoding: gzip"
	tests := []struct {
		name     string
		coding   string // of the response, empty if it has none
		original string // Accept-Encoding that it answered
		presents string
		want     bool
	}{
		{"no coding, none asked for", "", "", "", true},
		{"no coding, any asked for", "", "", gzip, true},
		{"no coding, but that is not wanted", "", "", gzip + ", identity;q=0", false},
		{"no coding, but nothing else is wanted", "", "", gzip + ", *;q=0", false},
		{"no coding, wanted rather than anything else", "", "", "Accept-Encoding: identity;q=0.1, *;q=0", true},
		{"a coding, none asked for", "gzip", gzip, "", false},
		{"a coding, the same asked for", "gzip", gzip, "Accept-Encoding: GZIP", true},
		{"a coding among others", "gzip", gzip, "Accept-Encoding: br, gzip;q=0.1", true},
		{"a coding under its other name", "x-gzip", "Accept-Encoding: br", gzip, true},
		{"another coding", "br", "Accept-Encoding: br", gzip, false},
		{"a coding that is not wanted", "gzip", gzip, "Accept-Encoding: *, gzip;q=0", false},
		{"any coding", "gzip", gzip, "Accept-Encoding: *", true},
		{"one coding of two", "gzip, br", gzip, "Accept-Encoding: br", false},
		{"both codings", "gzip, br", gzip, "Accept-Encoding: br, gzip", true},
		{"unsolicited, and asked for as before", "br", "", "", true},
		{"unsolicited, and asked for otherwise", "br", gzip, "", false},
		{"identity as a coding", "Identity", gzip, "", true},
		{"identity as a coding, not wanted", "identity", "", gzip + ", identity;q=0", false},
		{"an empty field for a coding", " ", gzip, "", true},
		{"an empty field asks for none", "gzip", gzip, "Accept-Encoding:", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			lines := func(line string) []string {
				if line == "" {
					return nil
				}
				return []string{line}
			}
			coding := ""
			if test.coding != "" {
				coding = "Content-Encoding: " + test.coding
			}
			r := selectedBy(asking("GET", lines(test.original)...), lines(coding)...)
			if got := r.codedFor(asking("GET", lines(test.presents)...)); got != test.want {
				t.Errorf("codedFor: got %t, want %t", got, test.want)
			}
		})
	}
}

// Another token of the same identity selects nothing, but its answer concerns
// what the first had selected.
func TestConcerns(t *testing.T) {
	stranger := asking("GET", "Authorization: Bearer b")
	tests := []struct {
		name string
		req  *request
		r    response
		want bool
	}{
		{"the same token", identified("a"), selectedBy(identified("a"), "Vary: Authorization"), true},
		{"another token of the same identity", identified("b"), selectedBy(identified("a"), "Vary: Authorization"), true},
		{"no token of the same identity", func() *request { r := asking("GET"); r.identified = true; return r }(), selectedBy(identified("a"), "Vary: Authorization"), true},
		{"another token of who knows whom", stranger, selectedBy(identified("a"), "Vary: Authorization"), false},
		{"another token and another field", identified("b"), selectedBy(asking("GET", "Authorization: Bearer a", "A: 1"), "Vary: Authorization, A"), false},
		{"another cookie", identified("a"), selectedBy(asking("GET", "Authorization: Bearer a", "Cookie: c=1"), "Vary: Authorization, Cookie"), false},
		{"Vary: *", identified("a"), selectedBy(identified("a"), "Vary: Authorization, *"), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.r.concerns(test.req); got != test.want {
				t.Errorf("concerns: got %t, want %t", got, test.want)
			}
		})
	}
	if r := selectedBy(identified("a"), "Vary: Authorization"); r.matches(identified("b")) {
		t.Error("a response is selected by another token")
	}
}

func TestSelectingKeepsNoSecrets(t *testing.T) {
	req := asking("GET", "Authorization: Bearer hush", "Cookie: sid=hush", "X-Api-Key: hush", "X-Auth-Token: hush", "X-Session: hush", "Accept: a/b")
	h := headerOf("Vary: Authorization, Cookie, X-Api-Key, X-Auth-Token, X-Session, Accept, Absent")
	got := selecting(h, req, nil)
	want := map[string]string{"Accept": "a/b"}
	for _, name := range []string{"Authorization", "Cookie", "X-Api-Key", "X-Auth-Token", "X-Session"} {
		want[name] = req.digest.value(req.header.Get(name))
		if len(want[name]) != digestSize {
			t.Errorf("the digest for %s is %q", name, want[name])
		}
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("selecting (-got +want):\n%s", diff)
	}
	if diff := cmp.Diff(selecting(nil, req, nil), map[string]string(nil)); diff != "" {
		t.Errorf("selecting without Vary (-got +want):\n%s", diff)
	}
}

func TestSelect(t *testing.T) {
	german := asking("GET", "Accept-Language: de")
	vary := "Vary: Accept-Language"
	on := func(after time.Duration, r response) response {
		r.header.Set("Date", httpDate(after))
		return r
	}
	received := func(after time.Duration, r response) response {
		r.received = noon.Add(after)
		return r
	}
	head := func(r response) response { r.headOnly, r.held = true, nil; return r }
	part := func(r response) response { r.held = []span.Span{span.Of(0, 5)}; return r }
	english := asking("GET", "Accept-Language: en")
	tests := []struct {
		name   string
		req    *request
		stored []response
		want   int
	}{
		{"nothing", german, nil, -1},
		{"none matches", german, []response{selectedBy(english, vary)}, -1},
		{"the one that matches", german, []response{selectedBy(english, vary), selectedBy(german, vary)}, 1},
		{"the most recent", german, []response{on(-2*time.Hour, selectedBy(german, vary)), on(-time.Hour, selectedBy(german, vary)), on(-3*time.Hour, selectedBy(german, vary))}, 1},
		{"the most recent by Date, not by when it came", german, []response{received(time.Hour, on(-2*time.Hour, answering())), on(-time.Hour, answering())}, 1},
		{"the last that came, of one Date", german, []response{on(0, answering()), received(time.Second, on(0, answering()))}, 1},
		{"without Date, by when they came", german, []response{answering(), received(time.Second, answering()), received(-time.Second, answering())}, 1},
		{"with Vary before without", german, []response{on(time.Hour, answering()), on(-time.Hour, selectedBy(german, vary))}, 1},
		{"without Vary if none with it matches", german, []response{selectedBy(english, vary), on(-time.Hour, answering())}, 1},
		{"never Vary: *", german, []response{answering("Vary: *")}, -1},
		{"what suffices before what is more recent", german, []response{part(on(time.Hour, answering())), answering()}, 1},
		{"what suffices before what varies", german, []response{part(selectedBy(german, vary)), answering()}, 1},
		{"a part, if there is no better", german, []response{part(answering())}, 0},
		{"no head for a GET", german, []response{head(answering())}, -1},
		{"a head for a HEAD", asking("HEAD"), []response{head(answering())}, 0},
		{"the most recent for a HEAD", asking("HEAD"), []response{head(on(-time.Hour, answering())), on(0, answering())}, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := selectStored(test.req, test.stored); got != test.want {
				t.Errorf("sel: got %d, want %d", got, test.want)
			}
		})
	}
}

// Directives of the context are sent, and select like those of the header.
func TestSelectingByDirectives(t *testing.T) {
	with := func(header string, further ...string) *request {
		req := newRequest("GET", headerOf("Cache-Control: "+header), further, digester("a secret of the tests"))
		return &req
	}
	without := func(further ...string) *request {
		req := newRequest("GET", http.Header{}, further, digester("a secret of the tests"))
		return &req
	}
	tests := []struct {
		name               string
		original, presents *request
		want               bool
	}{
		{"none and none", without(), without(), true},
		{"the same of the context", without("max-age=60"), without("max-age=60"), true},
		{"others of the context", without("max-age=60"), without("max-age=61"), false},
		{"some and none", without("max-age=60"), without(), false},
		{"none and some", without(), without("max-age=60"), false},
		{"of the context and of the header", without("max-age=60"), with("max-age=60"), true},
		{"of both", with("max-age=60", "max-stale"), with("max-age=60, max-stale"), true},
		{"of both, and of the header only", with("max-age=60", "max-stale"), with("max-age=60"), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := selectedBy(test.original, "Vary: Cache-Control")
			if got := r.matches(test.presents); got != test.want {
				t.Errorf("matches: got %t, want %t; remembered: %v", got, test.want, r.selecting)
			}
		})
	}
}

// Normalised values are to be equal only if they mean the same. Normalising
// twice changes nothing.
func TestNormaliseIsIdempotent(t *testing.T) {
	for _, name := range []string{"Accept", "Accept-Language", "X"} {
		for _, value := range []string{"", " ", ",", "a, b", "b;q=0.50, a;q=1.0", "b;q=0.50, c, a;q=1.0, d;q=0.5", "a;q=2, b", "a;q=0.1, a", "a;q=0.3;x;q=0.4, b", "a ; q = 0.1 ; x = Y", `a;x="1,2;q=1", b`, `"`, `b",0",0"`, ";q=.0.", "a;q=1.", "a;q=0.0", "q=0 .0", ";q=1,0", ";q=1", "q=1", "a;q=1;q=1"} {
			once := normalise(name, []string{value})
			if twice := normalise(name, []string{once}); twice != once {
				t.Errorf("normalise(%q, %q): got %q, then %q", name, value, once, twice)
			}
		}
	}
}

func FuzzNormalise(f *testing.F) {
	for _, value := range []string{"", "gzip, br;q=0.5", "de-AT, en;q=0.10", `a;x="1,2"`, "*", ";q=1"} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		for _, name := range []string{"Accept-Language", "X"} {
			once := normalise(name, []string{value})
			if twice := normalise(name, []string{once}); twice != once {
				t.Errorf("normalise(%q, %q): got %q, then %q", name, value, once, twice)
			}
			req := &request{method: http.MethodGet, header: http.Header{name: {value}}}
			r := response{header: http.Header{"Vary": {name}}}
			r.selecting = selecting(r.header, req, nil)
			if !r.matches(req) {
				t.Errorf("the request with %s: %q does not match itself", name, value)
			}
		}
		prefersLanguage(normalise("Accept-Language", []string{value}), []string{value})
	})
}
