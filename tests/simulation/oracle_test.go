package simulation

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The oracle says which results of a run with the cache are right, given the
// results of the same run without it. It reads records and nothing else.

// rule names what a run has broken.
type rule string

const (
	ruleRun         rule = "run"         // no panic, no goroutine left, nothing that Close waits for in vain
	ruleAnswered    rule = "answered"    // a caller that is answered without the cache is answered in time with it
	ruleOverstay    rule = "overstay"    // no caller is kept beyond its deadline
	ruleWhose       rule = "whose"       // a response was made for the caller that gets it, or may be reused for it
	ruleBytes       rule = "bytes"       // a body is what the origin has sent, from its beginning to its end
	ruleStatus      rule = "status"      // no caller sees the answer to conditions and ranges that only the cache has added
	ruleUnvalidated rule = "unvalidated" // a response that has to be validated is not used without asking the origin
	ruleCookies     rule = "cookies"     // no caller gets another caller's session
	ruleCount       rule = "count"       // the origin is not asked more often
	ruleDeadline    rule = "deadline"    // Base sees the deadline of the caller, and is not asked when it is over
	ruleLoad        rule = "load"        // few requests at once ask an origin that fails
	ruleSaved       rule = "saved"       // a fresh response that was read to its end is not requested again
)

// violation is a broken rule.
type violation struct {
	rule   rule
	action int // -1 if it is about no single one
	text   string
}

func (v violation) String() string {
	if v.action < 0 {
		return fmt.Sprintf("%s: %s", v.rule, v.text)
	}
	return fmt.Sprintf("%s: action %d: %s", v.rule, v.action, v.text)
}

// oracle judges one run.
type oracle struct {
	program *program
	plain   *record // without the cache
	cached  *record // with it
	found   []violation
}

// judge returns what the run with the cache has broken.
func judge(plain, cached *record) []violation {
	o := &oracle{program: cached.program, plain: plain, cached: cached}
	for _, fault := range plain.faults {
		o.add(ruleRun, -1, "without the cache: %s", fault)
	}
	for _, fault := range cached.faults {
		o.add(ruleRun, -1, "%s", fault)
	}
	if len(o.found) > 0 {
		return o.found // the record is not complete
	}
	if cached.closing > maxClose {
		o.add(ruleRun, -1, "Close took %v", cached.closing)
	}
	for i := range o.program.actions {
		o.timely(&o.program.actions[i])
	}
	for _, c := range cached.calls {
		o.answer(c)
	}
	o.deadlines()
	o.counts()
	o.load()
	o.savings()
	return o.found
}

func (o *oracle) add(r rule, action int, format string, args ...any) {
	o.found = append(o.found, violation{r, action, fmt.Sprintf(format, args...)})
}

const (
	// fairShare is a part of a caller's time. A caller that gets a response
	// within it without the cache must also get one with it. The cache may wait
	// a quarter of the remaining time for another request, and a quarter of the
	// rest for another process. It may also have to repeat a request because
	// the origin refuses its conditions.
	fairShare = 4

	// patience is for how long a caller without a deadline may be made to wait
	// for another request. It is waited for another request's header, another
	// process, and another request's body.
	patience = 3 * 5 * time.Second

	// tolerance is added where little things may take their time, such as the
	// end of a connection that is of no use.
	tolerance = 300 * time.Millisecond

	// maxClose is for how long Close may wait for revalidations in the background.
	maxClose = 31 * time.Second
)

// timely checks that an action has ended as it would have without the cache,
// and as soon.
func (o *oracle) timely(a *action) {
	plain, cached := o.plain.outcomes[a.id], o.cached.outcomes[a.id]
	limit := a.deadline
	if a.cancel > 0 && (limit == 0 || a.cancel < limit) {
		limit = a.cancel
	}
	took, takes := plain.end-plain.start, cached.end-cached.start
	if limit > 0 && a.kind != restart && takes > limit+tolerance { // Close takes no context
		o.add(ruleOverstay, a.id, "returned after %v, %v after it should have", takes, takes-limit)
	}
	if !plain.ok || a.fate.status != 0 || a.control == "only-if-cached" || a.policy == wishOnlyIfCached || a.kind == purge || a.kind == invalidate {
		return
	}
	allowed := (maxRepeats+1)*took + patience + tolerance
	if a.kind == post && o.program.store != storeHangs {
		allowed = took + tolerance
	}
	switch {
	case a.deadline > 0 && took > o.fairTime(a):
		return // too close
	case a.cancel > 0 && a.cancel < allowed:
		return // the cache could not know of them
	case (!cached.ok || takes > allowed) && o.changedMeanwhile(a):
		return // it has the header of a former representation, whose body does not come
	case !cached.ok:
		o.add(ruleAnswered, a.id, "%v after %v; without the cache, %d after %v", cached.err, takes, plain.status, took)
	case takes > allowed:
		o.add(ruleAnswered, a.id, "answered after %v; without the cache, after %v", takes, took)
	}
}

