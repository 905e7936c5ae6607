package cachetrip

import (
	"github.com/cachetrip/cachetrip/internal/inflight"
	"github.com/cachetrip/cachetrip/internal/patience"
)

// One request to the origin for all processes that share a store, if the store sees to that.

// askAlone does the work of the shared request r, unless another process does the same: then everybody has to look
// again.
func (x *exchange) askAlone(r *sharedRequest, found lookup) result {
	if key := r.Key(); key != (inflight.Key{}) {
		// A request waits for other processes no longer than for others in this one, and only once: having waited in
		// vain, it does not wait for the next one, and for those after it.
		most := x.waitsFor()
		if x.sharing.waited {
			most = 0
		}
		deadline, _ := x.lasting().Deadline()
		release, granted := x.store().Lease(patience.Until(r.Context(), deadline), key.Subject, key.Variant, most)
		if !granted {
			r.Hide()
			return result{elsewhere: true}
		}
		if release != nil {
			held := &lease{release: release}
			x.sharing.lease = held
			r.OnHide(func() { held.end(true) })
		}
	}
	returns := false
	defer func() {
		if !returns && x.lastReply != nil {
			x.lastReply.Body.Close()
		}
	}()
	o := x.askOrigin(r, found)
	returns = true
	return o
}
