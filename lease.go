package cachetrip

import (
	"github.com/cachetrip/cachetrip/internal/inflight"
	"github.com/cachetrip/cachetrip/internal/patience"
)

// One request to the origin for all processes that share a store, if the store
// has leases.

// askAlone does the work of the shared request r. If another process was doing
// the same, all participants look again at what is stored instead.
func (x *exchange) askAlone(r *sharedRequest, found lookup) result {
	if key := r.Key(); key != (inflight.Key{}) {
		// An exchange waits for another process only once: having waited in
		// vain, it does not wait for the next one.
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