// changedMeanwhile reports whether an action was given the header of another's
// response, and would have got another body by itself. If the other's stalls,
// nothing can be done any more.
func (o *oracle) changedMeanwhile(a *action) bool {
	return slices.ContainsFunc(o.cached.calls, func(c *call) bool {
		born, plain := o.exchange(c.response.Get(bornField)), o.plainCall(c)
		if c.action != a.id || c.err != nil || born == nil || born.action == a.id {
			return false
		}
		own := slices.ContainsFunc(o.cached.exchanges, func(e *exchange) bool {
			return e.action == a.id && e.path == c.path && e.header.Get(representationField) != born.header.Get(representationField)
		})
		return own || plain != nil && plain.response.Get(representationField) != born.header.Get(representationField)
	})
}

// fairTime returns how much of a deadline an answer may take.
func (o *oracle) fairTime(a *action) time.Duration {
	r := &o.program.resources[a.resource]
	repeats := r.conditions == conditionsRefused || r.conditions == conditionsWrong || r.ranges == rangesRefused || r.ranges == rangesWrong || r.ranges == rangesChanged ||
		r.revoked > 0 || slices.Contains(refusals, r.status)
	// A response may be gone from the store by the time it is confirmed.
	replaces := r.personal || r.languages || r.session || len(r.changes) > 0 || r.control304 != "" ||
		slices.ContainsFunc(o.program.actions, func(a action) bool { return a.kind != get })
	if o.program.processes == 1 && o.program.store == storeWorks && a.fate.body == 0 && r.redirect == "" && !repeats && !replaces {
		return a.deadline * 6 / 10 // no request must be repeated, and no wait happens twice
	}
	return a.deadline / fairShare
}

// maxRepeats is how often a request may be repeated because of fields that the
// cache added.
const maxRepeats = 1

// answer checks what a call was answered.
func (o *oracle) answer(c *call) {
	if c.err != nil || c.response == nil {
		return // see timely
	}
	if c.response.Get(mangledField) != "" || c.status == mangledStatus {
		o.add(ruleWhose, c.action, "sees what another caller did with its response")
		return
	}
	o.cookies(c)
	asked := controlOfRequest(c.header)
	last := o.exchange(c.response.Get(serialField))
	if last == nil {
		if c.status != http.StatusGatewayTimeout || asked != "only-if-cached" && o.wish(c.action) != wishOnlyIfCached {
			o.add(ruleStatus, c.action, "%d, which the origin did not send", c.status)
		}
		return
	}
	born := o.exchange(c.response.Get(bornField))
	updated := false
	if born != nil && born.method == http.MethodHead && c.method == http.MethodGet { // it has updated what a GET had brought
		updates := born
		for _, e := range o.cached.exchanges {
			if e.arrived > updates.answered {
				continue // it is no older
			}
			id := e.header.Get(representationField)
			same := id == updates.header.Get(representationField) || updates.header.Get("Etag") == "" &&
				(bytes.HasPrefix(o.content(id), c.body) || bytes.HasPrefix(compressed(o.content(id)), c.body))
			if e.method == http.MethodGet && e.path == updates.path && o.wish(e.action) != wishNoStore && same && e.status != http.StatusRequestedRangeNotSatisfiable && e.request.Get("Authorization") == c.header.Get("Authorization") {
				born, updated = e, true
			}
		}
	}
	named := last
	if x := o.confirmation(c, born, last); x != nil {
		last = x
	}
	own := last.action == c.action
	if last.path != c.path && !(own && o.program.below == belowRedirects) {
		o.add(ruleWhose, c.action, "asked for %s and got what was sent for %s (exchange %d)", c.path, last.path, last.serial)
		return
	}
	if !o.statusFits(c, last, born) || !o.bytesFit(c, born, updated) {
		return
	}
	if own {
		if o.wish(c.action) == wishReload && last.status == http.StatusNotModified && !conditional(c.header) {
			o.add(ruleUnvalidated, c.action, "was confirmed by exchange %d, although its mode is reload", last.serial)
		}
		if born != nil && born != last && last.status == http.StatusNotModified && !confirms(last.header, born.header) {
			o.add(ruleUnvalidated, c.action, "exchange %d did not confirm what exchange %d had brought: %v", last.serial, born.serial, last.header)
		}
		return
	}
	if born == nil {
		if c.status != http.StatusNotModified {
			o.add(ruleWhose, c.action, "the answer to another request (exchange %d)", last.serial)
		}
		return
	}
	o.reuse(c, born, last, named)
}

// deadlines checks what Base is asked: with the deadline of its caller, and not
// when that has gone. A revalidation in the background has neither.
func (o *oracle) deadlines() {
	for _, is := range o.cached.asked {
		a := &o.program.actions[slices.IndexFunc(o.program.actions, func(a action) bool { return a.id == is.action })]
		done := o.cached.outcomes[a.id]
		if slices.ContainsFunc(o.cached.calls, func(c *call) bool { return c.action == a.id && c.err == nil && c.answered <= is.at }) {
			continue // in the background, or for the rest of a body that others read as well
		}
		limit := a.deadline
		if a.cancel > 0 && (limit == 0 || a.cancel < limit) {
			limit = a.cancel
		}
		switch {
		case limit > 0 && is.at > done.start+limit && !o.awaited(a, is.at):
			o.add(ruleDeadline, a.id, "Base was asked at %v, although the caller was gone at %v", is.at, done.start+limit)
		case a.deadline > 0 && (is.deadline == 0 || is.deadline > done.start+a.deadline):
			o.add(ruleDeadline, a.id, "Base sees a deadline of %v, and not %v", is.deadline, done.start+a.deadline)
		}
	}
}

