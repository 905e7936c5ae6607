package simulation

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cachetrip/cachetrip"
)

// A program: what the origin has, and what callers do. It is generated from a
// seed. It is only data, so it can be printed, made smaller, and run with the
// cache and without.

// program is everything that one run does.
type program struct {
	seed      uint64
	theme     string
	disk      bool // the store is a directory that all processes share, else each has one in memory
	processes int
	stale     time.Duration // Transport.StaleIfError
	drain     int64         // Transport.DrainBytes
	below     below
	store     storeFault
	resources []resource
	actions   []action // in the order of their beginning
}

// below is what lies between the cache and the connection, with the cache as
// well as without it.
type below int

const (
	belowNothing   below = iota
	belowDecodes         // a transport that asks for gzip by itself and decodes
	belowRedirects       // a transport that follows redirects, like transports that retry
	belowReuses          // a transport that returns the same header map again
)

func (b below) String() string {
	return [...]string{"nothing", "a decoding transport", "a transport that follows redirects", "a transport that reuses header maps"}[b]
}

// storeFault is what the store does wrong.
type storeFault int

const (
	storeWorks  storeFault = iota
	storeFails             // some calls return errors
	storeHangs             // some calls take ten seconds
	storePanics            // some calls panic
)

func (s storeFault) String() string {
	return [...]string{"works", "fails", "hangs", "panics"}[s]
}

// control is a value of Cache-Control, and its meaning to a private cache. The
// meaning is written down here, rather than parsed, so that the oracle shares
// no mistake with a parser.
type control struct {
	text                                   string
	maxAge                                 int // in seconds, -1 if it says nothing
	noCache, noStore, mustRevalidate       bool
	public                                 bool
	staleWhileRevalidate, staleIfErrorSecs int
}

var controls = []control{
	{text: "max-age=60", maxAge: 60},
	{text: "max-age=5", maxAge: 5},
	{text: "max-age=0", maxAge: 0},
	{text: "", maxAge: -1},
	{text: "private", maxAge: -1},
	{text: "max-age=0, private, must-revalidate", maxAge: 0, mustRevalidate: true},
	{text: "max-age=5, must-revalidate", maxAge: 5, mustRevalidate: true},
	{text: "no-cache", maxAge: -1, noCache: true},
	{text: "max-age=60, no-cache", maxAge: 60, noCache: true},
	{text: "no-store", maxAge: -1, noStore: true},
	{text: "public, max-age=60", maxAge: 60, public: true},
	{text: "public, max-age=0", maxAge: 0, public: true},
	{text: "max-age=5, stale-while-revalidate=600", maxAge: 5, staleWhileRevalidate: 600},
	{text: "max-age=5, stale-if-error=600", maxAge: 5, staleIfErrorSecs: 600},
	{text: "no-cache; private; no-store", maxAge: -1, noCache: true, noStore: true},
	{text: "no-store; max-age=0", maxAge: 0, noStore: true},
	{text: "no-cache no-store", maxAge: -1, noCache: true, noStore: true},
}

// controlOf returns the control with a text.
func controlOf(text string) control {
	for _, c := range controls {
		if c.text == text {
			return c
		}
	}
	panic("no control says " + text)
}

// tagging is how an origin makes entity tags.
type tagging int

const (
	tagsStrong tagging = iota
	tagsNone
	tagsWeak
	tagsNginx  // weak in a 200, because that was compressed, and strong in the 304
	tagsShared // one for all users, although each gets a page of its own
)

func (t tagging) String() string {
	return [...]string{"strong", "none", "weak", "nginx", "shared"}[t]
}

// conditioning is what an origin does about If-None-Match and
// If-Modified-Since.
type conditioning int

const (
	conditionsWork    conditioning = iota
	conditionsAsText               // If-None-Match is compared as a text
	conditionsIgnored              // 200 always
	conditionsRefused              // a status of refusals
	conditionsWrong                // 304 with another tag
)

func (c conditioning) String() string {
	return [...]string{"evaluated", "compared as text", "ignored", "refused", "answered 304 with another tag"}[c]
}

// ranging is what an origin does about Range.
type ranging int

const (
	rangesWork    ranging = iota
	rangesIgnored         // 200 always
	rangesRefused         // a status of refusals
	rangesWrong           // a 206 of something else
	rangesChanged         // a 200 with another tag
)

func (r ranging) String() string {
	return [...]string{"sent", "ignored", "refused", "wrong", "changed"}[r]
}

