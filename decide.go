package cachetrip

import (
	"net/http"
	"slices"
	"time"

	"github.com/cachetrip/cachetrip/internal/field"
	"github.com/cachetrip/cachetrip/internal/span"
)

// What to do with a request, given what is stored: RFC 9111, section 4. Everything that the cache
// does follows from the one value that decide returns.

// request is what the rules know of a request.
type request struct {
	method string
	header http.Header
	cc     field.CacheControl // of the header, and of the context
	digest digester

	further []string // Cache-Control lines of the context, which are sent with those of the header

	identified bool // by Identity, and not by the credentials in header
	plain      bool // see survey
}

// survey reports whether all names in the header of a request are in canonical form, and, if so, whether it is plain:
// whether it has none of the fields that decide what a request is, but for selecting ones. Going through its few fields
// once takes less than looking for each of those. It is anonymous if it has none of the fields of appendIdentity.
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
			if http.CanonicalHeaderKey(name) != name {
				return false, false, false
			}
		}
	}
	return true, plain, anonymous
}

// lines returns the lines of a field as they are sent, as far as the caller decides.
func (req *request) lines(name string) (lines []string, ok bool) {
	lines, ok = req.header[name]
	if name == "Cache-Control" && len(req.further) > 0 {
		return append(slices.Clone(lines), req.further...), true
	}
	return lines, ok
}

// neutral are the directives of a request without any.
var neutral = field.ParseCacheControl(nil)

// newRequest reads the directives of a request: those of its header, and further ones.
func newRequest(method string, header http.Header, further []string, digest digester) request {
	lines := header["Cache-Control"]
	if len(further) > 0 {
		lines = append(append([]string(nil), lines...), further...)
	}
	req := request{method: method, header: header, digest: digest, cc: field.ParseCacheControl(lines), further: further}
	if len(lines) == 0 { // Pragma counts only without Cache-Control: section 5.4
		req.cc.NoCache = field.ParseCacheControl(header["Pragma"]).NoCache
	} else if len(req.cc.NoCacheFields) > 0 { // an argument means nothing in a request
		req.cc.NoCache = true
	}
	return req
}

// action is what to do with a request.
type action int

const (
	fetch           action = iota // ask the origin: nothing stored is of use
	revalidate                    // ask the origin whether what is stored is still good
	resume                        // ask the origin for the rest of what is stored in part
	serve                         // answer from the store
	serveRevalidate               // answer from the store, and revalidate behind: RFC 5861, section 3
	refuse                        // answer 504: only-if-cached, and nothing to serve
)

// decision is an action and what led to it.
type decision struct {
	action   action
	selected int    // the index of the stored response that was selected, -1 if none
	fwd      string // why the request is forwarded, in RFC 9211's words; empty if it is not
	detail   string // what fwd can't say
	age      time.Duration
	ttl      time.Duration // lifetime less age of the selected response
}

// decide says what to do with req at the time now, given the stored responses of its primary key.
func decide(now time.Time, req *request, stored []response) decision {
	d := decision{selected: sel(req, stored)}
	if d.selected < 0 {
		d.fwd = "uri-miss"
		if slices.ContainsFunc(stored, func(r response) bool { return !r.headOnly || req.method == http.MethodHead }) {
			d.fwd = "vary-miss"
			d.action = revalidate
		}
		return d.unless(req.cc.OnlyIfCached)
	}
	r := &stored[d.selected]
	d.age = r.age(now)
	d.ttl = r.lifetime() - d.age
	d.action = revalidate
	switch {
	case !r.usableFor(req):
		d.fwd, d.action = "partial", fetch
		if r.uncompressed && req.method == http.MethodHead {
			d.detail = "decoded"
		}
		if r.resumable(req) {
			d.action = resume
		}
	case r.mustValidate():
		d.fwd, d.detail = "stale", r.whyValidate()
	case req.cc.NoCache:
		d.fwd, d.detail = "request", "no-cache"
	case req.cc.MaxAge != field.None && exceeds(d.age, req.cc.MaxAge) && !(r.cc.Immutable && d.ttl > 0):
		d.fwd, d.detail = "request", "max-age"
	case req.cc.MinFresh != field.None && d.ttl < time.Duration(req.cc.MinFresh)*time.Second:
		d.fwd, d.detail = "request", "min-fresh"
	case d.ttl > 0:
		d.action = serve
	case !r.mayBeStale():
		d.fwd, d.detail = "stale", "must-revalidate"
	case req.cc.MaxStale > 0 && -d.ttl <= time.Duration(req.cc.MaxStale)*time.Second:
		d.action, d.detail = serve, "max-stale"
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
		d.fwd = "stale" // "request" speaks of fresh responses: RFC 9211, section 2.2
	}
	return d.unless(req.cc.OnlyIfCached)
}

// exceeds reports whether an age is more than the seconds of a request's max-age. Every age is more
// than 0, which asks for what is there now: no time may have passed since a response came, because
// clocks tick.
func exceeds(age time.Duration, maxAge int64) bool {
	return maxAge == 0 || age > time.Duration(maxAge)*time.Second
}

// serves reports whether the selected response answers the request as it is.
func (d decision) serves() bool { return d.action == serve || d.action == serveRevalidate }

// lapsed reports whether nothing but its lifetime speaks against the selected response. A request that was made
// before the response was can be given it, if the two requests are alike: see the top of share.go.
func (d decision) lapsed() bool {
	return d.action == revalidate && d.fwd == "stale" && d.detail == ""
}

// unless refuses what would have to be forwarded, if the request forbids that. Section 5.2.1.7.
func (d decision) unless(onlyIfCached bool) decision {
	if onlyIfCached && d.action != serve && d.action != serveRevalidate {
		d.action = refuse
	}
	return d
}

// resumable reports whether the rest of r can be asked for and joined to what is held. Asking with
// If-Range validates at the same time, so that it does not matter whether r is fresh.
func (r *response) resumable(req *request) bool {
	return req.method == http.MethodGet && !req.conditional() && req.header["Range"] == nil &&
		r.missing() != span.Of(0, r.length) && r.continuable() && r.askedBy(req)
}

// whyValidate names what mustValidate found.
func (r *response) whyValidate() string {
	switch {
	case !r.invalidatedAt.IsZero():
		return "invalidated"
	case r.foreign:
		return "credentials"
	case r.mustNotStore():
		return "no-store" // said by a later answer about it
	default:
		return "no-cache"
	}
}

// usableFor reports whether what is held of r is enough for req: everything, or what a Range asks
// for. A HEAD needs no content, but the head of a part may lack fields of the whole. Section 3.3. So
// does the head of what was decoded on arrival: a HEAD asks for the length more than for anything else.
func (r *response) usableFor(req *request) bool {
	if r.headOnly {
		return req.method == http.MethodHead
	}
	if r.uncompressed && req.method == http.MethodHead {
		return false
	}
	return r.covers(req)
}

// conditional reports whether the request carries preconditions of its own.
func (req *request) conditional() bool {
	return !req.plain && (req.header["If-None-Match"] != nil || req.header["If-Modified-Since"] != nil)
}
