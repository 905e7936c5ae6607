package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/redact"
	"github.com/cachetrip/cachetrip/store"
)

func showCommand() *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "show the stored responses of a URL",
		ArgsUsage: "URL|ID",
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
			stored, selected, err := storedFor(ctx, c, cache)
			if err != nil {
				return err
			}
			n := c.Int("variant")
			if n < 0 || n > len(stored) {
				return usagef("--variant %d: %s stored", n, responsesAre(len(stored)))
			}
			if c.Bool("body") {
				if n == 0 {
					n = selected + 1
				}
				if n == 0 {
					return usagef("%d responses are stored, and the request selects none; choose one with --variant, -H, or the id from 'cachetrip ls'", len(stored))
				}
				w := c.Root().Writer
				if newScreen(w).terminal {
					w = &textOnly{w: w}
				}
				return cache.writeBody(ctx, w, stored[n-1])
			}
			out, hidden := newScreen(c.Root().Writer), false
			for i, e := range stored {
				if n > 0 && i != n-1 {
					continue
				}
				if i > 0 && n == 0 {
					fmt.Fprintln(out)
				}
				showEntry(out, ownOf(ctx), i+1, e, cache.lastUse(e.Key), c.Bool("show-query"))
				hidden = hidden || hides(e, ownOf(ctx), c.Bool("show-query"))
			}
			if hidden {
				explainHidden(c.Root().ErrWriter)
			}
			return nil
		},
	}
}

// responsesAre returns "1 response is" or "2 responses are".
func responsesAre(n int) string { return count(n, "response is", "responses are") }

// storedFor returns the stored responses that the argument of show names, and
// the index of the one that a request gets, or -1.
func storedFor(ctx context.Context, c *cli.Command, cache *cache) (stored []*store.Entry, selected int, err error) {
	if arg := c.Args().First(); c.NArg() == 1 && isID(arg) {
		e, err := cache.byID(ctx, arg)
		return []*store.Entry{e}, 0, err
	}
	req, err := requestOf(ctx, c, cache)
	if err != nil {
		return nil, -1, err
	}
	explained, err := cache.Explain(req)
	if err != nil {
		return nil, -1, err
	}
	for _, s := range explained.Stored {
		stored = append(stored, s.Entry)
	}
	switch stored = append(stored, explained.Others...); len(stored) {
	case 0:
		return nil, -1, notCached("nothing is stored for %s; %s", ownOf(ctx).url(req.URL.String(), c.Bool("show-query")), howToName(c.Args().First()))
	case 1:
		return stored, 0, nil
	}
	return stored, explained.Selected, nil
}

// howToName says how the user finds the name of a stored response.
func howToName(arg string) string {
	if strings.Contains(arg, redact.Mark) {
		return redact.Mark + " stands for a hidden value; use the id that 'cachetrip ls' prints, or a URL of 'cachetrip ls --show-query'"
	}
	return "'cachetrip ls' lists all stored responses"
}

// showEntry writes the header of a stored response, what selects it, and how
// fresh it is.
func showEntry(out *screen, own *own, n int, e *store.Entry, lastUse time.Time, showQuery bool) {
	now := time.Now()
	fmt.Fprintf(out, "%s\n", out.paint(bold, fmt.Sprintf("[%d] %s %s", n, e.Method, printable(own.url(e.URL, showQuery)))))
	fmt.Fprintf(out, "    %s %d %s\n", e.Proto, e.Status, http.StatusText(e.Status))
	for _, name := range sortedNames(e.Header) {
		for _, value := range e.Header[name] {
			fmt.Fprintf(out, "    %s: %s\n", name, printable(redact.Field(name, value, showQuery)))
		}
	}
	line := func(name, format string, args ...any) {
		fmt.Fprintf(out, "  %s %s\n", out.paint(faint, fmt.Sprintf("%-12s", name)), out.wrap(fmt.Sprintf(format, args...), 15))
	}
	line("id", "%s", idOf(e)[:idShown])
	if vary := e.Header["Vary"]; len(vary) > 0 || len(e.Selecting) > 0 {
		r := newRow(e, now, lastUse, showQuery)
		r.Identity = ""
		line("selected by", "%s", cmp.Or(variant(r), "the request had none of these fields"))
	}
	if id := identity(e.Key); id != "" {
		line("identity", "%s (a digest)", id)
	}
	line("validators", "%s", validatorsOf(e))
	line("received", "%s (or last validated)", clock(e.ResponseTime))
	f := cachetrip.FreshnessOf(e, now)
	line("lifetime", "%s (%s)", span(f.Lifetime), cmp.Or(f.LifetimeFrom, "nothing states one"))
	switch ttl := f.TTL(); {
	case f.Validate != "":
		line("fresh", "no: %s", cachetrip.ReasonText(f.Validate))
	case ttl > 0:
		line("fresh", "%s, until %s", out.paint(green, "yes"), clock(now.Add(ttl)))
	default:
		line("fresh", "%s, since %s", out.paint(yellow, "no"), clock(now.Add(ttl)))
	}
	line("body", "%s", bodyOf(e))
	if !lastUse.IsZero() {
		line("last use", "%s (to the hour)", clock(lastUse))
	}
}

// validatorsOf says how a response can be validated.
func validatorsOf(e *store.Entry) string {
	var validators []string
	for _, name := range []string{"ETag", "Last-Modified"} {
		if value := e.Header.Get(name); value != "" {
			validators = append(validators, name+" "+printable(value))
		}
	}
	return cmp.Or(strings.Join(validators, ", "), "none: it can't be revalidated")
}

// bodyOf says how much of a body is stored.
func bodyOf(e *store.Entry) string {
	switch held := heldBytes(e); {
	case e.Method == http.MethodHead:
		return "none: it answered a HEAD"
	case e.Complete():
		return size(held) + ", complete" + kind(e)
	case e.Length >= 0:
		return size(held) + " of " + size(e.Length) + kind(e)
	default:
		return size(held) + " of an unknown length" + kind(e)
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
		err := c.writePart(ctx, w, e.Key, part)
		if errors.Is(err, errBinary) {
			return fmt.Errorf("%w; redirect it to a file", errBinary)
		}
		if err != nil {
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
