// Package simulation looks for cases in which the cache is worse than none. It
// runs random programs of callers with the cache and without it. Their origins
// are slow, hang, fail, tell users apart and lie.
//
// A program (program_test.go) is made from a seed. It has one or two resources,
// with the headers and faults of the origin, and clusters of actions. An action
// is one caller: its request, when it begins, how much it reads, and how long
// it waits. It also has a fate, which is how the origin treats all requests of
// this caller. Because fates belong to callers, a broken connection harms the
// same caller with the cache and without it, unless the cache makes others wait
// for it.
//
// Programs run over net/http and pipes, each in a bubble of testing/synctest,
// where time is free (run_test.go). The origin (origin_test.go) says in each
// answer which exchange it is, which one brought the body, and what the body
// is. So the oracle (oracle_test.go) can tell from the records of two runs
// alone:
//
//   - answered: a caller that gets an answer in time without the cache gets one
//     in time with it.
//   - overstay: no caller is kept beyond its deadline.
//   - whose: a response was made for the caller that gets it, or may be reused
//     for it by RFC 9111, section 4. Or it lacks nothing but a lifetime, and
//     was made for a request like the caller's.
//   - cookies: no caller gets another caller's session.
//   - bytes: a body has the bytes that the origin has sent, from its beginning
//     to its end.
//   - status: no caller sees the answer to conditions and ranges that only the
//     cache has added.
//   - unvalidated: a response that has to be validated is not used without
//     asking the origin.
//   - count: no URL is requested more often than without the cache. Some
//     requests may come on top: a process learns what its origin does not
//     understand, and repeats requests that broke off or were refused.
//   - load: few requests at once ask an origin that fails.
//   - deadline: Base sees the deadline of the caller.
//   - saved: a fresh response that was read to its end is not requested again.
//   - run: nothing panics, no goroutine outlives Close, and the cache does not
//     write to a response of Base.
//
// The short form runs the same few programs each time. The long form looks for
// new ones for as long as it is told:
//
//	CACHETRIP_SIMULATION=1h go test -timeout 2h ./tests/simulation
//
// Half of the programs have a theme (themes_test.go): what needs several
// requests of one kind, in one order, is hardly met by chance. To see whether
// the simulation would find a fault, break the cache in a copy of the tree and
// run
//
//	go test ./tests/simulation -run TestSimulation -until 500
//
// which stops at the first program that fails, and says how many that takes.
// Most rules for sharing, for asking the origin and for lifetimes are missed
// within 100 programs, some take 500.
//
// It reports one program for each kind of failure, made as small as it can be,
// with its seed. This shows all that happens in the program of a seed:
//
//	go test ./tests/simulation -seed 12345
//
// Events in one instant of a bubble have a random order. So a program may have
// to run several times to fail again; both forms do so. A panic on a goroutine
// of the cache ends the process; the seed is then in cachetrip-simulation.seed,
// in the directory for temporary files.
package simulation

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"testing"
	"time"
)

const (
	// shortPrograms is how many programs the short form runs: a few seconds
	// with the race detector.
	shortPrograms = 60

	// maxRun is how long a program may take. The time of a bubble is free, so
	// that one that takes longer is stuck in what bubbles do not see, such as a
	// lock.
	maxRun = 5 * time.Minute

	// replays is how often a program is run to see whether it fails.
	replays = 8

	// maxKinds is how many kinds of failures are looked into.
	maxKinds = 20
)

var (
	seedFlag  = flag.Uint64("seed", 0, "run the program of this seed alone")
	ruleFlag  = flag.String("rule", "", "look for what breaks this rule alone")
	untilFlag = flag.Int("until", 0, "stop at the first failure, or after so many programs; the first is that of -from")
	fromFlag  = flag.Uint64("from", 1, "with -until: the seed of the first program")
)

