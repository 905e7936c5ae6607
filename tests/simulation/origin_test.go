package simulation

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cachetrip/cachetrip/internal/harness"
)

// The origin. Each response identifies itself in its header and body, so that
// the oracle can tell its origin: X-Serial is the exchange of the response,
// X-Born the exchange that brought its body, and X-Representation names the
// body. A 304 has X-Serial alone, so that a stored response that it freshened
// names both exchanges.

const (
	serialField         = "X-Serial"
	bornField           = "X-Born"
	representationField = "X-Representation"
)

// elsewhere is where a 301 leads: to nothing.
const elsewhere = "/elsewhere"

// representation is what a resource is to somebody at some time.
type representation struct {
	resource *resource
	user     string
	language string
	number   int    // of the version
	search   string // the rest of the recorded path
}

// dated reports whether the origin evaluates conditions with a date. Where that
// does not tell representations apart, it would confirm one user's page to
// another; only a careless one does so.
func (r *resource) dated() bool {
	return r.careless || r.modified == modifiedTruthful && !r.personal && !r.languages
}

// version returns a representation of r. User and language matter only if r
// varies by them.
func (r *resource) version(user, language string, number int) representation {
	if !r.personal {
		user = ""
	}
	if !r.languages {
		language = ""
	}
	return representation{resource: r, user: user, language: language, number: number}
}

func (r representation) String() string {
	return fmt.Sprintf("%s|%s|%s|%d", r.resource.path+r.search, r.user, r.language, r.number)
}

// tag returns the entity tag as it is compared, which is that of a 304.
func (r representation) tag() string {
	switch r.resource.tags {
	case tagsNone:
		return ""
	case tagsWeak:
		return `W/"` + r.String() + `"`
	case tagsShared:
		return fmt.Sprintf(`"%d"`, r.number)
	}
	return `"` + r.String() + `"`
}

// fullTag returns the entity tag of a 200.
func (r representation) fullTag() string {
	if r.resource.tags == tagsNginx {
		return "W/" + r.tag()
	}
	return r.tag()
}

// content returns the body. Its length tells versions apart as well.
func (r representation) content() []byte { return contentOf(r.String(), r.resource.length) }

// contentOf returns the body of the representation with an id, of a resource
// with a length.
func contentOf(id string, length int) []byte {
	if length == 0 {
		return []byte{}
	}
	number, _ := strconv.Atoi(id[strings.LastIndexByte(id, '|')+1:])
	length += number % 7
	return []byte(strings.Repeat(id+";", length/(len(id)+1)+1))[:length]
}

// exchange is a request that reached the origin, and its answer.
type exchange struct {
	serial int
	// Numbers of arrival and answer in the order of events in a run.
	came, went uint64

	action   int // the user of the request
	method   string
	path     string
	request  http.Header
	arrived  time.Duration
	answered time.Duration // when the header was sent, -1 if none was
	status   int
	header   http.Header
	provoked string // what field of the request the answer is about, if it is a refusal of that; empty if it is none
	missed   bool   // If-None-Match had the right tag among others, and was compared as a text
	unsafe   bool   // it has changed the resource
}

// origin serves a program.
type origin struct {
	program *program
	begin   time.Time
	ticks   atomic.Uint64 // numbers what happens, as many things may happen in one instant

	mu        sync.Mutex
	exchanges []*exchange
	posts     map[string]int           // to each path
	posted    map[string]time.Duration // when the last was
}

func (o *origin) now() time.Duration { return time.Since(o.begin) }

// recorded returns the exchanges, when all are over.
func (o *origin) recorded() []*exchange {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.exchanges
}

// current returns the number of the version at the moment. It needs o.mu.
func (o *origin) current(r *resource) int {
	number := o.posts[r.path]
	for _, at := range r.changes {
		if o.now() >= at {
			number++
		}
	}
	return number
}

// changed returns when the current version came.
func (o *origin) changed(r *resource) time.Time {
	last := time.Duration(-time.Hour)
	for _, at := range r.changes {
		if o.now() >= at {
			last = at
		}
	}
	if at, ok := o.posted[r.path]; ok {
		last = max(last, at)
	}
	return o.begin.Add(last)
}

