package cachetrip

import (
	"crypto/rand"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip/internal/head"
)

// How a response was obtained: the Cache-Status field of RFC 9211, its typed
// form, and the counters.

// cacheName is how the cache names itself in Cache-Status.
const cacheName = "cachetrip"

const (
	cacheStatusField = "Cache-Status"
	fromCacheField   = "X-From-Cache" // the convention of gregjones/httpcache, which go-github and others test
)

// Status says how a response was obtained, in the words of RFC 9211.
type Status struct {
	Hit       bool          // answered from the store, without asking the origin first
	Fwd       string        // why the request was forwarded: "bypass", "method", "uri-miss", "vary-miss", "miss", "stale", "partial" or "request"; empty if it was not
	FwdStatus int           // the status code of the forwarded request's response; 0 if there was none
	Stored    bool          // the response was, or is being, stored
	Collapsed bool          // answered by another request's response, while that arrived
	TTL       time.Duration // for how long a stored response stays fresh, to the second; negative if it is stale
	Detail    string        // what the other fields can't say, a word that [ReasonText] explains; empty if nothing

	Age         time.Duration // the age of a stored response when it was used, to the second; RFC 9111, section 4.2.3
	Revalidated bool          // a stored response was used after the origin had confirmed it

	// RetryAfter is how long the origin asked to wait (Retry-After; RFC 9110,
	// section 10.2.3), if a stale response was served because the origin failed
	// with the status FwdStatus. It is 0 if the origin did not say. It is counted
	// in seconds from the moment the failure was received.
	RetryAfter time.Duration

	// Generated says that the cache has made the response itself: a 504, because
	// the request may only be answered from the store and no stored response can
	// be used. A 504 of the origin is not Generated. Fwd and Detail say why the
	// request would have been forwarded. Such a response has no Cache-Status
	// (RFC 9211, section 2).
	Generated bool
}

// StatusOf says how resp was obtained. The same stands in its Cache-Status
// field, as far as RFC 9211 has words for it. It returns the zero Status if
// resp is not from a [Transport], or if its header was replaced since.
func StatusOf(resp *http.Response) Status {
	if resp == nil {
		return Status{}
	}
	lines := resp.Header[cacheStatusField]
	if !hasMark(lines) {
		return Status{}
	}
	var s Status
	if n := len(lines); n > 0 {
		s.parse(lines[n-1])
	}
	s.parse(hidden(lines))
	fromCache := resp.Header.Get(fromCacheField) != ""
	if fromCache {
		if seconds, err := strconv.ParseInt(resp.Header.Get("Age"), 10, 64); err == nil {
			s.Age = time.Duration(seconds) * time.Second
		}
	}
	s.Revalidated = fromCache && s.FwdStatus == http.StatusNotModified
	return s
}

// mark stands one element past the end of the Cache-Status lines of our
// responses: a string that only this process knows. The mark distinguishes our
// member from a member that an origin sent. It needs no registry of live
// responses, and is not visible in the header. Behind it there may be one more
// element with what RFC 9211 has no parameter for; see unsaid.
var mark = rand.Text()

func hasMark(lines []string) bool {
	n := len(lines)
	return cap(lines) > n && lines[:n+1][n] == mark
}

// hidden returns the element behind the mark, or "".
func hidden(lines []string) string {
	n := len(lines)
	if cap(lines) < n+2 {
		return ""
	}
	return lines[:n+2][n+1]
}

// setStatus appends the member for s to the Cache-Status field of h; members of
// caches nearer to the origin stay before it. RFC 9211, section 2.
func setStatus(h http.Header, s Status) {
	before := h[cacheStatusField]
	h[cacheStatusField] = markedLines(make([]string, len(before)+2), before, s.member())
}

// setGenerated marks h, the header of a response that the cache has made, which
// has no member. s says why.
func setGenerated(h http.Header, s Status) {
	s.Generated = true
	h[cacheStatusField] = []string{mark, s.member() + s.unsaid()}[:0]
}

