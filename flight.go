package cachetrip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cachetrip/cachetrip/internal/pending"
	"github.com/cachetrip/cachetrip/internal/span"
	"github.com/cachetrip/cachetrip/store"
)

// One request to the origin for all who wait for the same answer.

const (
	// audienceTime is for how long it is remembered who could share the response for a key. A mistake in either
	// direction costs one wait, or some requests, this often.
	audienceTime = 10 * time.Second

	// maxAudiences bounds the number of keys for which that is remembered.
	maxAudiences = 4096

	// maxTurns is how many requests for one key go to an origin at once after one of them has failed. More
	// would not help an origin that has too much to do.
	maxTurns = 4
)

// outcome is what asking the origin has led to.
type result struct {
	err      error
	final    bool           // err is to be returned, whatever is stored
	resp     *http.Response // the origin's last response, for the one who asked alone; nil if it failed
	code     int            // the status code of resp; 0 if there is none
	audience audience       // who may be given the response
	download *download      // the content of resp while it is being stored; nil if it is not
	// What was announced with the download, as its end may change both.
	announced     int64
	trailer       http.Header
	given         *http.Response // what resp is a copy of: its trailer is complete at the end of the download
	brings        span.Span      // of the content, by the download
	resumes       bool           // the download begins with what is held
	continues     bool           // the rest of the content can be asked for, should the download break off
	redirected    bool           // resp answers another URL: Base followed redirects
	repeated      string         // why the request had to be repeated, as Status.Detail; empty if it had not
	entry         *store.Entry   // what is or is being stored: of resp, or confirmed by it
	unsaved       bool           // what was confirmed is not stored: the store failed, or it may not be any more
	pending       *pending.Write // what was confirmed is being stored; nil if that was done before
	response      response       // entry, as the rules see it
	sent, arrived uint64         // the events that its request was sent and that it came
	cookies       []string       // what a 304 sets for the one who asked, if that is not to be stored
	detail        string         // why resp was not stored, or that it was asked for twice
	elsewhere     bool           // another process has asked meanwhile: what is stored has changed
	panicked      any            // what Base panicked with, for the one who asked to pass on
}

// confirmed reports whether the origin confirmed a stored response.
func (o *result) confirmed() bool { return o.entry != nil && o.resp == nil }

// says notes in status what is known of storing the response: that it is stored, or is about to be, and for how long it
// is fresh, or why it is not stored.
func (o *result) says(status *Status) {
	status.Detail = cmp.Or(o.repeated, status.Detail, o.detail)
	if status.Stored = o.entry != nil && !o.unsaved; status.Stored {
		status.TTL = o.response.lifetime() - o.response.age(wallClock())
	}
}

// flight is one exchange with the origin and all who take part in it, waiting for its outcome or
// reading its content. When the last of them leaves, it ends.
type flight struct {
	key    string   // in flights.byKey; empty if nobody is to join
	base   string   // the key under which to remember who could share the response; empty if that is not to be
	asked  *request // which led to the flight; nil if nobody is to join. It does not change
	ctx    context.Context
	cancel context.CancelCauseFunc
	landed chan struct{} // closed when the outcome is there
	result

	mu      sync.Mutex
	parts   int // how many take part
	leaving int // how many of them have stopped reading, and are about to leave
	over    bool
	forgone bool              // who had it made will not take the content
	lease   func(shared bool) // ends what keeps other processes from asking as well; nil if nothing does

	handedOver bool // the end of f does not end Base's request

	claimed bool // the body of resp was given to the caller whose request this was
}

// flights are the flights that others may join. Its zero value is ready for use.
type flights struct {
	mu        sync.Mutex
	byKey     map[string]*flight
	audiences map[string]knownAudience
	turns     map[string]*turns

	// A request that looks up before a flight has stored something, and comes to join it when it is over, must
	// look up again. So the last flights that are over are remembered, by primary key, with their
	// number. Of those up to forgotten nothing is known.
	over      map[string]uint64
	count     atomic.Uint64
	forgotten uint64
}

// knownAudience is who could share the last response for a key, and until when that is remembered.
type knownAudience struct {
	audience
	until time.Time
}

// maxOver bounds the flights that are remembered when they are over. To forget one costs those who
// are just between look-up and joining another look-up.
const maxOver = 1024

// newFlight returns a flight with one participant. The values of ctx and its deadline stay, for Base to see. Its
// end does not matter to the others.
func newFlight(ctx context.Context) *flight {
	f := &flight{landed: make(chan struct{}), parts: 1}
	shared := context.WithoutCancel(ctx)
	if deadline, ok := ctx.Deadline(); ok {
		shared = announced{shared, deadline}
	}
	f.ctx, f.cancel = context.WithCancelCause(shared)
	return f
}

// announced is a context that tells a deadline, and does not end by itself: what Base is given of the request
// that leads, while others may still wait for the response when that one has left.
type announced struct {
	context.Context
	deadline time.Time
}

func (c announced) Deadline() (time.Time, bool) { return c.deadline, true }

// moment returns what to give to join later, to be asked for before looking up what is stored.
func (fs *flights) moment() uint64 { return fs.count.Load() }

