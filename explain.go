package cachetrip

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip/internal/duration"
	"github.com/cachetrip/cachetrip/internal/span"
	"github.com/cachetrip/cachetrip/store"
)

// What the cache would do, and why, in data and in words. The rules are those that requests are
// answered by: nothing is decided here.

// Explanation says what a [Transport] would do with a request, and why.
type Explanation struct {
	// Action is what would be done: "serve", "serve-and-revalidate" (behind what is served),
	// "revalidate", "resume" (ask for the rest of what is stored in part), "fetch", "refuse" (504, as
	// the request says only-if-cached), or "forward", if the cache has no part in the request. What is
	// stored is looked up only if the cache has.
	Action string

	// Status is that of the response, as far as it is known before the origin is asked: Hit, Fwd,
	// Detail, and TTL and Age of the selected response.
	Status Status

	// Stored are the responses that are stored for the request's URL and identity, in no particular order.
	Stored []StoredResponse

	// Selected is the index in Stored of the one that the request selects, -1 if there is none.
	Selected int

	// Others are the responses that are stored for the URL on behalf of other identities. They must not
	// be changed.
	Others []*store.Entry

	// Sent is the header of the request that would be sent to the origin, nil if none would be. It
	// has the credentials that the request carries.
	Sent http.Header

	// StaleIfError tells that the selected response would be served if the origin failed: by an error or a
	// status of 500, 502, 503 or 504, and of all others from 500 on if [Transport.StaleIfError] allows it.
	StaleIfError bool

	directives []string
}

// StoredResponse is a stored response as the rules see it.
type StoredResponse struct {
	Entry     *store.Entry // what the store keeps of it; must not be changed
	Freshness Freshness    // at the time of the explanation

	// Mismatch is the name of the first selecting field that does not match that of the request, "*"
	// if no request matches; empty if all match. RFC 9111, section 4.1.
	Mismatch string

	// Storable is why the response would not be stored today, a word that [ReasonText] explains; empty
	// if it would.
	Storable string
}

// Freshness is how old a stored response is, and what that means. RFC 9111, section 4.2.
type Freshness struct {
	Age          time.Duration // current_age: at the time that was asked about, at most 2^31 s
	InitialAge   time.Duration // corrected_initial_age: when the response was received
	Lifetime     time.Duration // freshness_lifetime: the age from which on it is stale, at most 2^31 s
	LifetimeFrom string        // "max-age", "expires", "heuristic", or empty if nothing gives it a lifetime

	// Validate is why it must be validated before any use: "invalidated", "credentials" (of others than
	// the request's may have been sent), "no-store" (said after it was stored) or "no-cache"; empty if age
	// alone decides.
	Validate string

	// MayBeStale tells that it may be used when it is stale, if something allows that.
	MayBeStale bool
}

// TTL returns for how long the response stays fresh, negative if it is stale.
func (f Freshness) TTL() time.Duration { return f.Lifetime - f.Age }

// Fresh reports whether the response may be used without asking the origin, by a request that says
// nothing about it.
func (f Freshness) Fresh() bool { return f.TTL() > 0 && f.Validate == "" }

// FreshnessOf returns how old e is at the time now, which is taken to be a time of day.
func FreshnessOf(e *store.Entry, now time.Time) Freshness {
	r := newResponse(e)
	return r.freshness(now.Round(0))
}

func (r *response) freshness(now time.Time) Freshness {
	f := Freshness{Age: r.age(now), InitialAge: r.initialAge(), MayBeStale: r.mayBeStale()}
	f.Lifetime, f.LifetimeFrom = r.lifetimeFrom()
	if r.mustValidate() {
		f.Validate = r.whyValidate()
	}
	return f
}