// fromCache returns a copy of the header of r with the fields that served
// responses have: Age, X-From-Cache and Cache-Status.
func fromCache(r *response, age time.Duration, s Status) http.Header {
	before := r.header[cacheStatusField]
	var h http.Header
	var room []string
	if more := 2 + len(before) + 2; r.lines != nil {
		h, room = r.lines.Copy(3, more)
	} else {
		h, room = head.Copy(r.header, 3, more)
	}
	var member string
	room[0], member = say(r.lines, age, s)
	room[1] = "1"
	h["Age"], h[fromCacheField] = room[0:1:1], room[1:2:2]
	said := markedLines(room[2:], before, member)
	if more := s.unsaid(); more != "" {
		said = append(said[:len(said)+1], more)[:len(said)]
	}
	h[cacheStatusField] = said
	return h
}

// say returns the Age value of a response and the member for s. If lines is not
// nil, it remembers both for a hit, and uses them again while they stay the
// same.
func say(lines *head.Lines, age time.Duration, s Status) (value, member string) {
	seconds, ttl := int64(age/time.Second), int64(s.TTL/time.Second)
	remembers := s.Hit && lines != nil
	if remembers {
		if last := lines.LastSaid(); last != nil && last.Age == seconds && last.TTL == ttl && last.Detail == s.Detail {
			return last.Value, last.Status
		}
	}
	value, member = strconv.FormatInt(seconds, 10), s.member()
	if remembers {
		lines.Remember(head.Said{Age: seconds, TTL: ttl, Detail: s.Detail, Value: value, Status: member})
	}
	return value, member
}

// markedLines fills lines with before and the member, and puts the mark one
// element past the end.
func markedLines(lines, before []string, member string) []string {
	n := copy(lines, before)
	lines[n], lines[n+1] = member, mark
	return lines[: n+1 : n+2]
}

// unsaid returns the rest of s, in the form of parameters that are not shown,
// because RFC 9211 does not know them.
func (s Status) unsaid() (parameters string) {
	if s.RetryAfter > 0 {
		parameters = "; retry-after=" + strconv.FormatInt(int64(s.RetryAfter/time.Second), 10)
	}
	if s.Generated {
		parameters += "; generated"
	}
	return parameters
}

// member returns s as a list member of Cache-Status. RFC 9211, section 2.
func (s Status) member() string {
	b := make([]byte, 0, 96)
	b = append(b, cacheName...)
	if s.Hit {
		b = append(b, "; hit"...)
	}
	if s.Fwd != "" {
		b = append(b, "; fwd="...)
		b = append(b, s.Fwd...)
	}
	if s.FwdStatus != 0 {
		b = append(b, "; fwd-status="...)
		b = strconv.AppendInt(b, int64(s.FwdStatus), 10)
	}
	if s.Stored {
		b = append(b, "; stored"...)
	}
	if s.Collapsed {
		b = append(b, "; collapsed"...)
	}
	if s.Hit || s.Stored || s.TTL != 0 {
		b = append(b, "; ttl="...)
		b = strconv.AppendInt(b, int64(s.TTL/time.Second), 10)
	}
	if s.Detail != "" {
		b = append(b, "; detail="...)
		b = append(b, s.Detail...) // always one of our own tokens
	}
	return string(b)
}

// parse reads what member or unsaid wrote.
func (s *Status) parse(member string) {
	for i, parameter := range strings.Split(member, "; ") {
		name, value, _ := strings.Cut(parameter, "=")
		switch {
		case i == 0: // the name of the cache
		case name == "hit":
			s.Hit = true
		case name == "fwd":
			s.Fwd = value
		case name == "fwd-status":
			s.FwdStatus, _ = strconv.Atoi(value)
		case name == "stored":
			s.Stored = true
		case name == "collapsed":
			s.Collapsed = true
		case name == "ttl":
			seconds, _ := strconv.ParseInt(value, 10, 64)
			s.TTL = time.Duration(seconds) * time.Second
		case name == "detail":
			s.Detail = value
		case name == "retry-after":
			seconds, _ := strconv.ParseInt(value, 10, 64)
			s.RetryAfter = time.Duration(seconds) * time.Second
		case name == "generated":
			s.Generated = true
		}
	}
}

// ReasonText explains a Detail of [Status] or a Reason of [StoreInfo] in words,
// with the section it follows from. It returns "" for an unknown word.
func ReasonText(reason string) string { return reasons[reason] }

