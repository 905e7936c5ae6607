package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"text/tabwriter"
	"time"
)

// This file runs a round: workers on one directory, from its beginning to its
// end.

const (
	// epoch is how long workers run before all are killed and the directory is
	// examined.
	epoch = 3 * time.Second

	// killEvery is the mean time between two kills from outside.
	killEvery = 120 * time.Millisecond

	// suicides is the share of store changes during which a worker kills
	// itself.
	suicides = .01

	// changeEvery is how often one of the origin's resources changes. Each
	// resource changes about once a second.
	changeEvery = 5 * time.Millisecond

	// clockSlack allows for the time between reading the clock and using its
	// value.
	clockSlack = 20 * time.Millisecond
)

type round struct {
	name      string
	dir       string
	maxBytes  int64
	vanishing bool // the cache evicts, so entries may vanish at any time
	workers   int
	seed      uint64
	log       io.Writer

	origin *origin
	rand   *rand.Rand
	names  int // of all workers so far

	mu        sync.Mutex
	histories map[string]*history
	wrong     []string
	counts    counts
}

// counts is the statistics of a round.
type counts struct {
	answers         map[string]int64 // by result
	bytes           int64            // verified
	readings        int64
	changes         int64 // begun
	done            int64 // changes known to have been made
	evictions       int64
	kills, suicides int64
	starts          int64
	examined        int64 // examinations of the directory
	leftovers       int64 // files that dead processes left
	most            int64 // bytes on disk when all workers were killed
	errors          map[string]int64
	entries         int64 // at the end of the round
	originCounts    originCounts
	took            time.Duration
}

func (r *round) violation(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrong = append(r.wrong, r.name+": "+fmt.Sprintf(format, args...))
}

func (r *round) violated() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.wrong) > 0
}

// run runs the round. Its error says that the round could not run; broken
// promises are in r.wrong.
func (r *round) run(ctx context.Context, d time.Duration) error {
	start := time.Now()
	r.histories = make(map[string]*history)
	r.counts.answers = make(map[string]int64)
	r.counts.errors = make(map[string]int64)
	r.rand = rand.New(rand.NewPCG(r.seed, 0xc4a5))
	var err error
	if r.origin, err = startOrigin(r.seed); err != nil {
		return err
	}
	defer r.origin.close()

	background, stop := context.WithCancel(ctx)
	var others sync.WaitGroup
	defer func() { stop(); others.Wait() }()
	others.Go(func() {
		for background.Err() == nil {
			r.origin.change()
			sleep(background, changeEvery)
		}
	})
	others.Go(func() {
		for background.Err() == nil {
			r.checkBound(5)
			sleep(background, 50*time.Millisecond)
		}
	})

	n := max(1, int(d/epoch))
	for i := range n {
		end := start.Add(d * time.Duration(i+1) / time.Duration(n))
		if err := r.epoch(ctx, time.Until(end)); err != nil {
			return err
		}
		if ctx.Err() != nil || r.violated() {
			break
		}
		if err := r.examine(ctx); err != nil {
			return err
		}
		if r.violated() {
			break
		}
	}
	r.origin.mu.Lock()
	r.counts.originCounts = r.origin.counts
	r.origin.mu.Unlock()
	r.counts.took = time.Since(start)
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// epoch keeps workers running for a while, killing and replacing them, and
// kills all of them in the end.
func (r *round) epoch(ctx context.Context, d time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, max(d, 500*time.Millisecond))
	defer cancel()
	living := make([]*process, r.workers)
	ended := make(chan int)
	start := func(i int) error {
		p, err := r.start(func() { ended <- i })
		living[i] = p
		return err
	}
	var failed error
	for i := range living {
		if failed = start(i); failed != nil {
			break
		}
	}
	for failed == nil && ctx.Err() == nil && !r.violated() {
		timer := time.NewTimer(time.Duration(r.rand.ExpFloat64() * float64(killEvery)))
		select {
		case <-timer.C:
			if p := living[r.rand.IntN(len(living))]; p.atWork.Load() {
				p.kill()
				r.counts.kills++
			}
		case i := <-ended:
			failed = start(i)
		case <-ctx.Done():
		}
		timer.Stop()
	}
	for _, p := range living {
		if p != nil {
			p.kill()
		}
	}
	for _, p := range living {
		for p != nil {
			select {
			case <-ended:
				continue
			case <-p.over:
			}
			break
		}
	}
	return failed
}

func (r *round) history(key string) *history {
	h := r.histories[key]
	if h == nil {
		h = new(history)
		r.histories[key] = h
	}
	return h
}

