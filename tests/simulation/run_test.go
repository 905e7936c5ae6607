package simulation

import (
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
	"github.com/cachetrip/cachetrip/store/storefault"
)

// A run of a program: the callers, and the record of what they got.

// call is one request of a caller to the cache, and its result. Redirects make
// several of an action.
type call struct {
	action   int
	hop      int
	process  int
	method   string
	path     string
	header   http.Header
	start    time.Duration
	answered time.Duration // when RoundTrip returned
	ended    time.Duration // when the body was read to its end, or closed
	// Numbers of the same moments, in the order of events in a run.
	began, returned, finished uint64

	err      error // of RoundTrip
	status   int
	response http.Header
	length   int64 // Response.ContentLength
	body     []byte
	eof      bool
	readErr  error
	cache    cachetrip.Status
}

// outcome is the result of an action.
type outcome struct {
	start, end time.Duration
	// Numbers of the same moments, in the order of events in a run.
	began, finished uint64

	err    error
	ok     bool // the caller has all that it wanted to read
	status int
}

// asking is a request as Base gets it.
type asking struct {
	action   int
	at       time.Duration
	deadline time.Duration // 0 if there is none
}

// record is the record of a run.
type record struct {
	program   *program
	exchanges []*exchange
	calls     []*call
	asked     []asking
	outcomes  map[int]outcome
	faults    []string      // what went wrong with the run itself
	closing   time.Duration // how long the longest Close took
}

// run runs a program in a bubble of its own, with the cache or without.
func run(t *testing.T, p *program, cached bool) (rec *record) {
	rec = &record{program: p, outcomes: map[int]outcome{}}
	defer func() {
		if v := recover(); v != nil { // a deadlock of the bubble: a goroutine waits forever, or never ends
			rec.faults = append(rec.faults, fmt.Sprintf("panic: %v\n%s", v, left()))
		}
	}()
	dir := ""
	if cached && p.disk {
		var err error
		if dir, err = os.MkdirTemp("", "simulation"); err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
	}
	synctest.Test(t, func(t *testing.T) {
		o, base, stop := serve(p)
		r := &runner{program: p, record: rec, origin: o, base: base, dir: dir, cached: cached}
		r.run()
		stop()
		synctest.Wait() // for the handlers that have hung
		rec.exchanges = o.recorded()
	})
	return rec
}

// left returns the stacks of the goroutines that are left in the bubble.
func left() string {
	room := make([]byte, 1<<20)
	last := 0
	var stacks []string
	for _, stack := range strings.Split(string(room[:runtime.Stack(room, true)]), "\n\n") {
		first, _, _ := strings.Cut(stack, "\n")
		_, bubble, ok := strings.Cut(first, "synctest bubble ")
		if n, _ := strconv.Atoi(strings.TrimRight(bubble, "]:")); ok && n >= last {
			if n > last { // those of earlier programs may be left as well
				last, stacks = n, nil
			}
			stacks = append(stacks, stack)
		}
	}
	return strings.Join(stacks[:min(len(stacks), 8)], "\n\n")
}

// runner runs one program.
type runner struct {
	program *program
	record  *record
	origin  *origin
	base    *http.Transport
	dir     string
	cached  bool

	mu        sync.Mutex
	processes []*process
}

// process is a process with a cache of its own, or a part in one on disk.
type process struct {
	base  http.RoundTripper
	cache *cachetrip.Transport // nil without the cache
	disk  *store.Disk
	lent  *lender
}

func (r *runner) run() {
	for range r.program.processes {
		r.processes = append(r.processes, r.launch())
	}
	var group sync.WaitGroup
	var before chan struct{} // closed when the action before has ended
	for i := range r.program.actions {
		a := &r.program.actions[i]
		after, ended := before, make(chan struct{})
		before = ended
		group.Go(func() {
			defer close(ended)
			if a.follows && after != nil {
				<-after
			} else {
				time.Sleep(a.at)
			}
			out := r.act(a)
			r.mu.Lock()
			defer r.mu.Unlock()
			r.record.outcomes[a.id] = out
		})
	}
	group.Wait()
	for _, p := range r.processes {
		r.end(p)
	}
	if r.program.store == storeHangs {
		time.Sleep(2 * storeTime) // nothing can end what hangs there
	}
	slices.SortStableFunc(r.record.calls, func(a, b *call) int {
		return cmp.Or(cmp.Compare(a.began, b.began))
	})
}

