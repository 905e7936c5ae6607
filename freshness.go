package cachetrip

import (
	"net/http"
	"slices"
	"time"

	"github.com/cachetrip/cachetrip/internal/field"
)

// Age, lifetime and staleness of a response: RFC 9111, section 4.2.

const (
	// clockSlack is how far a clock may be set back without consequences. Time
	// synchronisation makes such steps. A response received further in the
	// future counts as stale.
	clockSlack = time.Minute

	// heuristicShare determines the lifetime of a response without explicit
	// expiration: one tenth of its time since the last modification, as section
	// 4.2.2 suggests.
	heuristicShare = 10

	// maxHeuristic is the longest heuristic lifetime. A file that has not
	// changed for years may change tomorrow.
	maxHeuristic = 7 * 24 * time.Hour
)

// earliestModified is the earliest Last-Modified that the cache believes. Build
// tools and archives write 1970 or 1980 if they know no date.
var earliestModified = time.Date(1980, time.January, 2, 0, 0, 0, 0, time.UTC)

// forever is an age that exceeds every lifetime.
const forever = field.MaxSeconds * time.Second

// age returns the current_age of r. Section 4.2.3.
func (r *response) age(now time.Time) time.Duration {
	residentTime := now.Sub(r.received)
	if residentTime < -clockSlack {
		return forever // the clock was set back, so the age of r is unknown
	}
	return min(forever, r.initialAge()+bounded(residentTime))
}

// initialAge returns the corrected_initial_age of r: how old it was when it was
// received.
func (r *response) initialAge() time.Duration {
	if r.known != nil && r.known.all {
		return r.known.initialAge
	}
	apparentAge := bounded(r.received.Sub(r.date()))
	responseDelay := bounded(r.received.Sub(r.requested))
	ageValue, _ := field.Age(r.header["Age"])
	correctedAge := time.Duration(ageValue)*time.Second + responseDelay
	return max(apparentAge, correctedAge)
}

// bounded limits d to 0 up to forever. The sum of three such durations does not
// overflow.
func bounded(d time.Duration) time.Duration { return min(forever, max(0, d)) }

// lifetime returns the freshness_lifetime of r in a private cache. Section
// 4.2.1.
func (r *response) lifetime() time.Duration {
	lifetime, _ := r.lifetimeFrom()
	return lifetime
}

// lifetimeFrom returns the lifetime and its source: "policy", "max-age",
// "expires", "heuristic", or "" if r has no lifetime. A lifetime of a policy
// begins when r was received, however old r was then.
func (r *response) lifetimeFrom() (lifetime time.Duration, from string) {
	if r.ttl != 0 {
		return max(0, min(forever, r.ttl+r.initialAge())), "policy"
	}
	if r.known != nil && r.known.all {
		return r.known.lifetime, r.known.from
	}
	if r.cc.MaxAge != field.None {
		return time.Duration(r.cc.MaxAge) * time.Second, "max-age"
	}
	if lines, ok := r.header["Expires"]; ok {
		if len(lines) != 1 {
			return 0, "expires"
		}
		expires, ok := field.Date(lines[0], r.received)
		if !ok {
			return 0, "expires" // invalid dates, "0" in particular, lie in the past: section 5.3
		}
		return bounded(expires.Sub(r.date())), "expires"
	}
	if lifetime = r.heuristicLifetime(); lifetime > 0 {
		return lifetime, "heuristic"
	}
	return 0, ""
}

// heuristicLifetime returns a lifetime for a response without explicit
// expiration, or 0 if section 4.2.2 does not allow a guess. If Cache-Control is
// malformed it returns 0, because the malformed part may forbid reuse. The time
// since the last modification ends at Date or at the time of receipt, whichever
// is earlier: a clock of the origin that is ahead must not prolong the
// lifetime.
func (r *response) heuristicLifetime() time.Duration {
	if r.cc.Malformed || !heuristicallyCacheable(r.status) && !r.cc.Public {
		return 0
	}
	modified, ok := r.lastModified()
	if !ok || modified.Before(earliestModified) {
		return 0
	}
	made := r.date()
	if r.received.Before(made) {
		made = r.received
	}
	return min(bounded(made.Sub(modified)/heuristicShare), maxHeuristic)
}

