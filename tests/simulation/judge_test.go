package simulation

import (
	"errors"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The oracle, judged by records that are written down.

// scene is the start for tests of the oracle. Two actions request one resource
// with a lifetime of a minute. The second comes ten seconds after the first,
// and gets its response.
type scene struct {
	program       *program
	plain, cached *record
	first, second *action
	one, two      *call // what the actions got with the cache
	brought       *exchange
}

func newScene() *scene {
	p := &program{processes: 1, resources: []resource{{path: "/a", control: "max-age=60", status: 200, length: 40}}}
	p.actions = []action{{id: 0, read: -1}, {id: 1, at: 10 * time.Second, read: -1}}
	s := &scene{program: p, first: &p.actions[0], second: &p.actions[1]}
	s.plain = &record{program: p, outcomes: map[int]outcome{}}
	s.cached = &record{program: p, outcomes: map[int]outcome{}}
	for i := range p.actions {
		a := &p.actions[i]
		done := outcome{start: a.at, end: a.at + 20*time.Millisecond, ok: true, status: 200}
		done.began, done.finished = uint64(done.start), uint64(done.end)
		s.plain.outcomes[a.id], s.cached.outcomes[a.id] = done, done
		s.plain.exchanges = append(s.plain.exchanges, &exchange{serial: i, action: i, path: "/a"})
	}
	s.brought = s.exchange(0, s.first, 200)
	s.one, s.two = s.call(s.first, s.brought), s.call(s.second, s.brought)
	return s
}

// exchange adds an exchange for an action.
func (s *scene) exchange(serial int, a *action, status int) *exchange {
	is := s.program.resources[0].version(a.user, a.language, 0)
	h := http.Header{}
	h.Set(serialField, strconv.Itoa(serial))
	h.Set("Cache-Control", s.program.resources[0].control)
	h.Set("Etag", is.tag())
	if status != 304 {
		h.Set(bornField, strconv.Itoa(serial))
		h.Set(representationField, is.String())
	}
	e := &exchange{serial: serial, came: uint64(a.at + 5*time.Millisecond), went: uint64(a.at + 10*time.Millisecond), action: a.id, method: "GET", path: "/a", request: a.header(s.program), arrived: a.at, answered: a.at + 10*time.Millisecond, status: status, header: h}
	s.cached.exchanges = append(s.cached.exchanges, e)
	return e
}

// call adds a call of an action, answered by an exchange.
func (s *scene) call(a *action, e *exchange) *call {
	c := &call{action: a.id, method: "GET", path: "/a", header: a.header(s.program), start: a.at, answered: a.at + 10*time.Millisecond, ended: a.at + 20*time.Millisecond,
		status: e.status, response: e.header.Clone(), body: contentOf(e.header.Get(representationField), 40), eof: true, length: 40}
	c.began, c.returned, c.finished = uint64(c.start), uint64(c.answered), uint64(c.ended)
	s.cached.calls = append(s.cached.calls, c)
	return c
}

// says has the origin say something in Cache-Control.
func (s *scene) says(control string) {
	s.brought.header.Set("Cache-Control", control)
}

// meets has the second action begin before the first is answered.
func (s *scene) meets() {
	s.two.start, s.two.began, s.two.cache.Collapsed = time.Millisecond, uint64(time.Millisecond), true
}

// validates has the second action ask the origin, which answers with a status.
func (s *scene) validates(status int) *exchange {
	e := s.exchange(1, s.second, status)
	if status == 304 {
		s.two.response.Set(serialField, "1")
	} else {
		s.two.response, s.two.status = e.header.Clone(), status
	}
	return e
}

func TestJudge(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(s *scene)
		want   []rule
	}{
		{"a hit", func(s *scene) {}, nil},
		{"stale", func(s *scene) { s.says("max-age=5") }, []rule{ruleUnvalidated}},
		{"stale, while it is revalidated", func(s *scene) { s.says("max-age=5, stale-while-revalidate=600") }, nil},
		{"stale, although the origin did not fail", func(s *scene) { s.says("max-age=5, stale-if-error=600") }, []rule{ruleUnvalidated}},
		{"stale, as the origin failed", func(s *scene) {
			s.says("max-age=5, stale-if-error=600")
			s.exchange(1, s.second, 503)
		}, nil},
		{"validated", func(s *scene) { s.says("no-cache"); s.validates(304) }, nil},
		{"validated by a 304 about something else", func(s *scene) {
			s.says("no-cache")
			s.validates(304).header.Set("Etag", `"wrong"`)
		}, []rule{ruleUnvalidated}},
		{"no-cache", func(s *scene) { s.says("no-cache") }, []rule{ruleUnvalidated}},
		{"no-store", func(s *scene) { s.says("no-store") }, []rule{ruleWhose}},
		{"no-store, said badly", func(s *scene) { s.says("no-store; max-age=0") }, []rule{ruleWhose}},
		{"a request that wants it validated", func(s *scene) { s.two.header.Set("Cache-Control", "no-cache") }, []rule{ruleUnvalidated}},
		{"an old guess", func(s *scene) {
			s.says("")
			s.brought.header.Set("Last-Modified", "Mon, 01 Jan 1990 00:00:00 GMT")
			s.two.start += 6 * 24 * time.Hour
		}, nil},
		{"a guess that is too old", func(s *scene) {
			s.says("")
			s.brought.header.Set("Last-Modified", "Mon, 01 Jan 1990 00:00:00 GMT")
			s.two.start += 8 * 24 * time.Hour
		}, []rule{ruleUnvalidated}},
		{"a guess from an epoch", func(s *scene) {
			s.says("")
			s.brought.header.Set("Last-Modified", "Thu, 01 Jan 1970 00:00:00 GMT")
		}, []rule{ruleUnvalidated}},
		{"another variant", func(s *scene) {
			s.brought.header.Set("Vary", "Accept-Language")
			s.two.header.Set("Accept-Language", "de")
		}, []rule{ruleWhose}},
		{"another identity", func(s *scene) { s.two.header.Set("Authorization", "Bearer bob") }, []rule{ruleWhose}},
		{"shared without a lifetime", func(s *scene) { s.says("max-age=0"); s.meets() }, nil},
		{"shared with somebody else", func(s *scene) {
			s.says("max-age=0")
			s.meets()
			s.two.header.Set("Cookie", "user=bob")
		}, []rule{ruleWhose}},
		{"shared without a lifetime, though validation is a must", func(s *scene) { s.says("max-age=5, must-revalidate"); s.meets() }, nil},
		{"shared when it was stale, though validation is a must", func(s *scene) { s.says("max-age=0, private, must-revalidate"); s.meets() }, []rule{ruleUnvalidated}},
		{"shared with its cookies", func(s *scene) {
			s.meets()
			s.brought.header.Set("Set-Cookie", "sid=0")
		}, []rule{ruleWhose}},
		{"another's session", func(s *scene) { s.two.response.Set("Set-Cookie", "sid=0") }, []rule{ruleCookies}},
		{"changed since", func(s *scene) {
			s.program.actions = append(s.program.actions, action{id: 2, at: time.Second, kind: post})
			e := s.exchange(1, &s.program.actions[2], 200)
			e.method, e.unsafe = "POST", true
			c := s.call(&s.program.actions[2], e)
			c.method = "POST"
		}, []rule{ruleUnvalidated}},
		{"purged since", func(s *scene) {
			s.program.actions = append(s.program.actions, action{id: 2, at: time.Second, kind: purge})
			s.cached.outcomes[2] = outcome{start: time.Second, end: time.Second, began: uint64(time.Second), finished: uint64(time.Second), ok: true}
		}, []rule{ruleUnvalidated}},
		{"too late", func(s *scene) {
			s.second.deadline = time.Second
			s.cached.outcomes[1] = outcome{start: s.second.at, end: s.second.at + time.Second, err: errors.New("deadline exceeded")}
			s.two.err = errors.New("deadline exceeded")
		}, []rule{ruleAnswered}},
		{"too late without the cache as well", func(s *scene) {
			s.second.deadline = time.Second
			s.plain.outcomes[1] = outcome{start: s.second.at, end: s.second.at + time.Second}
			s.cached.outcomes[1] = s.plain.outcomes[1]
		}, nil},
		{"kept beyond the deadline", func(s *scene) {
			s.second.deadline = time.Second
			s.plain.outcomes[1] = outcome{start: s.second.at, end: s.second.at + time.Second}
			s.cached.outcomes[1] = outcome{start: s.second.at, end: s.second.at + 3*time.Second}
		}, []rule{ruleOverstay}},
		{"kept without a deadline", func(s *scene) {
			s.cached.outcomes[1] = outcome{start: s.second.at, end: s.second.at + time.Minute, ok: true}
		}, []rule{ruleAnswered}},
		{"a body that ends early", func(s *scene) { s.two.body = s.two.body[:20] }, []rule{ruleBytes}},
		{"a body of which only a part was read", func(s *scene) { s.two.body, s.two.eof = s.two.body[:20], false }, nil},
		{"a body of two halves", func(s *scene) { s.two.body = append(s.two.body[20:40:40], s.two.body[:20]...) }, []rule{ruleBytes}},
		{"the header of another body", func(s *scene) { s.two.response.Set(representationField, "/a|||7") }, []rule{ruleBytes}},
		{"a whole that the answer to a range has updated", func(s *scene) { s.brought.provoked, s.brought.status = "range", 206 }, nil},
		{"a refusal of a range that the caller did not ask for", func(s *scene) {
			s.brought.provoked, s.brought.status, s.one.status, s.two.status = "range", 400, 400, 400
		}, []rule{ruleStatus, ruleStatus}},
		{"a refusal that the caller did not ask for", func(s *scene) { s.says("max-age=5"); s.validates(412).provoked = "condition" }, []rule{ruleStatus}},
		{"a 304 that the caller did not ask for", func(s *scene) { s.two.status = 304 }, []rule{ruleStatus}},
		{"a 504 that nobody made", func(s *scene) { s.two.response, s.two.status = http.Header{}, 504 }, []rule{ruleStatus}},
		{"a mode that wants the origin", func(s *scene) { s.second.policy = wishNoCache }, []rule{ruleUnvalidated}},
		{"a mode that wants all of it", func(s *scene) { s.says("max-age=5"); s.validates(304); s.second.policy = wishReload }, []rule{ruleUnvalidated}},
		{"stored against a mode", func(s *scene) { s.first.policy = wishNoStore }, []rule{ruleWhose}},
		{"stale, by a mode", func(s *scene) { s.says("max-age=5, must-revalidate"); s.second.policy = wishForceCache }, nil},
		{"by a lifetime of the program", func(s *scene) { s.says("no-store"); s.first.policy, s.second.policy = wishTTL, wishTTL }, nil},
		{"by a lifetime of the program that another has", func(s *scene) { s.says("no-store"); s.first.policy = wishTTL }, []rule{ruleWhose}},
		{"a lifetime of the program that is over", func(s *scene) {
			s.says("max-age=60")
			s.second.policy = wishTTL
			s.two.start += wishedTTL
		}, []rule{ruleUnvalidated}},
		{"never fresh", func(s *scene) { s.second.policy = wishNever }, []rule{ruleUnvalidated}},
		{"a query by a GET", func(s *scene) { s.two.method = "QUERY" }, []rule{ruleWhose}},
		{"another path", func(s *scene) { s.two.path = "/b" }, []rule{ruleWhose}},
		{"asked for again", func(s *scene) { s.validates(304) }, []rule{ruleSaved}},
		{"asked too often", func(s *scene) {
			for i := range 6 {
				s.exchange(1+i, s.first, 200)
			}
		}, []rule{ruleCount}},
		{"Base sees no deadline", func(s *scene) {
			s.first.deadline = time.Second
			s.cached.asked = []asking{{action: 0}}
		}, []rule{ruleDeadline}},
		{"what another caller made of it", func(s *scene) { s.two.response.Set(mangledField, "1") }, []rule{ruleWhose}},
		{"a panic", func(s *scene) { s.cached.faults = []string{"panic"} }, []rule{ruleRun}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newScene()
			test.change(s)
			var got []rule
			for _, v := range judge(s.plain, s.cached) {
				got = append(got, v.rule)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("broken rules (-want +got):\n%s\n%v", diff, judge(s.plain, s.cached))
			}
		})
	}
}
