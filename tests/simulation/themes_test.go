package simulation

import (
	"math/rand/v2"
	"time"
)

// Themes: programs about one thing. Random programs find faults in a few
// requests of many kinds. They do not find faults that need several requests of
// one kind, in one order and at certain times.

// theme makes the actions of a program about one thing, and changes its first
// resource so that there is such a thing.
type theme struct {
	name string
	make func(r *rand.Rand, p *program, res *resource) []action
}

var themes = []theme{
	{"an origin that fails a crowd", failedCrowd},
	{"users at once", usersAtOnce},
	{"one that hangs", hungLeader},
	{"failing refreshes", failingRefreshes},
	{"languages", languages},
	{"rounds of redirects", rounds},
	{"days", days},
	{"changes", changes},
	{"rights that end", endingRights},
	{"an origin that refuses", refusing},
	{"parts", parts},
	{"redirects below", redirectsBelow},
	{"HEAD and GET", headAndGet},
}

// ordinary returns an action that is answered without ado.
func ordinary() action {
	return action{read: -1, fate: fate{head: 5 * time.Millisecond}}
}

// steps gives actions their times: one after the other, after one of the
// pauses.
func steps(r *rand.Rand, actions []action, pauses ...time.Duration) []action {
	at := time.Duration(0)
	for i := range actions {
		actions[i].at = at
		at += pick(r, pauses...)
	}
	return actions
}

// several returns as many actions like a.
func several(n int, a action) (actions []action) {
	for range n {
		actions = append(actions, a)
	}
	return actions
}

// failedCrowd lets many callers request one resource at once while the origin
// fails.
func failedCrowd(r *rand.Rand, p *program, res *resource) []action {
	res.control = pick(r, "max-age=60", "max-age=0", "", "max-age=5, stale-if-error=600", "no-cache")
	res.redirect, res.session = "", false
	a := ordinary()
	a.fate = fate{head: 100 * time.Millisecond, status: 503}
	actions := several(8+r.IntN(12), a)
	for i := range actions {
		actions[i].at = time.Duration(r.IntN(50)) * time.Millisecond
	}
	if oneIn(r, 2) { // something is stored
		for i := range actions {
			actions[i].at += 7 * time.Second
		}
		actions = append(actions, ordinary())
	}
	return actions
}

// usersAtOnce lets several users request a personal page at once.
func usersAtOnce(r *rand.Rand, p *program, res *resource) (actions []action) {
	res.personal, res.vary, res.changes = true, "", nil
	res.control = pick(r, "max-age=0", "", "private", "max-age=0, private, must-revalidate", "no-cache")
	res.session = oneIn(r, 4)
	res.tags = pick(r, tagsStrong, tagsNone, tagsWeak)
	by := pick(r, "Cookie", "Private-Token", "Authorization")
	at := time.Duration(0)
	for range 1 + r.IntN(3) {
		for range 2 + r.IntN(4) {
			a := ordinary()
			a.user, a.by, a.jar = pick(r, "alice", "bob", "carol"), by, res.session
			a.fate.head = pick(r, 5*time.Millisecond, 100*time.Millisecond)
			a.at = at + time.Duration(r.IntN(10))*time.Millisecond
			actions = append(actions, a)
		}
		at += pick(r, time.Second, 10*time.Second)
	}
	return actions
}

// hungLeader has one caller meet a connection that hangs, and others come while
// it waits.
func hungLeader(r *rand.Rand, p *program, res *resource) []action {
	res.control = pick(r, "max-age=60", "max-age=0", "", "max-age=5", "no-cache", "no-store")
	res.length = pick(r, 600, 5000, 40_000)
	hung := ordinary()
	hung.fate.ends, hung.cancel = pick(r, hangsHead, hangsHead, hangsBody), time.Minute
	if oneIn(r, 4) {
		hung.fate.ends, hung.fate.head = endsWell, 20*time.Second
	}
	actions := []action{hung}
	at := time.Duration(0)
	for range 1 + r.IntN(8) {
		a := ordinary()
		a.deadline = pick(r, 0, 500*time.Millisecond, 3*time.Second)
		at += pick(r, time.Millisecond, 50*time.Millisecond, time.Second, 6*time.Second)
		a.at = at
		actions = append(actions, a)
	}
	if oneIn(r, 2) { // the stored response is stale when the connection hangs
		for i := range actions {
			actions[i].at += 70 * time.Second
		}
		actions = append(actions, ordinary())
	}
	return actions
}

// failingRefreshes requests a response with stale-while-revalidate while
// revalidations fail.
func failingRefreshes(r *rand.Rand, p *program, res *resource) []action {
	res.control = "max-age=5, stale-while-revalidate=600"
	actions := several(6+r.IntN(12), ordinary())
	for i := range actions[1:] {
		a := &actions[1+i]
		switch r.IntN(6) {
		case 0:
			a.fate.ends = breaksHead
		case 1:
		default:
			a.fate.status = 503
		}
	}
	steps(r, actions, 50*time.Millisecond, 200*time.Millisecond, 500*time.Millisecond, 2*time.Second)
	for i := range actions[1:] {
		actions[1+i].at += 7 * time.Second
	}
	return actions
}

