package validation_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/harness"
	"github.com/cachetrip/cachetrip/store"
)

// RoundTrip as a whole, against a scripted origin. For every script, the caller
// must see no difference to having no cache, except those that RFC 9111 allows.
// The test computes the allowed responses by itself, in the simplest way, from
// the responses of the origin.

// FuzzRoundTrip reads a script byte by byte: changes of the origin, requests of
// clients, and the passing of time.
func FuzzRoundTrip(f *testing.F) {
	for _, script := range roundTripScripts {
		f.Add([]byte(script))
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 400 {
			t.Skip("longer scripts show nothing that shorter ones do not")
		}
		synctest.Test(t, func(t *testing.T) { play(t, script) })
	})
}

// roundTripScripts begin the search: each shows one kind of step.
var roundTripScripts = []string{
	"", "\x00", "memory, plain requests: \x40\x40\x41\x41",
	"\x00\x10\x01\x00\x02\x40\x00\x00\x00\x40\x00\x00\x00\x30\x05\x40\x00\x00\x00",
	"\x01\x12\x23\x34\x45\x56\x67\x78\x89\x9a\xab\xbc\xcd\xde\xef",
	"\x02\x10\x11\x12\x13\x80\x81\x82\x83\x40\x01\x02\x03\x40\x04\x05\x06\x30\x01\x40\x07\x08\x09",
	"\x00\x10\x02\x06\x40\x60\x06\x00\x32\x40\x60\x06\x00\x40\x00\x00\x40\x60\x06\x00\x32\x32\x40\x60\x06\x00\x40\x60\x07\x00",                         // lifetimes
	"\x00\x40\x00\x00\x10\x01\x40\x60\x03\x00\x10\x01\x40\x60\x02\x00\x10\x01\x40\x60\x01\x00\x34\x40\x60\x04\x00\x40\x60\x05\x00\x40\xe0\x05\x03\x00", // modes
	"\x02\x40\x00\x80\x00\x40\x00\x80\x01\x40\x00\x80\x00\x40\x00\x00\x7e\x00\x00\x40\x00\x80\x00",                                                     // queries, and a POST
	"\x00\x7c\x00\x01\x01\x7c\x00\x00\x40\x00\x00\x7c\x00\x01\x04\x7c\x00\x00\x40\x00\x00",                                                             // HEADs with a Range
	"\x04\x10\xff\xfe\xfd\xfc\x40\xff\x0f\x1f\x40\x2f\x3f\x4f\x50\x40\x5f\x6f\x7f\x40\x8f\x9f\xaf",
	"\x08\x10\x02\x02\x02\x02\x40\x00\x20\x00\x40\x00\x20\x00\x60\x40\x00\x00\x00\x70\x40\x00\x00\x00",
}

// script gives the bytes of a script one after the other, and then zeros.
type scriptReader struct{ rest []byte }

func (s *scriptReader) next() int {
	if len(s.rest) == 0 {
		return 0
	}
	b := s.rest[0]
	s.rest = s.rest[1:]
	return int(b)
}

// pick chooses one of several by the next byte.
func pick[T any](s *scriptReader, from ...T) T { return from[s.next()%len(from)] }

// policy is what the origin says about a resource.
type policy struct {
	control  string
	vary     string
	expires  string // instead of control
	tag      int    // 0 none, 1 strong, 2 weak, 3 unquoted
	modified bool
	length   int // of the content
	status   int
	unknown  bool // no Content-Length
	ranges   bool // it answers Range requests
	extra    string
}

// resource is what the origin has at one path.
type resource struct {
	policy
	version int
	changed time.Time
}

// rep is a response that the origin gave or confirmed: what a cache may know.
type rep struct {
	path, user, language string
	search               string // the content of a QUERY
	version              int
	kept                 bool // the program has it stored, whatever the origin says
	policy
	said    time.Time // when the origin gave or confirmed it
	token   string    // the user, unless Identity names one
	asked   string    // the language
	update  bool      // by a 304
	maybe   bool      // by a 304 that need not be understood so
	invalid bool      // something unsafe was done since
}

