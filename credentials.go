package cachetrip

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/cachetrip/cachetrip/internal/field"
)

// Rules about transports below the cache that add credentials, follow redirects
// and decode content. They tell for which user and which URL a response is.

// sending is a request in three forms: as the caller made it, as the cache sent
// it, and as Base sent it.
type sending struct {
	asked  *request      // by the caller
	sent   *http.Request // by the cache
	target *url.URL      // target URL of sent, kept because Base may have changed sent
	actual *http.Request // by Base; nil if it does not say

	header  http.Header // of actual, in canonical form
	changed []string    // the fields in which header differs from what the cache knows
	query   bool        // actual has another query, and Identity has not named the user
}

// sendingOf returns a request for target, which asked describes. sent and
// actual are as in sending.
func sendingOf(asked *request, sent *http.Request, target *url.URL, actual *http.Request) sending {
	s := sending{asked: asked, sent: sent, target: target, actual: actual}
	if actual == nil {
		return s
	}
	s.query = !asked.identified && actual.URL != nil && actual.URL.RawQuery != target.RawQuery
	if s.header = actual.Header; s.isUnchanged() {
		return s
	}
	s.header, _ = field.Canonical(actual.Header)
	compare := func(name string) {
		if !slices.Equal(s.header[name], s.known(name)) && !slices.Contains(s.changed, name) {
			s.changed = append(s.changed, name)
		}
	}
	for name := range s.header {
		compare(name)
	}
	for name := range asked.header {
		if s.header[name] == nil {
			compare(name)
		}
	}
	for _, name := range setFields {
		compare(name)
	}
	return s
}

// isUnchanged reports whether Base sent the request that it got, as it got it.
// That is nearly always so, and one pass over the header tells. It may say
// false for some other requests, too. Of setFields, the cache knows only what
// is in this map.
func (s *sending) isUnchanged() bool {
	if s.actual != s.sent {
		return false
	}
	known := 0
	for name, lines := range s.header {
		if asked, ok := s.asked.header[name]; ok && slices.Equal(asked, lines) {
			known++
		} else if !slices.Contains(setFields, name) {
			return false
		}
	}
	return known == len(s.asked.header)
}

// foreign reports whether a transport below the cache sent other credentials
// than the cache knows. Other values of the selecting fields count, too: those
// that select a response with the header h. by is a digest of these values.
//
// The fields that Base sent are compared with those of the caller, because Base
// may have changed the request itself, although it must not. If Identity named
// the user, Base may add credentials. Accept-Encoding counts only if the
// response is still encoded. A transport that decodes the response has
// requested an encoding by itself, and every caller can read the result.
func (s *sending) foreign(h http.Header) (by string, foreign bool) {
	if !s.query && s.changed == nil { // nearly always
		return "", false
	}
	names := selectingFields(h)
	foreign = s.query || slices.ContainsFunc(s.changed, func(name string) bool {
		if credentialField(name) {
			return !s.asked.identified
		}
		return slices.Contains(names, name) && !(name == "Accept-Encoding" && h["Content-Encoding"] == nil)
	})
	if !foreign {
		return "", false
	}
	if !s.asked.identified {
		for _, fields := range [...]http.Header{s.header, s.asked.header} {
			for name := range fields {
				if credentialField(name) {
					names = append(names, name)
				}
			}
		}
	}
	slices.Sort(names)
	var b strings.Builder
	if s.query {
		b.WriteString(s.actual.URL.RawQuery)
	}
	for _, name := range slices.Compact(names) {
		if s.header[name] == nil {
			continue // a field that was not sent adds nothing to the digest
		}
		b.WriteString("\n" + name)
		for _, line := range s.header[name] {
			b.WriteString("\n:" + line)
		}
	}
	return s.asked.digest.value(b.String()), true
}

// sentAs reports whether this request was sent with the same added credentials
// as the request that r answered. If not, r may not be used even after a 304,
// because dates and careless entity tags do not tell users apart.
func (s *sending) sentAs(r *response) bool {
	by, _ := s.foreign(r.header)
	return by == r.selecting[sentBy]
}

// known returns the lines of a request field as the cache knows them.
func (s *sending) known(name string) []string {
	if slices.Contains(setFields, name) {
		return s.sent.Header[name]
	}
	return s.asked.header[name]
}

// decoded reports whether the content of a response was decoded on arrival: by
// net/http, which says so, or by a transport below that requested an encoding
// by itself. length is -1 if it is unknown.
func (s *sending) decoded(resp *http.Response, length int64) bool {
	if resp.Uncompressed {
		return true
	}
	if s.actual == nil || resp.Header["Content-Encoding"] != nil || length >= 0 {
		return false
	}
	return slices.Contains(s.changed, "Accept-Encoding")
}

// redirected reports whether Base followed redirects by itself. Then the
// response is about another URL. It must not be stored under this URL, and must
// neither confirm nor replace what is stored for it. A URL that differs only in
// its query is no redirect, because Base may have added credentials there.
func (s *sending) redirected() bool {
	actual, target := s.actual, s.target
	switch {
	case actual == nil || actual == s.sent:
		return false
	case actual.Response != nil && actual.Response != s.sent.Response:
		return true
	}
	return actual.URL != nil && (originOf(actual.URL) != originOf(target) || path(actual.URL) != path(target))
}

// followed reports whether Base followed redirects from the request sent, for
// target, to make resp.
func followed(resp *http.Response, sent *http.Request, target *url.URL) bool {
	s := sending{sent: sent, target: target, actual: resp.Request}
	return s.redirected()
}

// path returns the path of u as it is sent.
func path(u *url.URL) string {
	path, _, _ := strings.Cut(u.RequestURI(), "?")
	return path
}

// sentBy is the name in Entry.Selecting for the digest of credentials that were
// added below the cache. No field has this name.
const sentBy = ":sent-by"

// sentFrom is the name in Entry.Selecting for the digest of the origin that has
// sent a response with groups, if Policy.URL may be on another one.
const sentFrom = ":sent-from"

// setFields are the request fields that the cache may set.
var setFields = []string{"Cache-Control", "If-None-Match", "If-Modified-Since", "Range", "If-Range"}
