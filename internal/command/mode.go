package command

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/cachetrip/cachetrip"
)

// The flags that say how a request uses the cache: the cache modes of the Fetch
// standard, and a limit for staleness.

// modes are the flags for cache modes.
var modes = []struct {
	flag, alias, usage string
	mode               cachetrip.Mode
}{
	{"offline", "", "ask only the cache, and accept a stored response however old (only-if-cached)", cachetrip.ModeOnlyIfCached},
	{"force-cache", "", "accept a stored response however old; ask the origin if there is none", cachetrip.ModeForceCache},
	{"no-cache", "refresh", "ask the origin even if the stored response is fresh; a 304 confirms it", cachetrip.ModeNoCache},
	{"reload", "", "fetch the whole response again, and store it", cachetrip.ModeReload},
	{"no-store", "", "go past the cache: use nothing that is stored, and store nothing", cachetrip.ModeNoStore},
}

// modeFlags returns the flags that useOf reads.
func modeFlags() []cli.Flag {
	flags := make([]cli.Flag, 0, len(modes)+1)
	for _, m := range modes {
		f := &cli.BoolFlag{Name: m.flag, Usage: m.usage}
		if m.alias != "" {
			f.Aliases = []string{m.alias}
		}
		flags = append(flags, f)
	}
	return append(flags, &cli.StringFlag{
		Name:  "max-stale",
		Usage: "accept responses that have been stale for up to `DURATION`, such as 12h or 30d, or 'any'",
	})
}

func maxAgeFlag() cli.Flag {
	return &cli.StringFlag{Name: "max-age", Usage: "accept stored responses that are at most `DURATION` old, such as 10m; ask the origin about older ones"}
}

// use is how requests use the cache.
type use struct {
	mode       cachetrip.Mode
	directives []string // of Cache-Control
}

// useOf returns what the flags of a command say.
func useOf(c *cli.Command) (use, error) {
	help := fmt.Sprintf("\nRun 'cachetrip %s --help' for its options.", c.Name)
	var u use
	var named []string
	for _, m := range modes {
		if c.Bool(m.flag) {
			named = append(named, "--"+m.flag)
			u.mode = m.mode
		}
	}
	text := c.String("max-stale")
	if text != "" && u.mode != cachetrip.ModeOnlyIfCached {
		named = append(named, "--max-stale")
	}
	if c.Bool("k") && u.mode != cachetrip.ModeNoStore {
		named = append(named, "-k")
		u.mode = cachetrip.ModeNoStore
	}
	if len(named) > 1 {
		last := len(named) - 1
		return use{}, usagef("%s and %s exclude each other"+help, strings.Join(named[:last], ", "), named[last])
	}
	switch text {
	case "":
	case "any":
		u.directives = []string{"max-stale"}
	default:
		d, err := parseSeconds(text)
		if err != nil {
			return use{}, usagef("--max-stale: %w, nor 'any'", err)
		}
		u.directives = []string{fmt.Sprintf("max-stale=%d", d/time.Second)}
		if u.mode == cachetrip.ModeOnlyIfCached {
			// The mode accepts every age. The directive leaves the limit in force.
			u.mode, u.directives = cachetrip.ModeDefault, append(u.directives, "only-if-cached")
		}
	}
	if text := c.String("max-age"); text != "" {
		d, err := parseSeconds(text)
		if err != nil {
			return use{}, usagef("--max-age: %w", err)
		}
		u.directives = append(u.directives, fmt.Sprintf("max-age=%d", d/time.Second))
	}
	return u, nil
}

// context returns ctx for requests that use the cache in this way.
func (u use) context(ctx context.Context) context.Context {
	return cachetrip.WithPolicy(ctx, cachetrip.Policy{Mode: u.mode})
}

// mark adds the directives to the header of a request.
func (u use) mark(req *http.Request) {
	if len(u.directives) > 0 {
		req.Header.Add("Cache-Control", strings.Join(u.directives, ", "))
	}
}
