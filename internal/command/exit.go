package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v3"
)

// This file maps errors to exit codes. The package comment of cmd/cachetrip and
// the help document them.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2   // the code of the flag package and most shells
	exitNotCached   = 3   // only the cache was asked, and it had nothing usable
	exitDamaged     = 4   // damaged entries were removed
	exitHTTP        = 22  // the code of curl --fail
	exitInterrupted = 130 // 128 + SIGINT, as shells report it
)

// failure is an error with an exit code of its own. If err is nil, the user has
// been told already.
type failure struct {
	code int
	err  error
}

func (f *failure) Error() string {
	if f.err == nil {
		return fmt.Sprintf("exit code %d", f.code)
	}
	return f.err.Error()
}

func (f *failure) Unwrap() error { return f.err }

func usagef(format string, args ...any) error {
	return &failure{exitUsage, fmt.Errorf(format, args...)}
}

// notCached returns a failure that says that the cache had nothing usable.
func notCached(format string, args ...any) error {
	return &failure{exitNotCached, fmt.Errorf(format, args...)}
}

// report writes a message about err, if it has one, and returns the exit code.
func report(ctx context.Context, stderr io.Writer, err error) int {
	if err == nil {
		return exitDone
	}
	f, ok := errors.AsType[*failure](err)
	if !(ok && f.code == exitInterrupted) && ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx))) {
		fmt.Fprintln(stderr, "cachetrip: interrupted")
		return exitInterrupted
	}
	code := exitFailed
	if ok {
		if f.err == nil {
			return f.code
		}
		code = f.code
	} else if _, ok := errors.AsType[cli.ExitCoder](err); ok {
		// The library returns this error if help was asked about an unknown
		// command.
		code, err = exitUsage, fmt.Errorf("%w; 'cachetrip help' lists the commands", err)
	}
	// Errors of net/http contain URLs, including those that origins sent.
	text := ownOf(ctx).text(err.Error(), false)
	fmt.Fprintf(stderr, "cachetrip: %s\n", strings.TrimPrefix(text, "cachetrip: ")) // the prefix that the library adds
	return code
}