// refusals are the statuses with which origins refuse conditions and ranges.
var refusals = []int{412, 400, 403, 405, 501}

// modification is what an origin says in Last-Modified.
type modification int

const (
	modifiedNever     modification = iota // no such field
	modifiedOld                           // ten years before
	modifiedEpoch                         // 1970
	modifiedTruthful                      // when the version changed
	modifiedAndFuture                     // twenty days before, with a Date a year ahead
	modifiedLately                        // twenty days before
)

func (m modification) String() string {
	return [...]string{"not told", "long ago", "1970", "told", "lately, by a clock a year ahead", "lately"}[m]
}

// resource is what the origin has at one path.
type resource struct {
	path         string
	control      string
	control304   string // of 304s, if another
	control206   string // of 206s, if another
	vary         string
	personal     bool // each user has a page of their own
	languages    bool // and each language
	careless     bool // dates are compared though they do not tell users apart
	tags         tagging
	modified     modification
	conditions   conditioning
	ranges       ranging
	refusal      int // the status of refusals
	length       int
	chunked      bool // no Content-Length
	gzip         bool // compressed for callers that accept it
	digests      bool // says what digest the content has
	status       int
	session      bool            // gives a session to callers without one
	redirect     string          // Location of a 302: for all callers, or with session set for callers without a session
	changes      []time.Duration // when a new version came
	noVarySearch string          // which queries matter
	groups       []string        // Cache-Groups of responses to GETs, which responses to POSTs invalidate
	revoked      time.Duration   // from when on 403 is all that users are told; 0: never
}

// kind is what an action does.
type kind int

const (
	get kind = iota
	head
	post
	purge
	invalidate
	restart // the process ends, and another begins
	query
)

func (k kind) String() string {
	return [...]string{"GET", "HEAD", "POST", "Purge", "Invalidate", "restart", "QUERY"}[k]
}

// action is what one caller does.
type action struct {
	id       int // in the tracing field of its requests
	at       time.Duration
	follows  bool // it begins when the action before it has ended, in the same instant
	process  int
	kind     kind
	resource int

	user     string // "" for a stranger
	by       string // how the user is told: Cookie, Private-Token or Authorization
	jar      bool   // the client keeps cookies, and has none at first
	language string
	control  string // Cache-Control of the request
	ranged   string // Range
	coded    bool   // Accept-Encoding: gzip, so that the caller decodes
	matching string // If-None-Match: "current" (version 0's), "other"; empty if none
	asked    string // the query of the URL
	search   string // the content of a QUERY
	policy   wish

	deadline time.Duration // 0: none
	cancel   time.Duration // 0: never
	read     int           // bytes before the body is closed, -1: all
	pause    time.Duration // between reads

	fate fate
}

// fate is how the origin treats all requests of an action. So it is the same
// with the cache and without it, and hits nobody but that caller, unless the
// cache lets it.
type fate struct {
	head   time.Duration // before the header comes
	body   time.Duration // before the second half of the body
	status int           // of a failure, instead of the answer
	ends   ending
}

// ending is how a fate ends.
type ending int

const (
	endsWell   ending = iota
	hangsHead         // no header comes
	hangsBody         // half of the body comes
	breaksHead        // the connection ends before the header
	breaksBody        // and in the middle of the body
	failsHook         // ModifyResponse does not like the answer
)

func (e ending) String() string {
	return [...]string{"", "hangs before the header", "hangs in the body", "breaks before the header", "breaks in the body", "is refused by ModifyResponse"}[e]
}

// pick chooses one of several.
func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// oneIn is true once in n times.
func oneIn(r *rand.Rand, n int) bool { return r.IntN(n) == 0 }