// Explain says what [Transport.RoundTrip] would do with req now, and why. Nothing is sent, what is stored
// does not count as used, and the body of req is left alone. The error is that of the store, or says that
// req has no URL.
func (t *Transport) Explain(req *http.Request) (Explanation, error) {
	ctx := req.Context()
	explained := Explanation{Action: "forward", Selected: -1}
	if req.URL == nil {
		return explained, errors.New("cachetrip: explain: no URL")
	}
	if t.keeps() && !t.closed.Load() {
		if _, err := t.digester(ctx); err != nil {
			return explained, fmt.Errorf("cachetrip: explain: %w", err)
		}
	}
	x, status := t.begin(req)
	if x == nil {
		explained.Status = status
		if onlyCached(req) {
			explained.Action = refuse.String()
			return explained, nil
		}
		explained.Sent = withDirectives(req.Header, directivesOf(ctx))
		return explained, nil
	}
	x.t.pendingWrites.Of(x.key).Wait(ctx)
	var entries []*store.Entry
	found, err := x.access().all(ctx, x.url())
	if err != nil {
		return explained, fmt.Errorf("cachetrip: explain: %w", err)
	}
	for _, e := range found {
		if e.Key == x.key {
			entries = append(entries, e)
		} else {
			explained.Others = append(explained.Others, e)
		}
	}
	now := wallClock()
	stored := responses(entries)
	d := decide(now, x.rules, stored)
	explained.Action = d.action.String()
	explained.Selected = d.selected
	explained.Status = Status{Fwd: d.fwd, Detail: d.detail}
	for i := range stored {
		r := &stored[i]
		original := &request{method: entries[i].Method, cc: neutral}
		explained.Stored = append(explained.Stored, StoredResponse{
			Entry: entries[i], Freshness: r.freshness(now), Mismatch: r.mismatch(x.rules, nil),
			Storable: storable(original, r, t.StaleIfError > 0),
		})
	}
	if d.selected >= 0 {
		explained.Status.Age, explained.Status.TTL = d.age, d.ttl
		explained.StaleIfError = staleOnError(now, x.rules, &stored[d.selected], t.StaleIfError, 0)
	}
	explained.directives, _ = x.rules.lines("Cache-Control")
	switch d.action {
	case serve:
		explained.Status.Hit = true
		return explained, nil
	case serveRevalidate:
		explained.Status.Hit = true
		d.action = revalidate
	case refuse:
		explained.StaleIfError = false
		return explained, nil
	}
	x.detach()
	out, _ := x.question(ctx, stored, &d)
	explained.Sent = out.Header
	return explained, nil
}

// String returns the explanation in sentences, one a line, with the sections that they follow from.
func (e Explanation) String() string { return strings.Join(e.Sentences(), "\n") }

// Sentences returns the explanation in sentences, with the sections of RFC 9111 (where no other is
// named) that they follow from.
func (e Explanation) Sentences() []string {
	var lines []string
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }

	if e.Action == "forward" {
		switch e.Status.Fwd {
		case "method":
			say("The request is sent on: only GET and HEAD are answered from the cache, while the success of an unsafe method invalidates what is stored for its URL (section 4.4).")
		case "request":
			say("The request is sent on and its response is not stored, as the request says %s (section 5.2.1.5).", e.Status.Detail)
		default:
			say("The request is sent on, past the cache%s.", because(e.Status.Detail))
		}
		return lines
	}

	if e.Action == "refuse" && (e.Status.Fwd == "bypass" || e.Status.Fwd == "method" || e.Status.Detail == "no-store") {
		say("The request is answered 504, as it says only-if-cached, and is none that the cache answers%s (section 5.2.1.7).", because(e.Status.Detail))
		return lines
	}

	switch n := len(e.Stored); {
	case n == 0 && len(e.Others) == 0:
		say("Nothing is stored for this URL. What was not stored leaves no trace; to learn why, the request has to be made.")
	case n == 0:
		say("Nothing is stored for this URL and these credentials.")
	case n == 1:
		say("One response is stored for this URL.")
	default:
		say("%d responses are stored for this URL, one for each variant (section 4.1).", n)
	}
	if len(e.Others) > 0 {
		say("%s stored on behalf of other credentials or identities, and never used for this request.", responsesAre(len(e.Others)))
	}
	if e.Selected >= 0 {
		subject := "It"
		if len(e.Stored) > 1 {
			subject = fmt.Sprintf("The one that the request selects, number %d,", e.Selected+1)
		}
		e.Stored[e.Selected].sentences(subject, say)
	} else {
		for i := range e.Stored {
			s := &e.Stored[i]
			switch {
			case s.Mismatch == "*":
				say("Stored response %d says Vary: *: no request is known to select it, each use needs the origin's word (section 4.1).", i+1)
			case s.Mismatch != "":
				say("Stored response %d was selected by another value of %s than the request has (section 4.1).", i+1, s.Mismatch)
			case s.Entry.Method == http.MethodHead:
				say("Stored response %d answers a HEAD, and has no content (section 4).", i+1)
			}
		}
	}
	if len(e.directives) > 0 {
		say("The request says Cache-Control: %s.", strings.Join(e.directives, ", "))
	}
	e.outlook(say)
	return lines
}

