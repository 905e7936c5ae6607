package command

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"

	"github.com/urfave/cli/v3"

	"github.com/cachetrip/cachetrip"
)

func requestFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{
			Name: "H", Aliases: []string{"header"},
			Usage: "as for a request with this `FIELD`, such as 'Accept-Language: de'; may be repeated",
		},
		&cli.StringFlag{Name: "identity", Usage: "as for a request of the user `NAME`, if the program that owns the cache names its users"},
	}
}

// requestOf returns the request that the flags and the URL describe, and sets
// the identity that makes it. An id stands for the request that its response
// answered.
func requestOf(ctx context.Context, c *cli.Command, cache *cache) (*http.Request, error) {
	if c.NArg() != 1 {
		return nil, usagef("%s takes one URL or id, not %d\nRun 'cachetrip %s --help' for its options.", c.Name, c.NArg(), c.Name)
	}
	if name := c.String("identity"); name != "" {
		cache.Identity = func(*http.Request) string { return name }
	}
	arg := c.Args().First()
	fields := c.StringSlice("H")
	if isID(arg) {
		return cache.requestByID(ctx, http.MethodGet, arg, fields)
	}
	return newRequest(ctx, http.MethodGet, arg, fields)
}

func explainCommand() *cli.Command {
	return &cli.Command{
		Name:      "explain",
		Usage:     "explain what is stored for a URL, what the next request would do, and why",
		ArgsUsage: "URL|ID",
		Description: "Says in sentences whether a response is stored, how its lifetime and age are computed, what the next\n" +
			"request would do and what it would send, with the sections of RFC 9111. It sends nothing unless\n" +
			"--fetch is given. Then it makes the request first, and also says why a response was not stored.",
		DisableSliceFlagSeparator: true,
		Flags: slices.Concat(requestFlags(), modeFlags(), []cli.Flag{
			maxAgeFlag(),
			&cli.BoolFlag{Name: "fetch", Usage: "make the request first, through the cache, and report its outcome"},
			showQueryFlag(), storeFlag(), dirFlag(),
		}),
		Action: func(ctx context.Context, c *cli.Command) (err error) {
			var cache *cache
			if c.Bool("fetch") {
				cache, err = openCache(c.String("dir"), "http", unbounded) // the program that owns the cache keeps its own size limit
			} else {
				cache, err = openExisting(c)
			}
			if err != nil {
				return err
			}
			defer cache.leave(ctx, c.Root().ErrWriter, false)
			how, err := useOf(c)
			if err != nil {
				return err
			}
			req, err := requestOf(how.context(ctx), c, cache)
			if err != nil {
				return err
			}
			how.mark(req)
			e := &explaining{
				cache: cache, out: newScreen(c.Root().Writer), own: ownOf(ctx), showQuery: c.Bool("show-query"),
			}
			return e.run(req, c.Bool("fetch"))
		},
	}
}

// explaining is one run of the command explain.
type explaining struct {
	cache     *cache
	out       *screen
	own       *own
	showQuery bool
}

func (e *explaining) say(text string) {
	fmt.Fprintf(e.out, "  %s\n", e.out.wrap(printable(localTimes(text)), 2))
}

// run explains a request. If fetches is set, it makes the request first.
func (e *explaining) run(req *http.Request, fetches bool) (failed error) {
	target := printable(e.own.url(req.URL.String(), e.showQuery))
	fmt.Fprintf(e.out, "%s  (sections are those of RFC 9111)\n", e.out.paint(bold, req.Method+" "+target))
	if fetches {
		if failed = e.fetch(req); failed != nil {
			e.say("The request was made just now, and failed.")
		}
	}
	explained, err := e.cache.Explain(req)
	if err != nil {
		return cmp.Or(failed, err)
	}
	for _, sentence := range explained.Sentences() {
		e.say(sentence)
	}
	if explained.Equivalent != "" {
		e.say("'cachetrip show' lists it under " + e.own.url(explained.Equivalent, e.showQuery))
	}
	if len(explained.Stored) == 0 && explained.Action != "forward" && !fetches {
		e.say("Run 'cachetrip explain --fetch' to make the request and see whether it is stored.")
	}
	if explained.Sent == nil {
		return failed
	}
	fmt.Fprintf(e.out, "\nThe request would have these header fields, and those that net/http adds:\n")
	fmt.Fprintf(e.out, "  > %s %s\n", req.Method, target)
	for _, name := range sortedNames(explained.Sent) {
		for _, value := range explained.Sent[name] {
			fmt.Fprintf(e.out, "  %s\n", fieldLine(">", name, value, e.showQuery))
		}
	}
	return failed
}

func sortedNames(h http.Header) []string { return slices.Sorted(maps.Keys(h)) }

// fetch makes a request without following redirects, and reports its outcome.
func (e *explaining) fetch(req *http.Request) error {
	var kept string
	trace := &cachetrip.Trace{
		Stored: func(info cachetrip.StoreInfo) { kept = "It was stored." },
		NotStored: func(info cachetrip.StoreInfo) {
			kept = "It was not stored, because " + cachetrip.ReasonText(info.Reason) + "."
		},
	}
	resp, err := e.cache.RoundTrip(req.WithContext(cachetrip.WithTrace(req.Context(), trace)))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	e.say("The request was made just now and answered " + strconv.Itoa(resp.StatusCode) + ": " + describe(resp) + ".")
	if kept != "" {
		e.say(kept)
	}
	return nil
}