// launch begins a process.
func (r *runner) launch() *process {
	p := &process{base: r.base}
	switch r.program.below {
	case belowDecodes:
		p.base = decoder{r.base}
	case belowRedirects:
		p.base = redirector{r.base}
	case belowReuses:
		p.lent = &lender{next: r.base, lent: map[string][2]http.Header{}}
		p.base = p.lent
	}
	if !r.cached {
		p.base = hooked{p.base, r}
		return p
	}
	p.cache = &cachetrip.Transport{Base: asker{p.base, r}, ModifyResponse: r.modify, StaleIfError: r.program.stale, DrainBytes: r.program.drain}
	if r.program.disk {
		disk, err := store.OpenDisk(r.dir, store.DiskOptions{})
		if err != nil {
			r.fault("OpenDisk: %v", err)
			return p
		}
		p.disk, p.cache.Store = disk, disk
	} else {
		p.cache.Store = store.NewMemory(1 << 20)
	}
	if r.program.store != storeWorks {
		p.cache.Store = faulty(p.cache.Store, r.program.store)
	}
	return p
}

// errHook is the error of a ModifyResponse that refuses a response.
var errHook = errors.New("ModifyResponse does not like it")

// modify is ModifyResponse.
func (r *runner) modify(resp *http.Response) error {
	if a := r.program.action(resp.Request.Header); a != nil && a.fate.ends == failsHook {
		return errHook
	}
	return nil
}

// hooked is a transport with a hook like ModifyResponse.
type hooked struct {
	next   http.RoundTripper
	runner *runner
}

func (h hooked) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := h.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if err := h.runner.modify(resp); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// asker is a Base that records its requests.
type asker struct {
	next   http.RoundTripper
	runner *runner
}

func (n asker) RoundTrip(req *http.Request) (*http.Response, error) {
	if a := n.runner.program.action(req.Header); a != nil {
		is := asking{action: a.id, at: n.runner.origin.now()}
		if deadline, ok := req.Context().Deadline(); ok {
			is.deadline = deadline.Sub(n.runner.origin.begin)
		}
		n.runner.mu.Lock()
		n.runner.record.asked = append(n.runner.record.asked, is)
		n.runner.mu.Unlock()
	}
	return n.next.RoundTrip(req)
}

// end ends a process.
func (r *runner) end(p *process) {
	if p.cache == nil {
		return
	}
	begin := r.origin.now()
	if err := p.cache.Close(); err != nil {
		r.fault("Close: %v", err)
	}
	r.mu.Lock()
	r.record.closing = max(r.record.closing, r.origin.now()-begin)
	r.mu.Unlock()
	if p.disk != nil {
		if err := p.disk.Close(); err != nil {
			r.fault("Close: %v", err)
		}
	}
	if p.lent != nil {
		p.lent.mu.Lock()
		defer p.lent.mu.Unlock()
		for _, pair := range p.lent.lent {
			if !maps.EqualFunc(pair[0], pair[1], slices.Equal) {
				r.fault("the header map that Base returned was changed: from %v to %v", pair[1], pair[0])
			}
		}
	}
}

func (r *runner) fault(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.record.faults = append(r.record.faults, fmt.Sprintf(format, args...))
}