// sentences says what there is to know of a response that a request selects.
func (s *StoredResponse) sentences(subject string, say func(string, ...any)) {
	e, f := s.Entry, s.Freshness
	r := newResponse(e)

	useful := []string{}
	if f.Lifetime > 0 {
		useful = append(useful, "a lifetime")
	}
	if r.hasValidator() {
		useful = append(useful, "a validator")
	}
	switch {
	case s.Storable != "":
		say("%s is a %d to a %s. It would not be stored today%s.", subject, e.Status, e.Method, because(s.Storable))
	case len(useful) > 0:
		say("%s is a %d to a %s. It could be stored, as nothing forbids that and it has %s (section 3).", subject, e.Status, e.Method, strings.Join(useful, " and "))
	default:
		say("%s is a %d to a %s. It could be stored, as nothing forbids that (section 3).", subject, e.Status, e.Method)
	}
	if names := selectingFields(e.Header); len(names) > 0 {
		say("It was selected by %s, in which the request agrees with the one that it answered (section 4.1).", strings.Join(names, ", "))
	}
	switch {
	case r.headOnly:
	case !r.complete() && r.length >= 0:
		say("It is incomplete: %s of %d bytes are held (section 3.3).", heldSpans(r.held), r.length)
	case !r.complete():
		say("It is incomplete: %s of an unknown number of bytes are held (section 3.3).", heldSpans(r.held))
	}

	if r.cc.Malformed {
		say("Its Cache-Control is malformed, and read so that less is reused (section 4.2.1).")
	}
	switch f.LifetimeFrom {
	case "max-age":
		say("Its lifetime is %s, as Cache-Control: max-age says (section 4.2.1).", spell(f.Lifetime))
	case "expires":
		if f.Lifetime == 0 {
			say("Its lifetime is 0: Expires is not after Date, or is no date (sections 4.2.1 and 5.3).")
		} else {
			say("Its lifetime is %s: Expires less Date (section 4.2.1).", spell(f.Lifetime))
		}
	case "heuristic":
		share := "a tenth of the time from Last-Modified to Date, or to when it was received if that is earlier"
		if f.Lifetime == maxHeuristic {
			share = "the most that is assumed"
		}
		say("It states no lifetime. Assumed is %s, %s (section 4.2.2).", spell(f.Lifetime), share)
	default:
		say("It states no lifetime, and none can be assumed: it counts as stale at once (section 4.2.2).")
	}
	if f.Age >= forever {
		say("Its age is not known, as the clock was set back (section 4.2.3).")
	} else {
		age, initial := f.Age.Truncate(time.Second), f.InitialAge.Truncate(time.Second) // whole seconds, which add up
		say("Its age is %s: %s when it was received or last validated, at %s, and %s since (section 4.2.3).",
			spell(age), spell(initial), e.ResponseTime.UTC().Format(time.RFC3339), spell(age-initial))
	}
	switch ttl := f.TTL(); {
	case ttl > 0 && f.Validate != "":
		say("It would be fresh for another %s, but %s.", spell(ttl), ReasonText(f.Validate))
	case ttl > 0:
		say("So it is fresh, for another %s.", spell(ttl))
	case f.Validate != "":
		say("So it is stale; besides, %s.", ReasonText(f.Validate))
	case ttl > -time.Second:
		say("So it is stale.")
	default:
		say("So it is stale, by %s.", spell(-ttl))
	}
}

