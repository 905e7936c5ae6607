package cachetrip

import (
	"net/http"
	"slices"
	"time"

	"github.com/cachetrip/cachetrip/internal/field"
)

// May a private cache store this response? RFC 9111, section 3.

// storable returns why the response r to req must not or should not be stored,
// or "" if it may be. keepsStale says that the cache may serve stale responses
// even if they do not allow it (Transport.StaleIfError).
func storable(req *request, r *response, keepsStale bool) (why string) {
	switch {
	case req.method != http.MethodGet && req.method != http.MethodHead && !req.policy.readsOnly(req.method):
		return "method"
	case req.cc.NoStore:
		return "request-no-store"
	case !concernsOthers(r.status) || mayRefuseExtras(r.status) && (req.header["Range"] != nil || req.conditional()):
		return "status"
	case r.ttl > 0 && !r.varies("*"): // the program gives it a lifetime
		return ""
	case r.cc.MustUnderstand && !understood(r.status):
		return "must-understand"
	case r.mustNotStore():
		return "no-store"
	case isError(r.status) && !r.explicit() && !r.cc.Public && !heuristicallyCacheable(r.status):
		return "status" // errors are stored only if the response asks for it
	case !r.explicit() && !r.cc.Public && !r.cc.Private && !heuristicallyCacheable(r.status):
		return "not-allowed"
	case !r.useful(keepsStale):
		return "no-freshness-or-validator"
	}
	return ""
}

// concernsOthers reports whether a response with this status says something
// about the resource that holds for other requests. If not, it is never stored,
// and leaves the stored responses as they are. These statuses do not concern
// other requests:
//
// - interim responses;
// - answers to preconditions, ranges or A-IM, which other requests do not have;
// - 428, 429, 431 and 511, which RFC 6585 forbids caches to store.
func concernsOthers(status int) bool {
	switch status {
	case http.StatusIMUsed, http.StatusNotModified, http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable,
		http.StatusPreconditionRequired, http.StatusTooManyRequests, http.StatusRequestHeaderFieldsTooLarge, http.StatusNetworkAuthenticationRequired:
		return false
	}
	return status >= 200
}

// mayRefuseExtras reports whether a response with this status may be about a
// range or preconditions rather than about the resource. Firewalls and careless
// handlers send such responses.
func mayRefuseExtras(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusPreconditionFailed, http.StatusNotImplemented:
		return true
	}
	return false
}

// useful reports whether r could ever be used: while fresh, after validation,
// or stale.
func (r *response) useful(keepsStale bool) bool {
	return r.hasValidator() ||
		!r.varies("*") && !r.cc.NoCache && (r.lifetime() > 0 ||
			r.mayBeStale() && (keepsStale || r.cc.StaleIfError > 0 || r.cc.StaleWhileRevalidate > 0))
}

// hasValidator reports whether the origin can be asked about r. RFC 9110,
// section 8.8.
func (r *response) hasValidator() bool {
	_, modified := r.lastModified()
	return modified || r.entityTag() != ""
}

// isError reports whether status describes a failure rather than the resource:
// a failure of the origin, or a request that was not permitted.
func isError(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired, http.StatusRequestTimeout,
		http.StatusPreconditionRequired, http.StatusTooManyRequests, http.StatusRequestHeaderFieldsTooLarge:
		return true
	}
	return status >= 500
}

// rateLimited reports whether a response says that the client sends too many
// requests. Such a response says nothing about the resource.
func rateLimited(status int, h http.Header) bool {
	switch status {
	case http.StatusTooManyRequests:
		return true
	case http.StatusForbidden, http.StatusServiceUnavailable:
		return h["Retry-After"] != nil || h.Get("X-Ratelimit-Remaining") == "0"
	}
	return false
}

// retryAfter returns how long the origin asks to wait, or 0 if h does not say.
// now is when the response was received. RFC 9110, section 10.2.3.
func retryAfter(h http.Header, now time.Time) time.Duration {
	lines := h["Retry-After"]
	if len(lines) != 1 {
		return 0
	}
	if seconds, ok := offset(lines[0]); ok {
		return bounded(time.Duration(min(seconds, int64(forever/time.Second))) * time.Second)
	}
	at, ok := field.Date(lines[0], now)
	if !ok {
		return 0
	}
	return bounded(at.Sub(now)).Round(time.Second)
}

// refusesAccess reports whether a response denies access to a resource that an
// earlier request may have been given. The stored response must then be
// validated before use. Other errors have no effect on it.
func refusesAccess(status int, h http.Header) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden && !rateLimited(status, h)
}

// understood reports whether the cache implements the rules for a status code,
// which must-understand requires (section 5.2.2.3). It does for the codes of
// RFC 9110, sections 15.3 to 15.6.
func understood(status int) bool {
	switch status {
	case http.StatusPermanentRedirect, http.StatusMisdirectedRequest, http.StatusUnprocessableEntity, http.StatusUpgradeRequired:
		return true
	}
	return status >= 200 && status <= 206 || status >= 300 && status <= 307 && status != 306 ||
		status >= 400 && status <= 417 || status >= 500 && status <= 505
}

// storedHeader returns the fields of h that may be stored. It leaves out fields
// that concern one connection or proxy. Section 3.1.
func storedHeader(h http.Header) http.Header {
	stored := h.Clone()
	for _, name := range connectionFields(h) {
		delete(stored, name)
	}
	for _, name := range perConnection {
		delete(stored, name)
	}
	return stored
}

// connectionFields returns the fields that must not be stored because
// Connection names them.
func connectionFields(h http.Header) []string {
	lines := h["Connection"]
	if lines == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(field.Names(lines)), func(name string) bool { return slices.Contains(endToEnd, name) })
}

// isStoredField reports whether storedHeader keeps a field, given the
// connectionFields.
func isStoredField(name string, connection []string) bool {
	return !slices.Contains(perConnection, name) && !slices.Contains(connection, name)
}

// endToEnd lists the fields that are stored even if Connection names them. They
// control how a response is used, and Connection must not name them. RFC 9110,
// section 7.6.1.
var endToEnd = []string{
	"Age", "Cache-Control", "Content-Encoding", "Content-Range", "Date", "Expires", "Vary",
}

// perConnection lists the fields that are not stored. RFC 9110, section 7.6.1;
// RFC 9111, section 3.1.
var perConnection = []string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	"Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization",
}

// refusesConditions reports whether the origin may have refused preconditions
// that the cache added. The request is then repeated without them.
func refusesConditions(status int, h http.Header) bool {
	return mayRefuseExtras(status) && !rateLimited(status, h)
}

// refusesRange reports whether a response with this status can only be due to
// the Range field. No request without a range gets such a status.
func refusesRange(status int) bool {
	switch status {
	case http.StatusPartialContent, http.StatusNotModified, http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable:
		return true
	}
	return false
}

// contentDigests lists the digest fields that describe the content of the
// message they came in (RFC 9530, section 2, and older fields). They are wrong
// for a part or a completion of it, unlike Repr-Digest. Clients of Amazon S3
// check the X-Amz fields against the content of any message, although S3
// computes them for the whole object.
var contentDigests = []string{
	"Content-Digest", "Content-Md5", "Digest",
	"X-Amz-Checksum-Crc32", "X-Amz-Checksum-Crc32c", "X-Amz-Checksum-Crc64nvme", "X-Amz-Checksum-Sha1", "X-Amz-Checksum-Sha256",
}

func withoutContentDigests(h http.Header) {
	for _, name := range contentDigests {
		delete(h, name)
	}
}
