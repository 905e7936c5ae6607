package inflight_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cachetrip/cachetrip/internal/inflight"
	"github.com/cachetrip/cachetrip/internal/patience"
)

// owner records what becomes of results, which are strings.
type owner struct {
	mu      sync.Mutex
	events  []string
	release func() // called by Release, if not nil
}

func (o *owner) note(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = append(o.events, fmt.Sprintf(format, args...))
}

func (o *owner) seen() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.events)
}

func (o *owner) Failed(p any, stack []byte) string {
	if len(stack) == 0 {
		o.note("no stack")
	}
	return fmt.Sprint("failed: ", p)
}

func (o *owner) Unread(r *inflight.Request[string]) { o.note("unread %s", *r.Result()) }

func (o *owner) Release(r *inflight.Request[string]) {
	state := "under way"
	if r.Context().Err() != nil {
		state = "cancelled"
	}
	o.note("release %s, %s", *r.Result(), state)
	if o.release != nil {
		o.release()
	}
}

// fixture is a Group with its owner, in a bubble.
type fixture struct {
	*testing.T
	group inflight.Group[string]
	owner owner
	works sync.WaitGroup
}

func test(t *testing.T, f func(*fixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		given := &fixture{T: t}
		defer given.works.Wait()
		f(given)
	})
}

var key = inflight.Key{Subject: "subject", Variant: "variant"}

func (f *fixture) join() *inflight.Participation[string] {
	f.Helper()
	p := f.group.Join(f.Context(), &f.owner, key, true, f.group.Moment())
	if p == nil {
		f.Fatal("Join = nil though nothing has ended meanwhile")
	}
	return p
}

// lead starts a request that takes a given time.
func (f *fixture) lead(takes time.Duration) *inflight.Participation[string] {
	f.Helper()
	p := f.join()
	if !p.Leads() {
		f.Fatal("the first caller does not lead")
	}
	f.works.Add(1)
	p.Request.Go(func() string {
		defer f.works.Done()
		time.Sleep(takes)
		return "result"
	})
	return p
}

func (f *fixture) follow() *inflight.Participation[string] {
	f.Helper()
	p := f.join()
	if p.Leads() {
		f.Fatal("the next caller leads")
	}
	return p
}

func (f *fixture) wants(events ...string) {
	f.Helper()
	synctest.Wait()
	if diff := cmp.Diff(events, f.owner.seen()); diff != "" {
		f.Errorf("events of the result (-want +got):\n%s", diff)
	}
}

func (f *fixture) wantContext(p *inflight.Participation[string], want error) {
	f.Helper()
	if got := context.Cause(p.Request.Context()); got != want {
		f.Errorf("the context of the work ended with %v, want %v", got, want)
	}
}

func TestAllGetTheResult(t *testing.T) {
	test(t, func(f *fixture) {
		leader := f.lead(time.Second)
		all := []*inflight.Participation[string]{leader, f.follow(), f.follow()}
		for _, p := range all {
			if err := p.Request.Wait(f.Context(), patience.Unlimited); err != nil {
				f.Fatal(err)
			}
			if got := *p.Request.Result(); got != "result" {
				f.Errorf("result %q", got)
			}
		}
		all = append(all, f.follow()) // while the result is in use
		for i, p := range all {
			if i > 0 {
				f.wants()
			}
			f.wantContext(p, nil)
			p.LeaveAfter(func() {})
		}
		f.wants("release result, under way")
		f.wantContext(leader, inflight.ErrAbandoned)
		if p := f.join(); !p.Leads() {
			f.Error("a caller joins a request whose participants have left")
		}
	})
}