// outlook says what would be done.
func (e *Explanation) outlook(say func(string, ...any)) {
	why := because(e.Status.Detail)
	if e.Selected >= 0 && e.Stored[e.Selected].Freshness.Validate == e.Status.Detail {
		why = "" // which was said
	}
	switch e.Action {
	case "serve":
		if e.Status.TTL <= 0 {
			say("The next request is answered from the cache although what is stored is stale%s.", why)
		} else {
			say("The next request is answered from the cache; nothing is sent (section 4).")
		}
		return
	case "serve-and-revalidate":
		say("The next request is answered from the cache although what is stored is stale, and the origin asked behind it%s.", why)
	case "refuse":
		say("The next request is answered 504, as it says only-if-cached and the origin would have to be asked%s (section 5.2.1.7).", why)
		return
	case "revalidate":
		if e.conditional() {
			say("The next request asks the origin whether what is stored is still good%s (section 4.3.1).", why)
		} else {
			say("The next request asks the origin for the whole response, as nothing stored has a validator to ask about%s (section 4.3.1).", why)
		}
	case "resume":
		say("The next request asks the origin for the rest, provided that it still belongs to what is held (sections 3.3 and 3.4).")
	case "fetch":
		say("The next request asks the origin for the whole response%s.", why)
	}
	for _, name := range []string{"If-None-Match", "If-Modified-Since", "Range", "If-Range"} {
		if lines := e.Sent[name]; len(lines) > 0 {
			say("It is sent with %s: %s.", name, strings.Join(lines, ", "))
		}
	}
	switch {
	case e.Action == "revalidate" && e.conditional():
		say("If the origin answers 304, what is stored is freshened and served; any other answer is served, and stored if it may be (section 4.3.3), unless it refuses the conditions: then the request is repeated without them.")
	case e.Action == "resume":
		say("If the origin answers 206, the parts are joined; a 200 is served, and stored if it may be; after any other answer the whole is asked for.")
	}
	switch {
	case e.Action == "serve-and-revalidate": // nobody waits
	case e.StaleIfError:
		say("If the origin fails, what is stored is served all the same (stale-if-error, RFC 5861, section 4).")
	case e.Selected >= 0 && !e.Stored[e.Selected].Freshness.MayBeStale:
		say("If the origin fails, so does the request: what is stored must not be used without validation (section 4.2.4).")
	case e.Selected >= 0:
		say("If the origin fails, so does the request, as nothing allows to serve what is stored then (section 4.2.4; RFC 5861, section 4).")
	}
}

// conditional reports whether the request to the origin asks about something stored.
func (e *Explanation) conditional() bool {
	return e.Sent["If-None-Match"] != nil || e.Sent["If-Modified-Since"] != nil
}

// because returns what a detail means as the end of a sentence, empty if there is none.
func because(detail string) string {
	if detail == "" {
		return ""
	}
	if text := ReasonText(detail); text != "" {
		return ", as " + text
	}
	return " (" + detail + ")"
}

// ReasonText says in words what a Detail of [Status], or a Reason of [StoreInfo], stands for, with the
// section that it follows from. It is empty for a word that is not known.
func ReasonText(reason string) string { return reasons[reason] }