// generate makes the program of a seed. Programs have few resources and
// clusters of similar actions, because faults show where requests for the same
// resource meet.
func generate(seed uint64) *program {
	r := rand.New(rand.NewPCG(seed, seed>>7))
	p := &program{seed: seed, processes: 1, drain: pick[int64](r, 0, -1, 1000)}
	if oneIn(r, 4) {
		p.disk = true
		p.processes = 1 + r.IntN(3)
	}
	if oneIn(r, 4) {
		p.stale = time.Minute
	}
	if oneIn(r, 3) {
		p.below = below(1 + r.IntN(3))
	}
	if oneIn(r, 12) {
		p.store = pick(r, storeFails, storeHangs, storePanics)
	}
	n := 1 + r.IntN(2)
	for i := range n {
		p.resources = append(p.resources, generateResource(r, i))
	}
	switch p.below { // which shows where there is something to do
	case belowDecodes:
		p.resources[0].gzip = true
	case belowRedirects:
		if n > 1 && oneIn(r, 2) {
			p.resources[0].redirect, p.resources[0].status = "/b", 200
			p.resources[1].redirect = ""
		}
	}
	switch {
	case oneIn(r, 2):
		about := pick(r, themes...)
		p.theme = about.name
		p.actions = about.make(r, p, &p.resources[0])
		if oneIn(r, 3) {
			disturb(r, p, p.actions)
		}
	case oneIn(r, 3):
		p.actions = generateSeries(r, p)
	default:
		p.actions = generateClusters(r, p)
	}
	groupsFor(rand.New(rand.NewPCG(seed, seed>>7)), p)
	slices.SortStableFunc(p.actions, func(a, b action) int { return int(a.at - b.at) })
	for i := range p.actions {
		p.actions[i].id = i
	}
	wishFor(rand.New(rand.NewPCG(seed, seed>>9)), p)
	searchFor(rand.New(rand.NewPCG(seed, seed>>11)), p)
	return p
}

// groupsFor puts the resources of some programs into groups, and adds actions
// that invalidate these.
func groupsFor(r *rand.Rand, p *program) {
	if !oneIn(r, 3) || len(p.actions) == 0 {
		return
	}
	for i := range p.resources {
		p.resources[i].groups = pick(r, nil, []string{"a"}, []string{"a"}, []string{"b", "a"})
	}
	for range r.IntN(4) {
		near := p.actions[r.IntN(len(p.actions))]
		a := ordinary()
		a.kind, a.resource, a.process = post, r.IntN(len(p.resources)), r.IntN(p.processes)
		a.at = near.at + pick(r, 0, time.Millisecond, 6*time.Millisecond, time.Second)
		p.actions = append(p.actions, a)
	}
}

// invalidates reports whether the response to a POST to one recorded path
// invalidates what is stored for another.
func (p *program) invalidates(posted, path string) bool {
	if urlAsked(posted) == urlAsked(path) {
		return true
	}
	posted, path = pathAsked(posted), pathAsked(path)
	var groups [2][]string
	for _, res := range p.resources {
		if res.path == posted {
			groups[0] = res.groups
		}
		if res.path == path {
			groups[1] = res.groups
		}
	}
	return slices.ContainsFunc(groups[0], func(name string) bool { return slices.Contains(groups[1], name) })
}

// wish is the Policy of an action.
type wish int

const (
	wishNothing wish = iota
	wishNoStore
	wishReload
	wishNoCache
	wishForceCache
	wishOnlyIfCached
	wishTTL   // a lifetime of wishedTTL
	wishNever // never fresh
)

// wishedTTL is the lifetime of wishTTL.
const wishedTTL = 30 * time.Second

func (w wish) String() string {
	return [...]string{"", "no-store", "reload", "no-cache", "force-cache", "only-if-cached", "a lifetime of 30s", "never fresh"}[w]
}

// policy returns the Policy that means w.
func (w wish) policy() cachetrip.Policy {
	switch w {
	case wishTTL:
		return cachetrip.Policy{TTL: wishedTTL}
	case wishNever:
		return cachetrip.Policy{TTL: -1}
	}
	return cachetrip.Policy{Mode: cachetrip.Mode(w)}
}

// takesAll reports whether w accepts stored responses of every age.
func (w wish) takesAll() bool { return w == wishForceCache || w == wishOnlyIfCached }

// wishFor gives some programs policies, and makes some of their requests
// queries. It uses random numbers of its own, so that the rest of the program
// of a seed stays the same.
func wishFor(r *rand.Rand, p *program) {
	if oneIn(r, 4) {
		typical := wish(1 + r.IntN(int(wishNever)))
		for i := range p.actions {
			switch r.IntN(4) {
			case 0:
			case 1:
				p.actions[i].policy = wish(r.IntN(int(wishNever) + 1))
			default:
				p.actions[i].policy = typical
			}
		}
	}
	if oneIn(r, 5) {
		for i := range p.actions {
			if a := &p.actions[i]; a.kind == get && !oneIn(r, 4) {
				a.kind, a.search = query, pick(r, "x", "x", "x", "y")
			}
		}
	}
}