// answer is what the origin is going to send.
type answer struct {
	status int
	body   []byte
}

func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	search, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // the caller has gone
	}
	path := o.program.pathOf(r.URL, string(search))
	o.mu.Lock()
	e := &exchange{serial: len(o.exchanges), came: o.ticks.Add(1), action: -1, method: r.Method, path: path, request: r.Header.Clone(), arrived: o.now(), answered: -1}
	o.exchanges = append(o.exchanges, e)
	o.mu.Unlock()
	is := fate{}
	if a := o.program.action(r.Header); a != nil {
		e.action, is = a.id, a.fate
	}
	if !pause(r.Context(), is.head) {
		return
	}
	switch is.ends {
	case hangsHead:
		pause(r.Context(), hangs)
		panic(http.ErrAbortHandler)
	case breaksHead:
		panic(http.ErrAbortHandler)
	}
	a := o.answer(w.Header(), r, e, is)
	o.mu.Lock()
	e.status, e.header, e.answered, e.went = a.status, w.Header().Clone(), o.now(), o.ticks.Add(1)
	o.mu.Unlock()
	w.WriteHeader(a.status)
	if len(a.body) == 0 {
		return
	}
	half := len(a.body) / 2
	w.Write(a.body[:half])
	switch {
	case is.ends == hangsBody:
		w.(http.Flusher).Flush()
		pause(r.Context(), hangs)
		panic(http.ErrAbortHandler)
	case is.ends == breaksBody:
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	case is.body > 0:
		w.(http.Flusher).Flush()
		if !pause(r.Context(), is.body) {
			return
		}
	}
	w.Write(a.body[half:])
}

// hangs is how long a hanging connection hangs. It is longer than any caller
// waits. It is not forever, so that a caller that waited for it in vain is
// found.
const hangs = 5 * time.Minute

