package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/cachetrip/cachetrip/store"
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

// process is a worker, seen from the main process.
type process struct {
	name   string
	cmd    *exec.Cmd
	over   chan struct{} // closed when the worker has ended and all its output was read
	atWork atomic.Bool   // the worker has written an event
	mu     sync.Mutex
	killed bool
}

func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killed = true
	p.cmd.Process.Kill()
}

// start starts a worker. It calls ended when the worker has ended, unless the
// epoch is over.
func (r *round) start(ended func()) (*process, error) {
	r.names++
	p := &process{name: fmt.Sprintf("worker %d", r.names), over: make(chan struct{})}
	config, err := json.Marshal(workerConfig{
		Name: p.name, Dir: r.dir, MaxBytes: r.maxBytes, Origin: r.origin.url, Seed: r.rand.Uint64(), Clients: 4, Suicides: suicides,
	})
	if err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p.cmd = exec.Command(program)
	p.cmd.Env = append(os.Environ(), workerVariable+"="+string(config))
	if _, err := p.cmd.StdinPipe(); err != nil { // the worker ends when this pipe closes, which it does when this process ends
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var said bytes.Buffer
	p.cmd.Stderr = &said
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	r.counts.starts++
	go func() {
		r.listen(p, out)
		err := p.cmd.Wait()
		p.mu.Lock()
		killed := p.killed
		p.mu.Unlock()
		switch {
		case said.Len() > 0 || !killed && !diedByKill(err):
			r.violation("%s ended by itself: %v\n%s", p.name, err, tail(said.String()))
		case !killed:
			r.mu.Lock()
			r.counts.suicides++
			r.mu.Unlock()
		}
		close(p.over)
		ended()
	}()
	return p, nil
}

// diedByKill reports whether a worker that this process did not kill has killed
// itself.
func diedByKill(err error) bool {
	var exit *exec.ExitError
	// On systems with signals the state is "signal: killed"; on Windows a
	// killed process has exit code 1.
	return errors.As(err, &exit) && (strings.Contains(exit.Error(), "killed") || exit.ExitCode() == 1)
}

func tail(s string) string {
	if len(s) > 8<<10 {
		return s[:4<<10] + "\n…\n" + s[len(s)-4<<10:]
	}
	return s
}

// listen reads the events of a worker until it ends.
func (r *round) listen(p *process, out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(make([]byte, 64<<10), 64<<10)
	begun := make(map[uint64]change) // by ID
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			r.violation("%s told something unheard of: %v: %.200q", p.name, err, lines.Bytes())
			continue
		}
		p.atWork.Store(true)
		r.take(p, &e, begun)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range begun {
		r.history(c.key).changes = append(r.history(c.key).changes, c)
	}
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
		if c, again := begun[e.ID]; again { // a second attempt: the first failed, or may have
			r.history(e.Key).changes = append(r.history(e.Key).changes, c)
		}
		begun[e.ID] = change{key: e.Key, begun: e.Begun, before: e.Before, after: e.After, who: p.name}
		r.counts.changes++
	case eventDone:
		c := begun[e.ID]
		delete(begun, e.ID)
		c.done = e.Ended
		r.history(e.Key).changes = append(r.history(e.Key).changes, c)
		r.counts.done++
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
	case end != 0 && end+grace < e.Begun:
		r.violation("%s: %s: a version that was over for %v when the request was made", p.name, e.Text, time.Duration(e.Begun-end))
	}
}