// generateClusters makes clusters of actions, many of them alike, with some
// time between them.
func generateClusters(r *rand.Rand, p *program) (actions []action) {
	at := time.Duration(0)
	clusters := 1 + r.IntN(5)
	var typical action
	for i := range clusters {
		if i == 0 || oneIn(r, 3) {
			typical = generateAction(r, p)
		}
		for _, a := range generateCluster(r, p, typical) {
			a.at += at
			actions = append(actions, a)
		}
		at = actions[len(actions)-1].at + pick(r, 500*time.Millisecond, 2*time.Second, 4*time.Second, 8*time.Second, 15*time.Second, 70*time.Second, 10*24*time.Hour)
		if oneIn(r, 20) {
			at += 60 * 24 * time.Hour
		}
	}
	return actions
}

// generateSeries makes requests for one resource, one after the other. Errors
// in storing, resuming and updating show in the third or fourth.
func generateSeries(r *rand.Rand, p *program) (actions []action) {
	res := &p.resources[0]
	res.status, res.redirect, res.session = 200, "", false
	partial := oneIn(r, 2)
	if partial {
		res.length = pick(r, 600, 5000, 40_000)
		p.drain = -1
	}
	typical := generateAction(r, p)
	typical.kind, typical.resource, typical.control, typical.matching, typical.read, typical.ranged = get, 0, "", "", -1, ""
	typical.cancel, typical.fate = 0, fate{head: 5 * time.Millisecond}
	at := time.Duration(0)
	for range 4 + r.IntN(6) {
		a := typical
		a.at = at
		a.process = r.IntN(p.processes)
		switch r.IntN(12) {
		case 0:
			a.language = pick(r, "en", "de", "de, en")
		case 1:
			a.kind = pick(r, head, post, invalidate)
		case 2:
			a.fate.ends = pick(r, breaksBody, breaksHead, failsHook)
		case 3:
			a.fate.status = 503
		case 4:
			a.ranged = pick(r, "bytes=0-9", "bytes=20-", "bytes=-7")
		default:
			if partial && oneIn(r, 2) {
				a.read = pick(r, 10, 300)
			}
		}
		actions = append(actions, a)
		at += pick(r, 500*time.Millisecond, time.Second, 2*time.Second, 6*time.Second)
	}
	return actions
}

func generateResource(r *rand.Rand, i int) resource {
	is := resource{path: "/" + string(rune('a'+i)), status: 200, refusal: pick(r, refusals...)}
	is.control = pick(r, controls...).text
	if oneIn(r, 8) {
		is.control304 = pick(r, "max-age=60", "no-store", "no-cache", "max-age=0")
	}
	if oneIn(r, 6) {
		is.control206 = pick(r, "no-store", "no-cache", "max-age=0")
	}
	is.personal = oneIn(r, 3)
	is.languages = oneIn(r, 5)
	switch r.IntN(6) {
	case 0:
		is.vary = pick(r, "Cookie", "Accept-Language", "Private-Token", "*", "X-Nothing", "Cache-Control", "Authorization")
	case 1:
		if is.languages {
			is.vary = "Accept-Language"
		}
	}
	is.tags = pick(r, tagsStrong, tagsStrong, tagsStrong, tagsNone, tagsWeak, tagsNginx, tagsShared)
	is.session = oneIn(r, 8)
	if is.session && is.tags == tagsShared {
		is.tags = tagsStrong // else the origin has one tag for all sessions, and nothing to tell them apart by
	}
	if is.tags == tagsShared && (is.personal || is.languages) {
		is.vary = "Cookie, Private-Token, Accept-Language" // else the origin itself confirms one user's page to another
	}
	is.modified = modification(r.IntN(6))
	is.conditions = pick(r, conditionsWork, conditionsWork, conditionsWork, conditionsAsText, conditionsIgnored, conditionsRefused, conditionsWrong)
	is.ranges = pick(r, rangesWork, rangesWork, rangesIgnored, rangesRefused, rangesWrong, rangesChanged)
	is.length = pick(r, 40, 40, 600, 600, 5000, 5000, 40_000, 0)
	is.chunked = oneIn(r, 3)
	is.gzip = oneIn(r, 6)
	is.digests = oneIn(r, 3)
	if oneIn(r, 8) {
		is.status = pick(r, 204, 404, 301, 410, 403, 226, 428, 429, 431, 503, 511)
	}
	if oneIn(r, 10) {
		is.redirect = pick(r, is.path, "/b")
		is.session = is.session || is.redirect == is.path && is.tags != tagsShared
		if !is.session && is.redirect == is.path {
			is.redirect = "" // it would have no end
		}
		is.length = min(is.length, 40)
	}
	for range r.IntN(3) {
		is.changes = append(is.changes, time.Duration(r.IntN(20_000))*time.Millisecond)
	}
	slices.Sort(is.changes)
	if oneIn(r, 8) {
		is.revoked = time.Duration(1+r.IntN(10_000)) * time.Millisecond
	}
	return is
}