func TestSimulation(t *testing.T) {
	if *seedFlag != 0 {
		replay(t, *seedFlag)
		return
	}
	if *untilFlag != 0 {
		lookUntil(t, *fromFlag, *untilFlag)
		return
	}
	first, until := uint64(1), time.Now()
	if long := os.Getenv("CACHETRIP_SIMULATION"); long != "" {
		d, err := time.ParseDuration(long)
		if err != nil {
			t.Fatalf("CACHETRIP_SIMULATION: %v", err)
		}
		first, until = rand.Uint64N(1<<40), until.Add(d)
	}
	n := uint64(0)
	seeds := map[string][]uint64{} // by the kind of failure
	for ; n < shortPrograms || time.Now().Before(until); n++ {
		p := generate(first + n)
		found := try(t, p)
		known := true
		for _, v := range found {
			if seeds[v.kind()] == nil {
				known = false
			}
			seeds[v.kind()] = append(seeds[v.kind()], p.seed)
		}
		if known || len(seeds) > maxKinds {
			continue
		}
		small, found := shrink(t, p, found)
		t.Errorf("%v\nleft of the program when it is made smaller:\n%v", report(found), small)
	}
	t.Logf("%d programs, from seed %d", n, first)
	for kind, failed := range seeds {
		slices.Sort(failed)
		failed = slices.Compact(failed)
		t.Logf("%d times (seeds %v): %s", len(failed), failed[:min(len(failed), 4)], kind)
	}
}

// lookUntil runs programs until one fails, and says how many that takes.
func lookUntil(t *testing.T, first uint64, most int) {
	for n := range most {
		p := generate(first + uint64(n))
		if found := try(t, p); len(found) > 0 {
			t.Fatalf("failed after %d programs, that of seed %d: %v\n%v", n+1, p.seed, report(found), p)
		}
	}
	t.Logf("nothing failed in %d programs", most)
}

// digits are what tells failures of one kind apart.
var digits = regexp.MustCompile("[0-9]+")

// kind returns what violations of the same kind have in common.
func (v violation) kind() string {
	text := digits.ReplaceAllString(string(v.rule)+": "+v.text, "#")
	switch v.rule {
	case ruleAnswered, ruleStatus, ruleRun, ruleOverstay, ruleDeadline, ruleCookies, ruleBytes:
		text = text[:min(len(text), 45)]
	}
	return text
}

// report lists the violations, one per line.
func report(found []violation) (lines string) {
	for _, v := range found[:min(len(found), 5)] {
		lines += v.String() + "\n"
	}
	return lines
}

// replay runs the program of one seed, and shows all of it.
func replay(t *testing.T, seed uint64) {
	p := generate(seed)
	for range replays {
		found := try(t, p)
		if len(found) == 0 {
			continue
		}
		p, _ = shrink(t, p, found)
		for range 4 * replays {
			plain, cached := runBoth(t, p)
			if found := considered(judge(plain, cached)); len(found) > 0 {
				t.Errorf("%v\n%v\n%v", report(found), p, cached)
				return
			}
		}
		t.Errorf("%v\nbut not again, when it was made smaller:\n%v", report(found), p)
		return
	}
	t.Logf("nothing is wrong with\n%v", p)
}

// try runs a program without the cache and with it, and returns what the cache
// has broken.
func try(t *testing.T, p *program) []violation {
	return considered(judge(runBoth(t, p)))
}

// considered removes the kinds of violations that are switched off.
func considered(found []violation) []violation {
	return slices.DeleteFunc(found, func(v violation) bool {
		return *ruleFlag != "" && string(v.rule) != *ruleFlag
	})
}

// runBoth runs a program without the cache and with it.
func runBoth(t *testing.T, p *program) (plain, cached *record) {
	note := filepath.Join(os.TempDir(), "cachetrip-simulation.seed")
	if err := os.WriteFile(note, []byte(strconv.FormatUint(p.seed, 10)), 0o600); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(note)
	stuck := time.AfterFunc(maxRun, func() {
		debug.SetTraceback("all")
		panic(fmt.Sprintf("the program of seed %d takes more than %v", p.seed, maxRun))
	})
	defer stuck.Stop()
	return run(t, p, false), run(t, p, true)
}

// shrink leaves out actions as long as the program breaks a rule that it broke.
func shrink(t *testing.T, p *program, found []violation) (*program, []violation) {
	var broken []rule
	for _, v := range found {
		broken = append(broken, v.rule)
	}
	small := *p
	for size := (len(p.actions) + 1) / 2; size >= 1; size /= 2 {
		for from := 0; from < len(small.actions); {
			less := small
			less.actions = slices.Delete(slices.Clone(small.actions), from, min(from+size, len(small.actions)))
			if now := breaks(t, &less, broken); now != nil {
				small, found = less, now
			} else {
				from += size
			}
		}
	}
	return &small, found
}

// breaks runs a program until it breaks one of the rules.
func breaks(t *testing.T, p *program, rules []rule) []violation {
	for range replays {
		found := try(t, p)
		if slices.ContainsFunc(found, func(v violation) bool { return slices.Contains(rules, v.rule) }) {
			return found
		}
	}
	return nil
}
