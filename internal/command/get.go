package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/cachetrip/cachetrip"
)

// getting is one run of the command get.
type getting struct {
	quiet, verbose, showQuery bool
	withHeader, insecure      bool
	fails                     bool // discards the body of an error

	parallel, retries int
	timeout           time.Duration // how long an origin may send nothing; 0: without a limit

	stdout  io.Writer
	stderr  *screen
	own     *own
	targets []*target

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

	last *http.Response // the last response of a chain of redirects, while its body is read; nil before and after
}

// run fetches all URLs.
func (g *getting) run(ctx context.Context, dir string, maxBytes int64) error {
	cache, err := openCache(dir, "http", maxBytes)
	if err != nil {
		return err
	}
	defer cache.leave(ctx, g.stderr, g.quiet)
	network := newNetwork(g.insecure, g.timeout)
	cache.Base = network
	g.cache, g.client, g.log = cache, cache.Client(), &wireLog{showQuery: g.showQuery, own: g.own}
	g.client.CheckRedirect = g.checkRedirect
	if g.verbose {
		g.log.w, g.log.base = g.stderr, network.base
		network.base, cache.Logger = g.log, g.log.logger()
	}
	g.log.say("* cache directory: %s", cache.dir)
	// Bars are not shown if bodies go to the same terminal.
	shared := g.targets[0].output == "" && newScreen(g.stdout).terminal
	g.progress = newProgress(g.stderr, !g.quiet && !g.verbose, !shared)
	began := time.Now()
	g.all(ctx)
	g.progress.close()

	stats := cache.Stats()
	if err := addTally(cache.dir, stats, began); err != nil {
		g.log.say("* not counted: %v", err) // usually a directory that cannot be written to
	}
	if ctx.Err() != nil {
		return g.interrupted(ctx)
	}
	if len(g.targets) > 1 && !g.quiet {
		fmt.Fprintf(g.stderr, "%d URLs in %s: %s from the cache, %d of them confirmed by a 304; %s of bodies from the cache, %s from the network\n",
			len(g.targets), time.Since(began).Round(100*time.Millisecond), count(int(stats.Hits+stats.Revalidations), "response", "responses"), stats.Revalidations,
			size(stats.BytesServed), size(stats.BytesReceived))
	}
	return g.failed
}

// all fetches the targets, a few at a time.
func (g *getting) all(ctx context.Context) {
	var wg sync.WaitGroup
	queue := make(chan *target)
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
}

// interrupted returns the error of a run that the user has ended. It says what
// the cache has kept of the bodies.
func (g *getting) interrupted(ctx context.Context) error {
	closed := make(chan struct{})
	go func() { g.cache.Transport.Close(); close(closed) }() // waits until parts are stored
	select {
	case <-closed:
	case <-time.After(leaveTime):
	}
	look := &cachetrip.Transport{Store: g.cache.kept} // the other one is closed
	var parts int
	var held, length int64
	var lost string // why nothing is kept of a body
	for _, to := range g.targets {
		if to.last == nil {
			continue
		}
		req := to.last.Request.Clone(context.WithoutCancel(to.last.Request.Context()))
		explained, err := look.Explain(req)
		switch {
		case err == nil && len(explained.Stored) == 0:
			lost = whyNotKept(to.last)
			continue
		case err != nil || explained.Action != "resume" || explained.Selected < 0:
			continue // perhaps all is stored, because little was missing
		}
		e := explained.Stored[explained.Selected].Entry
		parts++
		held, length = held+heldBytes(e), length+max(e.Length, 0)
	}
	err := context.Cause(ctx)
	if parts > 0 {
		err = fmt.Errorf("interrupted; %s of %s are kept, and the same command continues there", size(held), size(length))
		return &failure{exitInterrupted, err}
	}
	if lost != "" {
		return &failure{exitInterrupted, fmt.Errorf("interrupted; nothing is kept, because %s", lost)}
	}
	return err
}

// one fetches one URL, and reports the outcome.
func (g *getting) one(to *target) {
	said, err := g.fetch(to)
	if said != "" && (!g.quiet || err != nil) {
		if len(g.targets) > 1 {
			said = g.shown(to.req) + ": " + said
		}
		g.progress.say("%s\n", said)
	}
	if err == nil {
		return
	}
	if f, ok := errors.AsType[*failure](err); len(g.targets) > 1 && to.req.Context().Err() == nil && (!ok || f.err != nil) {
		g.progress.say("cachetrip: %s\n", g.own.text(err.Error(), g.showQuery))
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

// shown returns the URL of a request as it may be shown.
func (g *getting) shown(req *http.Request) string { return g.own.url(req.URL.String(), g.showQuery) }