// generateCluster makes actions that are like a typical one, and close
// together.
func generateCluster(r *rand.Rand, p *program, typical action) []action {
	generateFate(r, &typical)
	if typical.fate.ends != endsWell {
		typical.fate.ends, typical.cancel = endsWell, 0
	}
	n := 1 + r.IntN(6)
	if oneIn(r, 10) {
		n += 6
		if oneIn(r, 2) {
			typical.fate.status = 503
		}
	}
	spread := pick(r, 0, 1, 20, 100, 1000, 4000) // milliseconds
	calm := oneIn(r, 2)
	var cluster []action
	at := time.Duration(0)
	for range n {
		a := typical
		if oneIn(r, 3) {
			other := generateAction(r, p)
			for range 1 + r.IntN(2) {
				switch r.IntN(10) {
				case 0:
					a.user, a.by = other.user, other.by
				case 1:
					a.language = other.language
				case 2:
					a.control = other.control
				case 3:
					a.ranged = other.ranged
				case 4:
					a.matching = other.matching
				case 5:
					a.kind = other.kind
				case 6:
					a.resource = other.resource
				case 7:
					a.jar = other.jar
				case 8:
					a.coded = other.coded
				case 9:
					a.read, a.pause = other.read, other.pause
				}
			}
		}
		if a.user != "" && oneIn(r, 2) {
			a.user = pick(r, "alice", "bob", "carol")
		}
		a.process = r.IntN(p.processes)
		a.fate, a.deadline, a.cancel = typical.fate, typical.deadline, typical.cancel
		if !calm && oneIn(r, 3) {
			generateFate(r, &a)
		}
		a.at = at + time.Duration(len(cluster)) // a nanosecond determines the order
		at += time.Duration(r.IntN(spread+1)) * time.Millisecond
		cluster = append(cluster, a)
	}
	return cluster
}

func generateAction(r *rand.Rand, p *program) action {
	a := action{resource: r.IntN(len(p.resources)), read: -1}
	switch r.IntN(24) {
	case 0, 1:
		a.kind = post
	case 2:
		a.kind = head
	case 3:
		a.kind = pick(r, purge, invalidate)
	case 4:
		if p.disk {
			a.kind = restart
		}
	}
	if oneIn(r, 2) {
		a.user = pick(r, "alice", "bob", "carol")
		a.by = pick(r, "Cookie", "Cookie", "Private-Token", "Authorization")
	}
	a.jar = oneIn(r, 6)
	if oneIn(r, 5) {
		a.language = pick(r, "en", "de", "en, de", "de, en")
	}
	if oneIn(r, 8) {
		a.control = pick(r, "no-cache", "max-age=0", "no-store", "max-stale=30", "max-stale", "min-fresh=10", "only-if-cached", "max-age=3")
	}
	if oneIn(r, 8) {
		a.ranged = pick(r, "bytes=0-9", "bytes=10-29", "bytes=20-", "bytes=-7", "bytes=0-1,4-5")
	}
	if oneIn(r, 10) {
		a.matching = pick(r, "current", "other")
	}
	if oneIn(r, 5) {
		a.read = pick(r, 0, 10, 300, 3000)
	}
	a.coded = oneIn(r, 8)
	if oneIn(r, 12) {
		a.pause = pick(r, time.Millisecond, 20*time.Millisecond)
	}
	generateFate(r, &a)
	return a
}

// generateFate gives a its fate, and the deadline that fits it: those with a
// good fate are answered in a quarter of it.
func generateFate(r *rand.Rand, a *action) {
	a.fate = fate{head: time.Duration(1+r.IntN(40)) * time.Millisecond}
	a.deadline = pick(r, 0, 500*time.Millisecond, 3*time.Second)
	a.cancel = 0
	switch r.IntN(12) {
	case 0:
		a.fate.head = pick(r, 110*time.Millisecond, 290*time.Millisecond, 1700*time.Millisecond)
	case 1:
		a.fate.body = pick(r, 60*time.Millisecond, 2*time.Second, 8*time.Second)
	case 2, 3:
		a.fate.ends = hangsHead
	case 4, 5:
		a.fate.ends = hangsBody
	case 6:
		a.fate.ends = pick(r, breaksHead, breaksBody, breaksBody, failsHook)
	case 7:
		a.fate.status = pick(r, 500, 503, 429)
	}
	if a.fate.ends == hangsHead || a.fate.ends == hangsBody {
		a.deadline = pick(r, 0, 0, 500*time.Millisecond)
	}
	if a.deadline == 0 && (a.fate.ends == hangsHead || a.fate.ends == hangsBody) {
		a.cancel = time.Minute
	} else if oneIn(r, 8) {
		a.cancel = time.Duration(r.IntN(60)) * time.Millisecond
	}
}

