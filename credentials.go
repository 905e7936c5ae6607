package cachetrip

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/cachetrip/cachetrip/internal/field"
)

// Rules: on whose behalf a request was sent in the end, and what of the response is about the URL that was asked for.
// Transports below the cache add credentials, follow redirects and decode content.

// sending is a request as it was asked for, as the cache sent it, and as it was sent in the end.
type sending struct {
	asked  *request      // by the caller
	sent   *http.Request // by the cache
	target *url.URL      // of sent, which Base may have changed
	actual *http.Request // by Base; nil if it does not say
}

// foreign reports whether something below the cache gave the request other credentials, or other
// values of the fields that a response with the header h was selected by, than the cache knows of;
// by is a digest of those. Base may have done so in a copy of the request or, though it must not,
// in the request itself: what counts is what the caller sent. If Identity named whose the request
// is, credentials are no news. Nor is Accept-Encoding, unless the response is coded still: a transport
// below that decodes asks for a coding by itself, and what it returns suits all.
func (s *sending) foreign(h http.Header) (by string, foreign bool) {
	actual := s.actual
	if actual == nil {
		return "", false
	}
	header, _ := field.Canonical(actual.Header)
	query := !s.asked.identified && actual.URL != nil && actual.URL.RawQuery != s.target.RawQuery
	names := selectingFields(h)
	changed := func(name string) bool { return !slices.Equal(header[name], s.known(name)) }
	foreign = query || slices.ContainsFunc(names, func(name string) bool {
		if name == "Accept-Encoding" && h["Content-Encoding"] == nil {
			return false
		}
		return changed(name) && !(s.asked.identified && credentialField(name))
	})
	if !s.asked.identified {
		for _, fields := range [...]http.Header{header, s.asked.header} {
			for name := range fields {
				foreign = foreign || changed(name) && credentialField(name)
			}
		}
	}
	if !foreign {
		return "", false
	}
	if !s.asked.identified {
		for _, fields := range [...]http.Header{header, s.asked.header} {
			for name := range fields {
				if credentialField(name) {
					names = append(names, name)
				}
			}
		}
	}
	slices.Sort(names)
	var b strings.Builder
	if query {
		b.WriteString(actual.URL.RawQuery)
	}
	for _, name := range slices.Compact(names) {
		if header[name] == nil {
			continue // whatever the caller sent
		}
		b.WriteString("\n" + name)
		for _, line := range header[name] {
			b.WriteString("\n:" + line)
		}
	}
	return s.asked.digest.value(b.String()), true
}

// sentAs reports whether the request that is answered was sent with the credentials with which r
// was asked for, as far as those came from below the cache. If not, not even a 304 says that r may
// be used: dates and careless entity tags do not tell users apart.
func (s *sending) sentAs(r *response) bool {
	by, _ := s.foreign(r.header)
	return by == r.selecting[sentBy]
}

// known returns the lines of a request field that the cache knows of.
func (s *sending) known(name string) []string {
	if slices.Contains(setFields, name) {
		return s.sent.Header[name]
	}
	return s.asked.header[name]
}

// decoded reports whether the content of a response, whose length is -1 if it is not known, was decoded on arrival: by
// net/http, which says so, or by a transport below that asked for a coding on its own.
func (s *sending) decoded(resp *http.Response, length int64) bool {
	if resp.Uncompressed {
		return true
	}
	if s.actual == nil || resp.Header["Content-Encoding"] != nil || length >= 0 {
		return false
	}
	const name = "Accept-Encoding"
	header, _ := field.Canonical(s.actual.Header)
	return !slices.Equal(header[name], s.known(name))
}

// redirected reports whether Base followed redirects by itself, so that the response is about another URL than was
// asked for: nothing of it may be stored, confirmed or replaced under this one. Another query alone is taken for
// credentials that were added below the cache.
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

// followed reports whether Base followed redirects from the request sent, for target, to make resp.
func followed(resp *http.Response, sent *http.Request, target *url.URL) bool {
	s := sending{sent: sent, target: target, actual: resp.Request}
	return s.redirected()
}

// path returns the path of u as it is sent.
func path(u *url.URL) string {
	path, _, _ := strings.Cut(u.RequestURI(), "?")
	return path
}

// sentBy is where the selecting fields of an entry with foreign credentials keep the digest of those;
// no field has this name.
const sentBy = ":sent-by"

// askedAs is where the selecting fields of an entry keep the digest of the request for a part that only a date
// identifies; no field has this name.
const askedAs = ":asked-as"

// askedBy reports whether req may complete r, which is held in part. Origins give what they make for one user the date
// of what they made for another one. So a date alone joins what requests that are alike were given.
func (r *response) askedBy(req *request) bool {
	return field.IsStrongETag(r.strongValidator()) || r.selecting[askedAs] == alikeDigest(req)
}

// credentialField reports whether a request field, by its name, says on whose behalf a request is made, as far
// as such names are known. Of these only Authorization and Proxy-Authorization are part of the key: a
// response that depends on others says so by Vary.
func credentialField(name string) bool {
	switch name {
	case "Accept", "Accept-Encoding", "Accept-Language", "Origin", "User-Agent":
		return false // asked most often, and by far
	case "Idempotency-Key", "X-Idempotency-Key":
		return false // another one for each request
	}
	name = strings.ToLower(name)
	if strings.HasSuffix(name, "user-agent") {
		return false
	}
	for _, part := range []string{"auth", "cookie", "token", "key", "secret", "session", "signature", "credential", "passw", "impersonate"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	for word := range strings.SplitSeq(name, "-") {
		switch word {
		case "assertion", "bearer", "cert", "dpop", "hmac", "jwt", "otp", "pass", "pin", "sid", "user":
			return true
		}
	}
	return false
}

// setFields are the request fields that the cache may set.
var setFields = []string{"Cache-Control", "If-None-Match", "If-Modified-Since", "Range", "If-Range"}