func TestLeaving(t *testing.T) {
	type step struct {
		at   time.Duration
		who  int // 0 leads; all others follow from the beginning
		read bool
	}
	const result = 2 * time.Second
	for _, c := range []struct {
		name      string
		followers int
		steps     []step
		ends      time.Duration // the context of the work
		events    []string
	}{
		{"a follower leaves before the result", 1, []step{{time.Second, 1, false}, {3 * time.Second, 0, true}},
			3 * time.Second, []string{"release result, under way"}},
		{"the leader leaves before the result", 1, []step{{time.Second, 0, false}, {3 * time.Second, 1, true}},
			3 * time.Second, []string{"unread result", "release result, under way"}},
		{"the leader leaves after the result, unread", 1, []step{{3 * time.Second, 0, false}, {4 * time.Second, 1, true}},
			4 * time.Second, []string{"unread result", "release result, under way"}},
		{"the leader leaves after reading the result", 1, []step{{3 * time.Second, 0, true}, {4 * time.Second, 1, true}},
			4 * time.Second, []string{"release result, under way"}},
		{"the last one leaves before the result", 1, []step{{time.Second, 0, false}, {1500 * time.Millisecond, 1, false}},
			1500 * time.Millisecond, []string{"unread result", "release result, cancelled"}},
		{"the only one leaves before the result", 0, []step{{time.Second, 0, false}},
			time.Second, []string{"unread result", "release result, cancelled"}},
		{"the only one leaves after the result, unread", 0, []step{{3 * time.Second, 0, false}},
			3 * time.Second, []string{"unread result", "release result, under way"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			test(t, func(f *fixture) {
				all := []*inflight.Participation[string]{f.lead(result)}
				for range c.followers {
					all = append(all, f.follow())
				}
				start := time.Now()
				var ended time.Duration
				context.AfterFunc(all[0].Request.Context(), func() { ended = time.Since(start) })
				for _, s := range c.steps {
					time.Sleep(time.Until(start.Add(s.at)))
					if s.read {
						all[s.who].LeaveAfter(func() {})
					} else {
						all[s.who].Leave()
					}
				}
				f.group.Wait(time.Now().Add(time.Minute))
				f.wants(c.events...)
				f.wantContext(all[0], inflight.ErrAbandoned)
				if ended != c.ends {
					f.Errorf("the context of the work ended after %v, want %v", ended, c.ends)
				}
			})
		})
	}
}

func TestParticipationEndsOnce(t *testing.T) {
	test(t, func(f *fixture) {
		leader, follower := f.lead(0), f.follow()
		synctest.Wait()
		for range 3 {
			leader.Leave()
			leader.LeaveAfter(func() { f.Error("the second end of a participation is one") })
		}
		f.wants("unread result")
		f.wantContext(leader, nil)
		follower.Leave()
		f.wants("unread result", "release result, under way")
	})
}

// TestLastReadsOn has all but one caller stop, and then the last one, which has
// something done before it leaves.
func TestLastReadsOn(t *testing.T) {
	test(t, func(f *fixture) {
		leader, second := f.lead(0), f.follow()
		synctest.Wait()
		second.LeaveAfter(func() { f.Error("another one still reads") })
		var third *inflight.Participation[string]
		leader.LeaveAfter(func() {
			third = f.follow() // meanwhile
			third.LeaveAfter(func() { f.owner.note("third is last") })
			leader.LeaveAfter(func() { f.Error("the same caller stops twice") })
			f.owner.note("leader goes on")
			leader.Leave() // its context ends: later calls do not matter
			f.owner.note("leader has ended")
		})
		f.wants("third is last", "leader goes on", "unread result", "release result, under way", "leader has ended")
	})
}

// TestRelease has a caller come while a result is released, and others wait for
// that.
func TestRelease(t *testing.T) {
	for _, ready := range []bool{true, false} {
		t.Run(fmt.Sprint("ready=", ready), func(t *testing.T) {
			test(t, func(f *fixture) {
				leader := f.lead(time.Second)
				released := false
				f.owner.release = func() {
					f.owner.release = nil
					p := f.join()
					if !p.Leads() {
						f.Error("a caller joins a request whose result is released")
					}
					p.Request.Publish("another")
					p.Leave()
					time.Sleep(time.Second)
					released = true
				}
				if ready {
					time.Sleep(2 * time.Second)
				}
				leader.Leave()
				f.group.Wait(time.Now().Add(time.Minute))
				if !released {
					f.Error("Wait does not wait for the release")
				}
			})
		})
	}
}

func TestLastMayPanic(t *testing.T) {
	test(t, func(f *fixture) {
		leader := f.lead(0)
		synctest.Wait()
		func() {
			defer func() { _ = recover() }()
			leader.LeaveAfter(func() { panic("in last") })
		}()
		f.wants("release result, under way")
	})
}