// checkBound checks that the cache is within its size limit. While workers run,
// one pass over the files may count both an evicted file and its replacement.
// So several passes are needed.
func (r *round) checkBound(passes int) {
	limit := r.maxBytes + r.maxBytes/10
	sum := r.measure()
	for i := 1; i < passes && sum > limit; i++ {
		sum = min(sum, r.measure())
	}
	if sum > limit {
		r.violation("the cache takes %d bytes, more than its bound of %d and 10 %%", sum, r.maxBytes)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if passes == 1 {
		r.counts.most = max(r.counts.most, sum)
	}
}

// measure returns the size of all files of the cache, in blocks.
func (r *round) measure() (sum int64) {
	filepath.WalkDir(filepath.Join(r.dir, "v1"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		if filepath.Base(filepath.Dir(path)) == "v1" {
			return nil
		}
		if fi, err := d.Info(); err == nil {
			sum += (fi.Size() + 4095) &^ 4095
		}
		return nil
	})
	return sum
}

// examine examines the directory while nobody uses it, and leaves it as if an
// hour had passed.
func (r *round) examine(ctx context.Context) error {
	r.counts.examined++
	r.checkBound(1)
	d, err := store.OpenDisk(r.dir, store.DiskOptions{MaxBytes: r.maxBytes, MemoryBytes: -1})
	if err != nil {
		r.violation("the directory does not open: %v", err)
		return nil
	}
	defer d.Close()
	now := make(map[string]state)
	count := int64(0)
	for _, key := range r.keys() {
		begun := time.Now().UnixNano()
		entries, err := d.Entries(ctx, key)
		if err != nil {
			r.violation("entries of %s: %v", key, err)
			return nil
		}
		now[key] = stateOf(entries)
		h := r.history(key)
		h.readings = append(h.readings, reading{begun: begun, ended: time.Now().UnixNano(), found: now[key], who: "the examination"})
	}
	for key, h := range r.histories {
		for _, text := range h.check(key, r.vanishing) {
			r.violation("%s", text)
		}
		h.forget(now[key])
	}
	report, err := d.Verify(ctx)
	if err == nil && report.Damaged > 0 {
		r.violation("%d keys were damaged after they had been read: %+v", report.Damaged, report)
	}
	if err != nil {
		r.violation("verification: %v", err)
	}
	for e, err := range d.All(ctx, "") {
		if err != nil {
			r.violation("listing: %v", err)
			break
		}
		if count++; now[e.Key] == 0 {
			r.violation("the entry %s of %s was not there before", e.Key, e.URL)
		}
	}
	r.counts.entries = count
	return r.hourLater(ctx, d)
}

func (r *round) keys() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := make([]string, 0, len(r.histories))
	for key := range r.histories {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// hourLater makes leftover files look an hour old, and checks that the next
// user removes them. Users look for leftovers only after some time, or if the
// file "usage" is missing, so hourLater removes that file.
func (r *round) hourLater(ctx context.Context, d *store.Disk) error {
	left, err := r.leftovers(ctx, d)
	if err != nil {
		return err
	}
	r.counts.leftovers += int64(len(left))
	past := time.Now().Add(-2 * time.Hour)
	for _, path := range left {
		if err := os.Chtimes(path, past, past); err != nil {
			return err
		}
	}
	if err := os.Remove(filepath.Join(r.dir, "v1", "usage")); err != nil {
		return err
	}
	if d, err = store.OpenDisk(r.dir, store.DiskOptions{MaxBytes: r.maxBytes}); err != nil {
		r.violation("the directory does not open without the file \"usage\": %v", err)
		return nil
	}
	defer d.Close()
	// Each change of the cache examines one of the 256 shards.
	for i := range 300 {
		key := fmt.Sprintf("%02x%062x", i%256, 0)
		entry := &store.Entry{Key: key, Method: "GET", Status: 200, RequestTime: past, ResponseTime: past}
		for _, entries := range [][]*store.Entry{{entry}, nil} {
			err := d.Update(ctx, key, func([]*store.Entry) []*store.Entry { return entries })
			if err != nil && !errors.Is(err, store.ErrTooLarge) {
				r.violation("update an hour later: %v", err)
				return nil
			}
		}
	}
	if left, err = r.leftovers(ctx, d); err != nil {
		return err
	}
	if len(left) > 0 {
		r.violation("%d files of processes that were killed are still there an hour later: %v", len(left), left[:min(len(left), 5)])
	}
	return nil
}

// leftovers returns the files that no entry names.
func (r *round) leftovers(ctx context.Context, d *store.Disk) (left []string, err error) {
	named := make(map[string]bool)
	for e, err := range d.All(ctx, "") {
		if err != nil {
			return nil, err
		}
		named[e.Key] = true
		for _, p := range e.Parts {
			named[e.Key+"-"+p.Blob.ID] = true
		}
	}
	for _, dir := range []string{"data", "tmp"} {
		err := filepath.WalkDir(filepath.Join(r.dir, "v1", dir), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() && !named[d.Name()] {
				left = append(left, path)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return left, nil
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
