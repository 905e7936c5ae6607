// Package command implements the command cachetrip. It is used by
// cmd/cachetrip, and by programs in other modules that add stores.
package command

import (
	"context"
	"io"
	"os"
	"os/signal"
	"strconv"
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
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup ignores it
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	os.Exit(run(ctx, os.Args, os.Stdout, os.Stderr))
}

// openStore is set before the command line runs.
var openStore OpenStore

// run runs the command line args and returns its exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	ctx = withOwn(ctx, args)
	root := newCommand(stdout, stderr)
	if len(args) > 1 && args[1] == completeWord {
		complete(ctx, root, args[2:], stdout)
		return exitDone
	}
	args, err := expand(root, args)
	if text := os.Getenv("CACHETRIP_SHOW_QUERY"); err == nil && text != "" {
		if _, wrong := strconv.ParseBool(text); wrong != nil {
			err = usagef("CACHETRIP_SHOW_QUERY: %q is neither 1 nor 0", text)
		}
	}
	if err == nil {
		err = root.Run(ctx, args)
	}
	return report(ctx, stderr, err)
}
