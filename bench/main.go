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
	longRounds, longBudget   = 7, 150 * time.Millisecond
	shortRounds, shortBudget = 5, 25 * time.Millisecond
)

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, "Usage: go run . [flags]\n\nMeasures the cache against its peer and the limits of the system.\n\nFlags:\n")
		flags.PrintDefaults()
	}
	short := flags.Bool("short", false, "smaller workloads and shorter measurements: under two minutes")
	pattern := flags.String("run", "", "only workloads whose name matches `REGEXP`")
	only := flags.String("subject", "", "only subjects whose name matches `REGEXP`, and the limits")
	rounds := flags.Int("n", 0, "make `N` rounds; by default 7, in short form 5")
	parent := flags.String("dir", os.TempDir(), "keep files below `DIR` while it runs")
	svg := flags.String("svg", "", "draw a chart to `FILE`")
	markdown := flags.String("md", "", "write the table to `FILE` as well")
	data := flags.String("json", "", "write all samples to `FILE`")
	profiles := flags.String("profile", "", "write CPU and allocation profiles of each subject to `DIR`")
	each := flags.Duration("time", 0, "let each measurement take about `T`; by default 150ms, in short form 25ms")
	list := flags.Bool("list", false, "list the workloads and end")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	h := &harness{
		rounds: longRounds, budget: longBudget, profiles: *profiles, log: stderr,
		results: make(map[string]map[string]map[string][]float64),
	}
	if *short {
		h.rounds, h.budget = shortRounds, shortBudget
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

	var done []*workload
	for _, w := range workloads(*short) {
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
