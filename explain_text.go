package cachetrip

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip/internal/duration"
	"github.com/cachetrip/cachetrip/internal/field"
	"github.com/cachetrip/cachetrip/internal/redact"
	"github.com/cachetrip/cachetrip/internal/span"
)

// Explanations in sentences.

// String returns the sentences of the explanation, one per line.
func (e Explanation) String() string { return strings.Join(e.Sentences(), "\n") }

// Sentences returns the explanation in sentences. Each names the section that
// it follows from, of RFC 9111 unless it says otherwise.
func (e Explanation) Sentences() []string {
	var lines []string
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	e.Policy.sentences(say)

	if e.Action == "forward" {
		switch e.Status.Fwd {
		case "method":
			say("The request goes to the origin: the cache answers only GET, HEAD and QUERY, and a POST by Policy.CacheContent. If an unsafe method succeeds, the stored responses for its URL become invalid (section 4.4).")
		case "request":
			say("The request goes to the origin and its response is not stored, because the request says %s (section 5.2.1.5).", e.Status.Detail)
		default:
			say("The request goes to the origin, past the cache%s.", because(e.Status.Detail))
		}
		return lines
	}

	if e.Action == "refuse" && (e.Status.Fwd == "bypass" || e.Status.Fwd == "method" || e.Status.Detail == "no-store") {
		say("The request gets a 504: it says only-if-cached, but the cache does not answer such requests%s (section 5.2.1.7).", because(e.Status.Detail))
		return lines
	}

	switch n := len(e.Stored); {
	case e.Equivalent != "":
		say("Nothing that serves the request is stored for this URL. The response for %s is used instead: its No-Vary-Search says that the URLs are equivalent.", redact.URL(e.Equivalent, false))
	case n == 0 && len(e.Others) == 0:
		say("Nothing is stored for this URL. The cache keeps no record of responses that it did not store.")
	case n == 0:
		say("Nothing is stored for this URL with these credentials.")
	case n == 1:
		say("One response is stored for this URL.")
	default:
		say("%d responses are stored for this URL, one for each variant (section 4.1).", n)
	}
	if len(e.Others) > 0 {
		say("%s stored for other credentials or identities, and never used for this request.", responsesAre(len(e.Others)))
	}
	if e.Selected >= 0 {
		subject := "It"
		if len(e.Stored) > 1 {
			subject = fmt.Sprintf("Response %d, which the request selects,", e.Selected+1)
		}
		e.Stored[e.Selected].sentences(subject, say)
	} else {
		for i := range e.Stored {
			s := &e.Stored[i]
			switch {
			case s.Mismatch == "*":
				say("Stored response %d says Vary: *, so each use must be confirmed by the origin (section 4.1).", i+1)
			case s.Mismatch != "":
				say("Stored response %d is for another value of %s than the request has (section 4.1).", i+1, s.Mismatch)
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

// sentences says what the program wants.
func (p *Policy) sentences(say func(string, ...any)) {
	if p.Mode != ModeDefault {
		say("The program's cache mode is %v (Policy.Mode).", p.Mode)
	}
	switch {
	case p.TTL > 0:
		say("The program gives responses a lifetime of %s, whatever the origin says (Policy.TTL).", spell(p.TTL))
	case p.TTL < 0:
		say("The program wants no response to be fresh (Policy.TTL).")
	}
	if p.StaleIfError > 0 {
		say("The program accepts responses that have been stale for up to %s if the origin fails (Policy.StaleIfError).", spell(p.StaleIfError))
	}
	if p.URL != nil {
		say("The response is stored and looked up under %s (Policy.URL).", redact.URL(storedURL(p.URL, ""), false))
	}
	if p.MaxBodyBytes > 0 {
		say("Bodies of more than %d bytes are not stored (Policy.MaxBodyBytes).", p.MaxBodyBytes)
	}
}

// sentences describes a response that a request selects.
func (s *StoredResponse) sentences(subject string, say func(string, ...any)) {
	s.identity(subject, say)
	s.lifetime(say)
	s.age(say)
}

// identity says what the response is, how it is selected, and how much of it is
// held.
func (s *StoredResponse) identity(subject string, say func(string, ...any)) {
	e, r := s.Entry, newResponse(s.Entry)
	useful := []string{}
	if s.Freshness.Lifetime > 0 {
		useful = append(useful, "a lifetime")
	}
	if r.hasValidator() {
		useful = append(useful, "a validator")
	}
	switch {
	case s.Storable != "":
		say("%s is a %d to a %s. It would not be stored today%s.", subject, e.Status, e.Method, because(s.Storable))
	case len(useful) > 0:
		say("%s is a %d to a %s. It could be stored, because nothing forbids that and it has %s (section 3).", subject, e.Status, e.Method, strings.Join(useful, " and "))
	default:
		say("%s is a %d to a %s. It could be stored, because nothing forbids that (section 3).", subject, e.Status, e.Method)
	}
	if names := selectingFields(e.Header); len(names) > 0 {
		say("It is selected by %s, which has the same value as in the request that it answered (section 4.1).", strings.Join(names, ", "))
	}
	switch {
	case r.headOnly:
	case !r.complete() && r.length >= 0:
		say("It is incomplete: %s of %d bytes are held (section 3.3).", heldSpans(r.held), r.length)
	case !r.complete():
		say("It is incomplete: %s of an unknown number of bytes are held (section 3.3).", heldSpans(r.held))
	}
}

// lifetime says for how long the response is fresh, and why.
func (s *StoredResponse) lifetime(say func(string, ...any)) {
	f := s.Freshness
	if field.ParseCacheControl(s.Entry.Header["Cache-Control"]).Malformed {
		say("Its Cache-Control is malformed, and is read in the stricter way (section 4.2.1).")
	}
	switch f.LifetimeFrom {
	case "policy":
		if f.Lifetime == 0 {
			say("It is never fresh, because the program's Policy says so.")
		} else {
			say("Its lifetime is %s, by the program's Policy.", spell(f.Lifetime))
		}
	case "max-age":
		say("Its lifetime is %s, from Cache-Control: max-age (section 4.2.1).", spell(f.Lifetime))
	case "expires":
		if f.Lifetime == 0 {
			say("Its lifetime is 0: Expires is not later than Date, or is not a date (sections 4.2.1 and 5.3).")
		} else {
			say("Its lifetime is %s: Expires minus Date (section 4.2.1).", spell(f.Lifetime))
		}
	case "heuristic":
		share := "a tenth of the time from Last-Modified to Date or receipt, whichever is earlier"
		if f.Lifetime == maxHeuristic {
			share = "the longest that the cache assumes"
		}
		say("It states no lifetime. The cache assumes %s: %s (section 4.2.2).", spell(f.Lifetime), share)
	default:
		say("It states no lifetime, and the cache can assume none, so it is stale at once (section 4.2.2).")
	}
}

// age says how old the response is, and whether it is still fresh.
func (s *StoredResponse) age(say func(string, ...any)) {
	f := s.Freshness
	if f.Age >= forever {
		say("Its age is unknown, because the clock was set back (section 4.2.3).")
	} else {
		age, initial := f.Age.Truncate(time.Second), f.InitialAge.Truncate(time.Second) // in whole seconds, so that the sum is exact
		say("Its age is %s: %s when it was received or last validated, at %s, and %s since (section 4.2.3).",
			spell(age), spell(initial), s.Entry.ResponseTime.UTC().Format(time.RFC3339), spell(age-initial))
	}
	switch ttl := f.TTL(); {
	case ttl > 0 && f.Validate != "":
		say("It would be fresh for another %s, but %s.", spell(ttl), ReasonText(f.Validate))
	case ttl > 0:
		say("So it is fresh for another %s.", spell(ttl))
	case f.Validate != "":
		say("So it is stale; also, %s.", ReasonText(f.Validate))
	case ttl > -time.Second:
		say("So it is stale.")
	default:
		say("So it has been stale for %s.", spell(-ttl))
	}
}

// outlook says what the cache would do next.
func (e *Explanation) outlook(say func(string, ...any)) {
	why := because(e.Status.Detail)
	if e.Selected >= 0 && e.Stored[e.Selected].Freshness.Validate == e.Status.Detail {
		why = "" // the sentences about the response have said so
	}
	switch e.Action {
	case "serve":
		if e.Status.TTL <= 0 {
			say("The next request is answered from the cache although the stored response is stale%s.", why)
		} else {
			say("The next request is answered from the cache; nothing is sent (section 4).")
		}
		return
	case "serve-and-revalidate":
		say("The next request is answered from the cache although the stored response is stale, and the origin is asked in the background%s.", why)
	case "refuse":
		say("The next request gets a 504: it says only-if-cached, but the origin would have to be asked%s (section 5.2.1.7).", why)
		return
	case "revalidate":
		if e.conditional() {
			say("The next request asks the origin whether the stored response is still valid%s (section 4.3.1).", why)
		} else {
			say("The next request asks the origin for the whole response, because no stored response has a validator%s (section 4.3.1).", why)
		}
	case "resume":
		say("The next request asks the origin for the rest, if the content has not changed (sections 3.3 and 3.4).")
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
		say("If the origin answers 304, the stored response is updated and served. If it refuses the conditions, the request is repeated without them. Any other response is served, and stored if allowed (section 4.3.3).")
	case e.Action == "resume":
		say("If the origin answers 206, the parts are joined. A 200 is served, and stored if allowed. After any other response, the request is repeated for the whole.")
	}
	switch {
	case e.Action == "serve-and-revalidate": // no caller waits for the origin
	case e.StaleIfError:
		say("If the origin fails, the stored response is served (stale-if-error, RFC 5861, section 4).")
	case e.Selected >= 0 && !e.Stored[e.Selected].Freshness.MayBeStale:
		say("If the origin fails, so does the request: the stored response must not be used without validation (section 4.2.4).")
	case e.Selected >= 0:
		say("If the origin fails, so does the request: nothing allows serving the stored response then (section 4.2.4; RFC 5861, section 4).")
	}
}

// conditional reports whether the request to the origin has preconditions.
func (e *Explanation) conditional() bool {
	return e.Sent["If-None-Match"] != nil || e.Sent["If-Modified-Since"] != nil
}

// because returns the meaning of a detail as the end of a sentence. It is empty
// if there is no detail.
func because(detail string) string {
	if detail == "" {
		return ""
	}
	if text := ReasonText(detail); text != "" {
		return ", because " + text
	}
	return " (" + detail + ")"
}

func responsesAre(n int) string {
	if n == 1 {
		return "One response is"
	}
	return strconv.Itoa(n) + " responses are"
}

// heldSpans lists the bytes that are held.
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
