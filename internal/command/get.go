package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/internal/field"
	"github.com/cachetrip/cachetrip/internal/redact"
)

func getCommand() *cli.Command {
	return &cli.Command{
		Name:      "get",
		Usage:     "fetch URLs through the per-user cache",
		ArgsUsage: "URL...",
		Description: "Writes the bodies to standard output, one after the other, or to files. A file is replaced only when\n" +
			"the whole body has arrived. Standard error says how each response was obtained. Redirects are\n" +
			"followed. If a transfer breaks off, the next run resumes it if the origin allows that.\n\n" +
			"If an origin allows stale-while-revalidate, a stale response is written at once. The program then\n" +
			"waits for the revalidation for up to 2s. If it takes longer, the next run does it.\n\n" +
			"If a response's status is 400 or more, the exit code is 22 and the file stays as it is. With\n" +
			"--offline, the exit code is 3 if the cache has no usable response.",
		DisableSliceFlagSeparator: true, // a comma is part of the field's value
		Flags: []cli.Flag{
			headerFlag(),
			&cli.StringFlag{
				Name: "o", Aliases: []string{"output"}, TakesFile: true,
				Usage: "write the body to `FILE`, whole or not at all",
			},
			&cli.BoolFlag{
				Name: "O", Aliases: []string{"remote-name"},
				Usage: "write each body to a file named as the last part of its URL",
			},
			&cli.StringFlag{
				Name: "output-dir", TakesFile: true,
				Usage: "with -O, write the files to `DIR`",
			},
			&cli.IntFlag{
				Name: "j", Aliases: []string{"parallel"}, Value: 1,
				Usage: "with -O, fetch up to `N` URLs at a time",
			},
			&cli.BoolFlag{
				Name:  "offline",
				Usage: "ask only the cache (only-if-cached); add --max-stale to accept stale responses",
			},
			&cli.BoolFlag{
				Name:  "refresh",
				Usage: "ask the origin even if the stored response is fresh (no-cache)",
			},
			&cli.StringFlag{
				Name:  "max-stale",
				Usage: "accept responses that have been stale for up to `DURATION`, such as 12h or 30d, or 'any'",
			},
			&cli.BoolFlag{
				Name: "q", Aliases: []string{"quiet"},
				Usage: "write only errors to standard error",
			},
			&cli.BoolFlag{
				Name: "v", Aliases: []string{"verbose"},
				Usage: "show on standard error requests to the origin (>), its responses (<), responses from the cache (=), and reasons (*)",
			},
			showQueryFlag(),
			&cli.StringFlag{
				Name:        "max-size",
				Usage:       "keep the cache within `SIZE`, such as 500MB or 2GiB, by removing the least recently used responses",
				DefaultText: "1GiB",
			},
			dirFlag(),
		},
		Action: func(ctx context.Context, c *cli.Command) error {
			g := &getting{
				quiet: c.Bool("q"), verbose: c.Bool("v"), showQuery: c.Bool("show-query"), parallel: c.Int("j"),
				stdout: c.Root().Writer, stderr: newScreen(c.Root().ErrWriter),
			}
			if err := g.plan(ctx, c); err != nil {
				return err
			}
			var maxBytes int64
			if text := c.String("max-size"); text != "" {
				var err error
				if maxBytes, err = parseSize(text); err != nil {
					return usagef("--max-size: %w", err)
				}
			}
			return g.run(ctx, c.String("dir"), maxBytes)
		},
	}
}

// getting is one run of the command get.
type getting struct {
	quiet, verbose, showQuery bool

	parallel int
	stdout   io.Writer
	stderr   *screen
	targets  []target

	cache    *cache
	client   *http.Client
	log      *wireLog
	progress *progress

	mu     sync.Mutex
	failed error // the first failure with an exit code of its own, or else the first error
}

// target is a URL to fetch, and the file to write its body to.
type target struct {
	req    *http.Request
	output string // a path; empty for standard output
}

