package command

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/redact"
	"github.com/cachetrip/cachetrip/store"
)

func headerFlag() cli.Flag {
	return &cli.StringSliceFlag{
		Name: "H", Aliases: []string{"header"},
		Usage: "send this `FIELD`, such as 'Accept: text/html'; may be repeated",
	}
}

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
// the identity that makes it.
func requestOf(ctx context.Context, c *cli.Command, cache *cache) (*http.Request, error) {
	if c.NArg() != 1 {
		return nil, usagef("%s takes one URL, not %d\nRun 'cachetrip %s --help' for its options.", c.Name, c.NArg(), c.Name)
	}
	if name := c.String("identity"); name != "" {
		cache.Identity = func(*http.Request) string { return name }
	}
	return newRequest(ctx, c.Args().First(), c.StringSlice("H"))
}

func showCommand() *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "show the stored responses of a URL",
		ArgsUsage: "URL",
		Description: "Shows the header of each stored response, what selects it, and how fresh it is. With --body, writes\n" +
			"the body of one to standard output. Showing does not count as use. If nothing is stored, the exit\n" +
			"code is 3.",
		DisableSliceFlagSeparator: true,
		Flags: append(requestFlags(),
			&cli.BoolFlag{Name: "body", Usage: "write the stored body to standard output, and nothing else"},
			&cli.IntFlag{Name: "variant", Aliases: []string{"n"}, Usage: "show only stored response `N`", DefaultText: "all; with --body, the one that the request selects"},
			showQueryFlag(), storeFlag(), dirFlag(),
		),
		Action: func(ctx context.Context, c *cli.Command) error {
			cache, err := openExisting(c)
			if err != nil {
				return err
			}
			defer cache.Close()
			req, err := requestOf(ctx, c, cache)
			if err != nil {
				return err
			}
			explained, err := cache.Explain(req)
			if err != nil {
				return err
			}
			var stored []*store.Entry
			for _, s := range explained.Stored {
				stored = append(stored, s.Entry)
			}
			stored = append(stored, explained.Others...)
			if len(stored) == 0 {
				return notCached("nothing is stored for %s; 'cachetrip ls' lists all stored responses", redact.URL(req.URL.String(), c.Bool("show-query")))
			}
			n := c.Int("variant")
			if n < 0 || n > len(stored) {
				return usagef("--variant %d: there are %d responses", n, len(stored))
			}
			if c.Bool("body") {
				switch {
				case n > 0:
				case len(stored) == 1:
					n = 1
				case explained.Selected >= 0:
					n = explained.Selected + 1
				default:
					return usagef("%d responses are stored, and the request selects none; choose one with --variant or -H", len(stored))
				}
				return cache.writeBody(ctx, c.Root().Writer, stored[n-1])
			}
			out := newScreen(c.Root().Writer)
			for i, e := range stored {
				if n > 0 && i != n-1 {
					continue
				}
				if i > 0 && n == 0 {
					fmt.Fprintln(out)
				}
				showEntry(out, i+1, e, cache.lastUse(e.Key), c.Bool("show-query"))
			}
			return nil
		},
	}
}

// showEntry writes the header of a stored response, what selects it, and how
// fresh it is.
func showEntry(out *screen, n int, e *store.Entry, lastUse time.Time, showQuery bool) {
	now := time.Now()
	f := cachetrip.FreshnessOf(e, now)
	fmt.Fprintf(out, "%s\n", out.paint(bold, fmt.Sprintf("[%d] %s %s", n, e.Method, printable(redact.URL(e.URL, showQuery)))))
	fmt.Fprintf(out, "    %s %d %s\n", e.Proto, e.Status, http.StatusText(e.Status))
	names := make([]string, 0, len(e.Header))
	for name := range e.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range e.Header[name] {
			fmt.Fprintf(out, "    %s: %s\n", name, printable(redact.Field(name, value, showQuery)))
		}
	}
	line := func(name, format string, args ...any) {
		fmt.Fprintf(out, "  %s %s\n", out.paint(faint, fmt.Sprintf("%-12s", name)), out.wrap(fmt.Sprintf(format, args...), 15))
	}
	if vary := e.Header["Vary"]; len(vary) > 0 || len(e.Selecting) > 0 {
		r := newRow(e, now, lastUse, showQuery)
		r.Identity = ""
		selecting := variant(r)
		if selecting == "" {
			selecting = "the request had none of these fields"
		}
		line("selected by", "%s", selecting)
	}
	if id := identity(e.Key); id != "" {
		line("identity", "%s (a digest)", id)
	}
	var validators []string
	for _, name := range []string{"ETag", "Last-Modified"} {
		if value := e.Header.Get(name); value != "" {
			validators = append(validators, name+" "+printable(value))
		}
	}
	if len(validators) == 0 {
		validators = []string{"none: it can't be revalidated"}
	}
	line("validators", "%s", strings.Join(validators, ", "))
	line("received", "%s (or last validated)", e.ResponseTime.Local().Format("2006-01-02 15:04:05"))
	from := f.LifetimeFrom
	if from == "" {
		from = "nothing states one"
	}
	line("lifetime", "%s (%s)", span(f.Lifetime), from)
	switch ttl := f.TTL(); {
	case f.Validate != "":
		line("fresh", "no: %s", cachetrip.ReasonText(f.Validate))
	case ttl > 0:
		line("fresh", "%s, until %s", out.paint(green, "yes"), clock(now.Add(ttl)))
	default:
		line("fresh", "%s, since %s", out.paint(yellow, "no"), clock(now.Add(ttl)))
	}
	switch held := heldBytes(e); {
	case e.Method == http.MethodHead:
		line("body", "none: it answered a HEAD")
	case e.Complete():
		line("body", "%s, complete%s", size(held), kind(e))
	case e.Length >= 0:
		line("body", "%s of %s%s", size(held), size(e.Length), kind(e))
	default:
		line("body", "%s of an unknown length%s", size(held), kind(e))
	}
	if !lastUse.IsZero() {
		line("last use", "%s", clock(lastUse))
	}
}

