package command

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
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
	patterns  []string        // of whole URLs
	named     []string        // hosts that were given in place of a pattern
	ids       map[string]bool // whole ids
	hosts     []string        // a further condition
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

// newFilter reads the filter flags. The arguments are ids, hosts, URLs and
// patterns of URLs.
func newFilter(ctx context.Context, c *cli.Command, cache *cache) (*filter, error) {
	f := &filter{
		ids: make(map[string]bool), hosts: c.StringSlice("host"),
		fresh: c.Bool("fresh"), stale: c.Bool("stale"),
		now: time.Now(), lastUse: cache.lastUse,
	}
	for _, arg := range c.Args().Slice() {
		switch {
		case isID(arg):
			e, err := cache.byID(ctx, arg)
			if err != nil {
				return nil, err
			}
			f.ids[idOf(e)] = true
		case !strings.ContainsAny(arg, "/*?"):
			f.named = append(f.named, arg)
		case bareOrigin.MatchString(arg):
			u, err := parseURL(arg)
			if err != nil {
				return nil, err
			}
			if port := u.Port(); u.Scheme == "http" && port == "80" || u.Scheme == "https" && port == "443" {
				u.Host = strings.TrimSuffix(u.Host, ":"+port)
			}
			f.patterns = append(f.patterns, u.Scheme+"://"+strings.ToLower(u.Host)+"/*")
		default:
			pattern, err := cache.storedURL(ctx, arg)
			if err != nil {
				return nil, err
			}
			f.patterns = append(f.patterns, pattern)
			if u, err := parseURL(arg); err == nil && !strings.Contains(arg, "*") && u.String() != pattern {
				// As get would read it.
				if pattern, err = cache.storedURL(ctx, u.String()); err != nil {
					return nil, err
				}
				f.patterns = append(f.patterns, pattern)
			}
		}
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

// bareOrigin matches a scheme and a host without a path. It stands for all URLs
// of that host, like the host alone.
var bareOrigin = regexp.MustCompile(`^(?i:https?)://[^/?#*@]+$`)

// lowerOrigin returns a pattern with its scheme and host in lower case, as
// stored URLs have them.
func lowerOrigin(pattern string) string {
	begin := 0
	if i := strings.Index(pattern, "://"); i >= 0 && !strings.ContainsAny(pattern[:i], "/?*") {
		begin = i + len("://")
	}
	end := len(pattern)
	if i := strings.IndexAny(pattern[begin:], "/?*"); i >= 0 {
		end = begin + i
	}
	return strings.ToLower(pattern[:end]) + pattern[end:]
}

// storedURL returns the form in which a URL is stored: its host in lower case,
// without the default port and the fragment. It returns URLs for which nothing
// is stored as they are.
func (c *cache) storedURL(ctx context.Context, arg string) (string, error) {
	if strings.Contains(arg, "*") || !strings.Contains(arg, "://") {
		return lowerOrigin(arg), nil
	}
	req, err := newRequest(ctx, http.MethodGet, arg, nil)
	if err != nil {
		return "", err
	}
	explained, err := c.Explain(req)
	switch {
	case err != nil:
		return "", err
	case len(explained.Stored) > 0:
		return explained.Stored[0].Entry.URL, nil
	case len(explained.Others) > 0:
		return explained.Others[0].URL, nil
	}
	return arg, nil
}

// all reports whether the filter selects every response.
func (f *filter) all() bool {
	return !f.chooses() && len(f.hosts) == 0 && !f.fresh && !f.stale && f.unusedFor == 0
}

// chooses reports whether the filter has arguments.
func (f *filter) chooses() bool { return len(f.patterns)+len(f.named)+len(f.ids) > 0 }

// chosen reports whether one of the arguments selects e.
func (f *filter) chosen(e *store.Entry) bool {
	return f.choosesURL(e.URL) || len(f.ids) > 0 && f.ids[idOf(e)]
}

func (f *filter) choosesURL(url string) bool {
	return slices.ContainsFunc(f.patterns, func(p string) bool { return urlpattern.Match(p, url) }) ||
		slices.ContainsFunc(f.named, func(h string) bool { return ofHost(url, h) })
}

// hasHost reports whether a URL has one of the hosts of the filter, if it has
// some.
func (f *filter) hasHost(url string) bool {
	return len(f.hosts) == 0 || slices.ContainsFunc(f.hosts, func(h string) bool { return ofHost(url, h) })
}

// matches reports whether the filter selects e.
func (f *filter) matches(e *store.Entry) bool {
	if e.IsNote() {
		return false
	}
	if f.chooses() && !f.chosen(e) {
		return false
	}
	if !f.hasHost(e.URL) {
		return false
	}
	if f.fresh || f.stale {
		if fresh := cachetrip.FreshnessOf(e, f.now).Fresh(); fresh != f.fresh {
			return false
		}
	}
	return f.unusedFor == 0 || f.now.Sub(f.lastUse(e.Key)) >= f.unusedFor
}

// matchesURL reports whether the filter may select entries of a URL.
func (f *filter) matchesURL(url string) bool {
	return (!f.chooses() || len(f.ids) > 0 || f.choosesURL(url)) && f.hasHost(url)
}

// hostOf returns host and port of a stored URL.
func hostOf(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return ""
	}
	return u.Host
}

// ofHost reports whether a stored URL has the given host, with the port or
// without.
func ofHost(rawURL, host string) bool {
	u, err := url.Parse(rawURL)
	return err == nil && (strings.EqualFold(u.Host, host) || strings.EqualFold(u.Hostname(), host))
}

// entries returns the stored responses that the filter selects.
func (c *cache) entries(ctx context.Context, f *filter) ([]*store.Entry, error) {
	var entries []*store.Entry
	all := c.kept.All(ctx, "")
	if c.disk != nil {
		all = c.disk.Matching(ctx, "", f.matchesURL)
	}
	for e, err := range all {
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

// parseSeconds is parseDuration for flags that other programs have, too: a
// number alone is in seconds.
func parseSeconds(text string) (time.Duration, error) {
	if n, err := strconv.ParseFloat(text, 64); err == nil && n >= 0 && n < 1e9 {
		return time.Duration(n * float64(time.Second)), nil
	}
	return parseDuration(text)
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
