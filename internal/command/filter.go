package command

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/urlpattern"
	"github.com/cachetrip/cachetrip/store"
)

// filter selects the stored responses that a command works on.
type filter struct {
	patterns  []string
	hosts     []string
	fresh     bool
	stale     bool
	unusedFor time.Duration // 0 means any
	now       time.Time
	lastUse   func(key string) time.Time
}

func filterFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "host", Usage: "only responses from this `HOST`; may be repeated"},
		&cli.BoolFlag{Name: "fresh", Usage: "only responses that may be used without asking the origin"},
		&cli.BoolFlag{Name: "stale", Usage: "only responses that must be validated: stale ones, and invalidated ones"},
		&cli.StringFlag{Name: "unused-for", Usage: "only responses not used for `DURATION`, such as 12h or 30d"},
	}
}

// newFilter reads the filter flags, and the arguments as patterns.
func newFilter(c *cli.Command, cache *cache) (*filter, error) {
	f := &filter{
		patterns: c.Args().Slice(), hosts: c.StringSlice("host"),
		fresh: c.Bool("fresh"), stale: c.Bool("stale"),
		now: time.Now(), lastUse: cache.lastUse,
	}
	if f.fresh && f.stale {
		return nil, usagef("--fresh and --stale exclude each other")
	}
	if text := c.String("unused-for"); text != "" {
		var err error
		if f.unusedFor, err = parseDuration(text); err != nil {
			return nil, usagef("--unused-for: %w", err)
		}
		if cache.disk == nil {
			return nil, usagef("--unused-for: the server knows when something was last used, but does not tell")
		}
	}
	return f, nil
}

// all reports whether the filter selects every response.
func (f *filter) all() bool {
	return len(f.patterns) == 0 && len(f.hosts) == 0 && !f.fresh && !f.stale && f.unusedFor == 0
}

// matches reports whether the filter selects e.
func (f *filter) matches(e *store.Entry) bool {
	if len(f.patterns) > 0 && !slices.ContainsFunc(f.patterns, func(p string) bool { return urlpattern.Match(p, e.URL) }) {
		return false
	}
	if len(f.hosts) > 0 && !slices.ContainsFunc(f.hosts, func(h string) bool { return ofHost(e.URL, h) }) {
		return false
	}
	if f.fresh || f.stale {
		if fresh := cachetrip.FreshnessOf(e, f.now).Fresh(); fresh != f.fresh {
			return false
		}
	}
	return f.unusedFor == 0 || f.now.Sub(f.lastUse(e.Key)) >= f.unusedFor
}

// hostOf returns host and port of a stored URL.
func hostOf(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return ""
	}
	return u.Host
}

// ofHost reports whether a stored URL has the given host, with the port or without.
func ofHost(rawURL, host string) bool {
	u, err := url.Parse(rawURL)
	return err == nil && (strings.EqualFold(u.Host, host) || strings.EqualFold(u.Hostname(), host))
}

// entries returns the stored responses that the filter selects.
func (c *cache) entries(ctx context.Context, f *filter) ([]*store.Entry, error) {
	var entries []*store.Entry
	for e, err := range c.kept.All(ctx, "") {
		if err != nil {
			return nil, err
		}
		if f.matches(e) {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// parseDuration parses a duration. Besides the units of package time it knows
// days and weeks.
func parseDuration(text string) (time.Duration, error) {
	for suffix, unit := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		if number, found := strings.CutSuffix(text, suffix); found {
			if n, err := strconv.ParseFloat(number, 64); err == nil && n >= 0 && n < 100_000 {
				return time.Duration(n * float64(unit)), nil
			}
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return d, nil
	}
	return 0, fmt.Errorf("%q is not a duration such as 90s, 12h, 30d or 2w", text)
}

// parseSize parses a number of bytes with a unit: kB, MB and GB are powers of
// 1000; KiB, MiB and GiB are powers of 1024.
func parseSize(text string) (int64, error) {
	units := []struct {
		suffix string
		size   float64
	}{
		{"kib", 1 << 10}, {"mib", 1 << 20}, {"gib", 1 << 30}, {"tib", 1 << 40},
		{"kb", 1e3}, {"mb", 1e6}, {"gb", 1e9}, {"tb", 1e12}, {"b", 1}, {"", 1},
	}
	lower := strings.ToLower(strings.ReplaceAll(text, " ", ""))
	for _, unit := range units {
		if number, found := strings.CutSuffix(lower, unit.suffix); found {
			if n, err := strconv.ParseFloat(number, 64); err == nil && n >= 0 && n*unit.size < 1<<60 {
				return int64(n * unit.size), nil
			}
			break
		}
	}
	return 0, fmt.Errorf("%q is not a size such as 500MB or 2GiB", text)
}
