package command

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/cachetrip/cachetrip"
)

func demoCommand() *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "fetch a small site several times, and show the cost of each request",
		Description: "Starts a web site on a loopback port and fetches its pages through a cache on disk, then\n" +
			"once more without a cache, for comparison. A second run on the same directory starts warm.",
		Flags: []cli.Flag{
			&cli.StringFlag{
				Name: "dir", TakesFile: true,
				Usage:       "keep the cache in `DIR`",
				DefaultText: "cachetrip/demo in the user's cache directory",
			},
		},
		Action: func(ctx context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return usagef("demo takes no arguments\nRun 'cachetrip demo --help' for its options.")
			}
			return demo(ctx, c.String("dir"), c.Root().Writer)
		},
	}
}

// scene is a part of the demo: its title, and the requests that show it.
type scene struct {
	title string
	steps []step
}

// step is one request of the demo.
type step struct {
	path     string
	language string        // Accept-Language, if any
	before   func(*origin) // what the origin does before the request, if anything
}

func (s step) String() string {
	if s.language == "" {
		return "GET " + s.path
	}
	return "GET " + s.path + " (" + s.language + ")"
}

var scenes = []scene{
	{"Fresh: the style sheet may be used for a day (max-age=86400)", []step{
		{path: "/style.css"},
		{path: "/style.css"},
	}},
	{"Stale, but unchanged: the catalogue must be checked each time (max-age=0), by its ETag", []step{
		{path: "/catalogue"},
		{path: "/catalogue"},
		{path: "/catalogue"},
	}},
	{"Stale and changed: a new edition comes out between the two requests", []step{
		{path: "/news"},
		{path: "/news", before: func(o *origin) { o.edition.Add(1) }},
	}},
	{"Two variants, kept side by side (Vary: Accept-Language)", []step{
		{path: "/hello", language: "en"},
		{path: "/hello", language: "de"},
		{path: "/hello", language: "en"},
		{path: "/hello", language: "de"},
	}},
	{"A 304 that matches nothing stored: the origin answers conditional requests with another ETag", []step{
		{path: "/mirror"},
		{path: "/mirror"},
	}},
}

// outcome is the result of a step.
type outcome struct {
	status   int
	words    string
	requests int64 // requests that reached the origin
	wire     int64 // bytes, both directions
	body     [sha256.Size]byte
}

// demo plays the scenes with a cache in dir, then without a cache, and writes
// the results to w.
func demo(ctx context.Context, dir string, w io.Writer) (err error) {
	cache, err := openCache(dir, "demo", 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cache.Close()) }()
	dir = cache.dir
	before, err := storedResponses(ctx, cache.Transport)
	if err != nil {
		return err
	}

	opened := time.Now()
	site, err := startOrigin(opened)
	if err != nil {
		return err
	}
	defer site.close()
	fmt.Fprintf(w, "The web site %s/ is served by net/http on %s.\n", demoSite, site.listener.Addr())
	fmt.Fprintf(w, "The cache is in %s.\n", dir)
	if before == 0 {
		fmt.Fprintf(w, "It starts cold: nothing is stored.\n")
	} else {
		fmt.Fprintf(w, "It starts warm: %d responses are stored.\n", before)
	}

	base := site.transport()
	defer base.CloseIdleConnections()
	cache.Base = base
	with, err := play(ctx, cache.Client(), site)
	if err != nil {
		return err
	}
	printTable(w, with)

	without, err := playWithout(ctx, opened)
	if err != nil {
		return err
	}
	printTotals(w, with, without)
	for i := range with {
		if with[i].body != without[i].body || with[i].status != without[i].status {
			return fmt.Errorf("request %d got different responses with and without the cache", i+1)
		}
	}
	fmt.Fprintf(w, "All %d responses were the same, byte for byte, with and without the cache.\n", len(with))

	stats := cache.Stats()
	after, err := storedResponses(ctx, cache.Transport)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "\nThe cache counted %d requests: %d answered at once, %d after a 304, %d by the origin.\n",
		stats.Requests, stats.Hits, stats.Revalidations, stats.Misses)
	fmt.Fprintf(w, "%d responses are stored in %s.\n", after, dir)
	fmt.Fprintf(w, "Run the demo again to see it start warm. Use --dir with an empty directory to see it start cold.\n")
	return nil
}

