package cachetrip

import (
	"net/http"
	"slices"

	"github.com/cachetrip/cachetrip/internal/field"
)

// May a private cache store this response? RFC 9111, section 3.

// storable returns why the response r to req must not, or should not, be stored; empty if it may be.
// keepsStale tells that stale responses can be of use even where no response allows it.
func storable(req *request, r *response, keepsStale bool) (why string) {
	switch {
	case req.method != http.MethodGet && req.method != http.MethodHead:
		return "method"
	case req.cc.NoStore:
		return "request-no-store"
	case !concernsOthers(r.status) || mayRefuseExtras(r.status) && (req.header["Range"] != nil || req.conditional()):
		return "status"
	case r.cc.MustUnderstand && !understood(r.status):
		return "must-understand"
	case r.mustNotStore():
		return "no-store"
	case isError(r.status) && !r.explicit() && !r.cc.Public && !heuristicallyCacheable(r.status):
		return "status" // an error is kept only where that is asked for
	case !r.explicit() && !r.cc.Public && !r.cc.Private && !heuristicallyCacheable(r.status):
		return "not-allowed"
	case !r.useful(keepsStale):
		return "no-freshness-or-validator"
	}
	return ""
}

// concernsOthers reports whether a response with this status says something about the resource that
// holds for other requests. It does not if it is not the final one, if it answers preconditions, a
// range or an A-IM field that other requests do not have, or if it is about the way to the resource:
// RFC 6585 forbids caches to store 428, 429, 431 and 511. Such a response is never stored, and what
// is stored stays as it is.
func concernsOthers(status int) bool {
	switch status {
	case http.StatusIMUsed, http.StatusNotModified, http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable,
		http.StatusPreconditionRequired, http.StatusTooManyRequests, http.StatusRequestHeaderFieldsTooLarge, http.StatusNetworkAuthenticationRequired:
		return false
	}
	return status >= 200
}

// mayRefuseExtras reports whether a status may be about a range or preconditions rather than about the resource, as
// firewalls and careless handlers send it.
func mayRefuseExtras(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusPreconditionFailed, http.StatusNotImplemented:
		return true
	}
	return false
}

// mustNotStore reports whether r forbids to be stored, which must-understand, once it is understood,
// overrides. Sections 5.2.2.3 and 5.2.2.5.
func (r *response) mustNotStore() bool { return r.cc.NoStore && !r.cc.MustUnderstand }

// useful reports whether r could ever be used: while fresh, after validation, or stale.
func (r *response) useful(keepsStale bool) bool {
	return r.hasValidator() ||
		!r.varies("*") && !r.cc.NoCache && (r.lifetime() > 0 ||
			r.mayBeStale() && (keepsStale || r.cc.StaleIfError > 0 || r.cc.StaleWhileRevalidate > 0))
}

// hasValidator reports whether the origin can be asked about r. RFC 9110, section 8.8.
func (r *response) hasValidator() bool {
	_, modified := r.lastModified()
	return modified || r.entityTag() != ""
}

// isError reports whether status describes a failure, of the origin or of the right to ask it,
// rather than the resource.
func isError(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired, http.StatusRequestTimeout,
		http.StatusPreconditionRequired, http.StatusTooManyRequests, http.StatusRequestHeaderFieldsTooLarge:
		return true
	}
	return status >= 500
}

// rateLimited reports whether a response with the status and the header h says that the client asks too often: for
// that it is no answer to what was asked for.
func rateLimited(status int, h http.Header) bool {
	switch status {
	case http.StatusTooManyRequests:
		return true
	case http.StatusForbidden, http.StatusServiceUnavailable:
		return h["Retry-After"] != nil || h.Get("X-Ratelimit-Remaining") == "0"
	}
	return false
}

// refusesAccess reports whether a response with the status and the header h denies what the same request may have been
// given before. It says of the stored response that the origin does not give it out any more. Other errors say nothing of it.
func refusesAccess(status int, h http.Header) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden && !rateLimited(status, h)
}

// understood reports whether the cache implements what status asks of caches, which is what
// must-understand is about: section 5.2.2.3. Those are the codes of RFC 9110, sections 15.3 to 15.6.
func understood(status int) bool {
	switch status {
	case http.StatusPermanentRedirect, http.StatusMisdirectedRequest, http.StatusUnprocessableEntity, http.StatusUpgradeRequired:
		return true
	}
	return status >= 200 && status <= 206 || status >= 300 && status <= 307 && status != 306 ||
		status >= 400 && status <= 417 || status >= 500 && status <= 505
}

// storedHeader returns the fields of h that may be stored: not those that concern one connection
// or proxy. Section 3.1.
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

// connectionFields returns the names of the fields that are not stored because Connection names them.
func connectionFields(h http.Header) []string {
	lines := h["Connection"]
	if lines == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(field.Names(lines)), func(name string) bool { return slices.Contains(endToEnd, name) })
}

// isStoredField reports whether storedHeader keeps a field, given the connectionFields.
func isStoredField(name string, connection []string) bool {
	return !slices.Contains(perConnection, name) && !slices.Contains(connection, name)
}

// endToEnd lists the fields that say what may be done with a response, and are therefore kept even
// if Connection names them, which it must not: RFC 9110, section 7.6.1.
var endToEnd = []string{
	"Age", "Cache-Control", "Content-Encoding", "Content-Range", "Date", "Expires", "Vary",
}

// perConnection lists the fields that are not stored. RFC 9110, section 7.6.1; RFC 9111, section 3.1.
var perConnection = []string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	"Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization",
}

// refusesConditions reports whether a response may be due to preconditions that the caller did not
// send. Then the request is worth repeating without them.
func refusesConditions(status int, h http.Header) bool {
	return mayRefuseExtras(status) && !rateLimited(status, h)
}

// refusesRange reports whether a refusal with the status can only be due to the Range field: the
// origin does not answer a request without one like that.
func refusesRange(status int) bool {
	switch status {
	case http.StatusPartialContent, http.StatusNotModified, http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable:
		return true
	}
	return false
}