// kind names the unusual properties of a stored body.
func kind(e *store.Entry) string {
	if e.Uncompressed {
		return ", decompressed on arrival"
	}
	return ""
}

// writeBody writes a stored body. The store verifies it by its checksums.
func (c *cache) writeBody(ctx context.Context, w io.Writer, e *store.Entry) error {
	if e.Method != http.MethodGet {
		return fmt.Errorf("there is no body: the response answered a %s", e.Method)
	}
	if !e.Complete() {
		return fmt.Errorf("only %s of the body are stored; 'cachetrip get' fetches the rest", size(heldBytes(e)))
	}
	for _, part := range e.Parts {
		if err := c.writePart(ctx, w, e.Key, part); err != nil {
			return fmt.Errorf("%w; 'cachetrip verify' removes damaged responses", err)
		}
	}
	return nil
}

func (c *cache) writePart(ctx context.Context, w io.Writer, key string, part store.Part) error {
	if part.Blob.Inline != nil {
		_, err := w.Write(part.Blob.Inline[part.Skip:][:part.Length])
		return err
	}
	body, err := c.kept.Open(ctx, key, part.Blob)
	if err != nil {
		return err
	}
	defer body.Close()
	n, err := io.Copy(w, io.NewSectionReader(body, part.Skip, part.Length))
	if err == nil && n < part.Length {
		err = store.ErrDamaged
	}
	return err
}

func explainCommand() *cli.Command {
	return &cli.Command{
		Name:      "explain",
		Usage:     "explain what is stored for a URL, what the next request would do, and why",
		ArgsUsage: "URL",
		Description: "Says in sentences whether a response is stored, how its lifetime and age are computed, what the next\n" +
			"request would do and what it would send, with the sections of RFC 9111. It sends nothing unless\n" +
			"--fetch is given. Then it makes the request first, and also says why a response was not stored.",
		DisableSliceFlagSeparator: true,
		Flags: append(requestFlags(),
			&cli.BoolFlag{Name: "fetch", Usage: "make the request first, through the cache, and report its outcome"},
			showQueryFlag(), storeFlag(), dirFlag(),
		),
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
			req, err := requestOf(ctx, c, cache)
			if err != nil {
				return err
			}
			out := newScreen(c.Root().Writer)
			fmt.Fprintf(out, "%s  (sections are those of RFC 9111)\n", out.paint(bold, "GET "+printable(redact.URL(req.URL.String(), c.Bool("show-query")))))
			say := func(text string) { fmt.Fprintf(out, "  %s\n", out.wrap(printable(text), 2)) }
			var failed error
			if c.Bool("fetch") {
				if failed = fetchTold(cache, req, say); failed != nil {
					say("The request was made just now, and failed.")
				}
			}
			explained, err := cache.Explain(req)
			if err != nil {
				return err
			}
			for _, sentence := range explained.Sentences() {
				say(sentence)
			}
			if len(explained.Stored) == 0 && !c.Bool("fetch") {
				say("Run 'cachetrip explain --fetch' to make the request and see whether it is stored.")
			}
			if explained.Sent == nil {
				return failed
			}
			fmt.Fprintf(out, "\nThe request would have these header fields, and those that net/http adds:\n")
			fmt.Fprintf(out, "  > GET %s\n", printable(redact.URL(req.URL.String(), c.Bool("show-query"))))
			for _, name := range sortedNames(explained.Sent) {
				for _, value := range explained.Sent[name] {
					fmt.Fprintf(out, "  %s\n", fieldLine(">", name, value, c.Bool("show-query")))
				}
			}
			return failed
		},
	}
}

func sortedNames(h http.Header) []string {
	names := make([]string, 0, len(h))
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// fetchTold makes a request without following redirects, and reports its
// outcome.
func fetchTold(cache *cache, req *http.Request, say func(string)) error {
	var kept string
	trace := &cachetrip.Trace{
		Stored: func(info cachetrip.StoreInfo) { kept = "It was stored." },
		NotStored: func(info cachetrip.StoreInfo) {
			kept = "It was not stored, because " + cachetrip.ReasonText(info.Reason) + "."
		},
	}
	resp, err := cache.RoundTrip(req.WithContext(cachetrip.WithTrace(req.Context(), trace)))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	say("The request was made just now and answered " + strconv.Itoa(resp.StatusCode) + ": " + describe(resp) + ".")
	if kept != "" {
		say(kept)
	}
	return nil
}