// awaited reports whether others may have been waiting for the request of an
// action at a time.
func (o *oracle) awaited(a *action, at time.Duration) bool {
	return slices.ContainsFunc(o.cached.calls, func(c *call) bool {
		return c.action != a.id && pathAsked(c.path) == o.program.resources[a.resource].path && c.start <= at && (c.answered >= at || c.ended >= at)
	})
}

// exchange returns the exchange with a serial number, or nil.
func (o *oracle) exchange(serial string) *exchange {
	n, err := strconv.Atoi(serial)
	if err != nil || n >= len(o.cached.exchanges) {
		return nil
	}
	return o.cached.exchanges[n]
}

// confirmation returns the exchange that confirmed the response of born for c,
// if the header names another one as the last. A weak tag lets a response be
// used once without an update.
func (o *oracle) confirmation(c *call, born, last *exchange) *exchange {
	if born == nil || last.action == c.action || last.status == http.StatusNotModified && last.went >= c.began {
		return nil
	}
	var found *exchange
	for _, e := range o.cached.exchanges {
		if e.path == c.path && e.status == http.StatusNotModified && e.went >= c.began && e.went <= c.returned &&
			e.went > born.went && e.header.Get("Etag") != "" && confirms(e.header, born.header) && (found == nil || e.action == c.action) {
			found = e
		}
	}
	return found
}

// cookies checks that the sessions which c was given were made for its action.
func (o *oracle) cookies(c *call) {
	for _, line := range c.response["Set-Cookie"] {
		id, ok := strings.CutPrefix(line, "sid=")
		if e := o.exchange(id); !ok || e == nil || e.action != c.action {
			o.add(ruleCookies, c.action, "was given the session %q of another", line)
		}
	}
}

// statusFits checks the status. A refusal of a field that the cache added must
// not reach the caller.
func (o *oracle) statusFits(c *call, last, born *exchange) bool {
	conditional := c.header.Get("If-None-Match") != ""
	ranged := c.header.Get("Range") != ""
	fits := true
	switch {
	case last.provoked == "condition" && !conditional && c.response.Get(bornField) == c.response.Get(serialField),
		c.status == http.StatusNotModified && !conditional,
		last.provoked == "range" && !ranged && born == last && last.status != http.StatusPartialContent, // else it completed or updated the whole
		(c.status == http.StatusPartialContent || c.status == http.StatusRequestedRangeNotSatisfiable) && !ranged:
		fits = false
	case born == nil || c.status == born.status || c.status == http.StatusNotModified:
	case born.status == http.StatusOK || born.status == http.StatusPartialContent:
		fits = c.status == http.StatusOK || c.status == http.StatusPartialContent || c.status == http.StatusRequestedRangeNotSatisfiable
	default:
		fits = false
	}
	if !fits {
		o.add(ruleStatus, c.action, "answered about a %s that is the cache's: %d by exchange %d to %v", cmp.Or(last.provoked, "field"), c.status, last.serial, last.request)
	}
	return fits
}

// bytesFit checks the body against what the header says it is, which may have
// been updated by a HEAD.
func (o *oracle) bytesFit(c *call, born *exchange, updated bool) bool {
	if born == nil {
		return true
	}
	id := c.response.Get(representationField)
	if updated {
		id = born.header.Get(representationField)
	}
	if id != born.header.Get(representationField) {
		o.add(ruleBytes, c.action, "the body of exchange %d is called %q, and was %q", born.serial, id, born.header.Get(representationField))
		return false
	}
	if c.method == http.MethodPost || c.status == http.StatusNotModified || c.status == http.StatusRequestedRangeNotSatisfiable || c.status == http.StatusNoContent {
		return true
	}
	content := o.content(id)
	// A body that stalled may be continued by another one that begins alike, if
	// there is nothing to tell them apart by.
	for _, e := range o.cached.exchanges {
		if own := o.content(e.header.Get(representationField)); e.action == c.action && e.path == c.path && e.status == born.status && e.status != http.StatusPartialContent &&
			e.arrived >= c.start && (c.length < 0 || c.eof || c.length == int64(len(own))) && (bytes.Equal(own, c.body) || !c.eof && bytes.HasPrefix(own, c.body)) {
			content = own
		}
	}
	if c.response.Get("Content-Encoding") == "gzip" {
		content = compressed(content)
	}
	if c.method == http.MethodHead {
		if plain := o.plainCall(c); plain != nil && plain.status == c.status && plain.length >= 0 && c.length != int64(len(content)) {
			o.add(ruleBytes, c.action, "a HEAD says that %d bytes are to come, for %d", c.length, len(content))
		}
		content = nil
	}
	if c.status == http.StatusPartialContent {
		var from, to, length int
		if _, err := fmt.Sscanf(c.response.Get("Content-Range"), "bytes %d-%d/%d", &from, &to, &length); err != nil {
			return true // several parts
		}
		if length != len(content) || to >= length || from > to {
			o.add(ruleBytes, c.action, "Content-Range %q of %d bytes", c.response.Get("Content-Range"), len(content))
			return false
		}
		content = content[from : to+1]
	}
	switch {
	case !bytes.HasPrefix(content, c.body):
		at := 0
		for at < len(content) && content[at] == c.body[at] {
			at++
		}
		o.add(ruleBytes, c.action, "%d bytes, of which the %d. is wrong: …%.60q", len(c.body), at, c.body[max(0, at-10):])
	case c.eof && len(c.body) < len(content):
		o.add(ruleBytes, c.action, "the body ends after %d of %d bytes", len(c.body), len(content))
	case c.method == http.MethodGet && c.length >= 0 && c.length != int64(len(content)):
		o.add(ruleBytes, c.action, "a length of %d for %d bytes", c.length, len(content))
	case c.method == http.MethodGet && c.length < 0 && c.status == http.StatusOK && born.header["Content-Length"] != nil && !o.gzips(born.path):
		o.add(ruleBytes, c.action, "the length is not known, which exchange %d had said", born.serial)
	default:
		return true
	}
	return false
}

