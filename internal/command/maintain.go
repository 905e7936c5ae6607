package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v3"
)

func verifyCommand() *cli.Command {
	return &cli.Command{
		Name:  "verify",
		Usage: "check all stored responses, and remove damaged ones",
		Description: "Reads all headers and bodies and compares them with their checksums. Removes damaged responses; the\n" +
			"next request fetches them again. If any was damaged, the exit code is 4.",
		Flags: []cli.Flag{dirFlag()},
		Action: withoutArguments(func(ctx context.Context, c *cli.Command, cache *cache) error {
			report, err := cache.disk.Verify(ctx)
			if err != nil {
				return err
			}
			out := c.Root().Writer
			intact, bytes := count(report.Entries, "response", "responses"), size(report.Bytes)
			if report.Damaged > 0 {
				fmt.Fprintf(out, "%s intact (%s in separate body files).\n", intact, bytes)
				fmt.Fprintf(out, "%s damaged and removed.\n", count(report.Damaged, "URL was", "URLs were"))
				return &failure{code: exitDamaged}
			}
			fmt.Fprintf(out, "%s checked (%s in separate body files), all intact.\n", intact, bytes)
			return nil
		}),
	}
}

// held is how much a directory holds.
type held struct {
	urls  int   // one per URL and identity
	bytes int64 // on disk
}

// held counts what the directory holds. Notes of the cache are no URLs.
func (c *cache) held(ctx context.Context) (held, error) {
	usage, err := c.disk.Usage(ctx)
	h := held{bytes: usage.Bytes}
	last := ""
	for e, lerr := range c.disk.All(ctx, "") {
		if lerr != nil {
			return h, lerr
		}
		if e.Key != last && !e.IsNote() {
			h.urls++
			last = e.Key
		}
	}
	return h, err
}

func clearCommand() *cli.Command {
	return &cli.Command{
		Name:        "clear",
		Usage:       "remove all stored responses",
		Description: "The directory stays a cache. Programs that use it now find it empty. The counts of stats are reset.",
		Flags:       []cli.Flag{dryRunFlag("removed"), dirFlag()},
		Action: withoutArguments(func(ctx context.Context, c *cli.Command, cache *cache) error {
			before, err := cache.held(ctx)
			if err != nil {
				return err
			}
			done := "removed"
			if c.Bool("dry-run") {
				done = "would be removed"
			} else if err := errors.Join(cache.disk.Clear(ctx), forgetTally(cache.dir)); err != nil {
				return err
			}
			fmt.Fprintf(c.Root().Writer, "%s %s, %s.\n", count(before.urls, "URL", "URLs"), done, size(before.bytes))
			return nil
		}),
	}
}

// dryRunFlag is the flag of commands that change what is stored.
func dryRunFlag(done string) cli.Flag {
	return &cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "only say what would be " + done}
}

// withoutArguments returns the action of a command that takes only flags. The
// action runs on an existing cache.
func withoutArguments(act func(context.Context, *cli.Command, *cache) error) cli.ActionFunc {
	return func(ctx context.Context, c *cli.Command) error {
		if c.Args().Present() {
			return usagef("%s takes no arguments\nRun 'cachetrip %s --help' for its options.", c.Name, c.Name)
		}
		cache, err := openExisting(c)
		if err != nil {
			return err
		}
		defer cache.Close()
		return act(ctx, c, cache)
	}
}