func (r *rep) id() string {
	return fmt.Sprintf("%s%s %s %s %d", r.path, r.search, r.user, r.language, r.version)
}

func (r *rep) content() []byte {
	if r.status == http.StatusNoContent {
		return nil
	}
	id := "<" + r.id() + ">"
	return []byte(strings.Repeat(id, r.length/len(id)+1))[:r.length]
}

func (r *rep) etag() string {
	tag := strings.ReplaceAll(fmt.Sprintf("%s%s,%s,%s,%d", r.path, r.search, r.user, r.language, r.version), " ", "")
	switch r.tag {
	case 1:
		return `"` + tag + `"`
	case 2:
		return `W/"` + tag + `"`
	case 3:
		return strings.ReplaceAll(tag, ",", "-")
	}
	return ""
}

// stage is everything that a script plays with.
type stage struct {
	*testing.T
	cache     *cachetrip.Transport
	resources map[string]*resource
	known     []*rep
	expires   bool   // the origin gives lifetimes by Expires, else by Cache-Control
	below     string // the user whose credentials Base adds; empty if the client does
	fault     int    // what the origin does wrong with the next response

	mu     sync.Mutex // held while the origin answers, and while an answer is judged
	asked  int        // requests since the step began
	failed error      // what Base failed with since then
	broken bool       // a body broke off since then
}

var errOrigin = errors.New("the origin can't be reached")

// playLogger logs each step, to find the reason of a failure.
var playLogger *slog.Logger

func play(t *testing.T, script []byte) {
	s := &scriptReader{script}
	st := &stage{T: t, resources: map[string]*resource{}}
	for _, path := range []string{"/a", "/b"} {
		st.resources[path] = &resource{policy: policy{control: "max-age=60", tag: 1, length: 100, status: 200, ranges: true}, changed: time.Now()}
	}
	setup := s.next()
	st.cache = &cachetrip.Transport{Base: harness.RoundTripperFunc(st.origin), Policy: wished, Logger: playLogger}
	if setup&0xe1 == 0xe1 { // seldom, as it takes its time
		st.cache.Store = harness.OpenDisk(t, t.TempDir()+"/cache", store.DiskOptions{})
	} else {
		st.cache.Store = store.NewMemory(1 << 20)
	}
	if setup&2 != 0 {
		st.cache.Identity = func(req *http.Request) string { return req.Header.Get("X-User") }
	}
	if setup&4 != 0 {
		st.below = "alice"
	}
	st.expires = setup&16 != 0
	if setup&8 != 0 {
		st.cache.StaleIfError = 20 * time.Second
	}
	for steps := 0; len(s.rest) > 0 && steps < 60; steps++ {
		switch kind := s.next(); {
		case kind < 0x20:
			st.change(s, []string{"/a", "/b"}[kind&1])
		case kind < 0x38:
			time.Sleep([]time.Duration{time.Second, 5 * time.Second, 30 * time.Second, 61 * time.Second, time.Hour, 100 * 24 * time.Hour}[kind%6])
		case kind < 0x3c && st.below != "":
			st.below = []string{"alice", "bob"}[kind&1]
		default:
			st.ask(s, kind)
		}
	}
	if err := st.cache.Close(); err != nil {
		t.Error(err)
	}
}

