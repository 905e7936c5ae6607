// Bench measures the cache of this module beside gregjones/httpcache, beside no
// cache, and beside the physical limit: the time that the system itself needs
// for the same bytes.
//
//	cd bench && go run . -short
//
// README.md explains the results. The program exits with 1 if a body was wrong,
// if the origin got a request it should not have got, or if anything else
// failed. A missed target is not a failure.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"time"
)

func main() {
	if asChild() {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// asChild runs the child if this process is one, and reports whether it was.
func asChild() bool {
	var err error
	switch os.Getenv(childVariable) {
	default:
		return false
	case "job":
		err = runChild(os.Stdin, os.Stdout)
	case "start":
		err = runStart(os.Getenv(startVariable), os.Stdout)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		fmt.Fprintln(os.Stderr, "bench: child:", err)
		os.Exit(1)
	}
	return true
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	all := workloads(sizes{short: o.short, entries: o.entries})
	if o.list {
		list(stdout, all, o.matching)
		return nil
	}
	h, err := newHarness(o, stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	if o.syscalls {
		return h.reportCalls(ctx, all, o, stdout)
	}
	done, err := h.runSelected(ctx, all, o.matching)
	if len(done) == 0 {
		return err
	}
	r := h.report(done)
	r.Machine, r.Rounds, r.Short = machine(), h.rounds, o.short
	r.Date = time.Now().UTC().Format(time.DateOnly)
	return errors.Join(err, r.write(o, stdout))
}

// newHarness returns a harness with an origin and a directory, which close
// removes.
func newHarness(o *options, log io.Writer) (_ *harness, err error) {
	h := &harness{
		rounds: o.rounds, budget: o.budget, only: o.only, before: o.before, profiles: o.profiles, log: log,
		results: make(map[string]map[string]map[string][]float64),
	}
	if h.profiles != "" {
		if err := os.MkdirAll(h.profiles, 0o755); err != nil {
			return nil, err
		}
	}
	parent, err := filepath.Abs(o.parent)
	if err != nil {
		return nil, err
	}
	if h.dir, err = os.MkdirTemp(parent, "cachetrip-bench-"); err != nil {
		return nil, err
	}
	if h.origin, err = startOrigin(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(h.dir))
	}
	return h, nil
}

func (h *harness) close() error {
	h.origin.close()
	return os.RemoveAll(h.dir)
}

// reportCalls counts system calls in place of measuring times.
func (h *harness) reportCalls(ctx context.Context, all []*workload, o *options, stdout io.Writer) error {
	var table bytes.Buffer
	err := h.countCalls(ctx, all, o.matching, io.MultiWriter(stdout, &table))
	if err == nil && o.doc != "" {
		err = pasteInto(o.doc, map[string]string{"syscalls": table.String()})
	}
	return err
}

// list prints the names of the workloads that match.
func list(stdout io.Writer, all []*workload, matching *regexp.Regexp) {
	for _, w := range all {
		if matching.MatchString(w.name) {
			fmt.Fprintf(stdout, "%-14s %s\n", w.name, w.metrics[0].title)
		}
	}
}

// runSelected runs the workloads whose name matches. It returns the workloads
// that did not fail. If there are none, err is not nil.
func (h *harness) runSelected(ctx context.Context, all []*workload, matching *regexp.Regexp) (done []*workload, err error) {
	for i, w := range all {
		if !matching.MatchString(w.name) {
			continue
		}
		h.progress = fmt.Sprintf("row %d of %d", i+1, len(all))
		failed := h.runWorkload(ctx, w)
		if failed == nil {
			done = append(done, w)
		}
		err = errors.Join(err, failed, ctx.Err())
		if ctx.Err() != nil {
			break // show the samples so far, which may have taken an hour
		}
	}
	if len(done) == 0 && err == nil {
		err = errors.New("no workload matches -run")
	}
	return done, err
}

// write writes a report to stdout and to the files that the options name. It
// also returns an error if a subject failed.
func (r *report) write(o *options, stdout io.Writer) (err error) {
	table := r.markdown()
	fmt.Fprint(stdout, table)
	if o.markdown != "" {
		err = errors.Join(err, os.WriteFile(o.markdown, []byte(table), 0o644))
	}
	if o.doc != "" {
		err = errors.Join(err, pasteInto(o.doc, r.tables()))
	}
	if o.svg != "" {
		err = errors.Join(err, os.WriteFile(o.svg, []byte(r.chart()), 0o644))
	}
	if o.data != "" {
		b, jerr := json.MarshalIndent(r, "", "\t")
		err = errors.Join(err, jerr, os.WriteFile(o.data, b, 0o644))
	}
	if n := r.failures(); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d subjects failed; see the table of failures", n))
	}
	return err
}

// machine describes the machine of the run.
func machine() string {
	return fmt.Sprintf("%s/%s, %d CPUs, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
}