// plan reads the flags and arguments.
func (g *getting) plan(ctx context.Context, c *cli.Command) error {
	const help = "\nRun 'cachetrip get --help' for its options."
	urls, output, named := c.Args().Slice(), c.String("o"), c.Bool("O")
	switch {
	case len(urls) == 0:
		return usagef("get takes one URL or more, not 0" + help)
	case output != "" && len(urls) > 1:
		return usagef("-o is for one URL, not %d; -O names a file for each"+help, len(urls))
	case output != "" && named:
		return usagef("-o and -O exclude each other" + help)
	case c.String("output-dir") != "" && !named:
		return usagef("--output-dir needs -O" + help)
	case g.parallel < 1:
		return usagef("-j %d: at least one at a time"+help, g.parallel)
	case g.parallel > 1 && !named:
		return usagef("-j needs -O: on standard output bodies come one after the other" + help)
	case c.Bool("offline") && c.Bool("refresh"):
		return usagef("--offline and --refresh exclude each other" + help)
	}
	var directives []string
	if c.Bool("offline") {
		directives = append(directives, "only-if-cached")
	}
	if c.Bool("refresh") {
		directives = append(directives, "no-cache")
	}
	switch text := c.String("max-stale"); text {
	case "":
	case "any":
		directives = append(directives, "max-stale")
	default:
		d, err := parseDuration(text)
		if err != nil {
			return usagef("--max-stale: %w, nor 'any'", err)
		}
		directives = append(directives, fmt.Sprintf("max-stale=%d", d/time.Second))
	}
	taken := make(map[string]string)
	for _, rawURL := range urls {
		req, err := newRequest(ctx, rawURL, c.StringSlice("H"))
		if err != nil {
			return err
		}
		if len(directives) > 0 {
			req.Header.Add("Cache-Control", strings.Join(directives, ", "))
		}
		to := target{req, output}
		if named {
			name, err := remoteName(req.URL)
			if err != nil {
				return err
			}
			to.output = filepath.Join(c.String("output-dir"), name)
			if other, ok := taken[strings.ToLower(name)]; ok && other != rawURL {
				return usagef("%s and %s would both be written to %s; fetch one of them with -o", other, rawURL, to.output)
			}
			taken[strings.ToLower(name)] = rawURL
		}
		g.targets = append(g.targets, to)
	}
	return nil
}

