package command

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/cachetrip/cachetrip/internal/redact"
	"github.com/cachetrip/cachetrip/store"
)

func showQueryFlag() cli.Flag {
	return &cli.BoolFlag{Name: "show-query", Sources: cli.EnvVars("CACHETRIP_SHOW_QUERY"), Usage: "show the values in the query of URLs, which may be secrets, instead of " + redact.Mark}
}

func lsCommand() *cli.Command {
	return &cli.Command{
		Name:      "ls",
		Usage:     "list the stored responses",
		ArgsUsage: "[HOST|PATTERN|ID...]",
		Description: "Lists the stored responses of a HOST, with or without its port, or those whose whole URL matches a\n" +
			"PATTERN, in which * stands for any text: 'https://example.com/*', or without the scheme\n" +
			"'example.com/a*'. A URL without a path, such as http://localhost:8080, is all of that host. Without\n" +
			"arguments it lists all.\n\n" +
			"All commands take an ID in place of a URL. FRESH says for how long a response is fresh, or why it is\n" +
			"not. After SIZE, + means that only a part of the body is stored. Listing does not count as use. USED\n" +
			"is accurate to the hour. If nothing matches, the exit code is 3.",
		Flags: append(filterFlags(),
			&cli.StringFlag{Name: "sort", Value: "url", Usage: "order by `KEY`: url, size, age or use; the largest, oldest and last used first"},
			&cli.BoolFlag{Name: "json", Usage: "print a JSON object for each response, one a line"},
			showQueryFlag(), storeFlag(), dirFlag(),
		),
		Action: func(ctx context.Context, c *cli.Command) error {
			cache, err := openExisting(c)
			if err != nil {
				return err
			}
			defer cache.Close()
			filter, err := newFilter(ctx, c, cache)
			if err != nil {
				return err
			}
			entries, err := cache.entries(ctx, filter)
			if err != nil {
				return err
			}
			rows := make([]row, len(entries))
			for i, e := range entries {
				rows[i] = newRow(e, filter.now, cache.lastUse(e.Key), c.Bool("show-query"))
			}
			if err := sortRows(rows, c.String("sort")); err != nil {
				return err
			}
			out := newScreen(c.Root().Writer)
			switch {
			case len(rows) == 0 && !filter.all():
				return notCached("no stored response matches; %s", howToName(fmt.Sprint(c.Args().Slice())))
			case c.Bool("json"):
				return printJSON(out, rows)
			case len(rows) == 0:
				fmt.Fprintf(c.Root().ErrWriter, "nothing is stored in %s\n", cache.dir)
				return nil
			}
			if err := printRows(out, rows, filter.now); err != nil {
				return err
			}
			explainMarks(c.Root().ErrWriter, rows)
			return nil
		},
	}
}

// sortKeys are the values of --sort.
var sortKeys = []string{"url", "size", "age", "use"}

func sortRows(rows []row, key string) error {
	byURL := func(a, b row) int {
		return cmp.Or(strings.Compare(a.URL, b.URL), strings.Compare(variant(a), variant(b)))
	}
	used := func(r row) (ns int64) {
		if r.LastUse != nil {
			ns = r.LastUse.UnixNano()
		}
		return ns
	}
	compare := byURL
	switch key {
	case "url":
	case "size":
		compare = func(a, b row) int { return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), byURL(a, b)) }
	case "age":
		compare = func(a, b row) int { return cmp.Or(cmp.Compare(b.AgeSeconds, a.AgeSeconds), byURL(a, b)) }
	case "use":
		compare = func(a, b row) int { return cmp.Or(cmp.Compare(used(b), used(a)), byURL(a, b)) }
	default:
		return usagef("--sort %q: not one of url, size, age and use", key)
	}
	slices.SortFunc(rows, compare)
	return nil
}

func printJSON(out *screen, rows []row) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	for i := range rows {
		if err := encoder.Encode(&rows[i]); err != nil {
			return err
		}
	}
	return nil
}

// columns are the columns of ls.
var columns = []string{"ID", "STATUS", "SIZE", "AGE", "FRESH", "USED", "VARIANT", "URL"}

const (
	columnFresh   = 4
	columnVariant = 6
)

// freshness says in a word for how long a response is fresh, or why it is not.
func (r *row) freshness(now time.Time) string {
	switch {
	case r.Validate != "":
		return r.Validate
	case r.Fresh:
		return span(r.FreshUntil.Sub(now))
	}
	return "stale"
}

func printRows(out *screen, rows []row, now time.Time) error {
	digits := shortIDs(rows)
	cells := make([][]string, len(rows))
	widths := make([]int, len(columns)-1) // of all but the URL
	measure := func(line []string) {
		for i := range widths {
			widths[i] = max(widths[i], len([]rune(line[i])))
		}
	}
	measure(columns)
	if out.width > 0 && !slices.ContainsFunc(rows, func(r row) bool { return variant(r) != "" }) {
		widths[columnVariant] = 0 // nothing to show, and the URL needs the room
	}
	for i := range rows {
		r := &rows[i]
		bytes := size(r.Bytes)
		if !r.Complete {
			bytes += "+"
		}
		var used time.Time
		if r.LastUse != nil {
			used = *r.LastUse
		}
		name := cmp.Or(variant(*r), "-")
		cells[i] = []string{
			r.ID[:digits], strconv.Itoa(r.Status), bytes, span(time.Duration(r.AgeSeconds) * time.Second),
			r.freshness(now), ago(used, now), out.fit(name, 36), printable(r.URL),
		}
		if widths[columnVariant] == 0 {
			cells[i][columnVariant] = ""
		}
		measure(cells[i])
	}
	if err := printRow(out, columns, widths, func(_ int, text string) string { return out.paint(bold, text) }); err != nil {
		return err
	}
	for i, line := range cells {
		paint := func(column int, text string) string {
			switch {
			case column != columnFresh:
				return text
			case rows[i].Fresh:
				return out.paint(green, text)
			}
			return out.paint(yellow, text)
		}
		if err := printRow(out, line, widths, paint); err != nil {
			return err
		}
	}
	return nil
}

// printRow writes a line of the table. On a terminal, it shortens the URL so
// that the line fits: the id says which one it is.
func printRow(out *screen, line []string, widths []int, paint func(column int, text string) string) error {
	var b strings.Builder
	used := 0
	for i, width := range widths {
		if width == 0 {
			continue
		}
		b.WriteString(paint(i, line[i]) + strings.Repeat(" ", width-len([]rune(line[i]))+2))
		used += width + 2
	}
	last := len(line) - 1
	b.WriteString(paint(last, out.middle(line[last], max(out.width-used, 24))))
	_, err := fmt.Fprintln(out, b.String())
	return err
}

// explainMarks says what the marks in a table mean, if it has any.
func explainMarks(stderr io.Writer, rows []row) {
	partial, hidden := false, false
	for i := range rows {
		partial = partial || !rows[i].Complete
		hidden = hidden || rows[i].hidden
	}
	if partial {
		fmt.Fprintln(stderr, "+ only a part of the body is stored; the next request fetches the rest")
	}
	if hidden {
		explainHidden(stderr)
	}
}

// explainHidden says how to see what is hidden.
func explainHidden(stderr io.Writer) {
	fmt.Fprintf(stderr, "%s hides a value in a query, which may be a secret; --show-query or CACHETRIP_SHOW_QUERY=1 shows it\n", redact.Mark)
}

// hides reports whether the URL of an entry has values that are hidden.
func hides(e *store.Entry, own *own, showQuery bool) bool {
	return own.url(e.URL, showQuery) != redact.URL(e.URL, true)
}
