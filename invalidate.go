package cachetrip

import (
	"net/http"
	"net/url"
	"slices"
)

// The URLs that the response to an unsafe request invalidates: RFC 9111,
// section 4.4.

// isSafe reports whether a method is known to be safe. RFC 9110, section 9.2.1,
// and the IANA registry of methods.
func isSafe(method string) bool {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodConnect,
		"QUERY", "PROPFIND", "REPORT", "SEARCH", "PRI":
		return true // CONNECT is not safe, but has no target URI that could be stored
	}
	return false
}

// invalidated returns the URIs whose stored responses become invalid by the
// response to a request for target. They are target itself, and the URIs in
// Location and Content-Location if they have the same origin.
func invalidated(method string, target *url.URL, status int, h http.Header) []*url.URL {
	if isSafe(method) || status < 200 || status > 399 {
		return nil
	}
	targets := []*url.URL{target}
	for _, name := range []string{"Location", "Content-Location"} {
		if h[name] == nil {
			continue
		}
		// These fields have one value. If there are several, the first counts:
		// each costs a search of the store.
		u, err := target.Parse(h[name][0])
		if err == nil && sameOrigin(u, target) && !slices.ContainsFunc(targets, func(other *url.URL) bool { return primaryURL(u, "") == primaryURL(other, "") }) {
			targets = append(targets, u)
		}
	}
	return targets
}

// invalidatedGroups returns the groups that the response to an unsafe request
// invalidates. The status does not matter: an error, too, can follow a change.
// RFC 9875, section 3.
func invalidatedGroups(method string, h http.Header) (names []string, every bool) {
	if lines := h["Cache-Group-Invalidation"]; lines != nil && !isSafe(method) {
		return groupNames(lines)
	}
	return nil, false
}

// describesTarget reports whether the response to a POST can be used for later
// GETs of its target. Such a response names the target in Content-Location and
// states a lifetime. RFC 9110, section 9.3.3.
func describesTarget(method string, target *url.URL, r *response) bool {
	location, err := target.Parse(r.header.Get("Content-Location"))
	return method == http.MethodPost && r.status == http.StatusOK && r.explicit() && err == nil &&
		r.header.Get("Content-Location") != "" && primaryURL(location, "") == primaryURL(target, "")
}

// sameOrigin compares scheme, host and port. RFC 9110, section 4.3.1.
func sameOrigin(a, b *url.URL) bool {
	return originOf(a) == originOf(b)
}
