package cachetrip

import (
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/cachetrip/cachetrip/internal/field"
	"github.com/cachetrip/cachetrip/internal/head"
	"github.com/cachetrip/cachetrip/internal/span"
)

// Requests and stored responses as the rules see them.

// request is what the rules know of a request.
type request struct {
	method string
	header http.Header
	cc     field.CacheControl // of the header, and of the context
	digest digester

	further []string // Cache-Control lines of the context and the policy, which are sent with those of the header
	policy  Policy
	url     *url.URL // if policy has a URL: the URL that is asked; else nil
	host    string   // with url: the Host of the request, if it differs from that of url

	identified bool // Transport.Identity named its user, rather than the credentials in header
	plain      bool // see survey
}

// survey reports three facts about the header of a request. It is canonical if
// all names are in canonical form; if not, the other two results are false. It
// is plain if none of its fields changes how the cache treats the request,
// except by selecting a variant. It is anonymous if it has none of the fields
// of appendIdentity. One pass over the few fields takes less time than a search
// for each name.
func survey(h http.Header) (canonical, plain, anonymous bool) {
	plain, anonymous = true, true
	for name := range h {
		switch name {
		case "Accept", "Accept-Encoding", "Accept-Language", "Content-Type", "Cookie", "Referer", "User-Agent": // nearly always
		case "Authorization", "Proxy-Authorization":
			anonymous = false
		case "Cache-Control", "If-Match", "If-Modified-Since", "If-None-Match", "If-Range", "If-Unmodified-Since",
			"Pragma", "Range", "Upgrade":
			plain = false
		default:
			if !field.IsCanonical(name) {
				return false, false, false
			}
		}
	}
	return true, plain, anonymous
}

// lines returns the lines of a field as the caller sends them, including
// directives of the context.
func (req *request) lines(name string) (lines []string, ok bool) {
	lines, ok = req.header[name]
	if name == "Cache-Control" && len(req.further) > 0 {
		return append(slices.Clone(lines), req.further...), true
	}
	return lines, ok
}

// target returns the URL that is asked in the form of primaryURL, if the policy
// has another one, and otherwise "".
func (req *request) target() string {
	if req.url == nil {
		return ""
	}
	return primaryURL(req.url, req.host)
}

// neutral is the Cache-Control of a request without directives.
var neutral = field.ParseCacheControl(nil)

// newRequest reads the directives of a request: those of its header, and
// further ones.
func newRequest(method string, header http.Header, further []string, digest digester) request {
	lines := header["Cache-Control"]
	if len(further) > 0 {
		lines = append(append([]string(nil), lines...), further...)
	}
	req := request{method: method, header: header, digest: digest, cc: field.ParseCacheControl(lines), further: further}
	if len(lines) == 0 { // Pragma counts only without Cache-Control (section 5.4)
		req.cc.NoCache = field.ParseCacheControl(header["Pragma"]).NoCache
	} else if len(req.cc.NoCacheFields) > 0 { // an argument means nothing in a request
		req.cc.NoCache = true
	}
	return req
}

// conditional reports whether the request carries preconditions of its own.
func (req *request) conditional() bool {
	return !req.plain && (req.header["If-None-Match"] != nil || req.header["If-Modified-Since"] != nil)
}

// response is what the rules know of a response, stored or just received.
type response struct {
	status    int
	header    http.Header
	cc        field.CacheControl
	requested time.Time // when the request that led to it was made
	received  time.Time // when it was received

	headOnly      bool              // it answered a HEAD, so there is no content
	length        int64             // of the complete content, -1 if unknown
	allHeld       bool              // all of the content is held; otherwise see held
	held          []span.Span       // the parts of it that are held, in order
	selecting     map[string]string // the selecting fields of the original request, see selectingFields
	names         []string          // the names of the selecting fields; nil if they were not read yet; see fields
	ttl           time.Duration     // the lifetime that Policy.TTL gives it; negative: it is never fresh; 0: it has none
	uncompressed  bool              // the content was decompressed on arrival
	invalidatedAt time.Time         // when it was invalidated; zero if it was not. Section 4.4
	foreign       bool              // the request that reached the origin had credentials that the cache did not see

	known *conclusions // the conclusions from the header; nil if it was not read yet
	lines *head.Lines  // the header, prepared for serving; nil if it was not
}

// conclusions are the values that the rules compute from the header of a
// response. They never change.
type conclusions struct {
	date       time.Time
	all        bool // the other fields are known as well
	initialAge time.Duration
	lifetime   time.Duration
	from       string // see lifetimeFrom
	ties       *ties  // nil if there are none
}

// date returns the value of the Date field. If there is no valid one, it
// returns the time when r was received.
func (r *response) date() time.Time {
	if r.known != nil {
		return r.known.date
	}
	if date, ok := field.Date(field.First(r.header, "Date"), r.received); ok {
		return date
	}
	return r.received
}

// lastModified returns the value of the Last-Modified field.
func (r *response) lastModified() (t time.Time, ok bool) {
	return field.Date(field.First(r.header, "Last-Modified"), r.received)
}

// complete reports whether all of the content is held.
func (r *response) complete() bool {
	return !r.headOnly && (r.allHeld || r.length == 0 || len(r.held) == 1 && r.held[0] == span.Of(0, r.length))
}

// mustNotStore reports whether r must not be stored, nor used without
// validation if it is. A lifetime that the program gives it overrides no-store.
func (r *response) mustNotStore() bool { return r.forbidsStoring() && r.ttl <= 0 }

// forbidsStoring reports whether the origin forbids storing r. A
// must-understand that the cache understands overrides no-store. Sections
// 5.2.2.3 and 5.2.2.5.
func (r *response) forbidsStoring() bool { return r.cc.NoStore && !r.cc.MustUnderstand }

// ties returns the ties of r, nil if it has none.
func (r *response) ties() *ties {
	if r.known != nil && r.known.all {
		return r.known.ties
	}
	return tiesOf(r.header)
}
