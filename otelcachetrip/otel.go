// Package otelcachetrip reports what a cache does as OpenTelemetry metrics.
//
//	cache, err := cachetrip.Open(dir)
//	…
//	registration, err := otelcachetrip.Register(cache, otelcachetrip.Options{})
//	…
//	defer registration.Unregister()
//
// The instruments, of the scope github.com/cachetrip/cachetrip/otelcachetrip:
//
//	cachetrip.requests                 {request}   requests that were answered, by cachetrip.outcome: "hit", "stale", "revalidated",
//	                                               "collapsed", "miss" or "refused"; except for "hit", also by cachetrip.reason: why the
//	                                               origin was or would have been asked, in the words of RFC 9211: "uri-miss", "stale", …
//	cachetrip.requests.age             s           histogram of the age of stored responses when they were served, by cachetrip.outcome
//	cachetrip.background_revalidations {request}   responses confirmed in the background after a stale one was served
//	cachetrip.body.served              By          bytes of bodies that came from the cache
//	cachetrip.body.received            By          bytes of bodies that came from origins
//	cachetrip.responses.stored         {response}  responses stored
//	cachetrip.responses.not_stored     {response}  responses not stored, by cachetrip.reason: "no-store", "incomplete", …
//	cachetrip.store.evictions          {entry}     entries evicted to stay within the store's limits
//	cachetrip.store.faults             {fault}     failures of the store, by error.type: "full", "denied", …
//	cachetrip.store.size               By          size of the store
//
// No attribute has values that come from outside: no URLs, hosts or identities.
// A request that failed, with an error of RoundTrip, is not among
// cachetrip.requests.
package otelcachetrip

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/cachetrip/cachetrip"
	"github.com/cachetrip/cachetrip/store"
)

const scope = "github.com/cachetrip/cachetrip/otelcachetrip"

// The attributes.
const (
	nameKey    = attribute.Key("cachetrip.cache.name")
	outcomeKey = attribute.Key("cachetrip.outcome")
	reasonKey  = attribute.Key("cachetrip.reason")
	errorKey   = attribute.Key("error.type")

	other = "_OTHER" // the value that the semantic conventions give to anything unknown
)

// Options configures [Register].
type Options struct {
	// MeterProvider makes the instruments. nil means the global one.
	MeterProvider metric.MeterProvider

	// Name is the value of the attribute cachetrip.cache.name, which
	// distinguishes several caches of one program. If it is empty, there is no
	// such attribute.
	Name string
}

// Register reports the metrics of cache until Unregister is called on the
// returned registration. It adds its hooks to cache.Trace, so call it before
// cache is used. If an instrument cannot be made, Register returns an error and
// leaves cache as it was.
func Register(cache *cachetrip.Transport, opts Options) (metric.Registration, error) {
	provider := opts.MeterProvider
	if provider == nil {
		provider = otel.GetMeterProvider()
	}
	r := &reporter{cache: cache, attributes: make(map[[2]string]metric.MeasurementOption)}
	if opts.Name != "" {
		r.common = []attribute.KeyValue{nameKey.String(opts.Name)}
	}
	registration, err := r.register(provider.Meter(scope))
	if err != nil {
		return nil, fmt.Errorf("otelcachetrip: %w", err)
	}
	cache.Trace = join(r.trace(), cache.Trace)
	return registration, nil
}

type reporter struct {
	cache  *cachetrip.Transport
	common []attribute.KeyValue

	requests, background, notStored metric.Int64Counter
	age                             metric.Float64Histogram

	mu         sync.RWMutex
	attributes map[[2]string]metric.MeasurementOption // by outcome and reason
}