var reasons = map[string]string{
	// Reasons to ask the origin, or not to.
	"no-cache":               "no-cache requires validation before each use (RFC 9111, sections 5.2.1.4 and 5.2.2.4)",
	"max-age":                "the request accepts no response of this age (max-age; with 0, no stored response at all; RFC 9111, section 5.2.1.1)",
	"min-fresh":              "the request accepts no response that becomes stale so soon (min-fresh; RFC 9111, section 5.2.1.3)",
	"must-revalidate":        "must-revalidate forbids using it when it is stale (RFC 9111, section 5.2.2.2)",
	"max-stale":              "the request accepts stale responses (max-stale; RFC 9111, section 5.2.1.2)",
	"stale-while-revalidate": "the response allows stale use for a while (stale-while-revalidate; RFC 5861, section 3)",
	"stale-if-error":         "the origin failed (stale-if-error; RFC 5861, section 4)",
	"no-vary-search":         "it was stored for an equivalent URL (No-Vary-Search)",
	"invalidated":            "it was invalidated, and must be validated before it is used again (RFC 9111, section 4.4)",
	"decoded":                "the stored body was decoded on arrival, so the Content-Length for a HEAD is unknown (RFC 9110, section 9.3.2)",
	"credentials":            "a transport below the cache added credentials to its request, so only the origin knows for whom it is (RFC 9111, section 4.1)",
	"unmatched-304":          "a 304 matched no stored response, and the request was repeated without conditions (RFC 9111, section 4.3.4)",
	"conditions-refused":     "the origin refused the preconditions that the cache added, and the request was repeated without them",
	"range-refused":          "the origin did not send the missing part, and the request was repeated for the whole (RFC 9111, section 3.3)",
	"redirect-loop":          "the request follows a redirect back to a URL that it has visited, whose response may have changed",
	"content":                "the request has content, which has no defined meaning for its method (RFC 9110, section 9.3.1)",
	"content-unknown":        "the content, which is part of the key, is too long or could not be read beforehand (RFC 10008, section 2.7)",
	"upgrade":                "the request asks for another protocol (RFC 9110, section 7.8)",
	"policy-ttl":             "Policy.TTL of the program says for how long it is fresh, in place of the origin",
	"mode-no-store":          "the program's cache mode is no-store: the request goes past the cache",
	"mode-reload":            "the program's cache mode is reload: the origin is asked without conditions",
	"mode-no-cache":          "the program's cache mode is no-cache: each use is validated",
	"mode-force-cache":       "the program's cache mode is force-cache: a stored response is used, however old",
	"mode-only-if-cached":    "the program's cache mode is only-if-cached: a stored response is used, however old",
	"precondition":           "only the origin can evaluate the request's precondition (RFC 9111, section 4.3.2)",

	// Reasons not to store a response.
	"method":                    "responses to this method are not stored (RFC 9111, section 3)",
	"request-no-store":          "the request says no-store (RFC 9111, section 5.2.1.5)",
	"no-store":                  "no-store forbids storing it (RFC 9111, sections 5.2.1.5 and 5.2.2.5)",
	"status":                    "its status code may not be stored, or not for this request (RFC 9111, section 3; RFC 6585)",
	"must-understand":           "must-understand forbids storing a status code that the cache does not implement (RFC 9111, section 5.2.2.3)",
	"not-allowed":               "a response with this status code is stored only if it has a lifetime, public or private (RFC 9111, section 3)",
	"no-freshness-or-validator": "it has neither a lifetime nor a validator, so it could never be used (RFC 9111, section 3)",
	"error":                     "it is an error, and a better response is stored (RFC 9111, section 4.3.3)",
	"content-range":             "it is a part whose Content-Range is missing or wrong (RFC 9110, section 14.4)",
	"incomplete":                "its body was not received to its end, and cannot be continued later (RFC 9111, section 3.3)",
	"length":                    "its body is longer than its Content-Length (RFC 9112, section 6.3)",
	"digest":                    "its body does not match its Content-Digest or Repr-Digest (RFC 9530)",
	"outdated":                  "a newer or more complete response is already stored (RFC 9111, section 4)",
	"redirected":                "Base followed a redirect, so it answers another URL than the request's",
	"too-large":                 "it exceeds the size limit of the store, or Policy.MaxBodyBytes",
	"store-error":               "the store failed",
	"closed":                    "the cache was closed",
}