func TestWaitIsLimited(t *testing.T) {
	test(t, func(f *fixture) {
		leader, follower := f.lead(time.Minute), f.follow()
		ctx, cancel := context.WithTimeout(f.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		if err := follower.Request.Wait(ctx, time.Second); err != patience.ErrExhausted {
			f.Errorf("Wait = %v, want %v", err, patience.ErrExhausted)
		}
		if err := follower.Request.Wait(ctx, patience.Unlimited); err != context.DeadlineExceeded {
			f.Errorf("Wait = %v, want %v", err, context.DeadlineExceeded)
		}
		if waited := time.Since(start); waited != 5*time.Second {
			f.Errorf("waited %v", waited)
		}
		follower.Leave()
		leader.Leave()
		f.group.Wait(time.Now().Add(2 * time.Minute))
		f.wants("unread result", "release result, cancelled")
	})
}

func TestWorkThatDoesNotReturn(t *testing.T) {
	for _, c := range []struct {
		name string
		work func() string
		want string
	}{
		{"panic", func() string { panic("oops") }, "failed: oops"},
		{"goexit", func() string { runtime.Goexit(); return "" }, "failed: <nil>"},
	} {
		t.Run(c.name, func(t *testing.T) {
			test(t, func(f *fixture) {
				p := f.join()
				p.Request.Go(c.work)
				if err := p.Request.Wait(f.Context(), patience.Unlimited); err != nil {
					f.Fatal(err)
				}
				if got := *p.Request.Result(); got != c.want {
					f.Errorf("result %q, want %q", got, c.want)
				}
				p.Leave()
				f.wants("unread "+c.want, "release "+c.want+", under way")
			})
		})
	}
}

func TestContext(t *testing.T) {
	test(t, func(f *fixture) {
		type name struct{}
		ctx, cancel := context.WithTimeout(context.WithValue(f.Context(), name{}, "value"), time.Second)
		defer cancel()
		deadline, _ := ctx.Deadline()
		p := f.group.New(ctx, &f.owner)
		work := p.Request.Context()
		if got, ok := work.Deadline(); !ok || !got.Equal(deadline) {
			f.Errorf("deadline %v, want that of the leader, %v", got, deadline)
		}
		if work.Value(name{}) != "value" {
			f.Error("the values of the leader are missing")
		}
		time.Sleep(time.Minute)
		if work.Err() != nil || ctx.Err() == nil {
			f.Errorf("the contexts of the work and of the leader ended with %v and %v", work.Err(), ctx.Err())
		}
		child, stop := context.WithCancel(work)
		defer stop()
		cause := errors.New("cause")
		p.Request.Cancel(cause)
		if context.Cause(work) != cause || context.Cause(child) != cause || work.Err() != context.Canceled {
			f.Errorf("Cause = %v, of a child %v; Err = %v", context.Cause(work), context.Cause(child), work.Err())
		}
	})
}

func TestContextIsKept(t *testing.T) {
	test(t, func(f *fixture) {
		p := f.lead(0)
		synctest.Wait()
		p.Request.KeepContext()
		p.Leave()
		f.wants("unread result", "release result, under way")
		f.wantContext(p, nil)
		p.Request.Cancel(nil)
		f.wantContext(p, context.Canceled)
	})
}

func TestJoin(t *testing.T) {
	other := inflight.Key{Subject: key.Subject, Variant: "another"}
	for _, c := range []struct {
		name  string
		key   inflight.Key
		ready bool
		waits bool
		hides bool
		leads bool
		joins bool // whether the next caller that waits joins the same request as this one
	}{
		{"the same", key, false, true, false, false, true},
		{"the result is there", key, true, true, false, false, true},
		{"the result is there, without waiting", key, true, false, false, false, true},
		{"without waiting", key, false, false, false, true, false},
		{"another variant", other, false, true, false, true, true},
		{"nobody", inflight.Key{}, false, true, false, true, false},
		{"hidden", key, false, true, true, true, true},
		{"hidden, without waiting", key, false, false, true, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			test(t, func(f *fixture) {
				takes := time.Minute
				if c.ready {
					takes = 0
				}
				first := f.lead(takes)
				synctest.Wait()
				if c.hides {
					first.Request.Hide()
				}
				second := f.group.Join(f.Context(), &f.owner, c.key, c.waits, f.group.Moment())
				if second.Leads() != c.leads || (second.Request == first.Request) == c.leads {
					f.Errorf("the second caller leads: %v, want %v", second.Leads(), c.leads)
				}
				third := f.group.Join(f.Context(), &f.owner, c.key, true, f.group.Moment())
				if joins := third.Request == second.Request; joins != c.joins {
					f.Errorf("the third caller joins the second: %v, want %v", joins, c.joins)
				}
			})
		})
	}
}

