package cachetrip

import (
	"net/http"
	"testing"
	"time"

	"github.com/cachetrip/cachetrip/internal/span"
	"github.com/google/go-cmp/cmp"
)

func TestFreshen(t *testing.T) {
	date := "Date: " + httpDate(time.Hour)
	tests := []struct {
		name                 string
		stored, update, want http.Header
	}{
		{"nothing new but that it was validated", headerOf("Date: "+httpDate(0), "A: 1"), headerOf(), headerOf(date, "A: 1")},
		{"the update's Date", headerOf("Date: " + httpDate(0)), headerOf("Date: " + httpDate(time.Minute)), headerOf("Date: " + httpDate(time.Minute))},
		{"Age is of the response that it came with", headerOf("Age: 100"), headerOf(date), headerOf(date)},
		{"the update's Age", headerOf("Age: 100"), headerOf(date, "Age: 5"), headerOf(date, "Age: 5")},
		{"fields are added", headerOf("A: 1"), headerOf(date, "B: 2"), headerOf(date, "A: 1", "B: 2")},
		{"fields are replaced, in all their lines", headerOf("A: 1", "A: 2"), headerOf(date, "A: 3"), headerOf(date, "A: 3")},
		{"with all of the update's lines", headerOf("Set-Cookie: a=1"), headerOf(date, "Set-Cookie: b=1", "Set-Cookie: c=1"), headerOf(date, "Set-Cookie: b=1", "Set-Cookie: c=1")},
		{"volatile fields are the update's", headerOf("X-RateLimit-Remaining: 10"), headerOf(date, "X-RateLimit-Remaining: 9"), headerOf(date, "X-RateLimit-Remaining: 9")},
		{"freshness, validators and Vary, too", headerOf("Cache-Control: max-age=1", "Expires: 0", `ETag: W/"b"`, modifiedThen, "Vary: A"), headerOf(date, "Cache-Control: no-store", "Expires: 1", `ETag: "a"`, modifiedNow, "Vary: B"), headerOf(date, "Cache-Control: no-store", "Expires: 1", `ETag: "a"`, modifiedNow, "Vary: B")},
		{"a weak tag is not strengthened, as the stored bytes need not be those of the strong one", headerOf(`ETag: W/"a"`), headerOf(date, `ETag: "a"`), headerOf(date, `ETag: W/"a"`)},
		{"but weakened", headerOf(`ETag: "a"`), headerOf(date, `ETag: W/"a"`), headerOf(date, `ETag: W/"a"`)},
		{"Content-Type may change", headerOf("Content-Type: a/b"), headerOf(date, "Content-Type: c/d"), headerOf(date, "Content-Type: c/d")},
		{"what says how to read the bytes stays", headerOf("Content-Length: 10", "Content-Encoding: gzip"), headerOf(date, "Content-Length: 0", "Content-Encoding: br", "Content-Range: bytes 0-1/2"), headerOf(date, "Content-Length: 10", "Content-Encoding: gzip")},
		{"and is not added", headerOf(), headerOf(date, "Content-Length: 0", "Content-Encoding: gzip"), headerOf(date)},
		{"what concerns a connection is not added", headerOf("A: 1"), headerOf(date, "Connection: x-hop, close", "X-Hop: 1", "Keep-Alive: timeout=5", "Transfer-Encoding: chunked", "Proxy-Authenticate: Basic"), headerOf(date, "A: 1")},
		{"not even if Connection names the stored field", headerOf("A: 1"), headerOf(date, "Connection: a", "A: 2"), headerOf(date, "A: 1")},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			stored, update := test.stored.Clone(), test.update.Clone()
			got := freshen(test.stored, test.update, noon.Add(time.Hour))
			if diff := cmp.Diff(got, test.want); diff != "" {
				t.Errorf("freshen (-got +want):\n%s", diff)
			}
			if diff := cmp.Diff([]http.Header{test.stored, test.update}, []http.Header{stored, update}); diff != "" {
				t.Errorf("what was given was changed (-got +want):\n%s", diff)
			}
		})
	}
}