func (r *round) take(p *process, e *event, begun map[uint64]change) {
	if e.Kind == eventAnswer {
		r.checkAnswer(p, e)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e.Kind {
	case eventChange:
		if c, again := begun[e.ID]; again {
			c.again = true
			r.history(e.Key).changes = append(r.history(e.Key).changes, c)
		}
		begun[e.ID] = change{key: e.Key, begun: e.Begun, before: e.Before, after: e.After, fresh: e.Fresh, who: p.name}
		r.counts.changes++
	case eventDone:
		c := begun[e.ID]
		delete(begun, e.ID)
		c.done = e.Ended
		r.history(e.Key).changes = append(r.history(e.Key).changes, c)
		r.counts.done++
	case eventDropped:
		r.history(e.Key).dropped = true
	case eventReading:
		r.history(e.Key).readings = append(r.history(e.Key).readings, reading{begun: e.Begun, ended: e.Ended, found: e.After, who: p.name})
		r.counts.readings++
	case eventAnswer:
		r.counts.answers[e.Result]++
		r.counts.bytes += e.Bytes
	case eventError:
		r.counts.errors[e.Result]++
	case eventEvictions:
		r.counts.evictions += e.Bytes
	case eventViolation:
		r.wrong = append(r.wrong, r.name+": "+e.Text)
	}
}

// checkAnswer checks that the origin's response was current at a time that its
// use allows.
func (r *round) checkAnswer(p *process, e *event) {
	v, err := parseRepresentation(e.Version)
	if err != nil {
		r.violation("%s: %v", p.name, err)
		return
	}
	start, end, ok := r.origin.lifetime(v.resource, v.version)
	var grace int64
	switch e.Result {
	case resultHit, resultCollapsed:
		grace = int64(r.origin.resources[v.resource].maxAge)*int64(time.Second) + int64(clockSlack)
	}
	switch {
	case !ok || start > e.Ended:
		r.violation("%s: %s: a version that does not exist", p.name, e.Text)
	case e.Result == resultCollapsed && e.Arrived > e.Begun:
		// The request joined one that was under way. The origin had chosen its
		// answer before.
	case end != 0 && end+grace < e.Begun:
		r.violation("%s: %s: a version that was over for %v when the request was made", p.name, e.Text, time.Duration(e.Begun-end))
	}
}

// printTable prints the statistics of each round.
func printTable(out io.Writer, rounds []*round) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	defer w.Flush()
	row := func(name string, value func(c *counts) any) {
		fmt.Fprintf(w, "%s\t", name)
		for _, r := range rounds {
			fmt.Fprintf(w, "%v\t", value(&r.counts))
		}
		fmt.Fprintln(w)
	}
	mib := func(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
	fmt.Fprintf(w, "\t")
	for _, r := range rounds {
		fmt.Fprintf(w, "%s\t", r.name)
	}
	fmt.Fprintln(w)
	row("time", func(c *counts) any { return c.took.Round(10 * time.Millisecond) })
	row("answers", func(c *counts) (n any) {
		sum := int64(0)
		for _, m := range c.answers {
			sum += m
		}
		return sum
	})
	for _, result := range []string{resultHit, resultValidated, resultCollapsed, resultOrigin, resultPost} {
		row("of them "+result, func(c *counts) any { return c.answers[result] })
	}
	row("verified", func(c *counts) any { return mib(c.bytes) })
	row("requests to the origin", func(c *counts) any { return c.originCounts.requests })
	row("broken off by it", func(c *counts) any { return c.originCounts.cut })
	row("lookups", func(c *counts) any { return c.readings })
	row("changes", func(c *counts) any { return c.changes })
	row("not known to be made", func(c *counts) any { return c.changes - c.done })
	row("evictions", func(c *counts) any { return c.evictions })
	row("the most it took, of all examinations", func(c *counts) any { return mib(c.most) })
	row("workers started", func(c *counts) any { return c.starts })
	row("killed", func(c *counts) any { return c.kills })
	row("killed by themselves", func(c *counts) any { return c.suicides })
	row("examinations", func(c *counts) any { return c.examined })
	row("left behind, and swept", func(c *counts) any { return c.leftovers })
	row("entries at the end", func(c *counts) any { return c.entries })
	var kinds []string
	for _, r := range rounds {
		for kind := range r.counts.errors {
			kinds = append(kinds, kind)
		}
	}
	slices.Sort(kinds)
	for _, kind := range slices.Compact(kinds) {
		row(kind, func(c *counts) any { return c.errors[kind] })
	}
}