// TestLookedUpTooEarly: callers join after a request has ended, but looked up
// before.
func TestLookedUpTooEarly(t *testing.T) {
	test(t, func(f *fixture) {
		join := func(key inflight.Key, moment uint64) *inflight.Participation[string] {
			return f.group.Join(f.Context(), &f.owner, key, true, moment)
		}
		before := f.group.Moment()
		first := f.lead(0)
		if p := join(key, before); p == nil || p.Leads() {
			f.Error("a caller does not join a request that is under way")
		}
		first.Request.Hide()
		first.Request.Hide()
		after := f.group.Moment()
		if after != before+1 {
			f.Errorf("moments %d and %d, want one request to have ended", before, after)
		}
		sibling := inflight.Key{Subject: key.Subject, Variant: "another"}
		stranger := inflight.Key{Subject: "another"}
		if join(key, before) != nil || join(sibling, before) != nil {
			f.Error("a caller need not look up again")
		}
		if join(stranger, before) == nil || join(inflight.Key{}, before) == nil {
			f.Error("a caller has to look up again whose subject nothing has changed for")
		}
		if join(key, after) == nil {
			f.Error("a caller that has looked up again has to do so once more")
		}
	})
}

func TestEndedRequestsAreForgotten(t *testing.T) {
	test(t, func(f *fixture) {
		const many = 3000 // more than are remembered
		before := f.group.Moment()
		for i := range many {
			f.group.Join(f.Context(), &f.owner, inflight.Key{Subject: strconv.Itoa(i)}, true, f.group.Moment()).Request.Hide()
		}
		if f.group.Join(f.Context(), &f.owner, key, true, before) != nil {
			f.Error("a caller is not told to look up again, though what has ended meanwhile is forgotten")
		}
		if n := f.group.Remembered(); n > 1024 {
			f.Errorf("%d requests that have ended are remembered", n)
		}
		f.join()
	})
}

func TestOnHide(t *testing.T) {
	for _, c := range []struct {
		name string
		ends func(*inflight.Participation[string])
	}{
		{"hidden", func(p *inflight.Participation[string]) { p.Request.Hide(); p.Request.Hide() }},
		{"left", func(p *inflight.Participation[string]) { p.Leave() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			test(t, func(f *fixture) {
				p, calls := f.join(), 0
				p.Request.OnHide(func() { calls++ })
				if calls != 0 {
					f.Error("called while others can join")
				}
				if c.ends(p); calls != 1 {
					f.Errorf("called %d times", calls)
				}
				p.Request.OnHide(func() { calls++ })
				f.group.New(f.Context(), &f.owner).Request.OnHide(func() { calls++ })
				if calls != 3 {
					f.Error("not called at once, though nobody can join")
				}
				p.Request.Publish("result")
				p.Leave()
			})
		})
	}
}

// TestCrowd has callers come and leave at random, so that the race detector
// sees all of it.
func TestCrowd(t *testing.T) {
	var group inflight.Group[string]
	var o owner
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for range 50 {
				p := group.Join(t.Context(), &o, key, i%8 != 0, group.Moment())
				if p == nil {
					continue
				}
				if p.Leads() {
					p.Request.Go(func() string { runtime.Gosched(); return "result" })
				}
				if i%4 == 0 {
					p.Leave()
					continue
				}
				if err := p.Request.Wait(t.Context(), time.Minute); err != nil || *p.Request.Result() != "result" {
					t.Errorf("%v, result %q", err, *p.Request.Result())
				}
				p.LeaveAfter(runtime.Gosched)
			}
		})
	}
	wg.Wait()
	group.Wait(time.Now().Add(time.Minute))
	if n := group.UnderWay(); n != 0 {
		t.Errorf("%d requests can still be joined, though all have left", n)
	}
}