// content returns the body of the representation with an id.
func (o *oracle) content(id string) []byte {
	if text, ok := strings.CutPrefix(id, "="); ok {
		return []byte(text)
	}
	path, _, _ := strings.Cut(id, "|")
	path = pathAsked(path)
	for _, r := range o.program.resources {
		if r.path == path {
			return contentOf(id, r.length)
		}
	}
	return nil
}

// gzips reports whether the resource at a path is compressed for some callers.
func (o *oracle) gzips(path string) bool {
	return slices.ContainsFunc(o.program.resources, func(r resource) bool { return r.path == pathAsked(path) && r.gzip })
}

// plainCall returns the call without the cache that c corresponds to.
func (o *oracle) plainCall(c *call) *call {
	for _, other := range o.plain.calls {
		if other.action == c.action && other.hop == c.hop {
			return other
		}
	}
	return nil
}

// reuse checks whether c may get the body of born, which another request
// fetched. last is the exchange that updated the response last, and may be the
// same. named is the one that the response says did so; last may have come
// since.
func (o *oracle) reuse(c *call, born, last, named *exchange) {
	says := controlSaid(born, last)
	refuse := func(r rule, format string, args ...any) {
		o.add(r, c.action, "got exchange %d of action %d (confirmed by exchange %d of action %d), %s",
			born.serial, born.action, last.serial, last.action, fmt.Sprintf(format, args...))
	}
	wants, wanted := o.wish(c.action), o.wish(born.action)
	governed := wants == wishTTL && slices.Contains([]int{200, 204, 206, 301, 404, 410}, born.status) // a 206 may have completed or updated the whole
	if (governed || wants.takesAll()) && wanted == wishTTL {
		says.noStore = false // the program has had it stored
	}
	if why := notReusable(born, says); why != "" {
		refuse(ruleWhose, "%s", why)
		return
	}
	switch {
	case wanted == wishNoStore:
		refuse(ruleWhose, "whose mode is no-store")
		return
	case wants == wishNoStore || wants == wishReload || wants == wishNoCache:
		refuse(ruleUnvalidated, "although its mode is %v", wants)
		return
	}
	if c.method == http.MethodGet && born.method != http.MethodGet || c.method == http.MethodPost || (c.method == "QUERY") != (born.method == "QUERY") {
		refuse(ruleWhose, "of another method")
		return
	}
	if name := mismatch(c, born, last); name != "" && mismatch(c, born, named) != "" {
		refuse(ruleWhose, "although %s differs", name)
		return
	}
	if says.noCache && !governed && !wants.takesAll() {
		refuse(ruleUnvalidated, "although it says no-cache")
		return
	}
	switch asked := controlOfRequest(c.header); asked {
	case "max-age=0":
		if o.failed(c) {
			break // it was asked in vain
		}
		fallthrough
	case "no-cache", "no-store":
		refuse(ruleUnvalidated, "although the request says %s", asked)
		return
	case "max-age=3":
		if !o.failed(c) && c.start > last.answered+4*time.Second {
			refuse(ruleUnvalidated, "although the request says %s", asked)
			return
		}
	}
	if why := o.invalidated(c, born, last); why != "" {
		refuse(ruleUnvalidated, "although %s", why)
		return
	}
	// It came while c was waiting, or on its way to the cache in the instant
	// that c began.
	meets := last.went >= c.began || last.answered == c.start
	setsCookies := (born.header.Get("Set-Cookie") != "" || last.header.Get("Set-Cookie") != "") && !says.public
	if meets && setsCookies && c.cache.Collapsed {
		refuse(ruleWhose, "which sets cookies")
		return
	}
	age := max(0, c.start-last.answered-time.Second) // ages are in whole seconds
	lifetime := lifetimeOf(o, born, last, says)
	switch {
	case wants.takesAll():
		return
	case governed:
		lifetime = wishedTTL
	case wants == wishNever:
		lifetime = 0
	}
	if age < lifetime {
		return
	}
	if !says.mustRevalidate && !says.noCache {
		allowed := time.Duration(says.staleWhileRevalidate) * time.Second
		if wants == wishNever {
			allowed = 0
		}
		switch controlOfRequest(c.header) {
		case "max-stale":
			return
		case "max-stale=30":
			allowed = max(allowed, 30*time.Second)
		}
		if o.failed(c) {
			allowed = max(allowed, time.Duration(says.staleIfErrorSecs)*time.Second, o.program.stale)
		}
		if allowed > 0 && age <= lifetime+allowed+time.Second {
			return
		}
	}
	switch {
	case !meets:
		refuse(ruleUnvalidated, "which was stale")
	case says.mustRevalidate:
		refuse(ruleUnvalidated, "which says must-revalidate, and was made for another request")
	case setsCookies:
		refuse(ruleWhose, "which sets cookies")
	default:
		if name := o.differs(c, last); name != "" {
			refuse(ruleWhose, "which has no lifetime, and was made for a request with another %s", name)
		}
	}
}