// change makes the origin say something else.
func (st *stage) change(s *scriptReader, path string) {
	time.Sleep(time.Second) // what changes twice within one can't be told by dates
	r := st.resources[path]
	what := s.next()
	if what&(1|4|8|16) != 0 {
		r.version++
		r.changed = time.Now()
	}
	if what&2 != 0 {
		r.control = pick(s, "max-age=60", "x-nothing", "no-cache", "max-age=10, stale-while-revalidate=20", "max-age=10, stale-if-error=40", "max-age=5, must-revalidate",
			"no-store", "max-age=0", "private, max-age=30", "max-age=60, immutable", `max-age=60, no-cache="x-extra"`, "max-age=20, max-age=40", "max-age", "public")
		// Not now one and now the other: a field that an update leaves out
		// stays as it was.
		if st.expires {
			r.control = "x-nothing"
			r.expires = pick(s, time.Now().Add(30*time.Second).UTC().Format(http.TimeFormat), "0", "nonsense")
		}
	}
	if what&4 != 0 {
		r.vary = pick(s, "", "Accept-Language", "Authorization", "*", "Accept-Language, Authorization", "X-Other", ",", "Cookie")
		r.tag = pick(s, 1, 0, 2, 3)
		r.modified = s.next()&1 != 0
	}
	if what&8 != 0 {
		r.length = pick(s, 100, 0, 1, 17, 5000, 40_000, 300_000)
		r.unknown = s.next()&1 != 0
		r.ranges = s.next()&1 != 0
	}
	if what&16 != 0 {
		r.status = pick(s, 200, 404, 301, 410, 204, 403, 500, 203)
	}
	if what&32 != 0 {
		st.fault = s.next() % 8
	}
	if what&64 != 0 {
		r.extra = strings.Map(func(c rune) rune {
			if c < ' ' || c > '~' {
				return -1
			}
			return c
		}, string([]byte{byte(s.next()), byte(s.next()), byte(s.next())}))
	}
}

// the faults of an origin
const (
	faultNone = iota
	faultDown
	faultBreaks  // the content breaks off
	fault503     // it is overloaded
	faultAlways  // it says 304 to everything that has a condition
	faultSilent  // its 304s say nothing
	faultPartial // it sends a part without a request for one
	faultLies    // its ranges are not the requested ones
)

// origin is the Base: the scripted origin.
func (st *stage) origin(req *http.Request) (resp *http.Response, err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.asked++
	fault := st.fault
	st.fault = faultNone
	if playLogger != nil {
		playLogger.Info("origin", "method", req.Method, "url", req.URL.Path, "header", req.Header, "fault", fault)
		defer func() {
			if resp != nil {
				playLogger.Info("origin says", "status", resp.StatusCode, "length", resp.ContentLength, "header", resp.Header)
			}
		}()
	}
	if fault == faultDown {
		st.failed = errOrigin
		return nil, errOrigin
	}
	for name, values := range req.Header {
		for _, value := range values {
			if strings.ContainsAny(value, "\r\n\x00") {
				st.Errorf("the origin was sent %s: %q", name, value)
			}
		}
	}
	sent := req
	if st.below != "" {
		sent = req.Clone(req.Context())
		sent.Header.Set("Authorization", "Bearer "+st.below+"-0")
	}
	r := st.resources[req.URL.Path]
	current := st.rep(req)
	if req.Body != nil {
		if content, err := io.ReadAll(req.Body); err != nil || string(content) != current.search {
			st.Errorf("the origin was sent %q, %v, want %q", content, err, current.search)
		}
		req.Body.Close()
	}
	resp = &http.Response{StatusCode: r.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Request: sent, Body: http.NoBody}
	if req.Method == "POST" {
		r.version++
		r.changed = time.Now()
		for _, k := range st.known {
			k.invalid = k.invalid || k.path == req.URL.Path
		}
		resp.StatusCode = 200
		resp.Header.Set("Content-Length", "0")
		return resp, nil
	}
	h := resp.Header
	h.Set("X-Rep", current.id())
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	set := func(name, value string) {
		if value != "" {
			h.Set(name, value)
		}
	}
	set("X-Extra", r.extra)
	set("Vary", r.vary)
	set("Etag", current.etag())
	if r.modified {
		set("Last-Modified", r.changed.UTC().Format(http.TimeFormat))
	}
	set("Expires", r.expires)
	set("Cache-Control", r.control)
	if r.ranges {
		h.Set("Accept-Ranges", "bytes")
	}
	content := current.content()
	switch {
	case fault == fault503:
		resp.StatusCode = 503
		resp.Header = http.Header{"Date": h["Date"]}
		resp.Body = io.NopCloser(strings.NewReader("sorry"))
		resp.ContentLength = 5
		return resp, nil
	case st.notModified(req, r, current), fault == faultAlways && st.hasOneVariant(req) && (req.Header["If-None-Match"] != nil || req.Header["If-Modified-Since"] != nil):
		resp.StatusCode = 304
		if fault == faultSilent {
			h.Del("Etag")
			h.Del("Last-Modified")
		}
		if fault == faultAlways {
			if req.Header.Get("Cache-Control") != "no-store" { // the cache ignores it
				st.confirmAll(current) // it says so; it is then responsible for the responses
			}
			h.Del("X-Rep")
		} else {
			current.update = true
			st.known = append(st.known, current)
		}
		return resp, nil
	}
	if r.status == 200 && r.ranges { // for a HEAD as well, as net/http and others do
		content = st.part(req, resp, current, content, fault)
	}
	st.known = append(st.known, current)
	if r.status == 301 {
		h.Set("Location", "/b")
	}
	if req.Method == "HEAD" {
		resp.ContentLength = int64(len(content))
		h.Set("Content-Length", strconv.Itoa(len(content)))
		return resp, nil
	}
	resp.ContentLength = int64(len(content))
	if r.unknown {
		resp.ContentLength = -1
	} else {
		h.Set("Content-Length", strconv.Itoa(len(content)))
	}
	if len(content) == 0 && !r.unknown {
		return resp, nil
	}
	var body io.Reader = bytes.NewReader(content)
	if fault == faultBreaks && len(content) > 0 {
		body = &breaks{content[:len(content)/2], st}
	}
	resp.Body = io.NopCloser(body)
	return resp, nil
}

