package command

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/urfave/cli/v3"
)

// version returns the version of the module that the program was built from.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

func versionCommand() *cli.Command {
	return &cli.Command{
		Name:        "version",
		Usage:       "show the version, and what it was built from",
		Description: "The first line is the same as with --version.",
		Action: func(_ context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return usagef("version takes no arguments")
			}
			info, _ := debug.ReadBuildInfo()
			_, err := fmt.Fprint(c.Root().Writer, versionText(info))
			return err
		},
	}
}

// versionText describes a build. info may be nil.
func versionText(info *debug.BuildInfo) string {
	var b strings.Builder
	fmt.Fprintf(&b, "cachetrip version %s\n", version())
	if info != nil {
		settings := make(map[string]string)
		for _, s := range info.Settings {
			settings[s.Key] = s.Value
		}
		if commit := settings["vcs.revision"]; commit != "" {
			changed := ""
			if settings["vcs.modified"] == "true" {
				changed = ", with changes"
			}
			fmt.Fprintf(&b, "commit %s of %s%s\n", commit, settings["vcs.time"], changed)
		}
	}
	fmt.Fprintf(&b, "%s %s/%s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return b.String()
}