// controlSaid returns the last Cache-Control for the response of born.
func controlSaid(born, last *exchange) control {
	said := last
	if last.status == http.StatusNotModified && last.header["Cache-Control"] == nil {
		said = born
	}
	return controlOf(said.header.Get("Cache-Control"))
}

// wish returns the policy of an action.
func (o *oracle) wish(action int) wish {
	for i := range o.program.actions {
		if o.program.actions[i].id == action {
			return o.program.actions[i].policy
		}
	}
	return wishNothing
}

// notReusable says why no other request may ever get the response of an
// exchange; empty if others may.
func notReusable(born *exchange, says control) string {
	switch {
	case says.noStore:
		return "which says no-store"
	case controlOfRequest(born.request) == "no-store":
		return "whose request says no-store"
	case born.method == http.MethodPost:
		return "of an unsafe method"
	}
	switch born.status {
	case 226, 304, 412, 416, 428, 429, 431, 511:
		return "of a status that is never stored"
	case 401, 403, 407, 408, 500, 502, 503, 504:
		if says.maxAge < 0 && !says.public {
			return "an error that does not ask to be stored"
		}
	}
	return ""
}

// controlOfRequest returns Cache-Control of a request.
func controlOfRequest(h http.Header) string { return h.Get("Cache-Control") }

// mismatch returns the selecting field in which c differs from the request of
// born, if any.
func mismatch(c *call, born, last *exchange) string {
	names := []string{"Authorization"}
	for _, lines := range [][]string{born.header["Vary"], last.header["Vary"]} {
		for _, line := range lines {
			names = append(names, strings.Split(line, ", ")...)
		}
	}
	for _, name := range names {
		switch {
		case name == "*":
			return "Vary: *"
		case name == "Accept-Encoding": // is added below, for all alike
		case c.header.Get(name) == born.request.Get(name):
		case c.header.Get(name) == last.request.Get(name) && last.status == http.StatusNotModified: // which selected it
		default:
			return name
		}
	}
	return ""
}

// harmless are the fields in which alike requests may differ: meaningless
// fields, and fields that the cache evaluates for each request.
var harmless = []string{traceField, "Cache-Control", "If-None-Match", "Range"}

// differs returns the field, if any, in which c is not alike to the request of
// an exchange.
func (o *oracle) differs(c *call, e *exchange) string {
	var asked *call
	for _, other := range o.cached.calls { // by their beginning
		if other.action == e.action && other.path == e.path && other.start <= e.arrived {
			asked = other
		}
	}
	if asked == nil {
		return ""
	}
	if names := differing(c.header, asked.header); len(names) > 0 {
		return names[0]
	}
	return ""
}

