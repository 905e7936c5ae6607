// Crashtest kills processes that share a cache, at random moments, and looks whether anybody notices.
//
//	go run ./internal/crashtest -d 30s
//
// Worker processes, each with a Transport of its own on one directory, make requests to an origin in this
// process, whose resources change all the time. They are killed with SIGKILL from outside, at any moment,
// and kill themselves in the midst of a change of the store; others take their place. Everybody tells what
// happens, and this is checked:
//
//   - Every byte of every body is that of the version which the header names, and a body that ends without
//     an error is whole. Only what the origin itself breaks off may end in an error.
//   - A response is served without asking the origin only as long as its max-age allows.
//   - Nothing is served that is older than what the request found in the store. In the store nothing takes
//     the place of something newer, or comes back into use after it was invalidated, without validation.
//   - What one process has stored the next request of every process finds; no update is lost or undone, but
//     for one that was under way when its process was killed: of that there is all or nothing.
//   - The bound is respected at all times, to 10 %.
//   - Every few seconds all workers are killed at once. Then the directory opens, everything in it proves
//     itself, it holds what was stored last, and what the dead left behind goes once it is an hour old.
//
// Half of the time goes to a directory that is too small for the resources, so that there is eviction all the
// time, the other half to one that is large enough, from which nothing may vanish.
//
// It ends no process but its own workers, which also end when it does. If something is wrong it says what and exits
// with 1, and the directory stays; if it could not run, it exits with 2.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"time"
)

func main() {
	if config, ok := os.LookupEnv(workerVariable); ok {
		if err := runWorker(config, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(1)
	}
	c := config{out: os.Stdout}
	flag.DurationVar(&c.duration, "d", 30*time.Second, "how long to run")
	flag.IntVar(&c.workers, "n", 4, "number of worker processes")
	flag.Uint64Var(&c.seed, "seed", 0, "of all random choices, though not of their timing; 0: any")
	flag.StringVar(&c.dir, "dir", "", "directory to work in, which must not exist or be empty; default: a temporary one")
	flag.Parse()
	if flag.NArg() > 0 || c.workers < 1 || c.duration <= 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	switch err := crashtest(ctx, c); {
	case errors.Is(err, errViolated):
		os.Exit(1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "crashtest:", err)
		os.Exit(2)
	}
}

type config struct {
	duration time.Duration
	workers  int
	seed     uint64
	dir      string
	out      io.Writer
}

// errViolated reports that what must hold did not. What it was has been printed.
var errViolated = errors.New("crashtest: violated")

// crashtest runs both rounds and prints what happened.
func crashtest(ctx context.Context, c config) error {
	if c.seed == 0 {
		c.seed = rand.Uint64()
	}
	if c.dir == "" {
		dir, err := os.MkdirTemp("", "crashtest-*")
		if err != nil {
			return err
		}
		c.dir = dir
	} else if entries, err := os.ReadDir(c.dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is not empty", c.dir)
	}
	fmt.Fprintf(c.out, "%d workers for %v in %s, seed %d\n\n", c.workers, c.duration, c.dir, c.seed)
	var rounds []*round
	var wrong []string
	for i, r := range []*round{
		{name: "small cache", maxBytes: 24 << 20, vanishing: true},
		{name: "large cache", maxBytes: 4 << 30},
	} {
		r.dir = filepath.Join(c.dir, fmt.Sprint(i+1))
		r.seed = c.seed + uint64(i)
		r.workers = c.workers
		r.log = c.out
		rounds = append(rounds, r)
		if err := r.run(ctx, c.duration/2); err != nil {
			return err
		}
		wrong = append(wrong, r.wrong...)
		if ctx.Err() != nil || len(wrong) > 0 {
			break
		}
	}
	printTable(c.out, rounds)
	if len(wrong) > 0 {
		fmt.Fprintf(c.out, "\nWRONG, with seed %d; the directory %s stays:\n", c.seed, c.dir)
		for i, text := range wrong {
			if i == 10 {
				fmt.Fprintf(c.out, "and %d more\n", len(wrong)-i)
				break
			}
			fmt.Fprintf(c.out, "  - %s\n", text)
		}
		return errViolated
	}
	fmt.Fprintln(c.out, "\nNothing was wrong.")
	return os.RemoveAll(c.dir)
}