// languages has one user ask in several languages.
func languages(r *rand.Rand, p *program, res *resource) []action {
	res.languages, res.vary, res.redirect, res.session = true, "Accept-Language", "", false
	res.control = pick(r, "max-age=60", "max-age=5", "no-cache", "max-age=0")
	res.conditions = pick(r, conditionsWork, conditionsAsText)
	res.tags = pick(r, tagsStrong, tagsStrong, tagsWeak)
	res.changes = nil
	actions := several(6+r.IntN(8), ordinary())
	said := pick(r, []string{"en", "de"}, []string{"en, de", "de, en"}, []string{"en", "de, en", ""}, []string{"en, de", "de, en", "en"})
	for i := range actions {
		actions[i].language = pick(r, said...)
	}
	return steps(r, actions, 500*time.Millisecond, 2*time.Second, 6*time.Second)
}

// rounds has clients that keep cookies come to a redirect to itself, or in a
// circle.
func rounds(r *rand.Rand, p *program, res *resource) []action {
	res.control = pick(r, "max-age=60", "max-age=5", "public, max-age=60", "max-age=5, stale-if-error=600", "max-age=5, stale-while-revalidate=600")
	res.session, res.redirect, res.revoked = true, pick(r, res.path, res.path, "/b"), 0
	res.vary = pick(r, "", "", "Cookie")
	if len(p.resources) > 1 {
		p.resources[1].session, p.resources[1].redirect = false, "/a"
		p.resources[1].control = pick(r, "max-age=60", "no-store")
	} else {
		res.redirect = res.path
	}
	a := ordinary()
	a.jar = true
	actions := several(2+r.IntN(5), a)
	for i := range actions[1:] {
		if oneIn(r, 5) {
			actions[1+i].fate.status = 503
		}
	}
	return steps(r, actions, 0, 10*time.Millisecond, time.Second, 6*time.Second)
}

// days requests a response without a clear lifetime again days later.
func days(r *rand.Rand, p *program, res *resource) []action {
	res.control = pick(r, "", "", "", "private", "no-cache; private; no-store", "no-store; max-age=0", "no-cache no-store")
	res.modified = pick(r, modifiedOld, modifiedOld, modifiedEpoch, modifiedAndFuture, modifiedAndFuture, modifiedLately)
	res.tags = pick(r, tagsStrong, tagsNone)
	res.redirect, res.session, res.changes = "", false, nil
	const day = 24 * time.Hour
	return steps(r, several(2+r.IntN(4), ordinary()), time.Minute, 10*time.Hour, day, 2*day, 3*day, 6*day, 8*day, 20*day, 60*day)
}

// changes changes and invalidates a stored response, in the instant of a
// request or at other times.
func changes(r *rand.Rand, p *program, res *resource) (actions []action) {
	res.control, res.redirect, res.session, res.revoked = pick(r, "max-age=60", "max-age=60", "max-age=5", "max-age=0"), "", false, 0
	res.status = 200
	for range 2 + r.IntN(3) {
		for i, n := 0, 1+r.IntN(4); i < n; i++ {
			a := ordinary()
			a.process = r.IntN(p.processes)
			a.kind = pick(r, get, get, post, purge, invalidate)
			a.fate.head = pick(r, 0, 0, 5*time.Millisecond)
			a.follows = i > 0
			if a.kind == post {
				a.fate.ends = pick(r, endsWell, endsWell, failsHook)
				if oneIn(r, 8) {
					a.fate.status = 503
				}
			}
			actions = append(actions, a)
		}
		actions = append(actions, ordinary())
	}
	at := time.Duration(0)
	for i := range actions {
		if !actions[i].follows {
			at += pick(r, time.Second, 3*time.Second)
		}
		actions[i].at = at
	}
	return actions
}

// endingRights has users lose their rights, and ask again, one validating and
// the other not.
func endingRights(r *rand.Rand, p *program, res *resource) []action {
	res.control, res.redirect, res.session = pick(r, "max-age=60", "max-age=60", "max-age=5, stale-while-revalidate=600", "max-age=5"), "", false
	res.status, res.personal = 200, oneIn(r, 2)
	res.revoked = time.Duration(2+r.IntN(8)) * time.Second
	a := ordinary()
	a.user, a.by = "alice", pick(r, "Cookie", "Authorization", "Private-Token")
	actions := several(5+r.IntN(6), a)
	for i := range actions {
		actions[i].control = pick(r, "", "", "no-cache", "max-age=0")
		if oneIn(r, 6) {
			actions[i].user = "bob"
		}
	}
	return steps(r, actions, 500*time.Millisecond, time.Second, 2*time.Second)
}