// rep returns what the origin has for a request.
func (st *stage) rep(req *http.Request) *rep {
	r := st.resources[req.URL.Path]
	is := &rep{path: req.URL.Path, user: st.userFor(req), version: r.version, policy: r.policy, said: time.Now(), asked: req.Header.Get("Accept-Language"), search: searchOf(req)}
	is.kept = wished(req).TTL > 0 && governed(r.status)
	if st.cache.Identity == nil {
		is.token = req.Header.Get("Authorization")
	}
	if strings.Contains(r.vary, "Accept-Language") {
		is.language = req.Header.Get("Accept-Language")
	}
	return is
}

// hasOneVariant reports whether there is only one response that a 304 could be
// about.
func (st *stage) hasOneVariant(req *http.Request) bool {
	return !slices.ContainsFunc(st.known, func(k *rep) bool { return k.path == req.URL.Path && k.language != "" }) &&
		!strings.Contains(st.resources[req.URL.Path].vary, "Language")
}

// breaks is a body that breaks off.
type breaks struct {
	rest []byte
	st   *stage
}

func (b *breaks) Read(p []byte) (int, error) {
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	if len(b.rest) == 0 {
		b.st.mu.Lock()
		b.st.broken = true
		b.st.mu.Unlock()
		return n, io.ErrUnexpectedEOF
	}
	return n, nil
}

func userOf(req *http.Request) string {
	token, _ := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
	user, _, _ := strings.Cut(token, "-")
	return user
}

// notModified evaluates conditions as RFC 9110, section 13.2.2, has it.
func (st *stage) notModified(req *http.Request, r *resource, current *rep) bool {
	if r.status != 200 || req.Method == "POST" {
		return false
	}
	if line := req.Header.Get("If-None-Match"); line != "" {
		tag := strings.TrimPrefix(current.etag(), "W/")
		if line == "*" {
			return true
		}
		// Our tags contain commas within quotes only, and none contains another.
		return tag != "" && slices.ContainsFunc(splitTags(line), func(other string) bool { return strings.TrimPrefix(other, "W/") == tag })
	}
	if since, err := http.ParseTime(req.Header.Get("If-Modified-Since")); err == nil && r.modified {
		return !r.changed.Truncate(time.Second).After(since)
	}
	return false
}

func splitTags(line string) (tags []string) {
	quoted := false
	start := 0
	for i := range line {
		switch {
		case line[i] == '"':
			quoted = !quoted
		case line[i] == ',' && !quoted:
			tags = append(tags, strings.TrimSpace(line[start:i]))
			start = i + 1
		}
	}
	return append(tags, strings.TrimSpace(line[start:]))
}