// act does an action.
func (r *runner) act(a *action) (out outcome) {
	out.start, out.began = r.origin.now(), r.origin.ticks.Add(1)
	defer func() {
		out.end, out.finished = r.origin.now(), r.origin.ticks.Add(1)
		if v := recover(); v != nil {
			out.err = fmt.Errorf("panic: %v", v)
			r.fault("action %d: panic: %v\n%s", a.id, v, debug.Stack())
		}
	}()
	r.mu.Lock()
	p := r.processes[a.process]
	r.mu.Unlock()
	ctx := context.Background()
	if a.deadline > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, a.deadline)
		defer cancel()
	}
	if a.cancel > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		timer := time.AfterFunc(a.cancel, cancel)
		defer timer.Stop()
		defer cancel()
	}
	url := r.program.url(a).String()
	switch a.kind {
	case restart:
		if r.cached {
			fresh := r.launch()
			r.mu.Lock()
			r.processes[a.process] = fresh
			r.mu.Unlock()
			r.end(p)
		}
		out.ok = true
		return out
	case purge, invalidate:
		if r.cached {
			do := p.cache.Purge
			if a.kind == invalidate {
				do = p.cache.Invalidate
			}
			out.err = do(ctx, url)
		}
		out.ok = out.err == nil
		return out
	}
	watch := &watcher{runner: r, process: p, action: a}
	client := &http.Client{Transport: watch}
	if a.jar {
		client.Jar, _ = cookiejar.New(nil)
	}
	ctx = cachetrip.WithPolicy(ctx, a.policy.policy())
	req, err := http.NewRequestWithContext(ctx, a.kind.String(), url, strings.NewReader(a.search))
	if err != nil {
		out.err = err
		return out
	}
	req.Header = a.header(r.program)
	resp, err := client.Do(req)
	if err != nil {
		out.err = err
		return out
	}
	out.status = resp.StatusCode
	// The response is the caller's, to do with as it likes.
	resp.StatusCode = mangledStatus
	resp.Header.Set(mangledField, "1")
	delete(resp.Header, "Etag")
	out.err = read(resp.Body, a.read, a.pause)
	resp.Body.Close() // counts as well, because the caller waits for it
	out.ok = out.err == nil
	return out
}

const (
	mangledStatus = 599
	mangledField  = "X-Mangled"
)

// read reads n bytes of a body, or all.
func read(body io.Reader, n int, every time.Duration) error {
	room := make([]byte, 4096)
	for n != 0 {
		if every > 0 {
			time.Sleep(every)
		}
		into := room
		if n > 0 {
			into = room[:min(n, len(room))]
		}
		got, err := body.Read(into)
		if n > 0 {
			n -= got
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// watcher records the calls of an action.
type watcher struct {
	runner  *runner
	process *process
	action  *action
	hops    int
}

func (w *watcher) RoundTrip(req *http.Request) (*http.Response, error) {
	now := w.runner.origin.now
	c := &call{action: w.action.id, hop: w.hops, process: w.action.process, method: req.Method, path: w.runner.program.pathOf(req.URL, ""), header: req.Header.Clone(), start: now()}
	if req.Method == query.String() {
		c.path = w.runner.program.pathOf(req.URL, w.action.search)
	}
	w.hops++
	c.began = w.runner.origin.ticks.Add(1)
	c.answered, c.ended = -1, -1
	defer func() {
		w.runner.mu.Lock()
		defer w.runner.mu.Unlock()
		w.runner.record.calls = append(w.runner.record.calls, c)
	}()
	var resp *http.Response
	if w.process.cache != nil {
		resp, c.err = w.process.cache.RoundTrip(req)
	} else {
		resp, c.err = w.process.base.RoundTrip(req)
	}
	c.answered, c.returned = now(), w.runner.origin.ticks.Add(1)
	if c.err != nil {
		c.ended, c.finished = c.answered, c.returned
		return nil, c.err
	}
	c.status, c.response, c.length, c.cache = resp.StatusCode, resp.Header.Clone(), resp.ContentLength, cachetrip.StatusOf(resp)
	resp.Body = &watchedBody{ReadCloser: resp.Body, call: c, runner: w.runner}
	return resp, nil
}

// watchedBody records reads.
type watchedBody struct {
	io.ReadCloser
	call   *call
	runner *runner
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.call.body = append(b.call.body, p[:n]...)
	switch {
	case err == io.EOF:
		b.call.eof = true
	case err != nil:
		b.call.readErr = err
	}
	b.call.ended, b.call.finished = b.runner.origin.now(), b.runner.origin.ticks.Add(1)
	return n, err
}

// decoder is a transport that requests gzip and decodes. Unlike net/http, it
// does so visibly.
type decoder struct{ next http.RoundTripper }

func (d decoder) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodGet || req.Header.Get("Accept-Encoding") != "" || req.Header.Get("Range") != "" {
		return d.next.RoundTrip(req)
	}
	own := req.Clone(req.Context())
	own.Header.Set("Accept-Encoding", "gzip")
	resp, err := d.next.RoundTrip(own)
	if err != nil || resp.Header.Get("Content-Encoding") != "gzip" {
		return resp, err
	}
	resp.Header.Del("Content-Encoding")
	resp.Header.Del("Content-Length")
	resp.ContentLength, resp.Uncompressed = -1, true
	resp.Body = &decoded{ReadCloser: resp.Body}
	return resp, nil
}

// decoded decodes a body.
type decoded struct {
	io.ReadCloser
	gzip *gzip.Reader
}

func (d *decoded) Read(p []byte) (n int, err error) {
	if d.gzip == nil {
		if d.gzip, err = gzip.NewReader(d.ReadCloser); err != nil {
			return 0, err
		}
	}
	return d.gzip.Read(p)
}

// redirector is a transport that follows redirects.
type redirector struct{ next http.RoundTripper }

func (d redirector) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodGet {
		return d.next.RoundTrip(req)
	}
	resp, err := d.next.RoundTrip(req)
	if err != nil || resp.StatusCode != 302 {
		return resp, err
	}
	to, err := resp.Location()
	if err != nil || to.Path == req.URL.Path {
		return resp, nil
	}
	resp.Body.Close()
	own := req.Clone(req.Context())
	own.URL, own.Response = to, resp
	for _, name := range []string{"If-None-Match", "If-Modified-Since", "Range", "If-Range"} {
		own.Header.Del(name)
	}
	return d.next.RoundTrip(own)
}

// lender is a transport that keeps the header maps that it returned, to find
// out whether they are changed.
type lender struct {
	next http.RoundTripper
	mu   sync.Mutex
	lent map[string][2]http.Header // by serial: the map, and a copy of its content
}

func (l *lender) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := l.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lent[resp.Header.Get(serialField)] = [2]http.Header{resp.Header, resp.Header.Clone()}
	return resp, nil
}

