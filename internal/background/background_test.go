package background

import (
	"strconv"
	"testing"
	"time"
)

func begin(js *Jobs, key, origin string, now time.Time) bool {
	_, ok := js.Begin(key, origin, now)
	return ok
}

func TestOneJobForAKey(t *testing.T) {
	var js Jobs
	now := time.Now()
	if !begin(&js, "a", "origin", now) {
		t.Fatal("the first job may not begin")
	}
	if begin(&js, "a", "origin", now) {
		t.Error("a second job for a key may begin")
	}
	if !begin(&js, "b", "origin", now) {
		t.Error("a job for another key may not begin")
	}
	js.End("a", true, now)
	if !begin(&js, "a", "origin", now) {
		t.Error("no other job may begin after one has succeeded")
	}
}

func TestJobsAreLimited(t *testing.T) {
	var js Jobs
	now := time.Now()
	began := make(map[string]int)
	all := 0
	for i := range 100 {
		origin := strconv.Itoa(i % 5)
		if begin(&js, strconv.Itoa(i), origin, now) {
			began[origin]++
			all++
		}
	}
	if all != maxJobs {
		t.Errorf("%d jobs run at once, want %d", all, maxJobs)
	}
	for key := range js.running {
		js.End(key, true, now)
	}
	one := 0
	for i := range 100 {
		if begin(&js, strconv.Itoa(i), "origin", now) {
			one++
		}
	}
	if one != maxOriginJobs {
		t.Errorf("%d jobs of one origin run at once, want %d", one, maxOriginJobs)
	}
	if !begin(&js, "another", "another", now) {
		t.Error("one origin leaves nothing for others")
	}
}

func TestPauseAfterFailures(t *testing.T) {
	var js Jobs
	now := time.Now()
	fail := func() {
		t.Helper()
		if !begin(&js, "a", "origin", now) {
			t.Fatal("a job may not begin")
		}
		js.End("a", false, now)
	}
	for _, pause := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		fail()
		if now = now.Add(pause*time.Second - 1); begin(&js, "a", "origin", now) {
			t.Fatalf("another job begins within %d s", pause)
		}
		if !begin(&js, "b", "origin", now) {
			t.Fatal("a failure keeps others from beginning")
		}
		js.End("b", true, now)
		now = now.Add(1)
	}
	begin(&js, "a", "origin", now)
	js.End("a", true, now)
	fail()
	if now = now.Add(time.Second); !begin(&js, "a", "origin", now) {
		t.Error("a failure before the last success still counts")
	}
}

func TestFailuresAreLimited(t *testing.T) {
	var js Jobs
	now := time.Now()
	for i := range 3 * maxFailures {
		begin(&js, strconv.Itoa(i), "origin", now)
		js.End(strconv.Itoa(i), false, now)
		if len(js.failed) > maxFailures {
			t.Fatalf("%d failures are remembered", len(js.failed))
		}
	}
}

func TestGiveUp(t *testing.T) {
	var js Jobs
	first, _ := js.Begin("a", "origin", time.Now())
	second, _ := js.Begin("b", "origin", time.Now())
	if first.Err() != nil {
		t.Error("a job that runs is given up")
	}
	js.End("a", true, time.Now())
	if first.Err() == nil || second.Err() != nil {
		t.Errorf("the contexts of a job that has ended and one that runs ended with %v and %v", first.Err(), second.Err())
	}
	if js.GiveUp(); second.Err() == nil {
		t.Error("a job that runs is not given up")
	}
}