// part answers a Range request, as net/http does.
func (st *stage) part(req *http.Request, resp *http.Response, current *rep, content []byte, fault int) []byte {
	line := req.Header.Get("Range")
	if fault == faultPartial && len(content) > 2 {
		line = "bytes=1-1"
	} else if condition := req.Header.Get("If-Range"); condition != "" {
		strong := current.tag == 1 && condition == current.etag()
		dated := resp.Header.Get("Last-Modified") == condition && current.modified
		if !strong && !dated {
			line = ""
		}
	}
	var first, last int
	if line == "" || len(content) == 0 {
		return content
	}
	if n, _ := fmt.Sscanf(line, "bytes=%d-%d", &first, &last); n < 1 {
		return content
	} else if n < 2 {
		last = len(content) - 1
	}
	if first >= len(content) {
		resp.StatusCode = 416
		resp.Header.Set("Content-Range", fmt.Sprintf("bytes */%d", len(content)))
		return nil
	}
	if fault == faultLies && first > 0 {
		first--
	}
	last = min(last, len(content)-1)
	if last < first {
		return content
	}
	resp.StatusCode = 206
	resp.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, len(content)))
	return content[first : last+1]
}

// confirmAll notes that the origin calls everything current that it can be
// understood to mean.
func (st *stage) confirmAll(r *rep) {
	for _, k := range slices.Clone(st.known) {
		if k.path == r.path && k.user == r.user {
			confirmed := *k
			confirmed.said, confirmed.control, confirmed.expires, confirmed.invalid, confirmed.token = r.said, r.control, r.expires, false, r.token
			confirmed.maybe = true
			st.known = append(st.known, &confirmed)
		}
	}
}

// ask makes a request, and compares the response with the allowed ones.
func (st *stage) ask(s *scriptReader, kind int) {
	path := []string{"/a", "/b"}[kind&1]
	method := "GET"
	switch kind >> 1 & 31 {
	case 30:
		method = "HEAD"
	case 31:
		method = "POST"
	}
	req, err := http.NewRequest(method, "http://origin.test"+path, nil)
	if err != nil {
		st.Fatal(err)
	}
	who := s.next()
	if user := []string{"", "alice", "bob", ""}[who&3]; user != "" && st.below == "" {
		req.Header.Set("Authorization", fmt.Sprintf("Bearer %s-%d", user, who>>2&1))
		req.Header.Set("X-User", user)
	} else if st.below != "" {
		req.Header.Set("X-User", st.below)
	}
	if language := []string{"", "de", "en", "de"}[who>>3&3]; language != "" {
		req.Header.Set("Accept-Language", language)
	}
	var control string
	if who&0x80 != 0 {
		control = pick(s, "", "no-cache", "max-age=0", "max-age=5", "min-fresh=20", "max-stale=30", "only-if-cached", "no-store", "max-stale, only-if-cached", "stale-if-error=50")
		if control != "" {
			req.Header.Set("Cache-Control", control)
		}
	}
	if who&0x60 == 0x60 {
		req.Header.Set(wishField, pick(s, "default", "no-store", "reload", "no-cache", "force-cache", "only-if-cached", "ttl", "never"))
	}
	how := s.next()
	if how&0x80 != 0 && method == "GET" {
		method = "QUERY"
		content := pick(s, "?x", "?y", "")
		req.Method, req.Body, req.ContentLength = method, io.NopCloser(strings.NewReader(content)), int64(len(content))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }
	}
	r := st.resources[path]
	if how&1 != 0 && method != "POST" {
		req.Header.Set("Range", pick(s, "bytes=0-0", "bytes=5-50", "bytes=10-", "bytes=99-200", "bytes=4000-5000"))
		if how&2 != 0 {
			current := st.rep(req)
			req.Header.Set("If-Range", pick(s, current.etag(), `"other"`, r.changed.UTC().Format(http.TimeFormat)))
		}
	} else if how&2 != 0 && method != "POST" {
		current := st.rep(req)
		current.version -= s.next() & 1
		if tag := current.etag(); tag != "" && how&4 != 0 {
			req.Header.Set("If-None-Match", tag)
		} else {
			req.Header.Set("If-Modified-Since", r.changed.UTC().Format(http.TimeFormat))
		}
	}
	st.asked, st.failed, st.broken = 0, nil, false
	before := req.Clone(req.Context())
	var others []chan string
	if how&0x18 == 0x18 && (method == "GET" || method == "QUERY") { // others ask for the same at the same time
		for range 2 {
			other := make(chan string, 1)
			others = append(others, other)
			copied := req.Clone(req.Context())
			if req.GetBody != nil {
				copied.Body, _ = req.GetBody()
			}
			go func() { other <- st.exchange(copied, control, 0x20) }()
		}
	}
	wrong := st.exchange(req, control, how)
	for _, other := range others {
		if w := <-other; w != "" {
			wrong += "\nanother: " + w
		}
	}
	if fmt.Sprint(before.Header, before.URL) != fmt.Sprint(req.Header, req.URL) {
		wrong += fmt.Sprintf("\nthe request was changed from %v to %v", before.Header, req.Header)
	}
	synctest.Wait()
	if wrong != "" {
		st.Errorf("%s %s %v, at %v: %s", method, path, req.Header, time.Now().UTC().Format(time.TimeOnly), wrong)
	}
}