func TestAdmit(t *testing.T) {
	req := asking("GET", "Accept-Language: de")
	other := asking("GET", "Accept-Language: en")
	vary := "Vary: Accept-Language"
	date := func(after time.Duration) string { return "Date: " + httpDate(after) }
	status := func(code int, r response) response { r.status = code; return r }
	head := func(r response) response { r.headOnly, r.held = true, nil; return r }
	holding := func(r response, spans ...span.Span) response { r.held = spans; return r }
	askedAsBy := func(req *request, r response) response {
		r.selecting = map[string]string{askedAs: alikeDigest(req)}
		return r
	}
	// between returns r as the answer to a request that took from start to end,
	// after noon.
	between := func(start, end time.Duration, r response) response {
		r.requested, r.received = noon.Add(start), noon.Add(end)
		return r
	}
	invalidated := func(after time.Duration, r response) response { r.invalidatedAt = noon.Add(after); return r }
	later := func(r response) response { return between(time.Minute, time.Minute+time.Second, r) }

	rejected := admission{join: -1}
	kept := func(replaces ...int) admission { return admission{keep: true, replaces: replaces, join: -1} }
	distrusted := func(replaces ...int) admission {
		return admission{keep: true, distrust: true, replaces: replaces, join: -1}
	}
	tests := []struct {
		name   string
		fresh  response
		stored []response
		want   admission
	}{
		{"nothing stored", answering(), nil, kept()},
		{"the one that is selected is replaced", later(answering()), []response{answering()}, kept(0)},
		{"all that match are replaced", later(answering()), []response{answering(), selectedBy(req, vary)}, kept(0, 1)},
		{"another variant stays", later(selectedBy(req, vary)), []response{selectedBy(other, vary), selectedBy(req, vary)}, kept(1)},
		{"one with Vary: * is enough", later(answering("Vary: *")), []response{answering("Vary: *"), selectedBy(other, vary)}, kept(0)},
		{"Vary: * does not concern others", later(answering()), []response{answering("Vary: *")}, kept()},

		{"no head for a response with content", head(later(answering())), []response{answering()}, rejected},
		{"a head for a head", head(later(answering())), []response{head(answering())}, kept(0)},
		{"a response with content for a head", later(answering()), []response{head(answering())}, kept(0)},
		{"a head beside another variant", head(later(selectedBy(req, vary))), []response{selectedBy(other, vary)}, kept()},

		{"no error for a good response", status(503, later(answering())), []response{answering()}, rejected},
		{"nor what asks for credentials", status(401, later(answering())), []response{answering()}, rejected},
		{"nor for a redirect", status(503, later(answering())), []response{status(301, answering())}, rejected},
		{"an error for an error", status(503, later(answering())), []response{status(500, answering())}, kept(0)},
		{"a good response for an error", later(answering()), []response{status(500, answering())}, kept(0)},
		{"404 is an answer", status(404, later(answering())), []response{answering()}, kept(0)},
		{"an error beside another variant", status(503, later(selectedBy(req, vary))), []response{selectedBy(other, vary)}, kept()},

		{"an older answer that comes late", between(-time.Minute, time.Minute, answering(date(-time.Hour))), []response{answering(date(0))}, rejected},
		{"a newer answer that comes late", between(-time.Minute, time.Minute, answering(date(time.Second))), []response{answering(date(0))}, kept(0)},
		{"one of the same second that comes late", between(-time.Minute, time.Minute, answering(date(0))), []response{answering(date(0))}, distrusted(0)},
		{"one of the same second with the same content", between(-time.Minute, time.Minute, answering(date(0), `ETag: "a"`)), []response{answering(date(0), `ETag: "a"`)}, kept(0)},
		{"one of the same second with other content", between(-time.Minute, time.Minute, answering(date(0), `ETag: "b"`)), []response{answering(date(0), `ETag: "a"`)}, distrusted(0)},
		{"an older Date of what was asked for later", later(answering(date(-time.Hour))), []response{answering(date(0))}, kept(0)},

		{"asked for before an invalidation", between(-time.Minute, time.Minute, answering(date(time.Minute))), []response{invalidated(0, answering())}, distrusted(0)},
		{"asked for at the moment of an invalidation", between(0, time.Minute, answering(date(time.Minute))), []response{invalidated(0, answering())}, distrusted(0)},
		{"asked for before an invalidation of another variant", between(-time.Minute, time.Minute, selectedBy(req, vary, date(time.Minute))), []response{invalidated(0, selectedBy(other, vary))}, distrusted()},
		{"asked for after an invalidation", later(answering()), []response{invalidated(0, answering())}, kept(0)},

		{"the rest joins the beginning", later(holding(answering(`ETag: "a"`), span.Of(5, 10))), []response{holding(answering(`ETag: "a"`), span.Of(0, 5))}, admission{keep: true, replaces: []int{0}, join: 0}},
		{"of another length", later(changed(holding(answering(`ETag: "a"`), span.Of(5, 10)), func(r *response) { r.length = 11 })), []response{holding(answering(`ETag: "a"`), span.Of(0, 5))}, kept(0)},
		{"of unknown length", later(changed(holding(answering(`ETag: "a"`), span.Of(5, 10)), func(r *response) { r.length = -1 })), []response{holding(answering(`ETag: "a"`), span.Of(0, 5))}, admission{keep: true, replaces: []int{0}, join: 0}},
		{"of other content", later(holding(answering(`ETag: "b"`), span.Of(5, 10))), []response{holding(answering(`ETag: "a"`), span.Of(0, 5))}, kept(0)},
		{"with a weak tag", later(holding(answering(`ETag: W/"a"`), span.Of(5, 10))), []response{holding(answering(`ETag: W/"a"`), span.Of(0, 5))}, kept(0)},
		{"by the date, of a request that is alike", later(holding(answering(modifiedNow, date(0)), span.Of(5, 10))), []response{askedAsBy(req, holding(answering(modifiedNow, date(0)), span.Of(0, 5)))}, admission{keep: true, replaces: []int{0}, join: 0}},
		{"by the date, of another request", later(holding(answering(modifiedNow, date(0)), span.Of(5, 10))), []response{askedAsBy(other, holding(answering(modifiedNow, date(0)), span.Of(0, 5)))}, kept(0)},
		{"by the date, of an unknown request", later(holding(answering(modifiedNow, date(0)), span.Of(5, 10))), []response{holding(answering(modifiedNow, date(0)), span.Of(0, 5))}, kept(0)},
		{"by a date of the same second", later(holding(answering(modifiedNow, date(-time.Hour)), span.Of(5, 10))), []response{holding(answering(modifiedNow, date(-time.Hour)), span.Of(0, 5))}, kept(0)},
		{"of another coding", later(holding(selectedBy(req, `ETag: "a"`, "Content-Encoding: gzip"), span.Of(5, 10))), []response{holding(selectedBy(req, `ETag: "a"`), span.Of(0, 5))}, kept(0)},
		{"decompressed", later(changed(holding(answering(`ETag: "a"`), span.Of(5, 10)), func(r *response) { r.uncompressed = true })), []response{holding(answering(`ETag: "a"`), span.Of(0, 5))}, kept(0)},
		{"the rest joins one of two", later(holding(answering(`ETag: "a"`), span.Of(5, 10))), []response{holding(answering(`ETag: "a"`), span.Of(0, 5)), holding(answering(`ETag: "a"`), span.Of(0, 4))}, admission{keep: true, replaces: []int{0, 1}, join: 0}},
		{"a part updates the whole", later(holding(answering(`ETag: "a"`), span.Of(5, 10))), []response{answering(`ETag: "a"`)}, admission{keep: true, replaces: []int{0}, join: 0}},
		{"a part that was asked for before the whole", between(-time.Minute, time.Minute, holding(answering(`ETag: "a"`), span.Of(5, 10))), []response{answering(`ETag: "a"`)}, rejected},
		{"a part with the weak tag of the whole", later(holding(answering(`ETag: W/"a"`), span.Of(5, 10))), []response{answering(`ETag: W/"a"`)}, rejected},
		{"a part of what may be the same", later(holding(answering(), span.Of(5, 10))), []response{answering()}, rejected},
		{"a part of what is newer", later(holding(answering(`ETag: "b"`), span.Of(5, 10))), []response{answering(`ETag: "a"`)}, kept(0)},
	}
	rotated := later(selectedBy(identified("b"), "Vary: Authorization"))
	if diff := diffRules(admit(identified("b"), &rotated, []response{selectedBy(identified("a"), "Vary: Authorization")}, order{}), kept(0)); diff != "" {
		t.Errorf("admit for another token of the same identity (-got +want):\n%s", diff)
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := diffRules(admit(req, &test.fresh, test.stored, order{}), test.want); diff != "" {
				t.Errorf("admit (-got +want):\n%s", diff)
			}
		})
	}
}