// refusing has the origin refuse what the cache adds to requests.
func refusing(r *rand.Rand, p *program, res *resource) []action {
	res.control = pick(r, "no-cache", "max-age=0", "max-age=5", "max-age=60")
	res.redirect, res.session, res.revoked, res.status = "", false, 0, 200
	res.tags = pick(r, tagsStrong, tagsStrong, tagsWeak, tagsNginx)
	res.conditions = pick(r, conditionsRefused, conditionsRefused, conditionsWrong, conditionsIgnored)
	res.ranges = pick(r, rangesRefused, rangesWrong, rangesChanged, rangesIgnored)
	res.length, p.drain = pick(r, 600, 5000, 40_000), -1
	actions := several(5+r.IntN(8), ordinary())
	for i := range actions {
		switch r.IntN(5) {
		case 0:
			actions[i].read = pick(r, 10, 300)
		case 1:
			actions[i].fate.ends = breaksBody
		}
	}
	return steps(r, actions, 500*time.Millisecond, 2*time.Second, 6*time.Second)
}

// parts has bodies be read in part, and broken, by origins that send the rest.
func parts(r *rand.Rand, p *program, res *resource) []action {
	res.redirect, res.session, res.revoked, res.status = "", false, 0, 200
	res.control = pick(r, "max-age=60", "max-age=60", "max-age=5", "no-cache", "max-age=0", "")
	if oneIn(r, 2) {
		res.control206 = pick(r, "no-store", "no-cache", "max-age=0")
	}
	res.ranges = rangesWork
	res.length, p.drain = pick(r, 600, 5000, 40_000), -1
	actions := several(4+r.IntN(6), ordinary())
	if oneIn(r, 3) {
		res.gzip, res.chunked = true, !oneIn(r, 4)
		for i := range actions {
			actions[i].coded = true
		}
	}
	if oneIn(r, 3) { // users with pages of their own and one date
		res.personal, res.careless, res.vary, res.changes = true, true, "", nil
		res.tags, res.modified = tagsNone, modifiedOld
		for i := range actions {
			actions[i].user, actions[i].by = pick(r, "alice", "bob"), "Cookie"
		}
	}
	for i := range actions {
		a := &actions[i]
		switch r.IntN(4) {
		case 0:
			a.read = pick(r, 10, 300, 3000)
		case 1:
			a.fate.ends = breaksBody
		case 2:
			a.ranged = pick(r, "", "", "", "bytes=0-9", "bytes=20-", "bytes=-7")
		}
	}
	return steps(r, actions, 500*time.Millisecond, 2*time.Second, 6*time.Second)
}

// redirectsBelow has something below the cache follow redirects.
func redirectsBelow(r *rand.Rand, p *program, res *resource) []action {
	p.below = belowRedirects
	if len(p.resources) == 1 {
		p.resources = append(p.resources, generateResource(r, 1))
		res = &p.resources[0]
	}
	res.redirect, res.session, res.revoked = "/b", false, 0
	res.control = pick(r, "no-store", "max-age=5", "max-age=60", "no-cache")
	to := &p.resources[1]
	to.redirect, to.session, to.status, to.revoked = "", false, 200, 0
	to.control = pick(r, "max-age=60", "max-age=60", "max-age=5", "no-cache")
	actions := several(3+r.IntN(6), ordinary())
	for i := range actions {
		a := &actions[i]
		a.resource = pick(r, 0, 0, 1)
		if oneIn(r, 4) {
			a.read = pick(r, 10, 300)
		}
		if oneIn(r, 8) {
			a.kind = pick(r, post, head)
		}
	}
	return steps(r, actions, 0, 500*time.Millisecond, 2*time.Second, 6*time.Second)
}

// headAndGet mixes these, over transports of all kinds.
func headAndGet(r *rand.Rand, p *program, res *resource) []action {
	res.redirect, res.session, res.revoked, res.status = "", false, 0, 200
	res.control = pick(r, "max-age=60", "max-age=5", "no-cache", "max-age=0")
	res.gzip = oneIn(r, 2)
	if res.gzip {
		p.below = pick(r, belowNothing, belowDecodes, belowDecodes)
	}
	actions := several(4+r.IntN(5), ordinary())
	for i := range actions {
		a := &actions[i]
		a.kind = pick(r, get, get, head)
		a.coded = oneIn(r, 8)
		if oneIn(r, 8) {
			a.ranged = "bytes=0-9"
		}
	}
	return steps(r, actions, 500*time.Millisecond, 2*time.Second, 6*time.Second)
}

// disturb changes some actions in what a theme does not think of.
func disturb(r *rand.Rand, p *program, actions []action) {
	for i := range actions {
		if !oneIn(r, 6) {
			continue
		}
		a, other := &actions[i], generateAction(r, p)
		switch r.IntN(8) {
		case 0:
			a.user, a.by = other.user, other.by
		case 1:
			a.language = other.language
		case 2:
			a.control = other.control
		case 3:
			a.ranged = other.ranged
		case 4:
			a.kind = other.kind
		case 5:
			a.read, a.pause = other.read, other.pause
		case 6:
			a.coded = other.coded
		case 7:
			a.fate, a.deadline, a.cancel = other.fate, other.deadline, other.cancel
		}
		if a.kind == purge || a.kind == invalidate || a.kind == restart {
			a.fate.ends = endsWell
		}
	}
}