// storeTime is how long a store hangs.
const storeTime = 10 * time.Second

// errStore is the error of a faulty store.
var errStore = errors.New("the store is broken")

// faulty returns a store that fails at every third call.
func faulty(kept store.Store, how storeFault) store.Store {
	s := storefault.Wrap(kept)
	fault := storefault.Fail(errStore)
	switch how {
	case storeHangs:
		fault = storefault.Delay(storeTime)
	case storePanics:
		fault = storefault.Panic(errStore)
	}
	s.Inject(storefault.Every(3, fault), storefault.Entries, storefault.Update, storefault.Open, storefault.Create, storefault.Commit)
	return s
}

// String shows the calls and the exchanges, in the order of their beginning.
func (rec *record) String() string {
	var b strings.Builder
	for _, c := range rec.calls {
		fmt.Fprintf(&b, "  call %d.%d: %s %s, %v to %v to %v: %d", c.action, c.hop, c.method, c.path, c.start, c.answered, c.ended, c.status)
		if err := cmp.Or(c.err, c.readErr); err != nil {
			fmt.Fprintf(&b, ", %v", err)
		}
		fmt.Fprintf(&b, ", %d bytes, exchange %s (body of %s), %s\n", len(c.body), c.response.Get(serialField), c.response.Get(bornField), c.response.Get("Cache-Status"))
	}
	for _, e := range rec.exchanges {
		fmt.Fprintf(&b, "  exchange %d: for action %d, %s %s %v, %v to %v: %d %v %s\n", e.serial, e.action, e.method, e.path, told(e.request), e.arrived, e.answered, e.status, told(e.header), e.provoked)
	}
	return b.String()
}

// told returns a header without the fields that do not matter here.
func told(h http.Header) http.Header {
	h = h.Clone()
	for _, name := range []string{traceField, "User-Agent", "Connection", "Content-Type", serialField, bornField} {
		delete(h, name)
	}
	return h
}