// remoteName returns a file name for u: the last part of its path.
func remoteName(u *url.URL) (string, error) {
	name := path.Base(u.Path)
	if strings.HasSuffix(u.Path, "/") || u.Path == "" {
		name = "index.html"
	}
	// Origins choose URLs, so the name must not point into another directory.
	if !filepath.IsLocal(name) || strings.ContainsAny(name, `/\`) || strings.ContainsFunc(name, isControl) || strings.HasPrefix(name, ".") {
		return "", usagef("%q is no name for a file; name one with -o", name)
	}
	return name, nil
}

// run fetches all URLs.
func (g *getting) run(ctx context.Context, dir string, maxBytes int64) error {
	cache, err := openCache(dir, "http", maxBytes)
	if err != nil {
		return err
	}
	defer cache.leave(ctx, g.stderr, g.quiet)
	g.cache, g.client, g.log = cache, cache.Client(), &wireLog{showQuery: g.showQuery}
	if g.verbose {
		g.log.w, g.log.base = g.stderr, http.DefaultTransport
		cache.Base, cache.Logger = g.log, g.log.logger()
		g.client.CheckRedirect = g.log.checkRedirect
	}
	g.log.say("* cache directory: %s", cache.dir)
	// Progress is not shown if bodies go to the same terminal or the log is
	// shown.
	shared := g.targets[0].output == "" && newScreen(g.stdout).terminal
	g.progress = newProgress(g.stderr, !g.quiet && !g.verbose && !shared)
	began := time.Now()

	var wg sync.WaitGroup
	queue := make(chan target)
	for range min(g.parallel, len(g.targets)) {
		wg.Go(func() {
			for to := range queue {
				if ctx.Err() == nil {
					g.one(to)
				}
			}
		})
	}
	for _, to := range g.targets {
		queue <- to
	}
	close(queue)
	wg.Wait()
	g.progress.close()

	stats := cache.Stats()
	if err := addTally(cache.dir, stats, began); err != nil {
		g.log.say("* not counted: %v", err) // usually a directory that cannot be written to
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if len(g.targets) > 1 && !g.quiet {
		fmt.Fprintf(g.stderr, "%d URLs in %s: %s from the cache, %d of them confirmed by a 304; %s of bodies from the cache, %s from the network\n",
			len(g.targets), time.Since(began).Round(100*time.Millisecond), count(int(stats.Hits+stats.Revalidations), "response", "responses"), stats.Revalidations,
			size(stats.BytesServed), size(stats.BytesReceived))
	}
	return g.failed
}

// one fetches one URL, and reports the outcome.
func (g *getting) one(to target) {
	said, err := g.fetch(to)
	if said != "" && (!g.quiet || err != nil) {
		if len(g.targets) > 1 {
			said = redact.URL(to.req.URL.String(), g.showQuery) + ": " + said
		}
		g.progress.say("%s\n", said)
	}
	if err == nil {
		return
	}
	if f, ok := errors.AsType[*failure](err); len(g.targets) > 1 && to.req.Context().Err() == nil && (!ok || f.err != nil) {
		g.progress.say("cachetrip: %s\n", redact.Text(err.Error(), g.showQuery))
		code := exitFailed
		if ok {
			code = f.code
		}
		err = &failure{code: code} // the user has been told already
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if f, ok := errors.AsType[*failure](err); g.failed == nil || !ok || f.code == exitFailed {
		g.failed = err
	}
}

// fetch fetches one URL, writes its body, and returns the message for the user.
func (g *getting) fetch(to target) (said string, err error) {
	out, err := createOutput(to.output, g.stdout)
	if err != nil {
		return "", err
	}
	defer out.discard()

	resp, err := g.client.Do(to.req)
	if err != nil {
		// After a redirect, the response has another URL.
		if failed, ok := errors.AsType[*url.Error](err); ok && failed.URL == to.req.URL.String() && g.usableStale(to.req) {
			err = fmt.Errorf("%w; add --offline --max-stale any to get the stored response", err)
		}
		return "", err
	}
	defer resp.Body.Close()
	g.log.handedOut(resp)

	if cachetrip.StatusOf(resp) == (cachetrip.Status{}) { // a 504 that the cache made
		if shown := redact.URL(to.req.URL.String(), g.showQuery); resp.Request.URL.String() == to.req.URL.String() && g.usableStale(to.req) {
			return "", notCached("%s is stored, but stale; add --max-stale any to get it", shown)
		}
		return "", notCached("%s is not in the cache, or may not be used without asking the origin; omit --offline to ask it, or see 'cachetrip explain'", redact.URL(to.req.URL.String(), g.showQuery))
	}
	refused := resp.StatusCode >= 400
	var w io.Writer = out
	if refused && out.temporary != "" {
		w = io.Discard // do not overwrite the file with an error page
	}
	bar := g.progress.follow(w, path.Base(to.req.URL.Path), resp.ContentLength)
	n, err := io.Copy(bar, resp.Body)
	bar.close()
	if err != nil {
		return "", fmt.Errorf("%s: after %s of the body: %w%s", redact.URL(to.req.URL.String(), g.showQuery), size(n), err, nextTime(resp))
	}
	if !refused {
		if err := out.commit(); err != nil {
			return "", err
		}
	}
	said = fmt.Sprintf("%s, %s; %s", resp.Status, size(n), describe(resp))
	if refused {
		return said, &failure{code: exitHTTP}
	}
	return said, nil
}

// usableStale reports whether a request that asks only the cache, and accepts
// stale responses, would get a body.
func (g *getting) usableStale(req *http.Request) bool {
	patient := req.Clone(context.WithoutCancel(req.Context()))
	patient.Header.Set("Cache-Control", "only-if-cached, max-stale")
	explained, err := g.cache.Explain(patient)
	if err != nil || req.Context().Err() != nil || explained.Action != "serve" || explained.Selected < 0 {
		return false
	}
	return explained.Stored[explained.Selected].Entry.Header.Get("Location") == "" // the target of a redirect may not be stored
}

// nextTime returns advice for the user after a transfer broke off.
func nextTime(resp *http.Response) string {
	if strings.EqualFold(resp.Header.Get("Accept-Ranges"), "bytes") && cachetrip.StatusOf(resp).Stored {
		return "; run it again to fetch the rest"
	}
	return "; run it again"
}

// newRequest returns a GET request for rawURL with the given fields, each of
// the form "Name: value".
func newRequest(ctx context.Context, rawURL string, fields []string) (*http.Request, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, usagef("%w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, usagef("%q is not an http or https URL, such as https://example.com/", u.Redacted())
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, usagef("%w", err)
	}
	req.Header.Set("User-Agent", "cachetrip/"+strings.Trim(version(), "()"))
	given := make(http.Header)
	for i, line := range fields {
		name, value, found := strings.Cut(line, ":")
		value = strings.Trim(value, " \t")
		// The message does not repeat the field, because any part may be a
		// credential.
		if !found || !field.IsToken(name) || strings.ContainsFunc(value, isControl) {
			return nil, usagef("the %s -H is not a header field of the form 'Name: value'", ordinal(i+1))
		}
		given.Add(name, value)
	}
	for name, values := range given {
		if name == "Host" { // net/http takes the host from req.Host
			req.Host = values[0]
			continue
		}
		req.Header[name] = values
	}
	return req, nil
}

// ordinal returns n as an ordinal number, such as "2nd".
func ordinal(n int) string {
	if n <= 3 {
		return []string{"first", "second", "third"}[n-1]
	}
	return fmt.Sprintf("%dth", n)
}

func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