// pause waits, and reports whether ctx still lives.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// answer makes the answer to a request, with the header h.
func (o *origin) answer(h http.Header, r *http.Request, e *exchange, is fate) answer {
	o.mu.Lock()
	defer o.mu.Unlock()
	serial := strconv.Itoa(e.serial)
	h.Set(serialField, serial)
	h.Set(bornField, serial)
	h.Set("Content-Type", "text/plain")
	say := func(status int, text string) answer {
		id := fmt.Sprintf("%s|%s", text, serial)
		h.Set(representationField, "="+id)
		h.Set("Content-Length", strconv.Itoa(len(id)))
		h.Del("Last-Modified") // which would make some statuses fresh
		return answer{status, []byte(id)}
	}
	if is.status != 0 {
		return say(is.status, "failure")
	}
	i := slices.IndexFunc(o.program.resources, func(res resource) bool { return res.path == r.URL.Path })
	if i < 0 {
		return say(404, "nothing")
	}
	res := &o.program.resources[i]
	for _, name := range res.groups {
		field := "Cache-Groups"
		if r.Method == http.MethodPost {
			field = "Cache-Group-Invalidation"
		}
		h.Add(field, strconv.Quote(name))
	}
	if r.Method == http.MethodPost {
		o.posts[res.path]++
		o.posted[res.path] = o.now()
		e.unsafe = true
		return say(200, "done")
	}
	if res.noVarySearch != "" {
		h.Set("No-Vary-Search", res.noVarySearch)
	}
	user, session := userOf(r.Header), sessionOf(r.Header)
	if res.revoked > 0 && o.now() >= res.revoked && user != "" {
		return say(403, "revoked")
	}
	if res.session {
		if session == "" {
			session = serial
			h.Set("Set-Cookie", "sid="+session)
		}
		user += "/" + session
	}
	language := r.Header.Get("Accept-Language")
	now := res.version(user, language, o.current(res))
	now.search = strings.TrimPrefix(e.path, res.path)
	control, status := res.control, res.status
	set := func(name, value string) {
		if value != "" {
			h.Set(name, value)
		}
	}
	// As in servers that compress responses, ranges refer to the uncompressed
	// content, under the same tag.
	coded := res.gzip && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") && r.Header.Get("Range") == ""
	vary := res.vary
	if res.gzip {
		vary = strings.TrimPrefix(vary+", Accept-Encoding", ", ")
	}
	set("Vary", vary)
	modified := time.Time{}
	switch res.modified {
	case modifiedOld:
		modified = o.begin.AddDate(-10, 0, 0)
	case modifiedLately, modifiedAndFuture:
		modified = o.begin.AddDate(0, 0, -20)
	case modifiedEpoch:
		modified = time.Unix(0, 0)
	case modifiedTruthful:
		modified = o.changed(res)
	}
	if res.modified == modifiedAndFuture {
		h.Set("Date", time.Now().AddDate(1, 0, 0).UTC().Format(http.TimeFormat))
	}
	if !modified.IsZero() {
		h.Set("Last-Modified", modified.UTC().Format(http.TimeFormat))
	}
	if res.redirect != "" && (!res.session || h.Get("Set-Cookie") != "") {
		set("Cache-Control", control)
		h.Set("Location", res.redirect)
		return say(302, "redirect")
	}
	if status == 200 && o.conditions(h, r, e, res, now, modified) {
		if e.provoked == "" {
			h.Set("Etag", now.tag())
		}
		if h.Get("Etag") == "" {
			h.Del("Etag")
		}
		h.Del(bornField)
		h.Del("Content-Type")
		if res.control304 != "" {
			control = res.control304
		}
		set("Cache-Control", control)
		return answer{304, nil}
	}
	if e.provoked != "" {
		return say(res.refusal, "refused")
	}
	if status == 301 {
		h.Set("Location", elsewhere)
	}
	if status == 200 && !coded && r.Method != http.MethodHead && r.Header.Get("Range") != "" {
		switch a, done := o.ranges(h, r, e, res, &now, modified); {
		case e.provoked != "" && a.status == res.refusal:
			return say(res.refusal, "refused")
		case done:
			if a.status == 206 && res.control206 != "" {
				control = res.control206
			}
			set("Cache-Control", control)
			set("Etag", now.fullTag())
			h.Set(representationField, now.String())
			h.Set("Content-Length", strconv.Itoa(len(a.body)))
			if a.status == 206 && res.digests {
				h.Set("Content-Digest", digest(a.body))
				h.Set("Repr-Digest", digest(now.content()))
			}
			return a
		}
	}
	set("Cache-Control", control)
	set("Etag", now.fullTag())
	if res.ranges != rangesIgnored {
		h.Set("Accept-Ranges", "bytes")
	}
	h.Set(representationField, now.String())
	if status == 204 {
		h.Del("Content-Type")
		return answer{status, nil}
	}
	content := now.content()
	if coded {
		h.Set("Content-Encoding", "gzip")
		content = compressed(content)
	}
	if !res.chunked {
		h.Set("Content-Length", strconv.Itoa(len(content)))
	}
	if res.digests {
		h.Set("Repr-Digest", digest(content))
	}
	if r.Method == http.MethodHead {
		content = nil
	}
	if res.digests {
		h.Set("Content-Digest", digest(content))
	}
	return answer{status, content}
}

// conditions reports whether to answer 304, and notes a refusal in e.
func (o *origin) conditions(h http.Header, r *http.Request, e *exchange, res *resource, now representation, modified time.Time) bool {
	line := r.Header.Get("If-None-Match")
	since, err := http.ParseTime(r.Header.Get("If-Modified-Since"))
	dated := err == nil
	if line == "" && !dated {
		return false
	}
	opaque := strings.TrimPrefix(now.tag(), "W/")
	among := func() bool {
		return opaque != "" && slices.ContainsFunc(strings.Split(line, ", "), func(tag string) bool { return strings.TrimPrefix(tag, "W/") == opaque })
	}
	switch res.conditions {
	case conditionsIgnored:
		return false
	case conditionsRefused:
		e.provoked = "condition"
		return false
	case conditionsWrong:
		e.provoked = "condition"
		h.Set("Etag", `"wrong"`)
		if !modified.IsZero() {
			h.Set("Last-Modified", modified.AddDate(-1, 0, 0).UTC().Format(http.TimeFormat))
		}
		return true
	case conditionsAsText:
		if line != "" {
			same := opaque != "" && strings.TrimPrefix(line, "W/") == opaque
			e.missed = !same && among()
			return same
		}
	}
	if line != "" {
		return among()
	}
	return res.dated() && !modified.Truncate(time.Second).After(since)
}

