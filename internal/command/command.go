package command

import (
	"context"
	"io"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/urfave/cli/v3"
)

// newCommand returns the whole command line, which writes to stdout and stderr.
func newCommand(stdout, stderr io.Writer) *cli.Command {
	root := &cli.Command{
		Name:      "cachetrip",
		Usage:     "fetch through an HTTP cache on disk, look into it, and keep it in order",
		UsageText: "cachetrip COMMAND [options]",
		Description: "A private HTTP cache (RFC 9111) that is kept in a directory and shared by all runs.\n\n" +
			"All commands but demo work on the cache of 'cachetrip get'. With --dir or CACHETRIP_DIR they work on\n" +
			"the cache of any program, also while the program runs. On a terminal, output is coloured unless\n" +
			"NO_COLOR is set. Credentials are never shown. Values in the queries of URLs are shown only with\n" +
			"--show-query.\n\n" +
			"Exit codes: 0 done; 1 failed (no connection, broken transfer, unwritable file); 2 bad usage;\n" +
			"3 not in the cache, or nothing stored matches; 4 verify found damage; 22 a response's HTTP status is\n" +
			"400 or more; 130 interrupted.",
		Version:                         version(),
		Writer:                          stdout,
		ErrWriter:                       stderr,
		EnableShellCompletion:           true,
		ConfigureShellCompletionCommand: configureCompletion,
		ExitErrHandler:                  func(context.Context, *cli.Command, error) {}, // run reports errors
		Commands: []*cli.Command{
			getCommand(),
			lsCommand(),
			showCommand(),
			explainCommand(),
			statsCommand(),
			verifyCommand(),
			pruneCommand(),
			purgeCommand(),
			clearCommand(),
			demoCommand(),
		},
		Action: func(_ context.Context, c *cli.Command) error {
			if !c.Args().Present() {
				return cli.ShowRootCommandHelp(c)
			}
			name := c.Args().First()
			var meant []string
			for _, other := range c.Commands {
				if mayMean(name, other.Name) {
					meant = append(meant, strconv.Quote(other.Name))
				}
			}
			if meant == nil {
				return usagef("there is no command %q; 'cachetrip help' lists all commands", name)
			}
			return usagef("there is no command %q; did you mean %s?", name, strings.Join(meant, " or "))
		},
	}
	// On bad usage, the library consults only the command itself, not its
	// parents.
	for _, c := range append(root.Commands, root) {
		c.HideHelpCommand = c != root
		c.OnUsageError = func(_ context.Context, c *cli.Command, err error, _ bool) error {
			text, _, number := strings.Cut(err.Error(), ": strconv.")
			if number {
				text += ": not a valid number"
			}
			return usagef("%s\nRun '%s --help' for its options.", text, c.FullName())
		}
	}
	return root
}

// mayMean reports whether typed may be a misspelt name of a command. It is the
// beginning of the name, or the whole name with one letter too many, missing,
// wrong, or swapped with the next.
func mayMean(typed, name string) bool {
	typed = strings.ToLower(typed)
	if len(typed) > 1 && strings.HasPrefix(name, typed) || typed == name {
		return true
	}
	i := 0
	for i < len(typed) && i < len(name) && typed[i] == name[i] {
		i++
	}
	a, b := typed[i:], name[i:]
	swapped := len(a) > 1 && len(b) > 1 && a[0] == b[1] && a[1] == b[0] && a[2:] == b[2:]
	return swapped || a != "" && (a[1:] == b || b != "" && a[1:] == b[1:]) || b != "" && a == b[1:]
}

// version returns the version of the module that the program was built from.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
