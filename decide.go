package cachetrip

import (
	"net/http"
	"slices"
	"time"

	"github.com/cachetrip/cachetrip/internal/field"
	"github.com/cachetrip/cachetrip/internal/span"
)

// The decision what to do with a request, given the stored responses: RFC 9111,
// section 4. Everything that the cache does follows from the one value that
// decide returns.

// action is what to do with a request.
type action int

const (
	fetch           action = iota // ask the origin, because no stored response helps
	revalidate                    // ask the origin whether a stored response is still valid
	resume                        // ask the origin for the rest of a partial stored response
	serve                         // answer from the store
	serveRevalidate               // answer from the store, and revalidate behind: RFC 5861, section 3
	refuse                        // answer 504, because of only-if-cached
)

// decision is an action and its reason.
type decision struct {
	action   action
	selected int    // the index of the stored response that was selected, -1 if none
	fwd      string // why the request is forwarded, in RFC 9211's words; empty if it is not
	detail   string // the reason in one word, where fwd is not enough
	age      time.Duration
	ttl      time.Duration // lifetime minus age of the selected response
}

// decide says what to do with req at the time now, given the stored responses
// of its primary key.
func decide(now time.Time, req *request, stored []response) decision {
	d, mode := decision{selected: selectStored(req, stored)}, req.policy.Mode
	if d.selected < 0 {
		d.fwd = "uri-miss"
		if slices.ContainsFunc(stored, func(r response) bool { return !r.headOnly || req.method == http.MethodHead }) {
			d.fwd = "vary-miss"
			if d.action = revalidate; mode == ModeReload {
				d.action = fetch
			}
		}
		return d.refusedIf(req.cc.OnlyIfCached)
	}
	r := &stored[d.selected]
	d.age = r.age(now)
	d.ttl = r.lifetime() - d.age
	d.action = revalidate
	switch {
	case mode == ModeReload:
		d.fwd, d.detail, d.action = "request", mode.detail(), fetch
	case !r.usableFor(req):
		d.fwd, d.action = "partial", fetch
		if r.uncompressed && req.method == http.MethodHead {
			d.detail = "decoded"
		}
		if r.resumable(req) {
			d.action = resume
		}
	case r.doubtful() || r.mustValidate() && !mode.takesStale():
		d.fwd, d.detail = "stale", r.whyValidate()
	case mode == ModeNoCache:
		d.fwd, d.detail = "request", mode.detail()
	case req.cc.NoCache:
		d.fwd, d.detail = "request", "no-cache"
	case req.cc.MaxAge != field.None && exceeds(d.age, req.cc.MaxAge) && !(r.cc.Immutable && d.ttl > 0):
		d.fwd, d.detail = "request", "max-age"
	case req.cc.MinFresh != field.None && d.ttl < time.Duration(req.cc.MinFresh)*time.Second:
		d.fwd, d.detail = "request", "min-fresh"
	case d.ttl > 0 && !r.mustValidate():
		if d.action = serve; r.ttl > 0 {
			d.detail = policyTTL
		}
	case mode.takesStale():
		d.action, d.detail = serve, mode.detail()
	case !r.mayBeStale():
		d.fwd, d.detail = "stale", r.whyNotStale()
	case req.cc.MaxStale > 0 && -d.ttl <= time.Duration(req.cc.MaxStale)*time.Second:
		d.action, d.detail = serve, "max-stale"
	case r.ttl < 0:
		d.fwd, d.detail = "stale", policyTTL
	case req.cc.MaxAge == field.None && req.cc.MinFresh == field.None && req.cc.MaxStale == field.None &&
		r.cc.StaleWhileRevalidate > 0 && -d.ttl <= time.Duration(r.cc.StaleWhileRevalidate)*time.Second:
		d.action, d.detail = serveRevalidate, "stale-while-revalidate"
		if req.cc.OnlyIfCached {
			d.action = serve
		}
	default:
		d.fwd = "stale"
	}
	if d.fwd == "request" && d.ttl <= 0 {
		d.fwd = "stale" // "request" is for fresh responses only (RFC 9211, section 2.2)
	}
	return d.refusedIf(req.cc.OnlyIfCached)
}

// policyTTL is the detail of a decision that follows from Policy.TTL.
const policyTTL = "policy-ttl"

// exceeds reports whether an age is more than the max-age of a request, in
// seconds. Every age exceeds 0: max-age=0 asks for the current version, and a
// coarse clock may show no time since a response came.
func exceeds(age time.Duration, maxAge int64) bool {
	return maxAge == 0 || age > time.Duration(maxAge)*time.Second
}

// serves reports whether the selected response answers the request as it is.
func (d decision) serves() bool { return d.action == serve || d.action == serveRevalidate }

// lapsed reports whether the selected response could be served, but for its
// lifetime. Such a response may be given to an alike request that was made
// before the response came; see the top of share.go.
func (d decision) lapsed() bool {
	return d.action == revalidate && d.fwd == "stale" && (d.detail == "" || d.detail == policyTTL)
}

// refusedIf returns a refusal if onlyIfCached is set and d would ask the
// origin. Section 5.2.1.7.
func (d decision) refusedIf(onlyIfCached bool) decision {
	if onlyIfCached && d.action != serve && d.action != serveRevalidate {
		d.action = refuse
	}
	return d
}

// resumable reports whether the rest of r can be requested and joined to the
// parts that are held. r may be stale, because If-Range also validates it.
func (r *response) resumable(req *request) bool {
	return req.method != http.MethodHead && !req.conditional() && req.header["Range"] == nil &&
		r.missing() != span.Of(0, r.length) && r.continuable() && r.askedBy(req)
}

// whyValidate returns the reason why mustValidate is true.
func (r *response) whyValidate() string {
	switch {
	case !r.invalidatedAt.IsZero():
		return "invalidated"
	case r.foreign:
		return "credentials"
	case r.mustNotStore():
		return "no-store" // in a later response for this URL
	default:
		return "no-cache"
	}
}

// whyNotStale returns the reason why mayBeStale is false, if mustValidate is
// false.
func (r *response) whyNotStale() string {
	switch {
	case r.cc.MustRevalidate:
		return "must-revalidate"
	case r.forbidsStoring():
		return "no-store"
	default:
		return "no-cache"
	}
}

// String names the action for logs.
func (a action) String() string {
	return [...]string{"fetch", "revalidate", "resume", "serve", "serve-and-revalidate", "refuse"}[a]
}
