// Package command implements the command cachetrip. It is used by
// cmd/cachetrip, and by programs in other modules that add stores.
package command

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/cachetrip/cachetrip/store"
)

// OpenStore opens a store that is not a directory. Its error is shown to the
// user, so it must not contain the credentials of the URL.
type OpenStore func(ctx context.Context, url string) (Store, error)

// Store is a store that must be closed after use.
type Store interface {
	store.Store
	io.Closer
}

// Main runs the command line of the process and exits. open implements the flag
// --store; if it is nil, this program supports no such stores.
func Main(open OpenStore) {
	openStore = open
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	os.Exit(run(ctx, os.Args, os.Stdout, os.Stderr))
}

// openStore is set before the command line runs.
var openStore OpenStore

// run runs the command line args and returns its exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return report(ctx, stderr, newCommand(stdout, stderr).Run(ctx, args))
}
