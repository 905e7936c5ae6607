// Package command is the command cachetrip, for the programs that it is part of: cmd/cachetrip, and those
// of other modules that add stores to it.
package command

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/cachetrip/cachetrip/store"
)

// OpenStore opens a store that is not a directory, by its URL, to be looked into. The error is shown; it must not
// tell the credentials that the URL may have.
type OpenStore func(ctx context.Context, url string) (Store, error)

// Store is a store that is closed after use.
type Store interface {
	store.Store
	io.Closer
}

// Main runs the command line that the program was given, and ends it. open is what --store opens, nil if
// this program has no such stores.
func Main(open OpenStore) {
	openStore = open
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // so that a second Ctrl-C ends the program at once
	os.Exit(run(ctx, os.Args, os.Stdout, os.Stderr))
}

// openStore is set before anything is run.
var openStore OpenStore

// run runs the command line args and returns its exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return report(ctx, stderr, newCommand(stdout, stderr).Run(ctx, args))
}