// join returns the flight that req, whose key is base, takes part in, and whether it leads: then the caller has to
// make the flight happen. base begins with a primary key. join returns nil if what is stored has changed since the
// given moment, so that the caller has to look again. join is not joinNone.
func (fs *flights) join(ctx context.Context, req *request, base string, join joining, moment uint64, now time.Time) (f *flight, leads bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	key := base
	known, ok := fs.audiences[base]
	if ok && !now.Before(known.until) {
		delete(fs.audiences, base)
		known.audience = anyone
	}
	switch known.audience {
	case alikesOnly:
		key += "\n\n" + alikeDigest(req)
	case nobody:
		key = ""
	}
	under := fs.byKey[key]
	if key != "" {
		if under != nil && (join == joinAny || under.hasLanded()) && under.takePart() {
			return under, false
		}
		if moment < fs.over[primaryKey(base)] || moment < fs.forgotten {
			return nil, false
		}
	}
	f = newFlight(ctx)
	f.base, f.asked = base, req
	if key == "" || under != nil && join != joinAny {
		return f, true // beside the one that is under way, whose turn it is to be joined
	}
	f.key = key
	if fs.byKey == nil {
		fs.byKey = make(map[string]*flight)
	}
	fs.byKey[key] = f
	return f, true
}

// primaryKey returns the primary key that the key of a flight begins with.
func primaryKey(key string) string { return key[:2*urlDigits] }

// remove makes f no longer joinable.
func (fs *flights) remove(f *flight) {
	if f.key == "" {
		return
	}
	defer f.endLease(true)
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.byKey[f.key] != f {
		return
	}
	delete(fs.byKey, f.key)
	if len(fs.over) >= maxOver {
		clear(fs.over)
		fs.forgotten = fs.count.Load()
	}
	if fs.over == nil {
		fs.over = make(map[string]uint64)
	}
	fs.over[primaryKey(f.key)] = fs.count.Add(1)
}

// note remembers for a while who can share responses like that to f.
func (fs *flights) note(f *flight, who audience, now time.Time) {
	if f.base == "" {
		return
	}
	if who == nobody {
		defer f.endLease(false)
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if who == anyone {
		delete(fs.audiences, f.base)
		return
	}
	if len(fs.audiences) >= maxAudiences {
		clear(fs.audiences) // costs each of them one wait
	}
	if fs.audiences == nil {
		fs.audiences = make(map[string]knownAudience)
	}
	fs.audiences[f.base] = knownAudience{who, now.Add(audienceTime)}
}

func (f *flight) takePart() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over {
		return false
	}
	f.parts++
	return true
}

// handOver has Base's request outlive f: what it has brought is not for f to end.
func (f *flight) handOver() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.handedOver = true
}

// leave ends one participation, and with the last one the flight: before its outcome is there, the
// request to the origin is cancelled; after it, what was not taken is released.
func (t *Transport) leave(f *flight) { t.depart(f, 0) }

// depart is leave for one of whom so many were counted in leaving.
func (t *Transport) depart(f *flight, leaving int) {
	f.mu.Lock()
	f.parts--
	f.leaving -= leaving
	last := f.parts == 0
	f.over = f.over || last
	landed, handedOver := f.hasLanded(), f.handedOver
	if last && !landed {
		t.stragglers.Add() // until land
	}
	f.mu.Unlock()
	if !last {
		return
	}
	if landed {
		t.shielded(f.release)
	}
	t.flights.remove(f)
	if !handedOver {
		f.cancel(errAbandoned)
	}
}

// forgo is leave for the one who leads f and does not take its content.
func (t *Transport) forgo(f *flight) {
	f.mu.Lock()
	f.forgone = true
	landed := f.hasLanded()
	f.mu.Unlock()
	if landed && f.download != nil {
		f.download.decline()
	}
	t.leave(f)
}

// leaveReading is leave for who has stopped reading. The last one first has what is left taken, if
// that is little, and others may still join meanwhile. Who was made to stop does not wait for that.
func (t *Transport) leaveReading(f *flight, stopped bool) {
	f.mu.Lock()
	f.leaving++
	last := f.leaving == f.parts
	f.mu.Unlock()
	if last && !stopped {
		f.download.drain(t.drainBudget())
	}
	t.depart(f, 1)
}

// land publishes the outcome of f. What nobody waited for any more is released.
func (t *Transport) land(f *flight, o result) {
	if o.resp != nil {
		o.code = o.resp.StatusCode
	}
	f.result = o
	f.mu.Lock()
	close(f.landed)
	over, forgone := f.over, f.forgone
	f.mu.Unlock()
	if forgone && f.download != nil {
		f.download.decline()
	}
	if over {
		defer t.stragglers.Done()
		t.shielded(f.release)
	}
}

func (f *flight) hasLanded() bool {
	select {
	case <-f.landed:
		return true
	default:
		return false
	}
}

// release ends what the outcome still holds.
func (f *flight) release() {
	switch {
	case f.download != nil:
		f.download.close(func() { f.cancel(errAbandoned) })
	case f.resp != nil && !f.claimed:
		f.resp.Body.Close()
	}
}

// errGone is the outcome of a flight whose goroutine was ended below the cache, by runtime.Goexit: as
// testing.T.FailNow does it.
var errGone = errors.New("cachetrip: Base or ModifyResponse ended the goroutine that called it")

// stackRoom is about what the calls below a flight need of a stack, which is that of a new goroutine.
const stackRoom = 12 << 10

// stretch has the stack grow to what it will need at once, rather than by half each time and with all that is on it:
// that is a tenth of what a revalidation costs.
//
//go:noinline
func stretch() {
	var room [stackRoom]byte
	runtime.KeepAlive(&room)
}

// fly runs ask as the flight f. A panic in Base is passed on by whoever made the flight happen.
func (t *Transport) fly(f *flight, ask func(*flight) result) {
	o := result{err: errGone, final: true}
	defer func() {
		if p := recover(); p != nil {
			o = result{err: fmt.Errorf("cachetrip: panic in Base: %v", p), panicked: p}
			t.panicked(p, debug.Stack())
		}
		t.land(f, o)
	}()
	o = ask(f)
}
