package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/cachetrip/cachetrip/internal/redact"
)

// How the program ends. The codes are documented in the package comment and in the help.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2   // as the flag package and most shells have it
	exitNotCached   = 3   // only the cache was asked, and has nothing
	exitDamaged     = 4   // what was damaged is removed
	exitHTTP        = 22  // as curl --fail has it
	exitInterrupted = 130 // 128 + SIGINT, as shells report it
)

// failure is an error that ends the program with a code of its own. Without err there is nothing to
// say that was not said.
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

// notCached says that only the cache was asked, and has nothing.
func notCached(format string, args ...any) error {
	return &failure{exitNotCached, fmt.Errorf(format, args...)}
}

// report writes what there is to say about err and returns the exit code for it.
func report(ctx context.Context, stderr io.Writer, err error) int {
	if err == nil {
		return exitDone
	}
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(ctx))) {
		fmt.Fprintln(stderr, "cachetrip: interrupted")
		return exitInterrupted
	}
	code := exitFailed
	if f, ok := errors.AsType[*failure](err); ok {
		if f.err == nil {
			return f.code
		}
		code = f.code
	} else if _, ok := errors.AsType[cli.ExitCoder](err); ok {
		// The library's own: help for a command that does not exist.
		code, err = exitUsage, fmt.Errorf("%w; 'cachetrip help' lists the commands", err)
	}
	// Errors of net/http and net/url repeat URLs, also those of origins.
	text := redact.Text(err.Error(), false)
	fmt.Fprintf(stderr, "cachetrip: %s\n", strings.TrimPrefix(text, "cachetrip: ")) // the library's own prefix
	return code
}
