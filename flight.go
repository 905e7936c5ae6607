package cachetrip

import (
	"context"
	"fmt"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/cachetrip/cachetrip/store"
)

// One request to the origin for all who wait for the same answer.

const (
	// soloTime is for how long a key whose response could not be shared makes its requests not wait
	// for each other. A mistake in either direction costs one wait, or some requests, this often.
	soloTime = 10 * time.Second

	// maxSolo bounds the number of such keys that are remembered.
	maxSolo = 4096
)

// outcome is what asking the origin has led to.
type outcome struct {
	err      error
	final    bool           // err is to be returned, whatever is stored
	resp     *http.Response // the origin's last response; nil if it failed
	download *download      // the content of resp while it is being stored; nil if it is not
	entry    *store.Entry   // what is or is being stored: of resp, or confirmed by it
	response response       // entry, as the rules see it
	detail   string         // why resp was not stored, or that it was asked for twice
	panicked any            // what Base panicked with, for the one who asked to pass on
}

// confirmed reports whether the origin confirmed a stored response.
func (o *outcome) confirmed() bool { return o.entry != nil && o.resp == nil }

// flight is one exchange with the origin and all who take part in it, waiting for its outcome or
// reading its content. When the last of them leaves, it ends.
type flight struct {
	key    string // in flights.byKey; empty if nobody is to join
	ctx    context.Context
	cancel context.CancelCauseFunc
	landed chan struct{} // closed when the outcome is there
	outcome

	mu    sync.Mutex
	parts int // how many take part
	over  bool

	claimed bool // the body of resp was given to the caller whose request this was
}

// flights are the flights that others may join. Its zero value is ready for use.
type flights struct {
	mu    sync.Mutex
	byKey map[string]*flight
	solo  map[string]time.Time // keys whose responses could not be shared, until when
}

// newFlight returns a flight with one participant. The values of ctx stay, its end does not matter
// to the others.
func newFlight(ctx context.Context) *flight {
	f := &flight{landed: make(chan struct{}), parts: 1}
	f.ctx, f.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	return f
}

// join returns the flight for key, and whether the caller has to make it happen. The caller takes
// part in it. It returns nil if requests for key are not to wait for each other.
func (fs *flights) join(ctx context.Context, key string, now time.Time) (f *flight, leads bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if until, ok := fs.solo[key]; ok {
		if now.Before(until) {
			return nil, false
		}
		delete(fs.solo, key)
	}
	if f := fs.byKey[key]; f != nil && f.takePart() {
		return f, false
	}
	f = newFlight(ctx)
	f.key = key
	if fs.byKey == nil {
		fs.byKey = make(map[string]*flight)
	}
	fs.byKey[key] = f
	return f, true
}

// remove makes f no longer joinable.
func (fs *flights) remove(f *flight) {
	if f.key == "" {
		return
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.byKey[f.key] == f {
		delete(fs.byKey, f.key)
	}
}

// separate remembers for a while that responses to key can't be shared.
func (fs *flights) separate(key string, now time.Time) {
	if key == "" {
		return
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if len(fs.solo) >= maxSolo {
		clear(fs.solo) // costs each of them one wait
	}
	if fs.solo == nil {
		fs.solo = make(map[string]time.Time)
	}
	fs.solo[key] = now.Add(soloTime)
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

// leave ends one participation, and with the last one the flight: before its outcome is there, the
// request to the origin is cancelled; after it, what was not taken is released.
func (t *Transport) leave(f *flight) {
	f.mu.Lock()
	f.parts--
	last := f.parts == 0
	f.over = f.over || last
	landed := f.hasLanded()
	f.mu.Unlock()
	if !last {
		return
	}
	if landed {
		budget, patience := t.drainBudget()
		f.release(budget, patience)
	}
	t.flights.remove(f)
	f.cancel(errAbandoned)
}

// land publishes the outcome of f. What nobody waited for any more is released.
func (t *Transport) land(f *flight, o outcome) {
	f.outcome = o
	f.mu.Lock()
	close(f.landed)
	over := f.over
	f.mu.Unlock()
	if over {
		f.release(0, 0)
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
func (f *flight) release(budget int64, patience time.Duration) {
	switch {
	case f.download != nil:
		f.download.close(budget, patience)
	case f.resp != nil && !f.claimed:
		f.resp.Body.Close()
	}
}

// wait returns when the outcome of f is there, or with an error when ctx ends.
func (f *flight) wait(ctx context.Context) error {
	select {
	case <-f.landed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// fly runs ask as the flight f. A panic in Base is passed on by whoever made the flight happen.
func (t *Transport) fly(f *flight, ask func(*flight) outcome) {
	var o outcome
	defer func() {
		if p := recover(); p != nil {
			o = outcome{err: fmt.Errorf("cachetrip: panic in Base: %v", p), panicked: p}
			t.logger().Error("cachetrip: panic in Base", "panic", p, "stack", string(debug.Stack()))
		}
		t.land(f, o)
	}()
	o = ask(f)
}
