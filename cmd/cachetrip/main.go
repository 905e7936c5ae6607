// Command cachetrip fetches URLs through an HTTP cache on disk, and shows what the cache does.
//
//	cachetrip get [options] URL   fetch a URL through the per-user cache
//	cachetrip demo [options]      fetch a small site several times and say what each request cost
//
// Run "cachetrip help" for the options, and "cachetrip completion SHELL" for shell completion.
//
// # Exit codes
//
//	0    done
//	1    it failed: no connection, a broken transfer, a file that cannot be written
//	2    bad usage
//	22   the answer's HTTP status is 400 or more, as with curl --fail
//	130  interrupted
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // so that a second Ctrl-C ends the program at once
	os.Exit(run(ctx, os.Args, os.Stdout, os.Stderr))
}

// run runs the command line args and returns its exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return report(ctx, stderr, newCommand(stdout, stderr).Run(ctx, args))
}
