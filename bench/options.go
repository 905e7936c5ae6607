package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// Numbers of rounds and times of a run.
const (
	longRounds, longBudget   = 5, 150 * time.Millisecond
	shortRounds, shortBudget = 5, 25 * time.Millisecond
)

// options are the flags of a run, checked and with their defaults.
type options struct {
	short    bool
	rounds   int
	budget   time.Duration  // time of one measurement
	entries  int            // of the workload of that name
	matching *regexp.Regexp // workloads to run
	only     *regexp.Regexp // subjects to run in addition to the limit; nil: all
	parent   string         // directory for files
	before   string         // program to compare with; empty: none
	profiles string         // directory for profiles; empty: none

	// The files to write. If a name is empty, the file is not written.
	svg, markdown, doc, data string

	syscalls, list bool
}

// parseOptions parses the flags of the program. Help goes to stderr.
func parseOptions(args []string, stderr io.Writer) (*options, error) {
	o := new(options)
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, "Usage: go run . [flags]\n\nMeasures the cache against its peers and the limits of the system.\n"+
			"All rows take some twenty-five minutes on an idle machine with two processors, and\n"+
			"temporarily 20 GB of disk. -list names the rows, and -run selects some.\n"+
			"To compare two commits, use the script compare.\n\nFlags:\n")
		flags.PrintDefaults()
	}
	flags.BoolVar(&o.short, "short", false, "smaller workloads and shorter measurements: about four minutes")
	pattern := flags.String("run", "", "only workloads whose name matches `REGEXP`")
	only := flags.String("subject", "", "only subjects whose name matches `REGEXP`, and the limits")
	flags.IntVar(&o.rounds, "n", 0, "make `N` rounds; by default 5")
	flags.StringVar(&o.parent, "dir", os.TempDir(), "keep files below `DIR` while it runs")
	flags.StringVar(&o.svg, "svg", "", "draw a chart to `FILE`")
	flags.StringVar(&o.markdown, "md", "", "write the table to `FILE` as well")
	flags.StringVar(&o.doc, "doc", "", "replace the tables in `FILE` that stand between comments such as <!-- bench:measured --> and <!-- /bench:measured -->")
	flags.StringVar(&o.data, "json", "", "write all samples to `FILE`")
	flags.StringVar(&o.before, "before", "", "compare with another build of this program in `FILE`: its cachetrip is \"before\"; see compare")
	flags.StringVar(&o.profiles, "profile", "", "write CPU and allocation profiles of each subject to `DIR`")
	flags.DurationVar(&o.budget, "time", 0, "let each measurement take about `T`; by default 150ms, in short form 25ms")
	flags.IntVar(&o.entries, "entries", 0, "`N` entries in the workload \"entries\"; by default 100000, in short form 2000. A million takes some minutes to store")
	flags.BoolVar(&o.syscalls, "syscalls", false, "count the system calls of an operation with strace instead, of the rows hit-1k, 304-1k, miss-1k and miss-1m")
	flags.BoolVar(&o.list, "list", false, "list the workloads and end")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	o.setDefaults()
	var err error
	if o.matching, err = regexp.Compile(*pattern); err != nil {
		return nil, fmt.Errorf("-run: %w", err)
	}
	if *only != "" {
		if o.only, err = regexp.Compile(*only); err != nil {
			return nil, fmt.Errorf("-subject: %w", err)
		}
	}
	if o.before != "" {
		if o.before, err = filepath.Abs(o.before); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// setDefaults sets numbers that no flag has set.
func (o *options) setDefaults() {
	rounds, budget, entries := longRounds, longBudget, 100_000
	if o.short {
		rounds, budget, entries = shortRounds, shortBudget, 2_000
	}
	if o.rounds <= 0 {
		o.rounds = rounds
	}
	if o.budget <= 0 {
		o.budget = budget
	}
	if o.entries <= 0 {
		o.entries = entries
	}
}
