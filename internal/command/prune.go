package command

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/cachetrip/cachetrip/store"
)

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
			dryRunFlag("removed; for --max-size that is an estimate"),
			dirFlag(),
		},
		Action: withoutArguments(func(ctx context.Context, c *cli.Command, cache *cache) error {
			p, err := newPruning(ctx, c, cache)
			if err != nil {
				return err
			}
			before, err := cache.held(ctx)
			if err != nil {
				return err
			}
			if c.Bool("dry-run") {
				n, err := p.predict(ctx, before)
				if err != nil {
					return err
				}
				fmt.Fprintf(c.Root().Writer, "%s would be removed; the cache takes %s on disk.\n", count(n, "URL", "URLs"), size(before.bytes))
				return nil
			}
			if err := p.run(ctx); err != nil {
				return err
			}
			after, err := cache.held(ctx)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.Root().Writer, "%s removed: %s on disk, %s before.\n", count(max(before.urls-after.urls, 0), "URL", "URLs"), size(after.bytes), size(before.bytes))
			return nil
		}),
	}
}

// pruning is one run of the command prune.
type pruning struct {
	cache   *cache
	reasons []*filter // each is a reason to remove a response
	maxSize int64     // negative: any
}

func newPruning(ctx context.Context, c *cli.Command, cache *cache) (*pruning, error) {
	if !c.IsSet("max-size") && !c.IsSet("unused-for") && !c.Bool("stale") {
		return nil, usagef("prune needs --max-size, --unused-for or --stale\nRun 'cachetrip prune --help' for its options.")
	}
	p := &pruning{cache: cache, maxSize: -1}
	if text := c.String("max-size"); text != "" {
		var err error
		if p.maxSize, err = parseSize(text); err != nil {
			return nil, usagef("--max-size: %w", err)
		}
	}
	if c.String("unused-for") != "" {
		f, err := newFilter(ctx, c, cache)
		if err != nil {
			return nil, err
		}
		f.stale = false // another reason to remove a response, not a further condition
		p.reasons = append(p.reasons, f)
	}
	if c.Bool("stale") {
		p.reasons = append(p.reasons, &filter{stale: true, now: time.Now()})
	}
	return p, nil
}

func (p *pruning) run(ctx context.Context) error {
	for _, f := range p.reasons {
		if _, err := p.cache.disk.Purge(ctx, "", f.matches); err != nil {
			return err
		}
	}
	if p.maxSize >= 0 {
		return p.cache.disk.EvictTo(ctx, p.maxSize)
	}
	return nil
}

// predict returns how many URLs run would remove. before is what is held now.
func (p *pruning) predict(ctx context.Context, before held) (n int, err error) {
	type key struct {
		used  time.Time
		bytes int64
	}
	left := make(map[string]*key)
	gone := make(map[string]bool)
	for e, err := range p.cache.disk.All(ctx, "") {
		if err != nil {
			return 0, err
		}
		if e.IsNote() {
			continue
		}
		if slices.ContainsFunc(p.reasons, func(f *filter) bool { return f.matches(e) }) {
			gone[e.Key] = true
			before.bytes -= onDisk(e)
			continue
		}
		if left[e.Key] == nil {
			left[e.Key] = &key{used: p.cache.lastUse(e.Key)}
		}
		left[e.Key].bytes += onDisk(e)
	}
	keys := make([]*key, 0, len(left))
	for name, k := range left {
		delete(gone, name) // another variant stays
		keys = append(keys, k)
	}
	n = len(gone)
	if p.maxSize < 0 {
		return n, nil
	}
	slices.SortFunc(keys, func(a, b *key) int { return a.used.Compare(b.used) })
	for _, k := range keys {
		if before.bytes <= p.maxSize {
			break
		}
		before.bytes -= k.bytes
		n++
	}
	return n, nil
}

// onDisk returns about how much an entry takes on disk, in blocks.
func onDisk(e *store.Entry) int64 {
	const block = 4 << 10
	bytes := int64(block)
	for _, part := range e.Parts {
		if part.Blob.Inline == nil {
			bytes += (part.Blob.Size + block - 1) / block * block
		}
	}
	return bytes
}
