package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Running workloads: the subjects take turns, round after round.

// workload is a task that subjects are compared at.
type workload struct {
	name string // as -run selects it
	kind string // of contestant
	Params
	subjects []string
	metrics  []metric

	ops        int                                              // operations per measurement; 0: as many as fit into its time
	most       int                                              // limit of ops; 0: none
	rounds     int                                              // limit of rounds; 0: none
	peerRounds int                                              // the same for peers, which may take a minute for one
	fresh      bool                                             // each measurement has a new process and a new directory
	run        func(context.Context, *harness, *workload) error // runs the workload; nil: runInterleaved
}

// metric is a quantity that a workload measures.
type metric struct {
	name    string // in the samples
	title   string // in the tables
	limit   string // description of the physical limit; empty: there is none
	unit    unit
	how     how
	target  float64 // target for subject; 0: there is none
	subject string  // the subject that has the target; empty: cachetripDisk
	minor   bool    // not in the chart
}

// how a metric is compared with its limit.
type how int

const (
	byRatio      how = iota // to the limit in the same round
	byDifference            // from the limit in the same round
	byValue                 // not compared with a limit
)

// harness runs workloads and collects their samples.
type harness struct {
	dir      string
	origin   *origin
	rounds   int
	budget   time.Duration  // time of one measurement
	only     *regexp.Regexp // subjects to run in addition to the limit; nil: all
	before   string         // program that the subjects named "-before" run; empty: there are none
	profiles string
	log      io.Writer
	progress string                                     // what to add to the lines of the log
	results  map[string]map[string]map[string][]float64 // by workload, metric, subject: a sample for each round
	faults   []fault
}

// fault counts wrong results in all rounds together.
type fault struct {
	Workload, Subject       string
	Wrong, Outdated, Errors int
	First                   string
}

// subjectsOf returns the subjects of a workload that the flags select.
func (h *harness) subjectsOf(w *workload) (of []string) {
	for _, s := range w.subjects {
		if s != limit && h.only != nil && !h.only.MatchString(s) {
			continue
		}
		of = append(of, s)
		if h.before != "" && (s == cachetripDisk || s == cachetripMemory) {
			of = append(of, s+beforeSuffix)
		}
	}
	return of
}

// job returns the job of a child.
func (h *harness) job(w *workload, subject, dir string) job {
	j := job{Kind: w.kind, Subject: subject, Dir: dir, Origin: h.origin.url, Tag: w.name + "." + subject, Params: w.Params}
	if w.TLS {
		j.Origin, j.Roots = h.origin.secureURL, h.origin.roots
	}
	if s, ok := strings.CutSuffix(subject, beforeSuffix); ok {
		j.Subject, j.program = s, h.before
	}
	if h.profiles != "" {
		j.Profile = filepath.Join(h.profiles, w.name+"-"+subject)
	}
	return j
}

// once runs a child that measures nothing.
func (h *harness) once(ctx context.Context, j job) error {
	c, err := startChild(ctx, j)
	if err != nil {
		return err
	}
	return c.end()
}

// record adds a sample of a subject.
func (h *harness) record(w *workload, subject string, s sample) {
	of := h.results[w.name]
	if of == nil {
		of = make(map[string]map[string][]float64)
		h.results[w.name] = of
	}
	for name, v := range s.Values {
		if of[name] == nil {
			of[name] = make(map[string][]float64)
		}
		of[name][subject] = append(of[name][subject], v)
	}
	if s.Wrong+s.Outdated+s.Errors > 0 {
		for i := range h.faults {
			if f := &h.faults[i]; f.Workload == w.name && f.Subject == subject {
				f.Wrong += s.Wrong
				f.Outdated += s.Outdated
				f.Errors += s.Errors
				return
			}
		}
		h.faults = append(h.faults, fault{w.name, subject, s.Wrong, s.Outdated, s.Errors, s.First})
	}
}

// turns returns s in the order of a round. Over len(s) rounds (twice as many if
// that is odd), each element follows each other element equally often. So no
// subject always suffers from what the one before it left behind, for example
// in the file system.
func turns[E any](s []E, round int) []E {
	t := make([]E, len(s))
	for i := range t {
		at := (i + 1) / 2 // 0, 1, -1, 2, -2, …
		if i%2 == 0 {
			at = len(s) - at
		}
		t[i] = s[(at+round)%len(s)]
	}
	if len(s)%2 == 1 && round%2 == 1 {
		slices.Reverse(t)
	}
	return t
}

// runWorkload measures a workload.
func (h *harness) runWorkload(ctx context.Context, w *workload) error {
	start := time.Now()
	run := w.run
	switch {
	case run != nil:
	case w.fresh:
		run = runFresh
	default:
		run = runInterleaved
	}
	err := run(ctx, h, w)
	fmt.Fprintf(h.log, "%-16s %5.1f s  %s\n", w.name, time.Since(start).Seconds(), h.progress)
	if err != nil {
		return fmt.Errorf("%s: %w", w.name, err)
	}
	return nil
}

