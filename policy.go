package cachetrip

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip/internal/urlpattern"
)

// The wishes of a program for a request, beyond what the request's header says.

// Policy is what a program wants for a request beyond what its header says. It
// comes from [Transport.Policy] and [WithPolicy], and is decided once, from the
// request alone. The zero Policy wants nothing special.
//
// A Policy never changes whose a response is: each identity keeps its own
// responses, and selecting fields (Vary) still select. It does not override
// [Transport.Invalidate], or an unsafe request that made stored responses
// invalid. The directives in the header of the request remain in force.
type Policy struct {
	// Mode is one of the cache modes of the Fetch standard. It applies to
	// methods that the cache answers.
	Mode Mode

	// TTL, if positive, is how long responses are fresh, counted from their
	// receipt or last validation, whatever the origin says. They are stored even
	// if the origin says no-store. It governs complete responses with a status
	// that may have a heuristic lifetime (RFC 9110, section 15.1: 200, 203, 204,
	// 300, 301, 308, 404, 405, 410 and 414), and never errors such as 401, 403,
	// 429 or 5xx. A stored response that was kept against the wish of the origin
	// is used only for requests with such a Policy, or with a Mode that takes
	// responses of every age.
	//
	// If TTL is negative, responses are never fresh: each use is validated.
	TTL time.Duration

	// StaleIfError, if positive, takes the place of [Transport.StaleIfError].
	StaleIfError time.Duration

	// URL is the URL under which the response is stored and looked up. It must
	// have the scheme http or https, and a host. If nil, that is the URL of the
	// request. Use it for signed URLs and tracking parameters; see
	// [WithoutQuery]. The origin still gets the URL of the request. The fragment
	// and the user information do not count.
	//
	// A signature in a URL is a credential. If URL leaves it out, let
	// [Transport.Identity] name who has signed. Otherwise a request without a
	// signature gets what is stored for one that had it.
	//
	// No-Vary-Search is about the URL of the request. It counts only if URL is
	// that URL without some of its parameters.
	//
	// If two URLs lead to the same Policy.URL, their responses must be the same.
	// A strong ETag that differs is noticed whenever the origin is asked.
	URL *url.URL

	// MaxBodyBytes, if positive, limits the bodies that are stored. A larger body
	// is passed on and not stored.
	MaxBodyBytes int64

	// CacheContent says that a POST only reads, such as a GraphQL query or a
	// search. It is answered like a QUERY (RFC 10008): its key also has its
	// content and the fields that describe the content, and it invalidates
	// nothing. Like other responses, its response must have a lifetime or a
	// validator to be of use; see TTL. For other methods, CacheContent has no
	// meaning. It must not be set for a POST that changes something, such as a
	// GraphQL mutation.
	CacheContent bool
}

// Mode says how a request uses the cache. The modes are those of the Fetch
// standard, section 2.2.5 ("cache mode").
type Mode int

const (
	// ModeDefault follows RFC 9111.
	ModeDefault Mode = iota

	// ModeNoStore neither looks up nor stores.
	ModeNoStore

	// ModeReload asks the origin without conditions, and stores the response.
	ModeReload

	// ModeNoCache validates every stored response before use, and stores.
	ModeNoCache

	// ModeForceCache serves a stored response, however old. If none is stored,
	// it asks the origin.
	ModeForceCache

	// ModeOnlyIfCached serves a stored response, however old. If none is stored,
	// the response is a 504.
	ModeOnlyIfCached
)

var modeNames = [...]string{"default", "no-store", "reload", "no-cache", "force-cache", "only-if-cached"}

// String returns the name of the mode in the Fetch standard, such as
// "no-store".
func (m Mode) String() string {
	if !m.valid() {
		return fmt.Sprintf("Mode(%d)", int(m))
	}
	return modeNames[m]
}

func (m Mode) valid() bool { return m >= 0 && int(m) < len(modeNames) }

