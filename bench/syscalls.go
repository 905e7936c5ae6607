package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// System calls of an operation, counted by strace. A child is traced twice,
// with few and with many operations. The difference is what the operations
// need.

// callRow is an operation whose system calls are counted.
type callRow struct {
	workload string // as -run selects it
	title    string
	few, ops int
	target   float64 // of cachetrip, besides those of a request without a cache
}

// callRows has no large bodies: strace makes each call some 50 times slower.
var callRows = []callRow{
	{"hit-1k", "hit, 1 KiB", 64, 2000, 0},
	{"304-1k", "304, 1 KiB", 16, 400, 3},
	{"miss-1k", "miss, 1 KiB", 8, 400, 6},
	{"miss-1m", "miss, 1 MiB", 2, 40, math.NaN()},
}

// waiting has the calls by which Go's scheduler waits and wakes, by which its
// memory is managed, and by which this program measures. How many of them there
// are depends on chance and on the machine.
var waiting = map[string]bool{
	"futex": true, "epoll_wait": true, "epoll_pwait": true, "nanosleep": true, "clock_nanosleep": true,
	"sched_yield": true, "tgkill": true, "getpid": true, "gettid": true, "rt_sigreturn": true,
	"rt_sigprocmask": true, "rt_sigaction": true, "sigaltstack": true, "restart_syscall": true,
	"clone": true, "clone3": true, "exit": true, "set_robust_list": true, "rseq": true,
	"mmap": true, "munmap": true, "madvise": true, "mprotect": true, "getrusage": true, "prctl": true,
}

// calls counts system calls by name, for one operation.
type calls map[string]float64

// sum adds up the calls that wait, or all others.
func (c calls) sum(wait bool) (n float64) {
	for name, k := range c {
		if waiting[name] == wait {
			n += k
		}
	}
	return n
}

// text lists the most frequent calls that do not wait.
func (c calls) text() string {
	names := slices.DeleteFunc(slices.Collect(maps.Keys(c)), func(name string) bool { return waiting[name] || c[name] < 0.05 })
	slices.SortFunc(names, func(a, b string) int {
		if c[a] != c[b] {
			if c[a] > c[b] {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	var b strings.Builder
	for i, name := range names {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s %.1f", name, c[name])
	}
	return b.String()
}

// parseCalls reads the summary that strace -c writes.
func parseCalls(r io.Reader) (calls, error) {
	c := make(calls)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 5 || f[len(f)-1] == "total" {
			continue
		}
		if n, err := strconv.ParseFloat(f[3], 64); err == nil {
			c[f[len(f)-1]] += n
		}
	}
	if len(c) == 0 {
		return nil, errors.Join(errors.New("strace: no summary; is tracing allowed here?"), lines.Err())
	}
	return c, lines.Err()
}

// since returns the calls of one of ops operations: those of c, but not of few.
func (c calls) since(few calls, ops int) calls {
	each := make(calls)
	for name, n := range c {
		each[name] = max(n-few[name], 0) / float64(ops)
	}
	return each
}

// countCalls prints the system calls of the operations whose workload matches.
func (h *harness) countCalls(ctx context.Context, all []*workload, matching *regexp.Regexp, out io.Writer) error {
	if _, err := exec.LookPath("strace"); err != nil {
		return fmt.Errorf("-syscalls needs strace: %w", err)
	}
	fmt.Fprint(out, "| operation | subject | system calls | besides a request without a cache | target | of the scheduler | which |\n|---|---|---|---|---|---|---|\n")
	for _, row := range callRows {
		if !matching.MatchString(row.workload) {
			continue
		}
		w := all[slices.IndexFunc(all, func(w *workload) bool { return w.name == row.workload })]
		if err := h.countRow(ctx, w, row, out); err != nil {
			return err
		}
	}
	return nil
}

// countRow prints the system calls of one operation with each subject.
func (h *harness) countRow(ctx context.Context, w *workload, row callRow, out io.Writer) error {
	var plain float64 // a hit sends no request
	if row.workload != "hit-1k" {
		each, err := h.callsOf(ctx, w, noCache, row)
		if err != nil {
			return err
		}
		plain = each.sum(false)
		fmt.Fprintf(out, "| %s | %s | %.1f | | | %.1f | %s |\n", row.title, subjectTitles[noCache], plain, each.sum(true), each.text())
	}
	for _, subject := range h.subjectsOf(w) {
		if subject == noCache {
			continue
		}
		each, err := h.callsOf(ctx, w, subject, row)
		if err != nil {
			if !isPeer(subject) || ctx.Err() != nil {
				return err
			}
			fmt.Fprintf(out, "| %s | %s | failed | | | | %s |\n", row.title, subjectTitles[subject], oneLine(err.Error()))
			continue
		}
		besides, target := each.sum(false)-plain, ""
		if subject == cachetripDisk && !math.IsNaN(row.target) {
			target = fmt.Sprintf("≤ %.0f, %s", row.target, met(besides, row.target))
		}
		fmt.Fprintf(out, "| %s | %s | %.1f | %.1f | %s | %.1f | %s |\n", row.title, subjectTitles[subject],
			each.sum(false), besides, target, each.sum(true), each.text())
	}
	return nil
}

// met compares a number of calls with its target. Now and then there is one
// more, such as when a timer runs.
func met(n, target float64) string {
	if n <= target+0.1 {
		return "met"
	}
	return "**missed**"
}

// callsOf counts the calls of an operation.
func (h *harness) callsOf(ctx context.Context, w *workload, subject string, row callRow) (calls, error) {
	few, err := h.traced(ctx, w, subject, row.few)
	if err != nil {
		return nil, err
	}
	many, err := h.traced(ctx, w, subject, row.few+row.ops)
	if err != nil {
		return nil, err
	}
	return many.since(few, row.ops), nil
}

// traced runs a child under strace and returns all of its calls.
func (h *harness) traced(ctx context.Context, w *workload, subject string, ops int) (calls, error) {
	dir, err := os.MkdirTemp(h.dir, "syscalls-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	j := h.job(w, subject, filepath.Join(dir, "files"))
	j.straceTo = filepath.Join(dir, "summary")
	j.Kept = true
	if err := os.Mkdir(j.Dir, 0o700); err != nil {
		return nil, err
	}
	c, err := startChild(ctx, j)
	if err != nil {
		return nil, err
	}
	s, err := h.measure(c, ops)
	if err != nil {
		c.kill()
		return nil, err
	}
	if err := c.end(); err != nil {
		return nil, err
	}
	if s.Wrong+s.Errors > 0 {
		return nil, fmt.Errorf("%s, %s: %s", w.name, subject, s.First)
	}
	b, err := os.ReadFile(j.straceTo)
	if err != nil {
		return nil, err
	}
	return parseCalls(bytes.NewReader(b))
}