// userFor returns the user that the origin sees in a request.
func (st *stage) userFor(req *http.Request) string {
	if st.below != "" {
		return st.below
	}
	return userOf(req)
}

// exchange makes a request and returns a fault of the response, or "".
func (st *stage) exchange(req *http.Request, control string, how int) string {
	asked := time.Now()
	resp, err := st.cache.RoundTrip(req)
	if err != nil {
		st.mu.Lock()
		defer st.mu.Unlock()
		if st.failed == nil {
			return fmt.Sprintf("failed with %v, the origin did not", err)
		}
		return ""
	}
	defer resp.Body.Close()
	if resp.Request != req {
		return "not the response to this request"
	}
	var body []byte
	if how&0x60 == 0x40 {
		body, err = io.ReadAll(io.LimitReader(resp.Body, 10)) // and leave early
		if err == nil {
			err = errEarly
		}
	} else {
		body, err = io.ReadAll(resp.Body)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if err != nil && err != errEarly && !st.broken {
		return fmt.Sprintf("reading failed with %v, nothing had broken off", err)
	}
	return st.judge(req, resp, control, body, err, asked)
}

var errEarly = errors.New("left early")

// judge returns a fault of a response, or "".
func (st *stage) judge(req *http.Request, resp *http.Response, control string, body []byte, readErr error, asked time.Time) string {
	status := cachetrip.StatusOf(resp)
	served := resp.Header.Get("X-From-Cache") != "" || status.Collapsed
	only := strings.Contains(control, "only-if-cached") || wished(req).Mode == cachetrip.ModeOnlyIfCached
	switch {
	case req.Method == "POST":
		return ""
	case resp.StatusCode == 504:
		if !only {
			return "refused what was not only-if-cached"
		}
		return ""
	case only && !served:
		return "asked the origin, against only-if-cached"
	case resp.StatusCode == 503 && !served:
		return ""
	case resp.StatusCode == 304 && !served && resp.Header["X-Rep"] == nil && st.asksConditionally(req):
		return ""
	}
	// Which representation is it?
	id := resp.Header.Get("X-Rep")
	var is *rep
	last := make(map[string]*rep) // the last response to each caller
	for _, k := range st.known {
		if k.id() == id {
			is = k
			switch {
			case k.token != st.rep(req).token:
			case k.maybe: // it counts in addition to earlier responses
				last["maybe "+k.asked] = k
			// A new response that must not be stored leaves the stored one as
			// it is.
			case last[k.asked] == nil || k.update || k.kept || k.control != "no-store":
				last[k.asked] = k
				delete(last, "maybe "+k.asked)
			}
		}
	}
	if is == nil {
		return fmt.Sprintf("got %q, which the origin never sent", id)
	}
	user := st.userFor(req)
	if is.search != searchOf(req) || req.Method != "QUERY" && is.search != "" {
		return fmt.Sprintf("got %q, asked for %q", id, searchOf(req))
	}
	if is.path != req.URL.Path || is.user != user {
		return fmt.Sprintf("got %q, asked for %s as %q", id, req.URL.Path, user)
	}
	if strings.Contains(is.vary, "Accept-Language") && is.language != req.Header.Get("Accept-Language") {
		return fmt.Sprintf("got %q, asked for the language %q", id, req.Header.Get("Accept-Language"))
	}
	if wrong := st.judgeContent(req, resp, is, body, readErr); wrong != "" {
		return wrong
	}
	if !served {
		return ""
	}
	wrong := fmt.Sprintf("%s was said to others only", id)
	for _, k := range last {
		if wrong = st.judgeAge(req, status, k, control, asked); wrong == "" {
			return ""
		}
	}
	return wrong
}

// judgeContent returns a fault of the received bytes, or "".
func (st *stage) judgeContent(req *http.Request, resp *http.Response, is *rep, body []byte, readErr error) string {
	content := is.content()
	if length := resp.Header["Content-Length"]; req.Method == "HEAD" && resp.Header.Get("X-From-Cache") != "" &&
		(resp.StatusCode == 206 || resp.StatusCode == 200 && length != nil && length[0] != strconv.Itoa(len(content))) {
		return fmt.Sprintf("%d with a length of %s, of %d bytes, for a HEAD", resp.StatusCode, length, len(content))
	}
	switch {
	case req.Method == "HEAD" || resp.StatusCode == 304 || resp.StatusCode == 416:
		if len(body) > 0 {
			return fmt.Sprintf("%d bytes where there are none", len(body))
		}
		if resp.StatusCode == 304 && !st.asksConditionally(req) {
			return "304 to a request without conditions"
		}
		if resp.StatusCode == 416 && req.Header["Range"] == nil {
			return "416 to a request without Range"
		}
		return ""
	case resp.StatusCode == 206:
		var first, last, length int
		if n, _ := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &length); n != 3 ||
			length != len(content) || first > last || last >= length {
			return fmt.Sprintf("206 with Content-Range %q of %d bytes", resp.Header.Get("Content-Range"), len(content))
		}
		content = content[first : last+1]
	case resp.StatusCode != is.status:
		return fmt.Sprintf("status %d, the origin said %d", resp.StatusCode, is.status)
	}
	switch {
	case readErr == nil && !bytes.Equal(body, content):
		return fmt.Sprintf("%d bytes that are not the %d of %s, without an error", len(body), len(content), is.id())
	case !bytes.HasPrefix(content, body):
		return fmt.Sprintf("%d bytes that do not begin %s", len(body), is.id())
	case resp.ContentLength >= 0 && resp.ContentLength != int64(len(content)):
		return fmt.Sprintf("ContentLength %d, got %d", resp.ContentLength, len(content))
	}
	return ""
}