// ranges answers a request with a Range, if it does.
func (o *origin) ranges(h http.Header, r *http.Request, e *exchange, res *resource, now *representation, modified time.Time) (a answer, done bool) {
	switch res.ranges {
	case rangesIgnored:
		return answer{}, false
	case rangesRefused:
		e.provoked = "range"
		return answer{status: res.refusal}, false
	case rangesChanged:
		now.number += 1000
		return answer{}, false
	}
	if if_ := r.Header.Get("If-Range"); if_ != "" && (if_ != now.fullTag() || strings.HasPrefix(if_, "W/")) && !(res.dated() && if_ == modified.UTC().Format(http.TimeFormat)) {
		return answer{}, false
	}
	content := now.content()
	if res.ranges == rangesWrong {
		end := min(5, len(content))
		if end == 0 {
			return answer{}, false
		}
		e.provoked = "range"
		h.Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", end-1, len(content)))
		return answer{206, content[:end]}, true
	}
	from, to, ok := span(r.Header.Get("Range"), len(content))
	switch {
	case !ok:
		return answer{}, false
	case from >= len(content):
		h.Set("Content-Range", fmt.Sprintf("bytes */%d", len(content)))
		return answer{416, nil}, true
	}
	h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to-1, len(content)))
	return answer{206, content[from:to]}, true
}

// span reads a Range of one part.
func span(line string, length int) (from, to int, ok bool) {
	first, last, ok := strings.Cut(strings.TrimPrefix(line, "bytes="), "-")
	if !ok || strings.Contains(line, ",") {
		return 0, 0, false
	}
	if first == "" {
		n, err := strconv.Atoi(last)
		return max(0, length-n), length, err == nil
	}
	from, err := strconv.Atoi(first)
	if err != nil {
		return 0, 0, false
	}
	to = length
	if last != "" {
		end, err := strconv.Atoi(last)
		if err != nil {
			return 0, 0, false
		}
		to = min(end+1, length)
	}
	return from, to, true
}

// userOf returns the user that a header is of.
func userOf(h http.Header) string {
	if token := h.Get("Private-Token"); token != "" {
		return token
	}
	if token, ok := strings.CutPrefix(h.Get("Authorization"), "Bearer "); ok {
		return token
	}
	return cookieOf(h, "user")
}

// sessionOf returns the session that a header is of.
func sessionOf(h http.Header) string { return cookieOf(h, "sid") }

func cookieOf(h http.Header, name string) string {
	for _, line := range h["Cookie"] {
		for pair := range strings.SplitSeq(line, ";") {
			if value, ok := strings.CutPrefix(strings.TrimSpace(pair), name+"="); ok {
				return value
			}
		}
	}
	return ""
}

// digest returns the value of a field of RFC 9530.
func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

func compressed(content []byte) []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	w.Write(content)
	w.Close()
	return b.Bytes()
}

// serve begins to serve a program, and returns what connects to it.
func serve(p *program) (o *origin, base *http.Transport, stop func()) {
	o = &origin{program: p, begin: time.Now(), posts: map[string]int{}, posted: map[string]time.Duration{}}
	l := harness.NewPipes()
	server := &http.Server{Handler: o, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go server.Serve(l)
	// Connections are not used again: net/http repeats requests on those, so
	// that a fate would hit another number of them.
	base = &http.Transport{DialContext: l.Dial, DisableKeepAlives: true}
	return o, base, func() { base.CloseIdleConnections(); server.Close() }
}