// fieldsOf returns the names in either of two headers.
func fieldsOf(a, b http.Header) (names []string) {
	for _, h := range []http.Header{a, b} {
		for name := range h {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// invalidated says which event since an exchange requires validation before its
// response is used for c; empty if none.
func (o *oracle) invalidated(c *call, born, last *exchange) string {
	if o.program.store != storeWorks {
		return "" // it may have lost that
	}
	for _, other := range o.cached.calls {
		if other.method != http.MethodPost && other.path != c.path || !o.program.invalidates(other.path, c.path) || other.returned >= c.began {
			continue
		}
		var e *exchange
		switch {
		case other.err == nil:
			e = o.exchange(other.response.Get(serialField))
		case other.method == http.MethodPost && errors.Is(other.err, errHook):
			for _, own := range o.cached.exchanges {
				if own.action == other.action {
					e = own
				}
			}
		}
		if e == nil || e.action != other.action || last.came >= e.came {
			continue
		}
		if other.process != c.process && (o.taken(born, last) >= other.start || other.answered >= c.start) {
			continue // nothing was stored yet that another process could have marked
		}
		switch {
		case e.unsafe && e.status < 400:
			return fmt.Sprintf("action %d has changed it since", other.action)
		case e.status == http.StatusForbidden && conditional(e.request) && !conditional(other.header) && sameCredentials(c.header, other.header):
			return fmt.Sprintf("its validation by action %d was refused", other.action)
		}
	}
	for _, e := range o.cached.exchanges {
		a := o.program.action(e.request)
		if e.path != c.path || e.status != http.StatusPartialContent || a == nil || o.wish(c.action) == wishTTL || o.wish(c.action).takesAll() || a.ranged != "" || e.answered >= c.start || last.arrived >= e.arrived {
			continue
		}
		if says := controlOf(e.header.Get("Cache-Control")); (says.noStore || says.noCache || says.maxAge == 0) && sameCredentials(c.header, e.request) &&
			o.completed(a.id) && e.header.Get(representationField) == c.response.Get(representationField) {
			return fmt.Sprintf("exchange %d has brought a part of it with %q", e.serial, says.text)
		}
	}
	for i := range o.program.actions {
		a := &o.program.actions[i]
		if a.kind != purge && a.kind != invalidate || urlAsked(o.program.pathOf(o.program.url(a), "")) != urlAsked(c.path) {
			continue
		}
		if done := o.cached.outcomes[a.id]; done.ok && done.finished < c.began && last.came < done.began && (a.process == c.process || o.taken(born, last) < done.start && done.end < c.start) {
			return fmt.Sprintf("action %d was %v", a.id, a.kind)
		}
	}
	return ""
}

// taken returns when what born has brought, and last has confirmed, may have
// been stored; never if nobody has read it to its end.
func (o *oracle) taken(born, last *exchange) time.Duration {
	if last.status == http.StatusNotModified {
		return last.answered
	}
	for _, c := range o.cached.calls {
		if c.eof && c.response.Get(bornField) == strconv.Itoa(born.serial) && c.start <= born.answered {
			return c.ended
		}
	}
	return math.MaxInt64
}

// completed reports whether an action has read its body to the end.
func (o *oracle) completed(action int) bool {
	return slices.ContainsFunc(o.cached.calls, func(c *call) bool { return c.action == action && c.eof })
}

func conditional(h http.Header) bool {
	return h["If-None-Match"] != nil || h["If-Modified-Since"] != nil
}

// sameCredentials reports whether two requests are of the same user, and select
// the same.
func sameCredentials(a, b http.Header) bool {
	for _, name := range []string{"Cookie", "Private-Token", "Authorization", "Accept-Language", "Range"} {
		if a.Get(name) != b.Get(name) {
			return false
		}
	}
	return true
}

// failed reports whether the origin has failed while c was under way.
func (o *oracle) failed(c *call) bool {
	return slices.ContainsFunc(o.cached.exchanges, func(e *exchange) bool {
		switch {
		case e.path != c.path || e.arrived > c.answered:
			return false
		case e.answered < 0 || e.action == c.action && e.answered > c.answered:
			return true
		}
		return (e.status >= 500 || e.status == 429) && e.answered >= c.start
	})
}

// lifetimeOf returns for how long what born has brought is fresh after last.
func lifetimeOf(o *oracle, born, last *exchange, says control) time.Duration {
	if says.maxAge >= 0 {
		return time.Duration(says.maxAge) * time.Second
	}
	switch born.status {
	case 200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501:
	default:
		if !says.public {
			return 0
		}
	}
	line := last.header.Get("Last-Modified")
	if line == "" {
		line = born.header.Get("Last-Modified")
	}
	modified, err := http.ParseTime(line)
	if err != nil || modified.Before(time.Date(1980, 1, 2, 0, 0, 0, 0, time.UTC)) {
		return 0
	}
	// Bubbles begin with the year 2000.
	received := bubbleBegin.Add(last.answered)
	return min(max(0, received.Sub(modified)/10), 7*24*time.Hour)
}

// bubbleBegin is when the clock of a bubble begins.
var bubbleBegin = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// confirms reports whether a 304 may be about what a header came with.
func confirms(confirmation, stored http.Header) bool {
	tag := confirmation.Get("Etag")
	if tag != "" && stored.Get("Etag") == "" {
		return stored.Get("Last-Modified") != "" && stored.Get("Last-Modified") == confirmation.Get("Last-Modified")
	}
	return tag == "" || strings.TrimPrefix(tag, "W/") == strings.TrimPrefix(stored.Get("Etag"), "W/")
}

// counts checks that the origin was not asked more often than without the
// cache.
func (o *oracle) counts() {
	plain, cached, missed := map[string]int{}, map[string]int{}, map[string]int{}
	for _, e := range o.plain.exchanges {
		plain[e.path]++
	}
	for _, e := range o.cached.exchanges {
		cached[e.path]++
		if a := o.program.action(e.request); e.missed && a != nil && a.matching == "" {
			missed[e.path]++
		}
	}
	// Each process has to be taught what an origin does not understand.
	allowed := maxLessons * o.program.processes
	for _, a := range o.program.actions {
		if a.fate.ends == breaksBody || a.fate.ends == breaksHead {
			allowed += 3 // a broken transfer is repeated, because the fault may be short
		}
	}
	// If an origin refuses a request, or confirms an unknown entity tag, the
	// request is repeated without the fields that the cache added. The cache
	// learns to leave that out, but for rights that end, which may come back.
	for _, e := range o.cached.exchanges {
		if o.adds(e) && o.again(e) != nil && !o.taught(e) {
			allowed++
		}
	}
	for path, n := range cached {
		if path == elsewhere || slices.ContainsFunc(o.program.resources, func(r resource) bool { return r.redirect == path }) {
			continue // a stored redirect leads there where the origin would have failed
		}
		if n > plain[path]+allowed {
			o.add(ruleCount, -1, "%d requests for %s; without the cache, %d", n, path, plain[path])
		}
	}
	for path, n := range missed {
		if n > maxLessons*o.program.processes {
			o.add(ruleCount, -1, "%s was asked for %d times with conditions that its origin does not understand", path, n)
		}
	}
}

// again returns the exchange that repeated the request of e, or nil.
func (o *oracle) again(e *exchange) *exchange {
	i := slices.IndexFunc(o.cached.exchanges[e.serial+1:], func(again *exchange) bool { return again.action == e.action && again.path == e.path })
	if i < 0 {
		return nil
	}
	return o.cached.exchanges[e.serial+1+i]
}

// lessonTime is for how long a process knows what an origin does not
// understand.
const lessonTime = 10 * time.Minute

// taught reports whether the cache should have known before e that the origin
// refuses the added fields.
func (o *oracle) taught(e *exchange) bool {
	return slices.ContainsFunc(o.cached.exchanges[:e.serial], func(lesson *exchange) bool {
		if e.provoked == "" || lesson.provoked != e.provoked || lesson.path != e.path || lesson.method != e.method || o.processOf(lesson) != o.processOf(e) || !o.adds(lesson) {
			return false
		}
		again := o.again(lesson)
		return again != nil && again.answered >= 0 && again.status < 300 && again.answered < e.arrived && e.arrived < lesson.arrived+lessonTime &&
			!o.restarted(o.processOf(e), lesson.arrived, e.arrived)
	})
}

// adds reports whether the cache has put conditions or a range into the request
// of an exchange.
func (o *oracle) adds(e *exchange) bool {
	a := o.program.action(e.request)
	if a == nil {
		return false
	}
	own := a.header(o.program)
	for _, name := range []string{"If-None-Match", "If-Modified-Since", "Range"} {
		if e.request.Get(name) != own.Get(name) {
			return true
		}
	}
	return false
}

// maxLessons is how many requests may show a process that an origin compares
// entity tags as texts: the first one, and others under way at that time.
const maxLessons = 3

// savings checks that the cache is of use. If a fresh response was read to its
// end, the same request is not sent to the origin again. Where anything else
// happens between, nothing is checked.
func (o *oracle) savings() {
	if o.program.store != storeWorks {
		return
	}
	for i, c := range o.cached.calls {
		var before *call // the last one, if it was over, and nothing came between
		for j, other := range o.cached.calls {
			if j == i || urlAsked(other.path) != urlAsked(c.path) && (other.method != http.MethodPost || !o.program.invalidates(other.path, c.path)) ||
				other.began > c.returned {
				continue
			}
			if other.began >= c.began || other.ended < 0 || other.finished >= c.began || before != nil && before.finished >= other.began {
				before = nil
				break
			}
			before = other
		}
		if before == nil || !o.simple(before, c) {
			continue
		}
		for _, e := range o.cached.exchanges {
			if e.action == c.action && e.path == c.path && e.came >= c.began {
				o.add(ruleSaved, c.action, "asked (exchange %d) for what action %d had read to its end, and was fresh by a %d; below lies %v", e.serial, before.action, o.exchange(before.response.Get(serialField)).status, o.program.below)
				break
			}
		}
	}
}

// simple reports whether c must get the response of before.
func (o *oracle) simple(before, c *call) bool {
	if before.process != c.process || before.err != nil || before.status != http.StatusOK || !before.eof || before.path != c.path ||
		before.method != c.method || c.method != http.MethodGet && c.method != query.String() ||
		o.wish(before.action) != wishNothing || o.wish(c.action) != wishNothing {
		return false
	}
	for _, name := range fieldsOf(before.header, c.header) {
		if name != traceField && !slices.Equal(before.header[name], c.header[name]) {
			return false
		}
	}
	for _, name := range []string{"Range", "If-None-Match", "Cache-Control"} {
		if c.header[name] != nil {
			return false
		}
	}
	for _, other := range o.cached.calls {
		if other.process != c.process && other.path == c.path && other.ended >= before.start && other.start <= c.start {
			return false // clocks do not tell which of them was first
		}
	}
	born, last := o.exchange(before.response.Get(bornField)), o.exchange(before.response.Get(serialField))
	if born == nil || last == nil || born.path != c.path || last.header.Get("Set-Cookie") != "" || strings.Contains(born.header.Get("Vary"), "*") {
		return false
	}
	for i := range o.program.actions {
		a := &o.program.actions[i]
		done := o.cached.outcomes[a.id]
		if a.kind != purge && a.kind != invalidate && a.kind != restart {
			continue
		}
		if a.process != c.process && done.end >= before.start && done.start <= c.start || done.finished >= before.began && done.began <= c.began {
			return false
		}
	}
	if x := o.confirmation(before, born, last); x != nil {
		last = x
	}
	if last.status == http.StatusNotModified && strings.HasPrefix(born.header.Get("Etag"), "W/") && !o.datedLongAgo(c.path) {
		return false // such a tag may confirm for once only
	}
	says := controlSaid(born, last)
	return !says.noCache && !says.noStore && says.maxAge > 2 && c.start-last.answered < time.Duration(says.maxAge-2)*time.Second
}

// datedLongAgo reports whether the date of last modification of the resource at
// a path is a strong validator.
func (o *oracle) datedLongAgo(path string) bool {
	return slices.ContainsFunc(o.program.resources, func(r resource) bool {
		return r.path == pathAsked(path) && (r.modified == modifiedOld || r.modified == modifiedEpoch)
	})
}

const (
	// refreshPause is how long no response is revalidated in the background
	// after that has failed.
	refreshPause = time.Second

	// fewAtOnce is how many may ask an origin at once that was just seen to fail.
	fewAtOnce = 6
)

// load checks that an origin which fails is spared.
func (o *oracle) load() {
	for _, e := range o.cached.exchanges {
		if !o.inBackground(e) {
			continue
		}
		for _, before := range o.cached.exchanges[:e.serial] {
			if before.path == e.path && failure(before) && o.inBackground(before) && e.arrived > before.answered && e.arrived < before.answered+refreshPause-tolerance &&
				o.processOf(e) == o.processOf(before) && !o.restarted(o.processOf(e), before.arrived, e.arrived) && len(differing(e.request, before.request)) == 0 {
				o.add(ruleLoad, e.action, "exchange %d revalidates in the background, %v after exchange %d had failed to", e.serial, e.arrived-before.answered, before.serial)
				break
			}
		}
	}
	if o.program.store != storeWorks {
		return // which of them may wait for each other is not told
	}
	for _, first := range o.cached.exchanges {
		if first.method != http.MethodGet || !failure(first) {
			continue
		}
		for _, e := range o.cached.exchanges[first.serial+1:] {
			atOnce := 0
			for _, other := range o.cached.exchanges[first.serial+1:] {
				if other.path == first.path && failure(other) && o.patient(other, first) && other.arrived <= e.arrived && other.answered > e.arrived {
					atOnce++
				}
			}
			if atOnce > fewAtOnce {
				o.add(ruleLoad, e.action, "%d callers that had waited for exchange %d, which failed, ask at once", atOnce, first.serial)
				return
			}
		}
	}
}

// failure reports whether an exchange got a failure of the origin instead of
// the resource.
func failure(e *exchange) bool {
	return e.answered >= 0 && e.status >= 500 && strings.HasPrefix(e.header.Get(representationField), "=failure")
}

// restarted reports whether a process was restarted between two times, and so
// has forgotten everything.
func (o *oracle) restarted(process int, from, to time.Duration) bool {
	return slices.ContainsFunc(o.program.actions, func(a action) bool {
		return a.kind == restart && a.process == process && a.at >= from && a.at <= to
	})
}

// inBackground reports whether an exchange was made for a call that was
// answered from the store.
func (o *oracle) inBackground(e *exchange) bool {
	var of *call
	for _, c := range o.cached.calls { // by their beginning
		if c.action == e.action && c.path == e.path && c.start <= e.arrived {
			of = c
		}
	}
	return of != nil && of.cache.Hit
}

// processOf returns the process of an exchange, -1 if it is not known.
func (o *oracle) processOf(e *exchange) int {
	if a := o.program.action(e.request); a != nil {
		return a.process
	}
	return -1
}

// differing returns the names of the fields in which two requests differ,
// except harmless ones.
func differing(a, b http.Header) []string {
	return slices.DeleteFunc(fieldsOf(a, b), func(name string) bool {
		return slices.Contains(harmless, name) || slices.Equal(a[name], b[name])
	})
}

// patient reports whether an exchange is of a caller that had waited for
// another one, and has time for more.
func (o *oracle) patient(e, first *exchange) bool {
	a, b := o.program.action(e.request), o.program.action(first.request)
	return a != nil && b != nil && a.asked == b.asked && (a.deadline == 0 || a.deadline >= 3*time.Second) && a.cancel == 0 && a.control == "" && a.ranged == "" && a.matching == "" &&
		o.cached.outcomes[a.id].start < first.answered && e.arrived >= first.answered && e.arrived < first.answered+tolerance &&
		o.processOf(e) == o.processOf(first) && len(differing(e.request, first.request)) == 0
}