func (st *stage) asksConditionally(req *http.Request) bool {
	return req.Header["If-None-Match"] != nil || req.Header["If-Modified-Since"] != nil
}

// judgeAge says whether a stored response was too old, or wanted to be asked
// about.
func (st *stage) judgeAge(req *http.Request, status cachetrip.Status, is *rep, control string, asked time.Time) string {
	age := time.Since(is.said)
	justSaid := !is.said.Before(asked)
	if justSaid {
		return ""
	}
	says := parseControl(is.control)
	wish := wished(req)
	forces := wish.Mode == cachetrip.ModeForceCache || wish.Mode == cachetrip.ModeOnlyIfCached
	ruled := wish.TTL > 0 && governed(is.status)
	switch {
	case wish.Mode == cachetrip.ModeNoStore || wish.Mode == cachetrip.ModeReload || wish.Mode == cachetrip.ModeNoCache:
		return fmt.Sprintf("%s was reused without asking, in the mode %v", is.id(), wish.Mode)
	}
	_, must := says["no-cache"]
	if _, fields := says[`no-cache="x-extra"`]; fields {
		must = false
	}
	asks := parseControl(control)
	if is.control == "no-store" && !((forces || ruled) && is.kept) {
		return fmt.Sprintf("%s was stored against no-store", is.id())
	}
	if forces || ruled {
		must = false
	}
	if must || is.invalid || is.vary == "*" {
		return fmt.Sprintf("%s was reused without asking: no-cache %v, invalidated %v, Vary %q", is.id(), must, is.invalid, is.vary)
	}
	if st.below != "" && st.cache.Identity == nil {
		return fmt.Sprintf("%s was reused without asking, with credentials from below", is.id())
	}
	if _, ok := asks["no-cache"]; ok {
		return fmt.Sprintf("%s was reused against the request's no-cache", is.id())
	}
	lifetime := time.Duration(0)
	if seconds, ok := says["max-age"]; ok {
		lifetime = time.Duration(seconds) * time.Second
	} else if is.expires != "" {
		if at, err := http.ParseTime(is.expires); err == nil {
			lifetime = max(0, at.Sub(is.said)+time.Second) // what expired before it was sent is as stale as it is old
		}
	} else if is.modified {
		lifetime = age + 1 // a heuristic lifetime; there are many
	}
	switch {
	case ruled:
		lifetime = wish.TTL
	case wish.TTL < 0:
		lifetime = 0
		delete(says, "stale-while-revalidate")
	}
	failed := status.Detail == "stale-if-error" // the origin was asked, so more is allowed
	if seconds, ok := asks["max-age"]; ok && !failed && (seconds == 0 || age > time.Duration(seconds)*time.Second) && !strings.Contains(is.control, "immutable") {
		return fmt.Sprintf("%s is %v old, against the request's max-age", is.id(), age)
	}
	if seconds, ok := asks["min-fresh"]; ok && !failed && lifetime-age < time.Duration(seconds)*time.Second && !is.modified {
		return fmt.Sprintf("%s stays fresh for %v, against the request's min-fresh", is.id(), lifetime-age)
	}
	if forces {
		return ""
	}
	allowed := time.Duration(0)
	allow := func(seconds int) { allowed = max(allowed, time.Duration(seconds)*time.Second) }
	if seconds, ok := asks["max-stale"]; ok {
		allow(seconds)
	}
	allow(says["stale-while-revalidate"])
	if failed {
		allow(says["stale-if-error"])
		allow(asks["stale-if-error"])
		allowed = max(allowed, st.cache.StaleIfError)
	}
	if _, ok := says["must-revalidate"]; ok {
		allowed = 0
	}
	if age >= lifetime+allowed+time.Second {
		return fmt.Sprintf("%s is %v old, more than %v and %v", is.id(), age, lifetime, allowed)
	}
	return ""
}