func (r *reporter) register(meter metric.Meter) (metric.Registration, error) {
	var errs []error
	counter := func(name, unit, description string) metric.Int64Counter {
		c, err := meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(description))
		errs = append(errs, err)
		return c
	}
	observed := func(name, unit, description string) metric.Int64ObservableCounter {
		c, err := meter.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(description))
		errs = append(errs, err)
		return c
	}
	r.requests = counter("cachetrip.requests", "{request}", "Requests that were answered.")
	r.background = counter("cachetrip.background_revalidations", "{request}", "Stored responses confirmed in the background after a stale one was served.")
	r.notStored = counter("cachetrip.responses.not_stored", "{response}", "Responses not stored.")
	served := observed("cachetrip.body.served", "By", "Bytes of bodies that came from the cache.")
	received := observed("cachetrip.body.received", "By", "Bytes of bodies that came from origins.")
	stored := observed("cachetrip.responses.stored", "{response}", "Responses stored.")
	evictions := observed("cachetrip.store.evictions", "{entry}", "Entries evicted to stay within the store's limits.")
	faults := observed("cachetrip.store.faults", "{fault}", "Failures of the store.")
	var err error
	r.age, err = meter.Float64Histogram("cachetrip.requests.age", metric.WithUnit("s"),
		metric.WithDescription("Age of stored responses when they were served."),
		// The buckets reach from just stored to so old that differences no
		// longer matter.
		metric.WithExplicitBucketBoundaries(1, 10, 60, 300, 900, 3600, 4*3600, 86400, 7*86400, 30*86400))
	errs = append(errs, err)
	size, err := meter.Int64ObservableUpDownCounter("cachetrip.store.size", metric.WithUnit("By"), metric.WithDescription("What the store holds."))
	errs = append(errs, err)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	common := r.with()
	return meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		s := r.cache.Stats()
		o.ObserveInt64(served, s.BytesServed, common)
		o.ObserveInt64(received, s.BytesReceived, common)
		o.ObserveInt64(stored, int64(s.Stored), common)
		o.ObserveInt64(evictions, int64(s.Evictions), common)
		f := s.StoreFaults
		for cause, n := range map[string]uint64{
			"full": f.Full, "denied": f.Denied, "vanished": f.Vanished, "descriptors": f.Descriptors,
			"obstructed": f.Obstructed, "too_large": f.TooLarge, "locked": f.Locked, other: f.Other,
		} {
			o.ObserveInt64(faults, int64(n), r.with(errorKey.String(cause)))
		}
		if n, known := sizeOf(r.cache.Store); known {
			o.ObserveInt64(size, n, common)
		}
		return nil
	}, served, received, stored, evictions, faults, size)
}

// sizeOf returns how much a store holds, if it tells. A panic of the store would
// end the program, because it is called by a goroutine that exports metrics.
func sizeOf(s store.Store) (n int64, known bool) {
	defer func() {
		if recover() != nil {
			known = false
		}
	}()
	sizer, known := s.(interface{ Bytes() int64 })
	if known {
		n = sizer.Bytes()
	}
	return n, known
}

// with returns the common attributes and the given ones.
func (r *reporter) with(more ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(append(more, r.common...)...))
}

// about returns the attributes for an outcome and a reason; each may be empty.
// They are made once.
func (r *reporter) about(outcome, reason string) metric.MeasurementOption {
	key := [2]string{outcome, reason}
	r.mu.RLock()
	found := r.attributes[key]
	r.mu.RUnlock()
	if found != nil {
		return found
	}
	var more []attribute.KeyValue
	if outcome != "" {
		more = append(more, outcomeKey.String(outcome))
	}
	if reason != "" {
		more = append(more, reasonKey.String(reason))
	}
	made := r.with(more...)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attributes[key] = made
	return made
}

func (r *reporter) trace() *cachetrip.Trace {
	answered := func(outcome string) func(cachetrip.AnswerInfo) {
		return func(info cachetrip.AnswerInfo) {
			ctx := info.Request.Context()
			if info.Background {
				r.background.Add(ctx, 1, r.about("", ""))
				return
			}
			r.requests.Add(ctx, 1, r.about(outcome, info.Status.Fwd)) // one of the eight words of RFC 9211
			if fromCache(info.Response) {
				r.age.Record(ctx, info.Status.Age.Seconds(), r.about(outcome, ""))
			}
		}
	}
	return &cachetrip.Trace{
		Hit: answered("hit"), StaleHit: answered("stale"), Revalidated: answered("revalidated"),
		Collapsed: answered("collapsed"), Miss: answered("miss"), Refused: answered("refused"),
		NotStored: func(info cachetrip.StoreInfo) {
			reason := info.Reason
			if cachetrip.ReasonText(reason) == "" {
				reason = other // so that the attribute has only known values
			}
			r.notStored.Add(info.Request.Context(), 1, r.about("", reason))
		},
	}
}

// fromCache reports whether the body of a response came from the cache.
func fromCache(resp *http.Response) bool { return resp != nil && resp.Header.Get("X-From-Cache") != "" }

// join returns a trace that calls the hooks of a, and then those of b if b is
// not nil.
func join(a, b *cachetrip.Trace) *cachetrip.Trace {
	if b == nil {
		return a
	}
	return &cachetrip.Trace{
		Hit: both(a.Hit, b.Hit), StaleHit: both(a.StaleHit, b.StaleHit), Revalidated: both(a.Revalidated, b.Revalidated),
		Collapsed: both(a.Collapsed, b.Collapsed), Miss: both(a.Miss, b.Miss), Refused: both(a.Refused, b.Refused),
		Stored: both(a.Stored, b.Stored), NotStored: both(a.NotStored, b.NotStored),
		StoreError: both(a.StoreError, b.StoreError), Evicted: both(a.Evicted, b.Evicted),
	}
}

func both[T any](a, b func(T)) func(T) {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return func(info T) { a(info); b(info) }
}