// detail is the word in Status.Detail for a decision that follows from m.
func (m Mode) detail() string { return "mode-" + modeNames[m] }

// takesStale reports whether m accepts stored responses of every age.
func (m Mode) takesStale() bool { return m == ModeForceCache || m == ModeOnlyIfCached }

// wantsOrigin reports whether m accepts no response that the origin did not
// send or confirm for it.
func (m Mode) wantsOrigin() bool { return m == ModeReload || m == ModeNoCache }

// directive returns the Cache-Control directive that tells caches on the way
// about m, or "". The Fetch standard adds it if the request has no
// Cache-Control (section 4.6, "HTTP-network-or-cache fetch").
func (m Mode) directive() string {
	switch m {
	case ModeNoStore, ModeReload:
		return "no-cache"
	case ModeNoCache:
		return "max-age=0"
	}
	return ""
}

// over returns p with the fields of other where p has none.
func (p Policy) over(other Policy) Policy {
	if p.Mode == ModeDefault {
		p.Mode = other.Mode
	}
	if p.TTL == 0 {
		p.TTL = other.TTL
	}
	if p.StaleIfError == 0 {
		p.StaleIfError = other.StaleIfError
	}
	if p.URL == nil {
		p.URL = other.URL
	}
	if p.MaxBodyBytes == 0 {
		p.MaxBodyBytes = other.MaxBodyBytes
	}
	p.CacheContent = p.CacheContent || other.CacheContent
	return p
}

// readsOnly reports whether a request with the method only reads, so that it
// can be answered by an earlier response to the same content.
func (p *Policy) readsOnly(method string) bool {
	return method == methodQuery || p.CacheContent && method == http.MethodPost
}

// methodQuery is the method QUERY of RFC 10008, which net/http does not name.
const methodQuery = "QUERY"

// problem says what is wrong with p, or returns "".
func (p *Policy) problem() string {
	switch {
	case !p.Mode.valid():
		return fmt.Sprintf("Policy.Mode is %d, which is no mode", int(p.Mode))
	case p.StaleIfError < 0:
		return fmt.Sprintf("Policy.StaleIfError is negative: %v", p.StaleIfError)
	case p.MaxBodyBytes < 0:
		return fmt.Sprintf("Policy.MaxBodyBytes is negative: %d", p.MaxBodyBytes)
	case p.URL != nil && !storableURL(p.URL):
		return "Policy.URL is not an absolute URL of http or https"
	}
	return ""
}

// storableURL reports whether responses can be stored under u.
func storableURL(u *url.URL) bool {
	scheme := lower(u.Scheme)
	return u.Host != "" && (scheme == "http" || scheme == "https")
}

// WithoutQuery returns u without the query parameters that have one of the
// names. A name may contain stars, which stand for any text: "utm_*",
// "X-Amz-*". Names are compared as they are after decoding, and with regard to
// upper and lower case. The other parameters keep their order and spelling. If
// no parameter is left, there is no question mark either. WithoutQuery does not
// change u, and returns u itself if it has none of the parameters. The result
// can be used as [Policy.URL].
func WithoutQuery(u *url.URL, names ...string) *url.URL {
	if u == nil || u.RawQuery == "" {
		return u
	}
	kept := make([]byte, 0, len(u.RawQuery))
	removed, first := false, true
	for part := range strings.SplitSeq(u.RawQuery, "&") {
		name, _, _ := strings.Cut(part, "=")
		if decoded, err := url.QueryUnescape(name); err == nil {
			name = decoded
		}
		if slices.ContainsFunc(names, func(pattern string) bool { return urlpattern.MatchText(pattern, name) }) {
			removed = true
			continue
		}
		if !first {
			kept = append(kept, '&')
		}
		kept, first = append(kept, part...), false
	}
	if !removed {
		return u
	}
	without := *u
	without.RawQuery = string(kept)
	without.ForceQuery = false
	return &without
}
