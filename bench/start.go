package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This file measures the time from the start of a process to its first hit.
// Another process filled the cache.

// startSize is the size of the bodies.
const startSize = 1 << 10

// runStart runs the child. It opens a cache, makes one hit and reports the
// time. spec has its parameters, one per line: subject, directory, URL, size,
// checksum and size limit.
func runStart(spec string, out *os.File) error {
	line := strings.Split(spec, "\n")
	if len(line) != 6 {
		return errors.New("start: no such job")
	}
	subject, dir, url := line[0], line[1], line[2]
	size, err1 := strconv.Atoi(line[3])
	sum, err2 := strconv.ParseUint(line[4], 16, 32)
	bound, err3 := strconv.ParseInt(line[5], 10, 64)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	p := make([]byte, size+8)
	var n int
	if subject == limit {
		f, length, err := openRaw(url) // a path
		if err != nil {
			return err
		}
		if n, err = f.Read(p[:min(len(p), int(length))]); err != nil {
			return err
		}
		f.Close()
	} else {
		c, err := openCache(subject, dir, refuser{}, bound)
		if err != nil {
			return err
		}
		req, err := newRequest(url)
		if err != nil {
			return err
		}
		resp, err := c.RoundTrip(req)
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return errors.New("status " + resp.Status)
		}
		if n, err = readAll(resp.Body, p); err != nil {
			return err
		}
		resp.Body.Close()
		defer c.close()
	}
	if n != size || crc32.Checksum(p[:n], castagnoli) != uint32(sum) {
		return fmt.Errorf("wrong body of %d bytes", n)
	}
	_, err := out.WriteString("hit\n")
	return err
}

// startVariable is the environment variable with the spec for runStart.
const startVariable = "CACHETRIP_BENCH_START"

// startOnce runs a child and returns the time to its first hit.
func startOnce(ctx context.Context, program, spec string) (time.Duration, error) {
	cmd, err := childCommand(ctx, program, "start")
	if err != nil {
		return 0, err
	}
	cmd.Env = append(cmd.Env, startVariable+"="+spec)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	var word [8]byte
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	n, err := out.Read(word[:])
	took := time.Since(start)
	err = errors.Join(err, cmd.Wait())
	if err != nil || string(word[:n]) != "hit\n" {
		return 0, fmt.Errorf("start: %w: %s", err, tail(errs.Bytes()))
	}
	return took, nil
}

// fillContestant fills a directory and measures nothing.
type fillContestant struct{ close_ func() error }

func init() {
	contestants["fill"] = func(j *job) (contestant, error) {
		if j.Subject == limit {
			if err := makeDirs(j.Dir); err != nil {
				return nil, err
			}
			for i := range j.Count {
				c := j.entry(i)
				if err := writeFile(shardPath(j.Dir, c.seed), c); err != nil {
					return nil, err
				}
			}
			return fillContestant{func() error { return nil }}, nil
		}
		urls := make([]string, j.Count)
		for i := range urls {
			urls[i] = j.entryURL(i)
		}
		if filled, err := fillPeer(j.Subject, j.Dir, urls); filled {
			return fillContestant{func() error { return nil }}, err
		}
		c, err := openCache(j.Subject, j.Dir, localBase{}, j.Bound)
		if err != nil {
			return nil, err
		}
		buf := make([]byte, j.Size+8)
		for _, url := range urls {
			if err := fetchInto(c, url, buf); err != nil {
				return nil, err
			}
		}
		return fillContestant{c.close}, nil
	}
}

func (f fillContestant) measure(int) sample { return sample{} }
func (f fillContestant) close() error       { return f.close_() }

// startsPerRound is the number of processes for a sample. The sample is their
// median.
const startsPerRound = 15

// runStarts runs the workload.
func runStarts(ctx context.Context, h *harness, w *workload) error {
	n := w.Count
	specs := make(map[string]string)
	programs := make(map[string]string)
	for _, subject := range h.subjectsOf(w) {
		dir := filepath.Join(h.dir, w.name+"-"+subject)
		defer os.RemoveAll(dir)
		j := h.job(w, subject, dir)
		j.Kind, j.Size, j.Bound = "fill", startSize, roomFor(n)
		if err := h.once(ctx, j); err != nil {
			if h.excused(ctx, w, subject, err) {
				continue
			}
			return err
		}
		programs[subject], specs[subject] = j.program, j.startSpec(n/2)
	}
	if err := h.starts(ctx, w, programs, specs); err != nil {
		return err
	}
	bounded := slices.ContainsFunc(w.metrics, func(m metric) bool { return m.name == "bound" })
	if !bounded || specs[cachetripDisk] == "" {
		return nil
	}
	return h.shortLived(ctx, w, specs)
}

// roomFor is a size limit that n entries do not reach.
func roomFor(n int) int64 { return int64(n)*16<<10 + 64<<20 }

// entry is the body of entry i.
func (j *job) entry(i int) content { return content{uint64(j.First + i + 1), j.Size} }

// entryURL is the URL of entry i.
func (j *job) entryURL(i int) string {
	base := j.Origin
	if j.Hosts > 0 {
		base = "http://" + entryHost(i%j.Hosts)
	}
	return resourceURL(base, j.Tag, freshKind, j.entry(i))
}

// startSpec is the spec of a process that hits entry i.
func (j *job) startSpec(i int) string {
	c := j.entry(i)
	target := j.entryURL(i)
	if j.Subject == limit {
		target = shardPath(j.Dir, c.seed)
	}
	return strings.Join([]string{j.Subject, j.Dir, target, strconv.FormatInt(c.size, 10),
		fmt.Sprintf("%08x", c.checksum()), strconv.FormatInt(j.Bound, 10)}, "\n")
}

// starts measures processes that start and hit. Each subject has a program and
// a spec.
func (h *harness) starts(ctx context.Context, w *workload, programs, specs map[string]string) error {
	for round := range h.rounds {
		times := make(map[string][]time.Duration)
		for i := range startsPerRound {
			for _, subject := range turns(h.subjectsOf(w), round+i) {
				if specs[subject] == "" {
					continue // it failed
				}
				took, err := startOnce(ctx, programs[subject], specs[subject])
				if err != nil {
					if h.excused(ctx, w, subject, err) {
						delete(specs, subject)
						continue
					}
					return err
				}
				times[subject] = append(times[subject], took)
			}
		}
		for subject, t := range times {
			h.record(w, subject, sample{Values: map[string]float64{"time": percentile(t, 50)}})
		}
	}
	return nil
}

// shortLived measures the size of the directory while many processes store a
// little each. The cache is full at the start, and more than a third of it gets
// replaced.
func (h *harness) shortLived(ctx context.Context, w *workload, specs map[string]string) error {
	dir := strings.Split(specs[cachetripDisk], "\n")[1]
	size, _, err := walkSize(dir)
	if err != nil {
		return err
	}
	bound := max(size, 1<<20)
	const processes = 20
	each := max(int(bound/4096*2/5)/processes, 10)
	var largest int64
	for i := range processes {
		j := h.job(w, cachetripDisk, dir)
		j.Kind, j.Size, j.Bound, j.Count, j.First = "fill", startSize, bound, each, 1<<30+i*each
		if err := h.once(ctx, j); err != nil {
			return err
		}
		if size, _, err = walkSize(dir); err != nil {
			return err
		}
		largest = max(largest, size)
	}
	h.record(w, cachetripDisk, sample{Values: map[string]float64{"bound": float64(largest) / float64(bound)}})
	return nil
}