var reasons = map[string]string{
	// why the origin is asked, or is not
	"no-cache":               "no-cache asks for validation before each use (RFC 9111, sections 5.2.1.4 and 5.2.2.4)",
	"max-age":                "the request accepts nothing so old (max-age, of which 0 accepts nothing stored; RFC 9111, section 5.2.1.1)",
	"min-fresh":              "the request accepts nothing that becomes stale so soon (min-fresh; RFC 9111, section 5.2.1.3)",
	"must-revalidate":        "must-revalidate forbids to use it when it is stale (RFC 9111, section 5.2.2.2)",
	"max-stale":              "the request accepts that (max-stale; RFC 9111, section 5.2.1.2)",
	"stale-while-revalidate": "the response allows that for a while (stale-while-revalidate; RFC 5861, section 3)",
	"stale-if-error":         "the origin failed (stale-if-error; RFC 5861, section 4)",
	"invalidated":            "it was invalidated, by an unsafe request, a newer response or on purpose, and has to be validated before it is used again (RFC 9111, section 4.4)",
	"decoded":                "what is stored was decoded on arrival, and lacks the Content-Length that a HEAD asks for (RFC 9110, section 9.3.2)",
	"credentials":            "it was asked for with credentials that were added below the cache, so that only the origin can say for whom it is (RFC 9111, section 4.1)",
	"unmatched-304":          "a 304 confirmed none of what is stored, and the origin was asked again (RFC 9111, section 4.3.4)",
	"conditions-refused":     "the origin refused the preconditions that the cache had added, and was asked again without them",
	"range-refused":          "the origin did not complete what is held in part, and was asked for the whole (RFC 9111, section 3.3)",
	"redirect-loop":          "the request follows a redirect to a URL that has redirected it before, and another answer may be due by now",
	"content":                "the request has content, whose meaning is not defined for its method (RFC 9110, section 9.3.1)",
	"upgrade":                "the request asks for another protocol (RFC 9110, section 7.8)",
	"precondition":           "only the origin can evaluate the request's precondition (RFC 9111, section 4.3.2)",

	// why a response is not stored
	"method":                    "responses to its method are not stored (RFC 9111, section 3)",
	"request-no-store":          "the request says no-store (RFC 9111, section 5.2.1.5)",
	"no-store":                  "no-store forbids to store it (RFC 9111, sections 5.2.1.5 and 5.2.2.5)",
	"status":                    "its status code is one that is never stored, or only if the response allows it, or it may be about the range or the preconditions of the request (RFC 9111, section 3; RFC 6585)",
	"must-understand":           "must-understand forbids to store a status code that the cache does not implement (RFC 9111, section 5.2.2.3)",
	"not-allowed":               "nothing allows to store a response with its status code: neither a lifetime nor public or private (RFC 9111, section 3)",
	"no-freshness-or-validator": "it has neither a lifetime nor a validator, and could never be used (RFC 9111, section 3)",
	"error":                     "it is an error, and something better is stored (RFC 9111, section 4.3.3)",
	"content-range":             "it is a part that does not say credibly which (RFC 9110, section 14.4)",
	"incomplete":                "its body broke off or was given up, and cannot be continued later (RFC 9111, section 3.3)",
	"length":                    "its body is longer than its Content-Length said (RFC 9112, section 6.3)",
	"outdated":                  "something newer, or more of the same, is stored already (RFC 9111, section 4)",
	"redirected":                "it answers another URL than was asked for, to which Base followed a redirect",
	"too-large":                 "it is larger than the store keeps",
	"store-error":               "the store failed",
	"closed":                    "the cache was closed",
}

func responsesAre(n int) string {
	if n == 1 {
		return "One response is"
	}
	return strconv.Itoa(n) + " responses are"
}

// heldSpans names the bytes that are held.
func heldSpans(held []span.Span) string {
	if len(held) == 0 {
		return "none"
	}
	var names []string
	for _, s := range held {
		names = append(names, fmt.Sprintf("%d-%d", s.Start, s.End-1))
	}
	return "bytes " + strings.Join(names, ", ")
}

// spell formats d as an explanation says it.
func spell(d time.Duration) string { return duration.Format(d, "") }
