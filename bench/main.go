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

// Numbers of rounds and times of a run.
const (
	longRounds, longBudget   = 5, 150 * time.Millisecond
	shortRounds, shortBudget = 5, 25 * time.Millisecond
)

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, "Usage: go run . [flags]\n\nMeasures the cache against its peers and the limits of the system.\n"+
			"All rows take some twenty-five minutes on an idle machine with two processors, and\n"+
			"temporarily 20 GB of disk. -list names the rows, and -run selects some.\n"+
			"To compare two commits, use the script compare.\n\nFlags:\n")
		flags.PrintDefaults()
	}
	short := flags.Bool("short", false, "smaller workloads and shorter measurements: about four minutes")
	pattern := flags.String("run", "", "only workloads whose name matches `REGEXP`")
	only := flags.String("subject", "", "only subjects whose name matches `REGEXP`, and the limits")
	rounds := flags.Int("n", 0, "make `N` rounds; by default 5")
	parent := flags.String("dir", os.TempDir(), "keep files below `DIR` while it runs")
	svg := flags.String("svg", "", "draw a chart to `FILE`")
	markdown := flags.String("md", "", "write the table to `FILE` as well")
	doc := flags.String("doc", "", "replace the tables in `FILE` that stand between comments such as <!-- bench:measured --> and <!-- /bench:measured -->")
	data := flags.String("json", "", "write all samples to `FILE`")
	before := flags.String("before", "", "compare with another build of this program in `FILE`: its cachetrip is \"before\"; see compare")
	profiles := flags.String("profile", "", "write CPU and allocation profiles of each subject to `DIR`")
	each := flags.Duration("time", 0, "let each measurement take about `T`; by default 150ms, in short form 25ms")
	entries := flags.Int("entries", 0, "`N` entries in the workload \"entries\"; by default 100000, in short form 2000. A million takes some minutes to store")
	syscalls := flags.Bool("syscalls", false, "count the system calls of an operation with strace instead, of the rows hit-1k, 304-1k, miss-1k and miss-1m")
	list := flags.Bool("list", false, "list the workloads and end")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	h := &harness{
		rounds: longRounds, budget: longBudget, profiles: *profiles, before: *before, log: stderr,
		results: make(map[string]map[string]map[string][]float64),
	}
	if *short {
		h.rounds, h.budget = shortRounds, shortBudget
	}
	if *entries <= 0 {
		*entries = 100_000
		if *short {
			*entries = 2_000
		}
	}
	if *rounds > 0 {
		h.rounds = *rounds
	}
	if *each > 0 {
		h.budget = *each
	}
	matching, err := regexp.Compile(*pattern)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	if *only != "" {
		if h.only, err = regexp.Compile(*only); err != nil {
			return fmt.Errorf("-subject: %w", err)
		}
	}
	if h.before != "" {
		if h.before, err = filepath.Abs(h.before); err != nil {
			return err
		}
	}
	if h.profiles != "" {
		if err := os.MkdirAll(h.profiles, 0o755); err != nil {
			return err
		}
	}
	if h.dir, err = os.MkdirTemp(*parent, "cachetrip-bench-"); err != nil {
		return err
	}
	if h.dir, err = filepath.Abs(h.dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(h.dir)) }()
	if h.origin, err = startOrigin(); err != nil {
		return err
	}
	defer h.origin.close()

	all := workloads(sizes{short: *short, entries: *entries})
	if *syscalls {
		var table bytes.Buffer
		err := h.countCalls(ctx, all, matching, io.MultiWriter(stdout, &table))
		if err == nil && *doc != "" {
			err = pasteInto(*doc, map[string]string{"syscalls": table.String()})
		}
		return err
	}
	var done []*workload
	for i, w := range all {
		h.progress = fmt.Sprintf("row %d of %d", i+1, len(all))
		switch {
		case !matching.MatchString(w.name):
			continue
		case *list:
			fmt.Fprintf(stdout, "%-14s %s\n", w.name, w.metrics[0].title)
			continue
		}
		failed := h.runWorkload(ctx, w)
		if failed == nil {
			done = append(done, w)
		}
		err = errors.Join(err, failed, ctx.Err())
		if ctx.Err() != nil {
			break // show the samples so far, which may have taken an hour
		}
	}
	if *list {
		return nil
	}
	if len(done) == 0 {
		if err == nil {
			err = errors.New("no workload matches -run")
		}
		return err
	}
	r := h.report(done)
	r.Machine, r.Rounds, r.Short = machine(), h.rounds, *short
	r.Date = time.Now().UTC().Format(time.DateOnly)
	table := r.markdown()
	fmt.Fprint(stdout, table)
	if *markdown != "" {
		err = errors.Join(err, os.WriteFile(*markdown, []byte(table), 0o644))
	}
	if *doc != "" {
		err = errors.Join(err, pasteInto(*doc, r.tables()))
	}
	if *svg != "" {
		err = errors.Join(err, os.WriteFile(*svg, []byte(r.chart()), 0o644))
	}
	if *data != "" {
		b, jerr := json.MarshalIndent(r, "", "\t")
		err = errors.Join(err, jerr, os.WriteFile(*data, b, 0o644))
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
