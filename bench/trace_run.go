package main

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// Replaying a trace.

// traceContestant is one process of a trace, in one phase.
type traceContestant struct {
	job    *job
	cache  *cache
	trace  *trace
	script []visit
}

func init() {
	contestants["trace"] = func(j *job) (contestant, error) {
		t := traceOf(j.Name)
		if t == nil {
			return nil, fmt.Errorf("unknown trace %q", j.Name)
		}
		c, err := openCache(j.Subject, j.Dir, newBase(), j.Bound)
		return &traceContestant{job: j, cache: c, trace: t, script: t.phases[j.First][j.Count]}, err
	}
}

func (c *traceContestant) measure(int) sample {
	s := sample{Values: make(map[string]float64), Forwarded: -1}
	start := time.Now()
	for _, v := range c.script {
		outdated, err := c.visit(v)
		if outdated {
			s.Outdated++
		}
		s.fault(err)
	}
	s.Values["time"] = float64(time.Since(start))
	return s
}

// visit makes one request and checks the response.
func (c *traceContestant) visit(v visit) (outdated bool, err error) {
	req, err := newRequest(fmt.Sprintf("%s/%s/%s/%s/%d", c.job.Origin, c.job.Tag, traceKind, c.job.Name, v.resource))
	if err != nil {
		return false, err
	}
	req.Header[stepField] = []string{strconv.Itoa(v.step)}
	req.Header["Accept"] = []string{v.accept}
	if v.token != "" {
		req.Header["Authorization"] = []string{v.token}
	}
	if v.directive != "" {
		req.Header["Cache-Control"] = []string{v.directive}
	}
	if v.patch {
		req.Method = http.MethodPatch
	}
	resp, err := c.cache.RoundTrip(req)
	if err != nil {
		return false, err
	}
	h := crc32.New(castagnoli)
	n, err := io.Copy(h, resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil || v.patch {
		return false, err
	}
	if resp.StatusCode != http.StatusOK {
		return false, wrongError{errors.New("status " + resp.Status)}
	}
	for version := c.trace.resources[v.resource].version(v.step); version >= 0; version-- {
		b := c.trace.content(v, version).body()
		if err = b.verify(n, h.Sum32()); err == nil {
			return outdated, nil
		}
		outdated = true
	}
	return false, err
}

func (c *traceContestant) close() error { return c.cache.close() }

// runTraces runs a workload. Each round is a whole trace with an empty cache.
func runTraces(ctx context.Context, h *harness, w *workload) error {
	t := traceOf(w.Name)
	bytes, requests := t.ideal()
	rounds := h.rounds
	if w.rounds > 0 {
		rounds = min(rounds, w.rounds)
	}
	for round := range rounds {
		for _, subject := range turns(h.subjectsOf(w), round) {
			dir := filepath.Join(h.dir, fmt.Sprintf("%s-%s-%d", w.name, subject, round))
			j := h.job(w, subject, dir)
			j.Tag = fmt.Sprintf("%s.%d", j.Tag, round)
			all, err := runTrace(ctx, j, t)
			if err != nil {
				return err
			}
			got := h.origin.tally(j.Tag)
			all.Values["bytes"] = float64(got.bytes.Load()) / float64(bytes)
			all.Values["requests"] = float64(got.requests.Load()) / float64(requests)
			all.Values["outdated"] = float64(all.Outdated)
			all.Values["wrong"] = float64(all.Wrong)
			all.Values["errors"] = float64(all.Errors)
			h.record(w, subject, all)
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// runTrace runs all phases of a trace and adds up the samples of its processes.
func runTrace(ctx context.Context, j job, t *trace) (sample, error) {
	all := sample{Values: make(map[string]float64)}
	for phase, scripts := range t.phases {
		samples := make([]sample, len(scripts))
		errs := make([]error, len(scripts))
		var processes sync.WaitGroup
		for i := range scripts {
			j := j
			j.First, j.Count = phase, i
			processes.Go(func() { samples[i], errs[i] = runOne(ctx, j) })
		}
		processes.Wait()
		if err := errors.Join(errs...); err != nil {
			return all, err
		}
		for _, s := range samples {
			all.Values["time"] += s.Values["time"]
			all.Wrong += s.Wrong
			all.Outdated += s.Outdated
			all.Errors += s.Errors
			if all.First == "" {
				all.First = s.First
			}
		}
	}
	return all, nil
}

// runOne runs a child for one measurement.
func runOne(ctx context.Context, j job) (sample, error) {
	c, err := startChild(ctx, j)
	if err != nil {
		return sample{}, err
	}
	s, err := c.measure(1)
	if err != nil {
		c.kill()
		return s, err
	}
	return s, c.end()
}
