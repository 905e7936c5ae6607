package command

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
)

func statsCommand() *cli.Command {
	return &cli.Command{
		Name:  "stats",
		Usage: "sum up the stored responses by host, and what the cache has saved",
		Description: "The runs of 'cachetrip get' count in this directory what they save. Other programs count for\n" +
			"themselves (Transport.Stats).",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "hosts", Value: 10, Usage: "show the `N` largest hosts; 0: all"},
			&cli.BoolFlag{Name: "json", Usage: "print one JSON object"},
			storeFlag(), dirFlag(),
		},
		Action: withoutArguments(func(ctx context.Context, c *cli.Command, cache *cache) error {
			s, err := cache.summary(ctx)
			if err != nil {
				return err
			}
			out := newScreen(c.Root().Writer)
			if c.Bool("json") {
				encoder := json.NewEncoder(out)
				encoder.SetIndent("", "  ")
				return encoder.Encode(s)
			}
			s.print(out, c.Int("hosts"))
			return nil
		}),
	}
}

// summary is the output of stats, also in its JSON form.
type summary struct {
	Dir       string        `json:"dir"`            // the directory, or the URL of another store
	DiskBytes int64         `json:"disk_bytes"`     // of all files, in blocks of 4 KiB, without Reserved; 0 for another store
	Reserved  int64         `json:"reserved_bytes"` // bytes that body files have room for, and that a transfer that broke off did not bring
	URLs      int           `json:"urls"`           // counted once for each identity
	Responses int           `json:"responses"`
	Fresh     int           `json:"fresh"` // may be used without asking the origin
	Bytes     int64         `json:"bytes"` // of bodies
	Hosts     []hostSummary `json:"hosts"` // the largest first
	Get       *tally        `json:"get,omitempty"`
	elsewhere bool          // another store than a directory
}

type hostSummary struct {
	Host      string `json:"host"`
	Responses int    `json:"responses"`
	Bytes     int64  `json:"bytes"` // of bodies
}

func (c *cache) summary(ctx context.Context) (*summary, error) {
	s := &summary{Dir: c.dir, Hosts: []hostSummary{}, elsewhere: c.disk == nil}
	if c.disk != nil {
		usage, err := c.disk.Usage(ctx)
		if err != nil {
			return nil, err
		}
		s.DiskBytes = usage.Bytes
		if t := loadTally(c.dir); t.Runs > 0 {
			s.Get = &t
		}
	}
	hosts := make(map[string]*hostSummary)
	now := time.Now()
	last := ""
	counted := make(map[string]bool) // body files of the current key, because variants may share one
	for e, err := range c.kept.All(ctx, "") {
		if err != nil {
			return nil, err
		}
		if e.IsNote() {
			continue
		}
		if e.Key != last {
			s.URLs++
			last = e.Key
			clear(counted)
		}
		s.Responses++
		if cachetrip.FreshnessOf(e, now).Fresh() {
			s.Fresh++
		}
		name := hostOf(e.URL)
		host := hosts[name]
		if host == nil {
			host = &hostSummary{Host: name}
			hosts[name] = host
		}
		host.Responses++
		for _, part := range e.Parts {
			if !counted[part.Blob.ID] {
				host.Bytes += part.Length
				s.Bytes += part.Length
				s.Reserved += room(e, part.Blob)
			}
		}
		for _, part := range e.Parts {
			counted[part.Blob.ID] = true
		}
	}
	s.DiskBytes = max(s.DiskBytes-s.Reserved, 0)
	for _, host := range hosts {
		s.Hosts = append(s.Hosts, *host)
	}
	slices.SortFunc(s.Hosts, func(a, b hostSummary) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), strings.Compare(a.Host, b.Host))
	})
	return s, nil
}

// room returns how many bytes of a blob are a hole: a transfer that was killed
// has reserved them.
func room(e *store.Entry, blob store.Blob) int64 {
	if heldBytes(e) >= e.Length {
		return 0
	}
	n := blob.Size
	for _, part := range e.Parts {
		if part.Blob.ID == blob.ID {
			n -= part.Length
		}
	}
	return max(n, 0)
}

func (s *summary) print(out *screen, most int) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(out, "%s %s\n", out.paint(faint, fmt.Sprintf("%-10s", name)), fmt.Sprintf(format, args...))
	}
	if !s.elsewhere {
		line("directory", "%s", s.Dir)
		reserved := ""
		if s.Reserved > 0 {
			reserved = fmt.Sprintf("; the size limit also counts %s that are reserved for the rest of bodies", size(s.Reserved))
		}
		line("on disk", "%s%s", size(s.DiskBytes), reserved)
	} else {
		line("store", "%s", s.Dir)
	}
	line("stored", "%s for %s: %d fresh, %d to be validated; %s of bodies",
		count(s.Responses, "response", "responses"), count(s.URLs, "URL", "URLs"), s.Fresh, s.Responses-s.Fresh, size(s.Bytes))
	if t := s.Get; t != nil {
		line("get", "%s in %s since %s", count(int(t.Requests), "request", "requests"), count(int(t.Runs), "run", "runs"), clock(t.Since))
		if t.Requests > 0 {
			share := func(n uint64) string { return fmt.Sprintf("%d (%.0f %%)", n, 100*float64(n)/float64(t.Requests)) }
			line("", "%s answered without asking the origin, %s confirmed by a 304", share(t.Hits), share(t.Revalidations))
		}
		line("", "%s of bodies came from the cache, %s from the network", size(t.BytesServed), size(t.BytesReceived))
	} else {
		line("get", "no runs counted")
	}
	if len(s.Hosts) == 0 {
		return
	}
	fmt.Fprintf(out, "\n%s\n", out.paint(bold, "Bodies by host"))
	hosts := s.Hosts
	if most > 0 && len(hosts) > most {
		rest := hostSummary{Host: count(len(hosts)-most, "other", "others")}
		for _, host := range hosts[most:] {
			rest.Responses += host.Responses
			rest.Bytes += host.Bytes
		}
		hosts = append(slices.Clone(hosts[:most]), rest)
	}
	responses := func(host hostSummary) string { return count(host.Responses, "response", "responses") }
	width, countWidth := 0, 0
	var largest int64
	for _, host := range hosts {
		countWidth = max(countWidth, len(responses(host)))
		width = max(width, len([]rune(out.fit(host.Host, 40))))
		largest = max(largest, host.Bytes)
	}
	for _, host := range hosts {
		fmt.Fprintf(out, "  %-*s  %9s  %s", width, out.fit(printable(host.Host), 40), size(host.Bytes), responses(host))
		if out.terminal && largest > 0 {
			room := min(max(out.width-width-countWidth-19, 8), 50)
			gap := 2 + countWidth - len(responses(host))
			fmt.Fprintf(out, "%*s%s", gap, "", out.paint(green, bar(host.Bytes, largest, room)))
		}
		fmt.Fprintln(out)
	}
}

// bar draws a bar for n, where largest fills the width, in eighths of a column.
func bar(n, largest int64, columns int) string {
	eighths := int(float64(n) / float64(largest) * float64(columns*8))
	if n > 0 {
		eighths = max(eighths, 1)
	}
	text := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		text += string([]rune(" ▏▎▍▌▋▊▉")[rest])
	}
	return text
}
