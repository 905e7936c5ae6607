// Crashtest kills processes that share a cache, at random moments, and checks
// that the cache keeps its promises.
//
//	go run ./internal/crashtest -d 30s
//
// Each worker process has its own Transport on one directory. It makes requests
// to an origin in the main process, whose resources change all the time. The
// main process kills workers with SIGKILL at random moments, and replaces them.
// Workers also kill themselves in the midst of a change of the store. All
// processes report what they see, and the main process checks it:
//
//   - Every byte of every body belongs to the version that the header names. A
//     body that ends without an error is whole. Only a body that the origin
//     breaks off may end in an error.
//   - A response is served without asking the origin only as long as its
//     max-age allows.
//   - No served response is older than the one that the request found in the
//     store. In the store, no response replaces a newer one, and no invalidated
//     response is used again without validation.
//   - A response that one process has stored is found by the next request of
//     every process. No update is lost or undone. If a process is killed during
//     an update, the update is made as a whole or not at all.
//   - The cache never exceeds its size limit by more than 10 %.
//   - Every few seconds all workers are killed at once. Then the directory
//     opens, all entries match their checksums, and it holds the latest stored
//     responses. Files that dead processes left are removed once they are an
//     hour old.
//
// During the first half, the directory is too small for the resources, so that
// the store evicts all the time. During the second half it is large enough, and
// no entry may vanish.
//
// The program kills only its own workers. They also end when it does. If a
// promise is broken, it prints the details, keeps the directory, and exits with
// 1. If it could not run, it exits with 2.
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

// errViolated reports that a promise was broken. The details have been printed.
var errViolated = errors.New("crashtest: violated")

// crashtest runs both rounds and prints their results.
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