// explicit reports whether r states its lifetime.
func (r *response) explicit() bool {
	_, expires := r.header["Expires"]
	return r.cc.MaxAge != field.None || expires
}

// governs reports whether TTL decides for how long r is fresh.
func (p *Policy) governs(r *response) bool {
	if p.TTL <= 0 {
		return p.TTL < 0
	}
	isPart := r.status == http.StatusPartialContent || len(r.held) > 0 && !r.complete()
	return heuristicallyCacheable(r.status) && !isFailure(r.status) && !isPart
}

// of returns r as the rules see it under p.
func (p *Policy) of(r response) response {
	r.ttl = 0
	if p.governs(&r) {
		r.ttl = max(-forever, min(forever, p.TTL))
	}
	return r
}

// ofAll returns the stored responses as the rules see them under p. It does not
// change stored.
func (p *Policy) ofAll(stored []response) []response {
	if p.TTL == 0 {
		return stored
	}
	stored = slices.Clone(stored)
	for i := range stored {
		stored[i] = p.of(stored[i])
	}
	return stored
}

// heuristicallyCacheable reports whether a response with this status code may
// get a heuristic lifetime. RFC 9110, section 15.1.
func heuristicallyCacheable(status int) bool {
	switch status {
	case http.StatusOK, http.StatusNonAuthoritativeInfo, http.StatusNoContent, http.StatusPartialContent,
		http.StatusMultipleChoices, http.StatusMovedPermanently, http.StatusPermanentRedirect,
		http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone, http.StatusRequestURITooLong,
		http.StatusNotImplemented:
		return true
	}
	return false
}

// newerThan reports whether r is more recent than other: by Date, or else by
// receipt. RFC 9111, section 4.
func (r *response) newerThan(other *response) bool {
	if date, otherDate := r.date(), other.date(); !date.Equal(otherDate) {
		return date.After(otherDate)
	}
	return r.received.After(other.received)
}

// mayBeStale reports whether r may ever be used when it is stale. Section
// 4.2.4.
func (r *response) mayBeStale() bool {
	return !r.cc.MustRevalidate && !r.cc.NoCache && !r.forbidsStoring() && !r.doubtful()
}

// mustValidate reports whether r must be validated before any use, fresh or
// not. A lifetime that the program gives it overrides no-cache.
func (r *response) mustValidate() bool {
	return r.cc.NoCache && r.ttl <= 0 || r.mustNotStore() || r.doubtful()
}

// doubtful reports whether only the origin can tell if r still holds for a
// request. No policy overrides that.
func (r *response) doubtful() bool { return r.foreign || !r.invalidatedAt.IsZero() }

// isFailure reports whether a status code says that the origin failed to
// answer.
func isFailure(status int) bool { return status >= 500 }

// staleOnError reports whether r may be used although it is stale, after the
// origin failed. code is the status code of the failure, or 0 if there was no
// response. stale-if-error in the response or the request allows it for some
// codes only. grace, which the owner of the cache sets, allows it for all
// codes. RFC 5861, section 4.
func staleOnError(now time.Time, req *request, r *response, grace time.Duration, code int) bool {
	if !r.mayBeStale() || req.cc.NoCache || req.policy.Mode.wantsOrigin() || !r.usableFor(req) {
		return false
	}
	var allowed int64 // in seconds
	switch code {
	case 0, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		allowed = max(r.cc.StaleIfError, req.cc.StaleIfError)
	}
	limit := max(time.Duration(allowed)*time.Second, grace)
	return limit > 0 && r.age(now)-r.lifetime() <= limit
}
