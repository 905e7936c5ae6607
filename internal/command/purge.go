package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/cachetrip/cachetrip/internal/redact"
	"github.com/cachetrip/cachetrip/store"
)

func purgeCommand() *cli.Command {
	return &cli.Command{
		Name:      "purge",
		Usage:     "remove the stored responses of URLs, or have them validated before their next use",
		ArgsUsage: "URL|HOST|PATTERN|ID...",
		Description: "Removes the stored responses of the URLs, for all variants and identities. It removes what ls lists\n" +
			"with the same arguments: all of a HOST, a PATTERN in which * stands for any text, or one ID. Flags\n" +
			"narrow the selection, or stand alone: purge --host example.com. If nothing matches, the exit code\n" +
			"is 3.",
		Flags: append(filterFlags(),
			&cli.BoolFlag{Name: "invalidate", Usage: "remove nothing, but ask the origin before the next use, which may cost only a 304"},
			dryRunFlag("removed or invalidated"),
			showQueryFlag(), storeFlag(), dirFlag(),
		),
		Action: func(ctx context.Context, c *cli.Command) error {
			cache, err := openExisting(c)
			if err != nil {
				return err
			}
			defer cache.Close()
			f, err := newFilter(ctx, c, cache)
			if err != nil {
				return err
			}
			if f.all() {
				return usagef("purge needs a URL, a pattern or a flag that says what to remove; 'cachetrip clear' removes everything")
			}
			entries, err := cache.entries(ctx, f)
			if err != nil {
				return err
			}
			if len(entries) == 0 {
				return notCached("no stored response matches; %s", howToName(fmt.Sprint(c.Args().Slice())))
			}
			n, done := len(entries), "removed"
			switch {
			case c.Bool("dry-run"):
				done = wouldPurge(c, entries)
			case c.Bool("invalidate"):
				done, err = "invalidated", cache.invalidate(ctx, entries, f.matches)
			default:
				n, err = cache.remove(ctx, f.matches)
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(c.Root().Writer, "%s %s.\n", count(n, "response", "responses"), done)
			return nil
		},
	}
}

// wouldPurge lists what purge would remove or invalidate, and says what would
// be done.
func wouldPurge(c *cli.Command, entries []*store.Entry) (done string) {
	showQuery, hidden := c.Bool("show-query"), false
	for _, e := range entries {
		hidden = hidden || hides(e, new(own), showQuery)
		fmt.Fprintf(c.Root().Writer, "%s  %s\n", idOf(e)[:idShown], printable(redact.URL(e.URL, showQuery)))
	}
	if hidden {
		explainHidden(c.Root().ErrWriter)
	}
	if c.Bool("invalidate") {
		return "would be invalidated"
	}
	return "would be removed"
}

// invalidate has the entries that match validated before their next use. They
// are found by key, because the URL alone does not tell the Host field of the
// request.
func (c *cache) invalidate(ctx context.Context, entries []*store.Entry, match func(*store.Entry) bool) (err error) {
	now := time.Now().Round(0)
	seen := make(map[string]bool)
	for _, e := range entries {
		if seen[e.Key] {
			continue
		}
		seen[e.Key] = true
		err = errors.Join(err, c.kept.Update(ctx, e.Key, func(current []*store.Entry) []*store.Entry {
			next := slices.Clone(current)
			for i, e := range next {
				if match(e) {
					next[i] = e.Clone()
					next[i].InvalidatedAt = now
				}
			}
			return next
		}))
	}
	return err
}
