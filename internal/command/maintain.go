package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/cachetrip/cachetrip/internal/redact"
	"github.com/cachetrip/cachetrip/store"
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

func pruneCommand() *cli.Command {
	return &cli.Command{
		Name:  "prune",
		Usage: "make room: remove unused or stale responses, or shrink the cache to a size",
		Description: "Removes responses that were not used for a while, responses that are stale, and then the least\n" +
			"recently used ones until the cache fits a size. Programs keep their own size limits as well. To\n" +
			"remove particular URLs, see purge.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "max-size", Usage: "shrink the cache to `SIZE` on disk, such as 500MB or 2GiB"},
			&cli.StringFlag{Name: "unused-for", Usage: "remove responses not used for `DURATION`, such as 12h or 30d"},
			&cli.BoolFlag{Name: "stale", Usage: "remove responses that may not be used without asking the origin"},
			dirFlag(),
		},
		Action: withoutArguments(func(ctx context.Context, c *cli.Command, cache *cache) error {
			if !c.IsSet("max-size") && !c.IsSet("unused-for") && !c.Bool("stale") {
				return usagef("prune needs --max-size, --unused-for or --stale\nRun 'cachetrip prune --help' for its options.")
			}
			maxSize := int64(-1)
			if text := c.String("max-size"); text != "" {
				var err error
				if maxSize, err = parseSize(text); err != nil {
					return usagef("--max-size: %w", err)
				}
			}
			before, err := cache.disk.Usage(ctx)
			if err != nil {
				return err
			}
			if text := c.String("unused-for"); text != "" {
				f, err := newFilter(c, cache)
				if err != nil {
					return err
				}
				f.stale = false // another reason to remove a response, not a further condition
				if _, err := cache.disk.Purge(ctx, "", f.matches); err != nil {
					return err
				}
			}
			if c.Bool("stale") {
				f := &filter{stale: true, now: time.Now()}
				if _, err := cache.disk.Purge(ctx, "", f.matches); err != nil {
					return err
				}
			}
			if maxSize >= 0 {
				if err := cache.disk.EvictTo(ctx, maxSize); err != nil {
					return err
				}
			}
			after, err := cache.disk.Usage(ctx)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.Root().Writer, "%s removed: %s on disk, %s before.\n", count(max(before.Keys-after.Keys, 0), "URL", "URLs"), size(after.Bytes), size(before.Bytes))
			return nil
		}),
	}
}

func purgeCommand() *cli.Command {
	return &cli.Command{
		Name:      "purge",
		Usage:     "remove the stored responses of URLs, or have them validated before their next use",
		ArgsUsage: "URL|PATTERN...",
		Description: "Removes the stored responses of the URLs, for all variants and identities. In a PATTERN, * stands\n" +
			"for any text, as with ls. Flags narrow the selection, or stand alone: purge --host example.com.\n" +
			"If nothing matches, the exit code is 3.",
		Flags: append(filterFlags(),
			&cli.BoolFlag{Name: "invalidate", Usage: "remove nothing, but ask the origin before the next use, which may cost only a 304"},
			&cli.BoolFlag{Name: "dry-run", Usage: "only say what would be removed or invalidated"},
			showQueryFlag(), storeFlag(), dirFlag(),
		),
		Action: func(ctx context.Context, c *cli.Command) error {
			cache, err := openExisting(c)
			if err != nil {
				return err
			}
			defer cache.Close()
			f, err := newFilter(c, cache)
			if err != nil {
				return err
			}
			if f.all() {
				return usagef("purge needs a URL, a pattern or a flag that says what to remove; 'cachetrip clear' removes everything")
			}
			for i, pattern := range f.patterns {
				// The URL is normalised as for a request: host in lower case,
				// no default port, no fragment.
				if req, err := newRequest(ctx, pattern, nil); err == nil && !strings.Contains(pattern, "*") {
					switch e, err := cache.Explain(req); {
					case err != nil:
						return err
					case len(e.Stored) > 0:
						f.patterns[i] = e.Stored[0].Entry.URL
					case len(e.Others) > 0:
						f.patterns[i] = e.Others[0].URL
					}
				}
			}
			entries, err := cache.entries(ctx, f)
			if err != nil {
				return err
			}
			if len(entries) == 0 {
				return notCached("no stored response matches; 'cachetrip ls' lists all")
			}
			out := c.Root().Writer
			done := "removed"
			switch {
			case c.Bool("dry-run"):
				done = "would be removed"
				if c.Bool("invalidate") {
					done = "would be invalidated"
				}
				for _, e := range entries {
					fmt.Fprintln(out, printable(redact.URL(e.URL, c.Bool("show-query"))))
				}
			case c.Bool("invalidate"):
				done = "invalidated"
				// Entries are found by key, because the URL alone does not tell
				// the Host field of the request.
				now := time.Now().Round(0)
				seen := make(map[string]bool)
				for _, e := range entries {
					if !seen[e.Key] {
						seen[e.Key] = true
						err = errors.Join(err, cache.kept.Update(ctx, e.Key, func(current []*store.Entry) []*store.Entry {
							next := slices.Clone(current)
							for i, e := range next {
								if f.matches(e) {
									next[i] = e.Clone()
									next[i].InvalidatedAt = now
								}
							}
							return next
						}))
					}
				}
			default:
				var n int
				n, err = cache.remove(ctx, f.matches)
				entries = entries[:min(n, len(entries))]
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "%s %s.\n", count(len(entries), "response", "responses"), done)
			return nil
		},
	}
}

func clearCommand() *cli.Command {
	return &cli.Command{
		Name:        "clear",
		Usage:       "remove all stored responses",
		Description: "The directory stays a cache. Programs that use it now find it empty. The counts of stats are reset.",
		Flags:       []cli.Flag{dirFlag()},
		Action: withoutArguments(func(ctx context.Context, c *cli.Command, cache *cache) error {
			before, err := cache.disk.Usage(ctx)
			if err != nil {
				return err
			}
			if err := cache.disk.Clear(ctx); err != nil {
				return err
			}
			if err := forgetTally(cache.dir); err != nil {
				return err
			}
			fmt.Fprintf(c.Root().Writer, "%s removed, %s.\n", count(before.Keys, "URL", "URLs"), size(before.Bytes))
			return nil
		}),
	}
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
