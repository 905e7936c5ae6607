package cachetrip

import (
	"errors"
	"net/http"
	"time"

	"github.com/cachetrip/cachetrip/store"
)

// Explanations: what the cache would do with a request, and why, as data and in
// sentences. They use the same rules as real requests.

// Explanation says what a [Transport] would do with a request, and why.
type Explanation struct {
	// Action is what the cache would do:
	//
	// - "serve": answer from the store;
	// - "serve-and-revalidate": answer from the store, and revalidate in the
	//   background;
	// - "revalidate": ask the origin whether a stored response is still valid;
	// - "resume": ask the origin for the rest of a partial response;
	// - "fetch": ask the origin for the response;
	// - "refuse": answer 504, because the request says only-if-cached;
	// - "forward": pass the request on, past the cache. Then the store is not
	//   asked either.
	Action string

	// Status is the status of the response, as far as it is known before the
	// origin is asked: Hit, Fwd, Detail, and TTL and Age of the selected
	// response.
	Status Status

	// Stored are the responses that are stored for the request's URL and
	// identity, in no particular order.
	Stored []StoredResponse

	// Equivalent is the URL of the responses in Stored, if it is not the URL of
	// the request. Their No-Vary-Search says that the two URLs are equivalent. It
	// is empty otherwise.
	Equivalent string

	// Selected is the index in Stored of the response that the request selects,
	// or -1.
	Selected int

	// Policy is what the program wants for the request. See [Transport.Policy].
	Policy Policy

	// Others are the responses that are stored for the URL and other
	// identities. They must not be changed.
	Others []*store.Entry

	// Sent is the header of the request that the cache would send to the
	// origin, or nil if it would send none. It contains the credentials of the
	// request.
	Sent http.Header

	// StaleIfError says that the selected response would be served if the
	// origin failed. Failures are errors and the status codes 500, 502, 503 and
	// 504. With [Transport.StaleIfError] they are errors and all codes from 500
	// on.
	StaleIfError bool

	directives []string
}

// StoredResponse is a stored response as the rules see it.
type StoredResponse struct {
	Entry     *store.Entry // the stored metadata; must not be changed
	Freshness Freshness    // at the time of the explanation

	// Mismatch is the name of the first selecting field that the request does
	// not match. It is "*" if no request matches, and empty if all fields
	// match. RFC 9111, section 4.1.
	Mismatch string

	// Storable is the reason why the response would not be stored today, a word
	// for [ReasonText]. It is empty if it would be stored.
	Storable string
}

// Freshness tells how old a stored response is, and how old it may become. RFC
// 9111, section 4.2.
type Freshness struct {
	Age          time.Duration // current_age at the time of the question, at most 2^31 s
	InitialAge   time.Duration // corrected_initial_age: the age when the response was received
	Lifetime     time.Duration // freshness_lifetime: the age at which it becomes stale, at most 2^31 s
	LifetimeFrom string        // "policy", "max-age", "expires" or "heuristic"; empty if it has no lifetime

	// Validate is the reason why the response must be validated before any use.
	// It is empty if only the age decides. Otherwise it is one of these words,
	// which [ReasonText] explains: "invalidated", "credentials", "no-store",
	// "no-cache".
	Validate string

	// MayBeStale says that nothing forbids serving the response when it is
	// stale. A directive or an option must still allow it.
	MayBeStale bool
}

// TTL returns how long the response stays fresh. It is negative if the response
// is stale.
func (f Freshness) TTL() time.Duration { return f.Lifetime - f.Age }

// Fresh reports whether a request without directives may be answered with the
// response without asking the origin.
func (f Freshness) Fresh() bool { return f.TTL() > 0 && f.Validate == "" }

// FreshnessOf returns the freshness of e at the time now. It ignores the
// monotonic clock reading of now.
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

// Explain says what [Transport.RoundTrip] would do with req now, and why. It
// sends nothing, does not count as use of stored responses, and does not read
// the body of req. It returns an error if the store fails or req has no URL.
func (t *Transport) Explain(req *http.Request) (Explanation, error) {
	ctx := req.Context()
	explained := Explanation{Action: "forward", Selected: -1}
	if req.URL == nil {
		return explained, errors.New("cachetrip: explain: no URL")
	}
	if t.keeps() && !t.closed.Load() {
		if _, err := t.digester(ctx); err != nil {
			return explained, prefixed("explain", err)
		}
	}
	w := t.wishesFor(req)
	w.sparesBody = true
	explained.Policy = w.policy
	x, status := t.begin(req, &w)
	if x == nil {
		explained.Status = status
		if onlyCached(req, &w) {
			explained.Action = refuse.String()
			return explained, nil
		}
		explained.Sent = withDirectives(req.Header, w.directives)
		return explained, nil
	}
	t.writes.Of(x.key).Wait(ctx)
	var entries []*store.Entry
	for e, err := range x.store().Each(ctx, x.url()) {
		if err != nil {
			return explained, prefixed("explain", err)
		}
		if e.Key == x.key {
			entries = append(entries, e)
		} else {
			explained.Others = append(explained.Others, e)
		}
	}
	found := lookup{entries: entries, stored: x.judged(x.rules.policy.ofAll(responses(entries)), x.unused)}
	found.decision = decide(wallClock(), x.rules, found.stored)
	if x.seeksEquivalent(&found, x.unused) {
		x.useEquivalent(&found, x.unused)
	}
	if x.exact != nil {
		explained.Equivalent = found.entry().URL
	}
	x.explain(&explained, found)
	return explained, nil
}

// unused is a reader that does not count as use.
func (x *exchange) unused(key string) (entries []*store.Entry, err error) {
	for e, err := range x.store().Each(x.req.Context(), key) {
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// explain adds to explained what x would do with what was found.
func (x *exchange) explain(explained *Explanation, found lookup) {
	now := wallClock()
	d, entries, stored := found.decision, found.entries, found.stored
	explained.Action = d.action.String()
	explained.Selected = d.selected
	explained.Status = Status{Fwd: d.fwd, Detail: d.detail}
	for i := range stored {
		r := &stored[i]
		original := &request{method: entries[i].Method, cc: neutral, policy: Policy{CacheContent: true}}
		explained.Stored = append(explained.Stored, StoredResponse{
			Entry: entries[i], Freshness: r.freshness(now), Mismatch: r.mismatch(x.rules, nil),
			Storable: storable(original, r, x.keepsStale()),
		})
	}
	if d.selected >= 0 {
		explained.Status.Age, explained.Status.TTL = d.age, d.ttl
		explained.StaleIfError = staleOnError(now, x.rules, &stored[d.selected], x.staleIfError(), 0)
	}
	explained.directives, _ = x.rules.lines("Cache-Control")
	switch d.action {
	case serve:
		explained.Status.Hit = true
		return
	case serveRevalidate:
		explained.Status.Hit = true
		d.action = revalidate // behind it
	case refuse:
		explained.StaleIfError = false
		return
	}
	x.detach()
	found.decision = d
	out, _ := x.question(x.req.Context(), &found)
	explained.Sent = out.Header
	closeBody(out)
}