// runInterleaved starts a child for each subject. The children measure in turn.
func runInterleaved(ctx context.Context, h *harness, w *workload) (err error) {
	type contender struct {
		*child
		subject string
		ops     int
	}
	var all []*contender
	dir := filepath.Join(h.dir, w.name)
	defer func() {
		for _, c := range all {
			if err != nil {
				c.kill()
				continue
			}
			err = c.end()
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	for _, subject := range h.subjectsOf(w) {
		own := filepath.Join(dir, subject)
		if err := os.MkdirAll(own, 0o700); err != nil {
			return err
		}
		c, err := startChild(ctx, h.job(w, subject, own))
		if err != nil {
			if h.excused(ctx, w, subject, err) {
				continue
			}
			return err
		}
		all = append(all, &contender{child: c, subject: subject, ops: w.ops})
	}
	drop := func(c *contender, err error) error {
		if !h.excused(ctx, w, c.subject, err) {
			return err
		}
		c.kill()
		all = slices.DeleteFunc(slices.Clone(all), func(other *contender) bool { return other == c })
		return nil
	}
	for _, c := range slices.Clone(all) {
		if c.ops == 0 {
			var failed error
			if c.ops, failed = h.calibrate(c.child, w.most); failed != nil {
				if err := drop(c, failed); err != nil {
					return err
				}
			}
		}
	}
	for round := range h.rounds {
		for _, c := range turns(all, round) {
			if err := ctx.Err(); err != nil {
				return err
			}
			s, err := h.measure(c.child, c.ops)
			if err != nil {
				if err := drop(c, err); err != nil {
					return err
				}
				continue
			}
			h.record(w, c.subject, s)
		}
	}
	return nil
}

// excused records that a peer failed at a workload, and reports whether the
// workload can go on without it.
func (h *harness) excused(ctx context.Context, w *workload, subject string, err error) bool {
	if !isPeer(subject) || ctx.Err() != nil { // the end of the run kills children
		return false
	}
	h.record(w, subject, sample{Errors: 1, First: err.Error()})
	return true
}

// calibrate returns how many operations of a child fit into the time of one
// measurement. The first operations do not count.
func (h *harness) calibrate(c *child, most int) (int, error) {
	return fitting(h.budget, most, func(n int) (time.Duration, error) {
		start := time.Now()
		s, err := h.measure(c, n)
		took := time.Since(start)
		if err == nil && s.Errors+s.Wrong > 0 {
			err = errors.New(c.job.Subject + ": " + s.First)
		}
		return took, err
	})
}

// fitting returns how many operations take about as long as budget, but at most
// most unless it is 0. It repeats a measurement that seems long and takes the
// shortest. Otherwise a busy moment of the machine would lead to too few
// operations, all of them cold.
func fitting(budget time.Duration, most int, run func(n int) (time.Duration, error)) (int, error) {
	for n := 1; ; {
		took, err := run(n)
		for try := 1; err == nil && took > budget/8 && try < 3; try++ {
			var again time.Duration
			again, err = run(n)
			took = min(took, again)
		}
		if err != nil {
			return 0, err
		}
		fit := int(float64(n) * float64(budget) / float64(max(took, 1)))
		if most > 0 {
			fit = min(fit, most)
		}
		if took > budget/8 || n >= fit {
			return max(fit, 1), nil
		}
		n = min(fit, n*8)
	}
}

// measure lets a child measure. It compares the number of requests at the
// origin with the expected number.
func (h *harness) measure(c *child, ops int) (sample, error) {
	t := h.origin.tally(c.job.Tag)
	before := t.requests.Load()
	hits := h.origin.tally(hitsTag(c.job.Tag))
	hitsBefore := hits.requests.Load()
	s, err := c.measure(ops)
	if err != nil {
		return s, err
	}
	asked := int(t.requests.Load() - before)
	if s.Values == nil {
		s.Values = make(map[string]float64)
	}
	s.Values["requests"] = float64(asked)
	if c.job.Kind == "beside" {
		asked = int(hits.requests.Load() - hitsBefore)
	}
	s.judge(asked)
	return s, nil
}

// judge adds a fault if the origin got another number of requests than
// expected. A hit that reached the origin is a wrong answer.
func (s *sample) judge(asked int) {
	if s.Forwarded >= 0 && asked != s.Forwarded {
		s.fault(wrongError{fmt.Errorf("the origin was asked %d times instead of %d", asked, s.Forwarded)})
	}
}

// runFresh runs each measurement in a new process with a new directory.
func runFresh(ctx context.Context, h *harness, w *workload) error {
	for round := range h.rounds {
		for _, subject := range turns(h.subjectsOf(w), round) {
			if w.peerRounds > 0 && round >= w.peerRounds && isPeer(subject) {
				continue
			}
			dir := filepath.Join(h.dir, fmt.Sprintf("%s-%s-%d", w.name, subject, round))
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
			j := h.job(w, subject, dir)
			j.First = round
			s, err := h.measureOnce(ctx, j)
			if err != nil && h.excused(ctx, w, subject, err) {
				err, s = nil, sample{}
			}
			if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
				return err
			}
			h.record(w, subject, s)
		}
	}
	return nil
}

// measureOnce runs a child for one measurement.
func (h *harness) measureOnce(ctx context.Context, j job) (sample, error) {
	c, err := startChild(ctx, j)
	if err != nil {
		return sample{}, err
	}
	s, err := h.measure(c, 1)
	if err != nil {
		c.kill()
		return s, err
	}
	return s, c.end()
}
