package command

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/redact"
	"github.com/cachetrip/cachetrip/store"
)

func showQueryFlag() cli.Flag {
	return &cli.BoolFlag{Name: "show-query", Usage: "show the values in the query of URLs, which may be secrets, instead of " + redact.Mark}
}

func lsCommand() *cli.Command {
	return &cli.Command{
		Name:      "ls",
		Usage:     "list the stored responses",
		ArgsUsage: "[PATTERN...]",
		Description: "Lists the stored responses whose whole URL matches a PATTERN, in which * stands for any text:\n" +
			"'https://example.com/*', or without the scheme 'example.com/a*'. Without a PATTERN it lists all.\n" +
			"Listing does not count as use. LAST USE is accurate to the hour. If nothing matches, the exit code is 3.",
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
			filter, err := newFilter(c, cache)
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
			if c.Bool("json") {
				return printJSON(out, rows)
			}
			if len(rows) == 0 {
				if filter.all() {
					fmt.Fprintf(c.Root().ErrWriter, "nothing is stored in %s\n", cache.dir)
					return nil
				}
				return notCached("no stored response matches; 'cachetrip ls' lists all")
			}
			return printRows(out, rows)
		},
	}
}

// row is a listed response. Later versions may add members to its JSON form,
// but never remove any.
type row struct {
	URL          string            `json:"url"` // without the values in its query, unless --show-query is given
	Method       string            `json:"method"`
	Status       int               `json:"status"`
	Variant      map[string]string `json:"variant,omitempty"`  // the values of the fields that Vary names, in the stored response's request
	Identity     string            `json:"identity,omitempty"` // a digest of the identity that made the request
	Bytes        int64             `json:"bytes"`              // stored bytes of the body
	Length       int64             `json:"length"`             // of the complete body; -1 if unknown
	Complete     bool              `json:"complete"`
	Received     time.Time         `json:"received"` // stored, or last validated
	AgeSeconds   int64             `json:"age_seconds"`
	Lifetime     int64             `json:"lifetime_seconds"`
	LifetimeFrom string            `json:"lifetime_from,omitempty"` // source of the lifetime: max-age, expires or heuristic
	Fresh        bool              `json:"fresh"`
	FreshUntil   *time.Time        `json:"fresh_until,omitempty"` // absent if the response must always be validated
	Validate     string            `json:"validate,omitempty"`    // why the response must always be validated
	LastUse      *time.Time        `json:"last_use,omitempty"`
	ETag         string            `json:"etag,omitempty"`
	LastModified string            `json:"last_modified,omitempty"`
	ContentType  string            `json:"content_type,omitempty"`
}

func newRow(e *store.Entry, now, lastUse time.Time, showQuery bool) row {
	f := cachetrip.FreshnessOf(e, now)
	url := redact.URL(e.URL, showQuery)
	if url == "" {
		url = "(encrypted)" // by the program that stored the response
	}
	r := row{
		URL:          url,
		Method:       e.Method,
		Status:       e.Status,
		Variant:      selecting(e, showQuery),
		Identity:     identity(e.Key),
		Bytes:        heldBytes(e),
		Length:       e.Length,
		Complete:     e.Complete() || e.Method == http.MethodHead,
		Received:     e.ResponseTime.UTC(),
		AgeSeconds:   int64(f.Age / time.Second),
		Lifetime:     int64(f.Lifetime / time.Second),
		LifetimeFrom: f.LifetimeFrom,
		Fresh:        f.Fresh(),
		Validate:     f.Validate,
		ETag:         e.Header.Get("ETag"),
		LastModified: e.Header.Get("Last-Modified"),
		ContentType:  e.Header.Get("Content-Type"),
	}
	if f.Validate == "" {
		until := now.Add(f.TTL()).UTC().Truncate(time.Second)
		r.FreshUntil = &until
	}
	if !lastUse.IsZero() {
		lastUse = lastUse.UTC()
		r.LastUse = &lastUse
	}
	return r
}

// digest is a value of which the cache keeps only a digest.
var digest = regexp.MustCompile(`^[0-9a-f]{32}$`)

// selecting returns the selecting fields of the request for e. The cache keeps
// only a digest of a value that may be a secret. The digest is shown, so that
// variants can be told apart.
func selecting(e *store.Entry, showQuery bool) map[string]string {
	shown := make(map[string]string, len(e.Selecting))
	for name, value := range e.Selecting {
		if !digest.MatchString(value) {
			value = redact.Field(name, value, showQuery)
		}
		shown[name] = value
	}
	return shown
}

// identity returns the part of a key that stands for the identity; empty if the
// request had none.
func identity(key string) string {
	if id := key[len(key)/2:]; strings.Trim(id, "0") != "" {
		return id
	}
	return ""
}

func heldBytes(e *store.Entry) (n int64) {
	for _, part := range e.Parts {
		n += part.Length
	}
	return n
}

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

// variant returns the values by which a response differs from others of its
// URL.
func variant(r row) string {
	var parts []string
	if r.Method != http.MethodGet {
		parts = append(parts, r.Method)
	}
	if r.Identity != "" {
		parts = append(parts, "identity "+r.Identity[:8])
	}
	names := make([]string, 0, len(r.Variant))
	for name := range r.Variant {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		parts = append(parts, name+": "+r.Variant[name])
	}
	return printable(strings.Join(parts, "; "))
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

// clock formats a time in the user's time zone.
func clock(t time.Time) string { return t.Local().Format("2006-01-02 15:04") }

func printRows(out *screen, rows []row) error {
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "STATUS\tSIZE\tAGE\tFRESH UNTIL\tLAST USE\tVARIANT\tURL")
	for i := range rows {
		r := &rows[i]
		bytes := size(r.Bytes)
		if !r.Complete {
			bytes += "+" // only a part is stored
		}
		var until, used string
		switch {
		case r.Validate != "":
			until = r.Validate
		case r.Fresh:
			until = clock(*r.FreshUntil)
		default:
			until = "stale"
		}
		if r.LastUse != nil {
			used = clock(*r.LastUse)
		}
		name := variant(*r)
		if name == "" {
			name = "-"
		}
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Status, bytes, span(time.Duration(r.AgeSeconds)*time.Second),
			until, used, out.fit(name, 36), printable(r.URL))
	}
	table.Flush()
	// Colours are added last, because the table would count their bytes as
	// columns.
	for i, line := range strings.SplitAfter(strings.TrimSuffix(text.String(), "\n"), "\n") {
		bare := strings.TrimSuffix(line, "\n")
		switch {
		case i == 0:
			line = strings.Replace(line, bare, out.paint(bold, bare), 1)
		case rows[i-1].Fresh:
			until := clock(*rows[i-1].FreshUntil)
			line = strings.Replace(line, until, out.paint(green, until), 1)
		default:
			for _, word := range []string{"stale", rows[i-1].Validate} {
				if word != "" && strings.Contains(line, "  "+word+" ") {
					line = strings.Replace(line, "  "+word+" ", "  "+out.paint(yellow, word)+" ", 1)
					break
				}
			}
		}
		if _, err := fmt.Fprint(out, line); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(out)
	return err
}