// wishField is the field in which requests say what Policy they have.
const wishField = "X-Wish"

// wished is the Policy of the program.
func wished(req *http.Request) cachetrip.Policy {
	switch wish := req.Header.Get(wishField); wish {
	case "ttl":
		return cachetrip.Policy{TTL: 45 * time.Second}
	case "never":
		return cachetrip.Policy{TTL: -1}
	default:
		for mode := cachetrip.ModeDefault; mode <= cachetrip.ModeOnlyIfCached; mode++ {
			if mode.String() == wish {
				return cachetrip.Policy{Mode: mode}
			}
		}
	}
	return cachetrip.Policy{}
}

// governed reports whether a lifetime of the program applies to responses with
// a status.
func governed(status int) bool { return status != 403 && status != 500 }

// searchOf returns the content of a QUERY.
func searchOf(req *http.Request) string {
	if req.Method != "QUERY" || req.GetBody == nil {
		return ""
	}
	body, err := req.GetBody()
	if err != nil {
		return ""
	}
	defer body.Close()
	content, _ := io.ReadAll(body)
	return string(content)
}

// parseControl reads the simple directives that scripts use; the least of
// duplicates counts.
func parseControl(line string) map[string]int {
	directives := make(map[string]int)
	for member := range strings.SplitSeq(line, ",") {
		name, value, has := strings.Cut(strings.TrimSpace(member), "=")
		seconds, err := strconv.Atoi(value)
		switch {
		case name == "":
			continue
		case !has && name == "max-stale":
			seconds = 1 << 31
		case has && err != nil:
			name += "=" + value
		}
		if before, ok := directives[name]; ok {
			seconds = min(seconds, before)
		}
		directives[name] = seconds
	}
	return directives
}