// header returns the header of the action's first request.
func (a *action) header(p *program) http.Header {
	h := http.Header{}
	h.Set(traceField, strconv.Itoa(a.id))
	set := func(name, value string) {
		if value != "" {
			h.Set(name, value)
		}
	}
	if a.user != "" {
		switch a.by {
		case "Cookie":
			set("Cookie", "user="+a.user)
		case "Private-Token":
			set("Private-Token", a.user)
		case "Authorization":
			set("Authorization", "Bearer "+a.user)
		}
	}
	set("Accept-Language", a.language)
	set("Cache-Control", a.control)
	set("Range", a.ranged)
	if a.coded {
		set("Accept-Encoding", "gzip")
	}
	switch a.matching {
	case "current":
		res := &p.resources[a.resource]
		is := res.version(a.user, a.language, 0)
		is.search = strings.TrimPrefix(p.pathOf(p.url(a), a.search), res.path)
		set("If-None-Match", is.tag())
	case "other":
		set("If-None-Match", `"other"`)
	}
	return h
}

// action returns the action that a request is of, or nil.
func (p *program) action(h http.Header) *action {
	id, err := strconv.Atoi(h.Get(traceField))
	if err != nil {
		return nil
	}
	for i := range p.actions {
		if p.actions[i].id == id {
			return &p.actions[i]
		}
	}
	return nil
}

// traceField is a field that tells requests apart and means nothing: the origin
// finds the fate of an action by it.
const traceField = "X-Request-Id"

func (p *program) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d (%s): %d processes, disk %t, stale %v, drain %d, below lies %v, the store %v\n", p.seed, cmp.Or(p.theme, "anything"), p.processes, p.disk, p.stale, p.drain, p.below, p.store)
	for _, r := range p.resources {
		fmt.Fprintf(&b, "  %s: %d, Cache-Control %q (304 %q, 206 %q), Vary %q, length %d (chunked %t, gzip %t, digests %t), personal %t, languages %t, careless %t,\n"+
			"      tags %v, modified %v, conditions %v, ranges %v (refused with %d), session %t, redirect %q, changes %v, groups %v, revoked %v, No-Vary-Search %s\n",
			r.path, r.status, r.control, r.control304, r.control206, r.vary, r.length, r.chunked, r.gzip, r.digests, r.personal, r.languages, r.careless,
			r.tags, r.modified, r.conditions, r.ranges, r.refusal, r.session, r.redirect, r.changes, r.groups, r.revoked, r.noVarySearch)
	}
	for i := range p.actions {
		fmt.Fprintf(&b, "  %s\n", p.actions[i].describe(p))
	}
	return b.String()
}

// describe says in a line what an action does.
func (a *action) describe(p *program) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d at %v, process %d: %v %s", a.id, a.at, a.process, a.kind, p.url(a).RequestURI())
	h := a.header(p)
	delete(h, traceField)
	if len(h) > 0 {
		fmt.Fprintf(&b, " %v", h)
	}
	add := func(is bool, format string, args ...any) {
		if is {
			fmt.Fprintf(&b, ", "+format, args...)
		}
	}
	add(a.policy != wishNothing, "policy %v", a.policy)
	add(a.search != "", "for %s", a.search)
	add(a.follows, "when the one before has ended")
	add(a.jar, "keeps cookies")
	add(a.deadline > 0, "deadline %v", a.deadline)
	add(a.cancel > 0, "cancelled after %v", a.cancel)
	add(a.read >= 0, "reads %d", a.read)
	add(a.pause > 0, "pauses %v", a.pause)
	fmt.Fprintf(&b, "; header after %v", a.fate.head)
	add(a.fate.body > 0, "second half after %v", a.fate.body)
	add(a.fate.status > 0, "fails with %d", a.fate.status)
	add(a.fate.ends != endsWell, "%v", a.fate.ends)
	return b.String()
}
