package command

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/cachetrip/cachetrip/internal/redact"
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
			"NO_COLOR is set. Credentials are never shown. Values in the queries of stored URLs are shown only with\n" +
			"--show-query or CACHETRIP_SHOW_QUERY=1.\n\n" +
			"Exit codes: 0 done; 1 failed (no connection, broken transfer, unwritable file); 2 bad usage;\n" +
			"3 not in the cache, or nothing stored matches; 4 verify found damage; 22 a response's HTTP status is\n" +
			"400 or more; 130 interrupted.",
		Version:        version(),
		Writer:         stdout,
		ErrWriter:      stderr,
		ExitErrHandler: func(context.Context, *cli.Command, error) {}, // run reports errors
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
			completionCommand(),
			manCommand(),
			versionCommand(),
		},
		Action: func(_ context.Context, c *cli.Command) error {
			if !c.Args().Present() {
				return cli.ShowRootCommandHelp(c)
			}
			return noCommand(c.Args().First(), c.Commands)
		},
	}
	// On bad usage, the library consults only the command itself, not its
	// parents.
	for _, c := range append(root.Commands, root) {
		c.HideHelpCommand = c != root
		c.OnUsageError = func(_ context.Context, c *cli.Command, err error, _ bool) error {
			return usagef("%s\nRun '%s --help' for its options.", badValue(c, err.Error()), c.FullName())
		}
	}
	return root
}

var badValueForm = regexp.MustCompile(`(?s)^invalid value (".*") for flag -(\S+): (.*)$`)

// badValue says in words that the value of a flag is wrong. text is the
// library's error, which it returns as it is if that is about something else.
func badValue(c *cli.Command, text string) string {
	m := badValueForm.FindStringSubmatch(text)
	if m == nil {
		return text
	}
	value, name := m[1], "-"+m[2]
	if len(m[2]) > 1 {
		name = "-" + name
	}
	if _, takesValue := (&flags{of: c}).find(m[2]); !takesValue {
		return name + " takes no value"
	}
	if strings.Contains(m[3], "out of range") {
		return fmt.Sprintf("%s: %s is too large a number", name, value)
	}
	return fmt.Sprintf("%s: %s is not a number", name, value)
}

// noCommand returns the error for a command that does not exist.
func noCommand(name string, commands []*cli.Command) error {
	var meant []string
	for _, other := range commands {
		if mayMean(name, other.Name) {
			meant = append(meant, strconv.Quote(other.Name))
		}
	}
	if strings.Contains(name, "://") {
		return usagef("there is no command %q; did you mean 'cachetrip get %[1]s'?", redact.URL(name, true))
	}
	if meant == nil {
		return usagef("there is no command %q; 'cachetrip help' lists all commands", name)
	}
	return usagef("there is no command %q; did you mean %s?", name, strings.Join(meant, " or "))
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
