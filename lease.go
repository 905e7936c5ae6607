package cachetrip

import (
	"context"

	"github.com/cachetrip/cachetrip/store"
)

// One request to the origin for all processes that share a store, if the store sees to that.

// leaser is what a store may be besides: it has one process at a time fetch the same. If granted is
// false, another one was fetching and has ended, so that what is stored is to be looked at again. release is
// told whether what was fetched could be of use to others. Lease does not wait for long, nor at all once ctx
// has ended, grants what it is not sure about, and is safe for concurrent use.
type leaser interface {
	Lease(ctx context.Context, key, variant string) (release func(shared bool), granted bool)
}

// askAlone makes the flight f happen, unless another process makes one like it: then everybody has to
// look again.
func (x *exchange) askAlone(f *flight, entries []*store.Entry, stored []response, d decision) result {
	if f.key != "" {
		// A request waits for other processes no longer than for others in this one, and only once: having waited in
		// vain, it does not wait for the next one, and for those after it.
		most := x.waitsFor()
		if x.waited {
			most = 0
		}
		deadline, _ := x.lasting().Deadline()
		release, granted := x.access().lease(until{f.ctx, deadline}, x.key, f.key[len(x.key):], most)
		if !granted {
			x.t.flights.remove(f)
			return result{elsewhere: true}
		}
		if release != nil {
			f.leased(release)
		}
	}
	returns := false
	defer func() {
		if !returns && x.reply != nil {
			x.reply.Body.Close()
		}
	}()
	o := x.askOrigin(f, entries, stored, d)
	returns = true
	return o
}

// leased has release called when f is of no use to others any more.
func (f *flight) leased(release func(shared bool)) {
	f.mu.Lock()
	over := f.over
	if !over {
		f.lease = release
	}
	f.mu.Unlock()
	if over {
		release(true)
	}
}

// endLease ends the lease of f, if it has one.
func (f *flight) endLease(shared bool) { f.takeLease()(shared) }

// takeLease returns what ends the lease of f, which nobody else does then.
func (f *flight) takeLease() (release func(shared bool)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	release = f.lease
	f.lease = nil
	if release == nil {
		release = func(bool) {}
	}
	return release
}