// playWithout plays the scenes on a site of its own, without a cache.
func playWithout(ctx context.Context, opened time.Time) ([]outcome, error) {
	site, err := startOrigin(opened)
	if err != nil {
		return nil, err
	}
	defer site.close()
	plain := site.transport()
	defer plain.CloseIdleConnections()
	return play(ctx, &http.Client{Transport: plain}, site)
}

// play makes the requests of all scenes through client, one after the other.
func play(ctx context.Context, client *http.Client, site *origin) ([]outcome, error) {
	var outcomes []outcome
	for _, scene := range scenes {
		for _, step := range scene.steps {
			if step.before != nil {
				step.before(site)
			}
			requests, wire := site.requests.Load(), site.wire.Load()
			o, err := fetch(ctx, client, step)
			if err != nil {
				return nil, err
			}
			o.requests, o.wire = site.requests.Load()-requests, site.wire.Load()-wire
			outcomes = append(outcomes, o)
		}
	}
	return outcomes, nil
}

// fetch makes the request of one step and reads the whole response.
func fetch(ctx context.Context, client *http.Client, s step) (outcome, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, demoSite+s.path, nil)
	if err != nil {
		return outcome{}, err
	}
	if s.language != "" {
		req.Header.Set("Accept-Language", s.language)
	}
	resp, err := client.Do(req)
	if err != nil {
		return outcome{}, err
	}
	defer resp.Body.Close()
	digest := sha256.New()
	if _, err := io.Copy(digest, resp.Body); err != nil {
		return outcome{}, err
	}
	o := outcome{status: resp.StatusCode, words: describe(resp)}
	digest.Sum(o.body[:0])
	return o, nil
}

// storedResponses returns how many responses are stored in cache.
func storedResponses(ctx context.Context, cache *cachetrip.Transport) (int, error) {
	n := 0
	for _, err := range cache.Entries(ctx, "") {
		if err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}

// printTable writes the outcome of each step.
func printTable(w io.Writer, outcomes []outcome) {
	const row = "  %-20s  %6v  %8v  %10v  %s\n"
	fmt.Fprintln(w)
	fmt.Fprintf(w, row, "request", "status", "asked", "wire", "what the cache did")
	i := 0
	for _, scene := range scenes {
		fmt.Fprintf(w, "\n%s\n", scene.title)
		for _, step := range scene.steps {
			o := outcomes[i]
			i++
			fmt.Fprintf(w, row, step, o.status, times(o.requests), size(o.wire), o.words)
		}
	}
	fmt.Fprintf(w, "\n(asked: requests that reached the origin; wire: bytes at its sockets in both directions, with headers)\n")
}

func times(n int64) string {
	switch n {
	case 0:
		return "no"
	case 1:
		return "once"
	case 2:
		return "twice"
	}
	return fmt.Sprintf("%d times", n)
}

// printTotals compares the origin's counts with the cache and without.
func printTotals(w io.Writer, with, without []outcome) {
	sum := func(outcomes []outcome) (requests, wire int64) {
		for _, o := range outcomes {
			requests += o.requests
			wire += o.wire
		}
		return requests, wire
	}
	withRequests, withWire := sum(with)
	withoutRequests, withoutWire := sum(without)
	fmt.Fprintf(w, "\n%-24s %16s %16s\n", "", "with the cache", "without")
	fmt.Fprintf(w, "%-24s %16d %16d\n", "requests at the origin", withRequests, withoutRequests)
	fmt.Fprintf(w, "%-24s %16s %16s\n\n", "bytes on the wire", size(withWire), size(withoutWire))
}
